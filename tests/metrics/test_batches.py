"""What encoders share: devices, batches of one shape, and a memory that forgets what was not asked for the longest."""

from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpc_analysis.metrics import batches as bt


@pytest.mark.parametrize("there", [True, False])
def test_auto_takes_cuda_where_there_is_one(there, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert bt.encoder_device("auto") == bt.encoder_device("spread") == ("cuda" if there else "cpu")
    assert bt.encoder_device("cpu") == "cpu"
    if there:
        assert bt.encoder_device("cuda:1") == "cuda:1"
    else:
        with pytest.raises(ValueError, match="device is 'cuda:1', but torch finds no CUDA here"):
            bt.encoder_device("cuda:1")
    for wrong in ("gpu", "", "cuda:x", None):
        with pytest.raises(ValueError, match="device must be auto, cpu or cuda"):
            bt.encoder_device(wrong)


def test_the_key_names_the_kind_the_card_and_the_batch(monkeypatch):
    assert bt.device_key("cpu") == [] and bt.batch_on("cpu:0") == 0
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card of {device}")
    assert bt.device_key("auto") == ["cuda", "card of cuda", "batch:64"]
    assert bt.device_key("cuda:1") == ["cuda", "card of cuda:1", "batch:64"]
    monkeypatch.setitem(bt.BATCHES, "cuda", 8)
    assert bt.device_key("cuda:1")[2] == "batch:8"
    monkeypatch.setitem(bt.BATCHES, "cpu", 4)
    assert bt.device_key("cpu") == ["cpu", "cpu", "batch:4"]


@given(st.integers(0, 200), st.integers(1, 70))
@settings(max_examples=60, deadline=None)
def test_every_batch_has_one_size_and_everybody_is_in_one(n, size):
    found = list(bt.fixed_batches(n, size))
    assert all(len(batch) == size for batch in found)
    own = [list(dict.fromkeys(batch.tolist())) for batch in found]
    assert [k for batch in own for k in batch] == list(range(n))
    assert all(set(batch[len(mine) :].tolist()) <= {mine[0]} for batch, mine in zip(found, own, strict=True))


@given(st.lists(st.integers(1, 80), max_size=40), st.integers(1, 9), st.sampled_from([70, 512]))
@settings(max_examples=60, deadline=None)
def test_a_text_is_padded_as_its_own_length_says(lengths, size, longest):
    ids = [[9] * length for length in lengths]
    alone = {k: next(bt.padded_batches([row], size, 0, longest))[1].shape for k, row in enumerate(ids)}
    seen = set()
    for rows, filled, mask in bt.padded_batches(ids, size, 0, longest):
        assert filled.shape == mask.shape == (size, filled.shape[1])
        for row, tokens, there in zip(rows, filled, mask, strict=True):
            assert filled.shape == alone[row] and tokens[there == 1].tolist() == ids[row]
            assert not tokens[there == 0].any() and there.tolist() == sorted(there, reverse=True)
        seen.update(rows.tolist())
    assert seen == set(range(len(ids)))


@given(st.lists(st.tuples(st.sampled_from("fk"), st.integers(0, 6), st.integers(1, 4)), max_size=60))
@settings(max_examples=80, deadline=None)
def test_memory_forgets_what_was_not_asked_for_the_longest(steps):
    "Against an ordered dictionary kept by hand."
    memory, model, most = bt.Memory(8), OrderedDict(), 8
    for what, key, numbers in steps:
        if what == "f":
            expected = {key: model[key][0]} if key in model else {}
            if key in model:
                model.move_to_end(key)
            assert memory.find([key, key]) == expected
            continue
        memory.keep({key: object()}, numbers)
        model.pop(key, None)
        model[key] = memory._kept.get(key, (None, numbers))
        while sum(size for _, size in model.values()) > most:
            model.popitem(last=False)
        assert list(model) == list(memory._kept)
        assert memory.numbers == sum(size for _, size in model.values()) <= most
    memory.clear()
    assert (len(memory), memory.numbers) == (0, 0)


def test_precision_is_put_back_also_after_an_error():
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    with pytest.raises(KeyError), bt.full_precision():
        assert not torch.backends.cudnn.allow_tf32 and torch.is_inference_mode_enabled()
        assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
        raise KeyError
    assert before == (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)
    assert not torch.is_inference_mode_enabled()
