"""Memory: estimates against the tensors themselves, batches cut by them, and batches that do not fit all the same."""

import json
import warnings
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from itertools import chain

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from test_models import GEMMA, QWEN

from mmpc_analysis.catalogue.pictures import open_image
from mmpc_analysis.completion import completions as module
from mmpc_analysis.completion import memory
from mmpc_analysis.completion.backend_choice import load_backend
from mmpc_analysis.completion.completions import answer_batches, ask_safely, complete, plan_questions
from mmpc_analysis.completion.inputs import plan_batches
from mmpc_analysis.completion.memory import (
    BatchLimit,
    RequestMemory,
    batch_budget,
    largest_batch,
    memory_estimate,
    model_shape,
    published_shapes,
    request_memory,
    weight_bytes,
)
from mmpc_analysis.completion.models import model_card
from mmpc_analysis.completion.pixels import PICTURE_RULES, PictureRule
from mmpc_analysis.completion.prompts import conversation, prompt_for
from mmpc_analysis.completion.protocol import Answer, Request
from mmpc_analysis.store import fixed_batches

ROOT = str(files("mmpc_analysis") / "data" / "catalogue")
TITLE = prompt_for("image_to_text", short=True)
MODEL = "standin-gemma-s"
GB = 10**9


@pytest.fixture(scope="module")
def items():
    return (
        pd.read_csv(f"{ROOT}/items.csv", dtype=str).query("split == 'test'").head(40).reset_index(drop=True)
    )


# ---------------------------------------------------------------- the figures


def qwen_config(hidden, inner, layers, heads, kv, vision, vocabulary=152_064, width=1280, **more):
    from transformers import Qwen2_5_VLConfig

    text = dict(hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
                num_key_value_heads=kv, vocab_size=vocabulary) | more.pop("text", {})  # fmt: skip
    seen = dict(hidden_size=width, out_hidden_size=hidden, intermediate_size=vision) | more.pop("seen", {})
    return Qwen2_5_VLConfig(text_config=text, vision_config=seen, **more)


def gemma_config(
    hidden, inner, layers, heads, kv, head, vocabulary=262_208, width=1152, vision=4304, side=896, **more
):
    from transformers import Gemma3Config

    text = dict(hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
                num_key_value_heads=kv, head_dim=head, vocab_size=vocabulary)  # fmt: skip
    seen = dict(
        hidden_size=width, intermediate_size=vision, image_size=side, patch_size=14, vision_use_head=False
    )
    return Gemma3Config(text_config=text, vision_config=seen | more.pop("seen", {}), **more)


@pytest.mark.parametrize("name", [*QWEN, *GEMMA])
def test_published_figures_are_the_architectures(name):
    "The configurations whose weights `test_models` counts, read as any checkpoint's."
    card = model_card(name)
    config = qwen_config(*QWEN[name]) if name in QWEN else gemma_config(*GEMMA[name])
    expected = memory._read_shape(config, card.parameters, PICTURE_RULES[card.family])
    assert published_shapes()[card.hub_id] == expected == model_shape(card)


def test_nothing_is_known_of_what_cannot_be_read(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "no_such_model"}')
    assert model_shape(str(tmp_path)) is None
    assert model_shape("my-shop/titles", "0" * 40) is None  # Not on this machine, and no network
    assert model_shape(model_card("standin-sd3")) is None


# ---------------------------------------------------------------- against tensors


@pytest.fixture(scope="module", params=["standin-qwen-s", "standin-gemma-l"])
def backend(request):
    return load_backend(request.param)


def test_weights_are_counted_exactly(backend):
    held = sum(weight.nbytes for weight in backend.engine.model.parameters())
    assert weight_bytes(backend.shape, "float32") == held == 2 * weight_bytes(backend.shape, "bfloat16")


def test_cache_and_pixels_are_counted_exactly(backend):
    pictures = [open_image(ROOT, "pictures/console-atari-2600.webp")] * 3
    prepared = backend.prepare(
        [Request(str(i), conversation(TITLE, image=True), p, 8) for i, p in enumerate(pictures)]
    )
    with torch.inference_mode():
        cache = backend.engine.model(**prepared.inputs, use_cache=True).past_key_values
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    types = prepared.inputs[
        "mm_token_type_ids" if "mm_token_type_ids" in prepared.inputs else "token_type_ids"
    ]
    words = types.shape[1] - int(types[0].sum())
    one = request_memory(backend.shape, (224, 224), words, 0, "float32")
    assert 3 * one.cache == held
    pixels = prepared.inputs["pixel_values"].nbytes
    assert 3 * one.pixels == 2 * pixels and pixels < 3 * one.inputs <= 1.1 * prepared.nbytes


def peak_bytes(run):
    "Most bytes that torch held at a time while something ran, beyond what it held before."
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        run()
    events = [e for e in watched.profiler.kineto_results.events() if e.name() == "[memory]"]
    steps = [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]
    return max(np.cumsum(steps))


@pytest.mark.parametrize(("family", "words"), [("gemma", 60), ("gemma", 400), ("qwen", 60), ("qwen", 400)])
def test_what_a_batch_takes_is_about_the_estimate(family, words):
    "Made models of a width at which activations count, on the CPU: never under it, and not far above."
    torch.manual_seed(0)
    if family == "gemma":
        from transformers import Gemma3ForConditionalGeneration as Model

        config = gemma_config(512, 2048, 3, 8, 2, 64, 8000, 256, 1024, 448, seen={"num_hidden_layers": 2, "num_attention_heads": 4},
                              mm_tokens_per_image=64, image_token_index=5, boi_token_index=6, eoi_token_index=7)  # fmt: skip
        rule, size, seen = PictureRule(14, most=448 * 448, tokens=64), (448, 448), 64
        inputs = {"pixel_values": torch.randn(2, 3, 448, 448)}
    else:
        from transformers import Qwen2_5_VLForConditionalGeneration as Model

        config = qwen_config(512, 2048, 3, 8, 2, 512, 8000, 256, image_token_id=5, video_token_id=6, vision_start_token_id=7, vision_end_token_id=8,
                             text={"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]}, "bos_token_id": 3, "eos_token_id": 1},
                             seen={"depth": 2, "num_heads": 4, "fullatt_block_indexes": [1]})  # fmt: skip
        rule, size, seen = PictureRule(14, 2, 3136, 12_845_056, frames=2), (448, 448), 256
        inputs = {
            "pixel_values": torch.randn(2 * 1024, 1176),
            "image_grid_thw": torch.tensor([[1, 32, 32]] * 2),
        }
    ids = torch.full((2, words + seen), 9)
    ids[:, 2 : 2 + seen] = 5
    kind = "mm_token_type_ids" if family == "qwen" else "token_type_ids"
    inputs |= {"input_ids": ids, "attention_mask": torch.ones_like(ids), kind: (ids == 5).long()}
    inputs["attention_mask"][0, :1] = 0
    model = Model(config).eval()
    fixed = {
        "max_new_tokens": 2,
        "min_new_tokens": 2,
        "do_sample": False,
        "eos_token_id": [1],
        "pad_token_id": 0,
    }
    with torch.inference_mode():
        measured = peak_bytes(lambda: model.generate(**inputs, **fixed))
    shape = memory._read_shape(config, sum(p.numel() for p in model.parameters()), rule)
    estimate = memory_estimate(shape, 2, size, words, 2, "float32")
    beside = estimate.cache + estimate.activations
    assert measured <= beside <= 2.0 * measured, (measured, beside, beside / measured)


# ---------------------------------------------------------------- what fits


def test_largest_batch_is_the_last_that_fits():
    for name, precision in (
        ("qwen2.5-vl-7b", "bfloat16"),
        ("gemma-3-12b", "nf4-bfloat16"),
        ("gemma-3-4b", "float32"),
    ):
        shape = model_shape(model_card(name))
        most = largest_batch(shape, 24 * GB, (800, 600), precision=precision)
        fits = [
            memory_estimate(shape, n, (800, 600), precision=precision).total <= 0.9 * 24 * GB
            for n in (most, most + 1)
        ]
        assert fits == [True, False]


def test_pictures_within_the_budget_take_a_tenth_of_those_beyond_it():
    shape = model_shape(model_card("qwen2.5-vl-7b"))
    whole, within = (request_memory(shape, (4624, 3468), pixels=p) for p in (None, 1_003_520))
    assert (
        64 * whole.inputs > 18 * 2**30
        and within.inputs < whole.inputs / 12
        and within.total < whole.total / 12
    )


def test_a_quantised_model_computes_in_the_format_of_its_name():
    shape = model_shape(model_card("gemma-3-4b"))
    half, full = (request_memory(shape, (8, 8), precision=p) for p in ("nf4-bfloat16", "nf4-float32"))
    assert full.cache == 2 * half.cache
    assert weight_bytes(shape, "nf4-bfloat16") < weight_bytes(shape, "bfloat16") / 2
    # By hand: 262,208 x 2,560 numbers of 2 bytes, and 0.55 bytes of the other weights
    assert weight_bytes(shape, "nf4-bfloat16") == int(671_252_480 * 2 + 0.55 * (4_300_079_472 - 671_252_480))


def test_the_budget_does_not_follow_what_is_free(monkeypatch):
    shape = model_shape(model_card("gemma-3-4b"))
    monkeypatch.setattr(memory, "count_gpus", lambda: 4)
    made = []
    for free in (70 * GB, 10 * GB):
        monkeypatch.setattr(memory, "gpu_memory", lambda n=0, free=free: (free, 80 * GB))
        made.append(
            [batch_budget(shape, device, "bfloat16") for device in ("cuda", "cuda:1", "spread", "cpu")]
        )
    weights = 2 * 4_300_079_472
    assert made[0] == made[1] == [72 * GB - weights] * 2 + [72 * GB - weights // 4, 2 * GB]
    monkeypatch.setattr(memory, "gpu_memory", lambda n=0: (6 * GB, 8 * GB))
    assert batch_budget(shape, "cuda", "bfloat16") == 0  # Then every question stands alone


# ---------------------------------------------------------------- batches


def test_photographs_are_never_more_than_the_budget_together():
    shape = model_shape(model_card("qwen2.5-vl-7b"))
    photos = [
        Request(str(i), conversation(TITLE, image=True), Image.new("L", (4624, 3468)), 64) for i in range(64)
    ]
    for pixels, together in ((1_003_520, True), (None, False)):
        costs = [
            request_memory(shape, r.image.size, pixels=pixels, precision="float32").total for r in photos
        ]
        batches = plan_batches(photos, 64, costs, 2 * GB)
        assert sorted(chain(*batches)) == list(range(64)) and {len(b) > 1 for b in batches} == {together}
        assert all(len(b) == 1 or sum(costs[i] for i in b) <= 2 * GB for b in batches)
    assert [len(b) for b in plan_batches(photos, 64)] == [64]


def test_stand_ins_go_on_in_batches_of_64(items):
    for name in ("standin-qwen-l", "standin-gemma-l"):
        backend = load_backend(name)
        one = backend.request_bytes((1000, 1000), 2_000, 64)
        assert 64 * one.total < backend.batch_bytes == 2 * GB


def test_cost_cuts_are_the_same_after_any_kill():
    rng = np.random.default_rng(0)
    keys = [f"{i:03d}" for i in range(80)]
    costs = dict(zip(keys, np.sort(rng.lognormal(3, 1, 80)), strict=True))
    whole = fixed_batches(keys, set(), 16, costs, 200.0)
    assert list(chain(*whole)) == keys and len({len(b) for b in whole}) > 3
    assert all(len(b) <= 16 and (len(b) == 1 or len(b) * max(costs[k] for k in b) <= 200) for b in whole)
    for done in range(1, len(whole)):
        assert fixed_batches(keys, set(chain(*whole[:done])), 16, costs, 200.0) == whole[done:]
    some = set(rng.choice(keys, 30, replace=False))
    rest = fixed_batches(keys, some, 16, costs, 200.0)
    assert sorted(chain(*rest)) == sorted(set(keys) - some)
    assert all(len(b) <= 16 and (len(b) == 1 or len(b) * max(costs[k] for k in b) <= 200) for b in rest)


@dataclass
class Device:
    "An engine with a memory: full above some number of questions, in one of torch's ways."

    most: int = 3
    error: BaseException = field(default_factory=lambda: torch.OutOfMemoryError("CUDA out of memory."))
    batch_size: int = 16
    identity: str = "device"
    precision: str = "bfloat16"
    tried: list = field(default_factory=list)
    giant: str = ""  # A title that does not fit even alone

    def ask(self, requests):
        said = [r.conversation[0]["content"][-1]["text"].split("Title: ")[-1] for r in requests]
        self.tried.append(len(requests))
        if len(requests) > self.most or (self.giant and self.giant in said):
            raise self.error
        return [Answer(r.key, json.dumps({"prompt": t}), "stop") for r, t in zip(requests, said, strict=True)]


def run(items, out, backend, **more):
    return complete(
        items, MODEL, "text_to_image", root=ROOT, out=str(out), backend=backend, progress=False, **more
    )


FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"),
    MemoryError("Unable to allocate 9 GiB"),
]


@pytest.mark.parametrize("error", FULL, ids=["cuda", "cpu", "numpy"])
def test_a_full_memory_halves_the_batch_for_good(items, tmp_path, error):
    device = Device(error=error)
    with pytest.warns(RuntimeWarning, match="questions at a time did not fit the memory") as said:
        rows = run(items.head(32), tmp_path, device)
    assert (rows["outcome"] == "ok").all() and len(rows) == 32
    assert device.tried[:3] == [16, 8, 4] and device.tried.count(4) == 1 and set(device.tried[3:]) == {2}
    words = [
        str(word.message) for word in said if "fit the memory" in str(word.message)
    ]  # Others may warn meanwhile
    assert len(words) == 3 and words[0].startswith("16 questions")
    pd.testing.assert_frame_equal(rows, run(items.head(32), tmp_path / "fits", Device(most=99)))


def test_another_error_does_not_make_batches_smaller(items, tmp_path):
    device = Device(most=99, giant=items["title"][5], error=ValueError("no"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        rows = run(items, tmp_path, device)
    assert (rows["outcome"] == "engine_error").sum() == 1 and device.tried.count(16) >= 1
    assert device.tried[-1] in (1, 8, 16) and "fewer pixels" not in rows.loc[5, "raw_text"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_question_that_does_not_fit_alone_is_a_row_that_says_what_to_do(items, tmp_path):
    device = Device(most=99, giant=items["title"][5], error=FULL[0])
    rows = run(items, tmp_path, device)
    assert rows.index[rows["outcome"] == "engine_error"].tolist() == [5]
    assert "CUDA out of memory" in rows.loc[5, "raw_text"] and "give fewer pixels, a quantisation" in rows.loc[5, "raw_text"]  # fmt: skip
    again = run(items, tmp_path, Device(most=99))
    assert (again["outcome"] == "ok").all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_cache_is_emptied_when_nothing_holds_the_tensors(monkeypatch):
    import weakref

    class Tensor:
        pass

    held, alive = [], []

    monkeypatch.setattr(module, "free_memory", lambda: alive.append(sum(ref() is not None for ref in held)))
    limit = BatchLimit()
    ask = [Request(str(n), [{"content": [{"text": str(n)}]}]) for n in range(8)]
    device = Device()

    def raising(requests):
        big = Tensor()  # In the frame that the error holds
        held.append(weakref.ref(big))
        if len(requests) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return [Answer(r.key, "x", "stop") for r in requests]

    device.ask = raising
    answers = ask_safely(device, ask, limit=limit)
    assert [a.text for a in answers] == ["x"] * 8 and alive == [0, 0] and limit.halved == 2


def test_a_limit_in_bytes_lets_small_questions_stay_together(items):
    "Four large ones did not fit; eight small ones are still asked at a time."
    rows = list(
        plan_questions(items.head(16), prompt_for("text_to_image", short=True), "e", ROOT).itertuples(
            index=False
        )
    )
    costs = {q.key: (100.0 if n < 8 else 10.0) for n, q in enumerate(rows)}
    device, limit = Device(most=99), BatchLimit(costs)

    def ask(requests):
        device.tried.append(len(requests))
        if sum(costs[r.key] for r in requests) > 250:
            raise torch.OutOfMemoryError("full")
        return [Answer(r.key, "x", "stop") for r in requests]

    device.ask = ask
    prompt = prompt_for("text_to_image", short=True)
    with pytest.warns(RuntimeWarning):
        list(answer_batches(device, [rows[:4], rows[4:8], rows[8:]], prompt, ROOT, limit))
    assert device.tried == [4, 2, 2, 2, 2, 8] and limit.most == 200.0


def test_the_bar_says_how_often(items, tmp_path, capsys):
    with pytest.warns(RuntimeWarning):
        complete(items, MODEL, "text_to_image", root=ROOT, out=str(tmp_path), backend=Device(most=5))
    assert "halved=1" in capsys.readouterr().err


class Sized(Device):
    "An engine that knows its memory."

    batch_bytes = 1_000

    def request_bytes(self, size, characters, new_tokens):
        return RequestMemory(cache=characters, pixels=0, activations=0, inputs=1)


def test_an_engine_that_knows_its_memory_gets_batches_that_fit(items, tmp_path):
    sized = Sized(most=99)
    rows = run(items, tmp_path, sized)
    words = len(prompt_for("text_to_image", short=True).text)
    longest = max(items["title"].str.len()) + words
    assert (rows["outcome"] == "ok").all() and 1 < sized.tried[0] <= 1_000 // longest
    assert max(sized.tried) < 16 and sum(sized.tried) == 40
    again = Sized(most=99)
    run(items, tmp_path, again)
    assert again.tried == []
    plain = run(items, tmp_path / "plain", Device(most=99))
    pd.testing.assert_frame_equal(rows, plain)


# ---------------------------------------------------------------- prepared ahead


@pytest.mark.parametrize(("allowed", "together"), [(10**9, True), (10, False)])
def test_what_is_prepared_ahead_stays_within_its_bytes(items, monkeypatch, allowed, together):
    events = []

    class Staged(Device):
        def prepare(self, requests):
            events.append("prepared")
            return requests

        def answer(self, prepared):
            events.append("asked")
            import time

            time.sleep(0.2)
            events.append("answered")
            return self.ask(prepared)

    monkeypatch.setattr(module, "AHEAD_BYTES", allowed)
    prompt = prompt_for("image_to_text", short=True)
    rows = list(plan_questions(items.head(6), prompt, "e", ROOT).itertuples(index=False))
    done = list(chain(*answer_batches(Staged(most=99), [rows[:2], rows[2:4], rows[4:]], prompt, ROOT)))
    assert len(done) == 6 and events.count("prepared") == 3
    alone = ["prepared", "asked", "answered"] * 3
    assert (events == alone) != together


def test_the_next_batch_may_be_the_larger_one(items, monkeypatch):
    prompt = prompt_for("text_to_image", short=True)
    rows = list(plan_questions(items.head(4), prompt, "e", ROOT).itertuples(index=False))
    submitted = []
    real = module.prepare_batch
    monkeypatch.setattr(
        module, "prepare_batch", lambda b, q, *a: (submitted.append(len(asked)), real(b, q, *a))[1]
    )
    asked = []
    device = Device(most=99)
    device.ask = lambda requests: (asked.append(1), [Answer(r.key, "x", "stop") for r in requests])[1]
    limit = BatchLimit(inputs={q.key: 2e9 for q in rows[2:]})
    assert len(list(answer_batches(device, [rows[:2], rows[2:]], prompt, ROOT, limit))) == 2
    assert submitted == [0, 1]  # The second only after the first was answered


# ---------------------------------------------------------------- letting go


def test_a_closed_engine_is_freed_and_can_be_asked_again(monkeypatch):
    import weakref

    backend = load_backend(MODEL)
    request = Request("k", conversation(prompt_for("text_to_image", short=True), title="Red Mug"), None, 8)
    first = backend.ask([request])[0].text
    held = weakref.ref(backend.engine.model)
    backend.close()
    assert held() is None and "engine" not in vars(backend)
    backend.close()
    assert backend.ask([request])[0].text == first


def test_two_precisions_are_two_systems_in_one_folder(items, tmp_path):
    both = [load_backend(MODEL, device="cpu", precision=p) for p in ("float32", "bfloat16")]
    where = partial(
        complete, items.head(6), MODEL, "image_to_text", root=ROOT, out=str(tmp_path), progress=False
    )
    tables = [where(backend=backend) for backend in both]
    assert [set(t["precision"]) for t in tables] == [{"float32"}, {"bfloat16"}]
    assert not set(tables[0]["key"]) & set(tables[1]["key"]) and both[1].engine.model.dtype == torch.bfloat16
    assert len(list((tmp_path / "answers").iterdir())) == 2 == len(list((tmp_path / "completions").iterdir()))
    silent = Device(most=0, identity=both[0].identity, precision="float32")
    pd.testing.assert_frame_equal(where(backend=silent), tables[0])
    named = complete(items.head(6), MODEL, "image_to_text", root=ROOT, out=str(tmp_path), progress=False, precision="bfloat16")  # fmt: skip
    pd.testing.assert_frame_equal(named, tables[1])


def test_four_bits_name_their_arithmetic():
    from mmpc_analysis.completion.backends import TransformersBackend

    made = [
        TransformersBackend("Qwen/Qwen2.5-VL-7B-Instruct", "0" * 40, "cuda", d, "nf4")
        for d in ("bfloat16", "float16")
    ]
    assert [b.precision for b in made] == ["nf4-bfloat16", "nf4-float16"]
    assert made[0].identity != made[1].identity and "|nf4-bfloat16|" in made[0].identity
