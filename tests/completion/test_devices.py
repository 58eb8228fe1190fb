"""Devices by name: with GPUs that are not there, and the errors of a full memory."""

import sys
import types

import pytest
import torch

from mmpc_analysis.completion import devices
from mmpc_analysis.completion.devices import (
    BackendError,
    device_options,
    free_memory,
    out_of_memory,
    precision_name,
    resolve_device,
    resolve_precision,
)


@pytest.fixture
def gpus(monkeypatch):
    "A machine with some number of GPUs, as torch tells of it."

    def there(number, free=80_000_000_000, total=85_000_000_000):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda n=0: (free, total))

    return there


@pytest.mark.parametrize(
    ("number", "name", "means"),
    [
        (0, "auto", "cpu"), (0, "cpu", "cpu"), (1, "auto", "cuda"), (1, "cuda", "cuda"), (1, "cuda:0", "cuda:0"),
        (2, "cuda:1", "cuda:1"), (12, "cuda:11", "cuda:11"), (2, "spread", "spread"), (1, "spread", "spread"), (4, "cpu", "cpu"),
    ],
)  # fmt: skip
def test_a_name_means_what_is_there(gpus, number, name, means):
    gpus(number)
    assert resolve_device(name) == means


@pytest.mark.parametrize(
    ("number", "name", "seen"),
    [
        (0, "cuda", "no GPU"), (0, "spread", "no GPU"), (0, "cuda:0", "no GPU"), (1, "cuda:1", "one GPU, cuda:0"),
        (2, "cuda:2", "GPUs cuda:0 to cuda:1"), (4, "cuda:99", "GPUs cuda:0 to cuda:3"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_refused_by_name(gpus, number, name, seen):
    gpus(number)
    with pytest.raises(BackendError, match=f"device '{name}' is not there: torch sees {seen}"):
        resolve_device(name)


@pytest.mark.parametrize(
    "name", ["gpu", "CUDA", "cuda:", "cuda:x", "cuda:-1", "mps", "", " cpu", "cuda:1\n", None, 0]
)
def test_what_is_no_name_is_refused(gpus, name):
    gpus(2)
    with pytest.raises(ValueError, match="device must be auto, cpu, cuda, cuda:1 or spread"):
        resolve_device(name)


@pytest.mark.parametrize(
    ("published", "device", "asked", "means"),
    [
        ("bfloat16", "cpu", None, "float32"), ("bfloat16", "cuda", None, "bfloat16"), ("float16", "cuda:1", "", "float16"),
        ("", "spread", None, "bfloat16"), ("bfloat16", "cpu", "bfloat16", "bfloat16"), ("bfloat16", "cuda", "float32", "float32"),
    ],
)  # fmt: skip
def test_precision_follows_device_unless_it_is_asked_for(published, device, asked, means):
    assert resolve_precision(published, device, asked) == means


@pytest.mark.parametrize("asked", ["nf4", "int8", "half", "bf16", "float64"])
def test_unknown_precisions_are_refused_by_name(asked):
    with pytest.raises(ValueError, match=f"got '{asked}'; nf4 is asked for as quantisation"):
        resolve_precision("bfloat16", "cpu", asked)


def test_the_type_of_the_arithmetic_stands_in_the_name():
    assert [precision_name(d, q) for d in ("bfloat16", "float16") for q in (None, "nf4")] == [
        "bfloat16", "nf4-bfloat16", "float16", "nf4-float16",
    ]  # fmt: skip


def test_spread_takes_gpus_only_and_leaves_room(gpus):
    gpus(3, free=10_000)
    assert device_options("spread") == {"device_map": "auto", "max_memory": {0: 9_000, 1: 9_000, 2: 9_000}}


def test_a_model_that_fits_no_gpus_is_never_laid_on_the_cpu():
    "What accelerate makes of such a map: nothing on the CPU."
    from accelerate import infer_auto_device_map

    model = torch.nn.Sequential(*[torch.nn.Linear(100, 100) for _ in range(6)])
    made = infer_auto_device_map(model, max_memory={0: 90_000, 1: 90_000})
    assert "cpu" not in made.values() and {0, 1} <= set(made.values())


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError("Unable to allocate 1.00 TiB for an array"),
    ],
)  # fmt: skip
def test_a_full_memory_is_known(error):
    assert out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2 shapes"), ValueError("out of memory"), OSError(12, "x")]
)
def test_another_error_is_not_a_full_memory(error):
    assert not out_of_memory(error)


def test_torch_s_own_cpu_error_is_known():
    "The real one: 4 EB are on no machine."
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60, dtype=torch.float32)
    assert out_of_memory(error.value), str(error.value)


def test_memory_is_given_back_where_there_is_a_gpu(gpus, monkeypatch):
    emptied = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(1))
    free_memory()
    gpus(1)
    free_memory()
    assert emptied == [1]
    monkeypatch.setitem(sys.modules, "torch", None)
    free_memory()


def test_counting_gpus_needs_no_cuda_build(monkeypatch):
    monkeypatch.setitem(
        sys.modules, "torch", types.SimpleNamespace(cuda=types.SimpleNamespace(is_available=lambda: False))
    )
    assert devices.count_gpus() == 0
