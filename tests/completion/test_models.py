"""Model cards against their architectures, and the shipped stand-ins against their own record."""

import hashlib
import itertools
import json
import re
import struct
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from mmpc_analysis.completion import models
from mmpc_analysis.completion.models import (
    check_weights,
    count_parameters,
    find_weights,
    list_models,
    model_card,
    pin_revision,
    standin_records,
    weights_fingerprint,
    weights_id,
)
from mmpc_analysis.completion.own_models import own_model

FOLDER = ROOT / "mmpc_analysis" / "data" / "standins"
MLLMS = [f"standin-{family}-{size}" for family in ("gemma", "qwen") for size in "sml"]
FIXED = {"standin-sd3": 2 * 2 * 384}  # Stored, but not learnt: the transformer's table of positions
PUBLISHED = [
    "qwen2.5-vl-7b", "qwen2.5-vl-32b", "qwen2.5-vl-72b", "gemma-3-4b", "gemma-3-12b", "gemma-3-27b",
    "sd3.5-large-turbo",
]  # fmt: skip


@pytest.fixture(scope="session")
def tools():
    "The training script's modules."
    sys.path.insert(0, str(ROOT / "tools" / "standins"))
    yield
    sys.path.remove(str(ROOT / "tools" / "standins"))


# ---------------------------------------------------------------- the published models


@pytest.mark.parametrize("name", PUBLISHED)
def test_card_is_complete(name):
    card = model_card(name)
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", card.hub_id)
    assert re.fullmatch(r"[0-9a-f]{40}", card.revision)
    assert card.parameters > 4e9 and card.precision == "bfloat16" and card.licence and card.context
    assert find_weights(card) == card.hub_id and weights_id(card) == card.revision
    assert not card.embedded and card.folder is None


# Hidden, intermediate, layers, heads, key-value heads, head or vision width, from each repository's config.json
QWEN = {
    "qwen2.5-vl-7b": (3584, 18944, 28, 28, 4, 3420),
    "qwen2.5-vl-32b": (5120, 27648, 64, 40, 8, 3456),
    "qwen2.5-vl-72b": (8192, 29568, 80, 64, 8, 3456),
}
GEMMA = {
    "gemma-3-4b": (2560, 10240, 34, 8, 4, 256),
    "gemma-3-12b": (3840, 15360, 48, 16, 8, 256),
    "gemma-3-27b": (5376, 21504, 62, 32, 16, 128),
}


def total(build):
    "Parameters of a model that is built without memory."
    import torch

    with torch.device("meta"):
        return sum(p.numel() for p in build().parameters())


@pytest.mark.parametrize("name", QWEN)
def test_qwen_count_is_the_architectures(name):
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    hidden, inner, layers, heads, kv, vision = QWEN[name]
    config = Qwen2_5_VLConfig(
        text_config=dict(
            hidden_size=hidden,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv,
            vocab_size=152_064,
        ),
        vision_config=dict(hidden_size=1280, out_hidden_size=hidden, intermediate_size=vision),
    )
    assert total(lambda: Qwen2_5_VLForConditionalGeneration(config)) == model_card(name).parameters


@pytest.mark.parametrize("name", GEMMA)
def test_gemma_count_is_the_architectures(name):
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    hidden, inner, layers, heads, kv, width = GEMMA[name]
    config = Gemma3Config(
        text_config=dict(
            hidden_size=hidden,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv,
            head_dim=width,
            vocab_size=262_208,
        ),
        vision_config=dict(
            hidden_size=1152,
            intermediate_size=4304,
            num_hidden_layers=27,
            num_attention_heads=16,
            image_size=896,
            patch_size=14,
            vision_use_head=False,
        ),
    )
    assert total(lambda: Gemma3ForConditionalGeneration(config)) == model_card(name).parameters


def test_generator_count_is_the_architectures():
    from diffusers import SD3Transformer2DModel

    count = total(
        lambda: SD3Transformer2DModel(
            num_layers=38,
            attention_head_dim=64,
            num_attention_heads=38,
            joint_attention_dim=4096,
            caption_projection_dim=2432,
            pooled_projection_dim=2048,
            pos_embed_max_size=192,
            qk_norm="rms_norm",
        )
    )
    assert count == model_card("sd3.5-large-turbo").parameters
    # The published index states 16,292,561,536 bytes of bfloat16, the fixed position table included.
    assert 2 * (count + 192 * 192 * 2432) == 16_292_561_536


def test_unknown_name_gets_a_suggestion():
    with pytest.raises(ValueError, match=r"got 'qwen2.5-vl-7B'; did you mean 'qwen2.5-vl-7b'\?"):
        model_card("qwen2.5-vl-7B")
    with pytest.raises(ValueError, match="must be one of") as error:
        model_card("zzz")
    assert "did you mean" not in str(error.value)


def test_list_has_every_model_once():
    table = list_models()
    assert table["name"].is_unique and set(table["name"]) == {*PUBLISHED, *MLLMS, "standin-sd3"}
    assert table.loc[table["weights"] == "embedded", "found"].all()
    assert list(models.MODELS) == table["name"].tolist()


# ---------------------------------------------------------------- folders, fingerprints, models of one's own


def write_tensors(path, **shapes):
    "A safetensors file of float16 zeros, written by hand: length, header, data."
    header, start = {}, 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [start, start + size]}
        start += size
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(start))


def test_own_folder_is_counted_by_its_headers(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    write_tensors(tmp_path / "a.safetensors", x=(3, 4), y=(5,))
    write_tensors(tmp_path / "b.safetensors", scalar=())
    assert count_parameters(tmp_path) == 3 * 4 + 5 + 1
    card = own_model(tmp_path, family="Gemma-3", name="mine")
    assert (card.name, card.parameters, card.folder) == ("mine", 18, str(tmp_path))
    assert find_weights(card) == str(tmp_path) and weights_id(card) == weights_fingerprint(tmp_path)


def test_fingerprint_sees_contents_and_names_only(tmp_path):
    file = tmp_path / "config.json"
    file.write_text("{}")
    first = weights_fingerprint(tmp_path)
    (tmp_path / "README.md").write_text("words")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "x").write_text("noise")
    assert weights_fingerprint(tmp_path) == first
    file.write_text("[]")
    assert (changed := weights_fingerprint(tmp_path)) != first
    file.rename(tmp_path / "other.json")
    assert weights_fingerprint(tmp_path) not in (first, changed)
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "other.json").rename(file)
    assert weights_fingerprint(tmp_path) == first


def test_own_hub_model_is_resolved_when_asked(monkeypatch):
    import huggingface_hub

    asked = []

    def model_info(repo, revision):
        asked.append((repo, revision))
        return type("Info", (), {"sha": "a" * 40})

    monkeypatch.setattr(huggingface_hub, "model_info", model_info)
    card = own_model("shop/model", parameters=7)
    assert weights_id(card) == "a" * 40 and asked == [("shop/model", "main")]
    assert weights_id(pin_revision(card, "b" * 40)) == "b" * 40 and len(asked) == 1


def test_wrong_sources_are_refused(tmp_path):
    with pytest.raises(ValueError, match="only a model on the hub has revisions"):
        pin_revision(model_card("standin-qwen-s"), "main")
    with pytest.raises(ValueError, match="must hold safetensors files"):
        own_model(tmp_path)
    write_tensors(tmp_path / "a.safetensors", x=(1,))
    with pytest.raises(ValueError, match=r"must lie in a folder with config\.json"):
        own_model(tmp_path)
    with pytest.raises(ValueError, match="role must be mllm or generator"):
        own_model(tmp_path, role="judge")


# ---------------------------------------------------------------- the stand-ins as shipped


def test_record_is_complete():
    record = standin_records()
    assert set(record) == {*MLLMS, "standin-sd3"}
    for name, row in record.items():
        card = model_card(name)
        assert row["seed"] == 0 and row["cpu_seconds"] > 0 and row["data"]["split"] == "train"
        assert {"torch", "transformers", "diffusers"} <= set(row["versions"])
        assert {"test", "unseen"} <= set(row["scores"])
        assert "proves nothing" in card.note and card.embedded
        readme = (FOLDER / name / "README.md").read_text("utf-8")
        assert "proves nothing about the published models" in readme and "Held-out scores" in readme


def test_weights_are_those_of_the_record():
    for name, row in standin_records().items():
        files = {p.relative_to(FOLDER / name).as_posix(): p for p in (FOLDER / name).rglob("*.safetensors")}
        assert {f: hashlib.sha256(p.read_bytes()).hexdigest() for f, p in files.items()} == row["sha256"]
        assert count_parameters(FOLDER / name) - FIXED.get(name, 0) == row["parameters"]
        for path in files.values():
            head = path.read_bytes()[8:]
            assert b'"F32"' not in head[: head.index(b"}}")]


def test_folders_stay_small():
    sizes = [p.stat().st_size for p in FOLDER.rglob("*") if p.is_file()]
    assert sum(sizes) <= 40e6


def test_sizes_differ_threefold_and_learnt_alike():
    record = standin_records()
    for family in ("gemma", "qwen"):
        rows = [record[f"standin-{family}-{size}"] for size in "sml"]
        ratios = [b["parameters"] / a["parameters"] for a, b in itertools.pairwise(rows)]
        assert all(2.5 < ratio < 4 for ratio in ratios)
        assert len({json.dumps(row["recipe"]) for row in rows}) == 1
        assert len({(row["steps"], row["warm_steps"]) for row in rows}) == 1


def test_large_sizes_beat_every_floor():
    for family in ("gemma", "qwen"):
        lead = standin_records()[f"standin-{family}-l"]["scores"]["test"]["lead"]
        assert set(lead) == {"blind", "shuffled", "template"}
        for floor, metrics in lead.items():
            assert set(metrics) == {"token_f1", "chrf", "minilm_cosine"}
            for metric, (_, low, _) in metrics.items():
                assert low > 0, (family, floor, metric)


def test_drawn_pictures_are_nearer_than_shuffled_ones():
    # What the card says; test_drawing.py draws and scores anew.
    scores = standin_records()["standin-sd3"]["scores"]["test"]
    assert scores["mse_lead_over_shuffled"][1] > 0 and scores["psnr"] > scores["psnr_shuffled"] + 2
    assert scores["effnet_lead_over_shuffled"][1] > 0 and scores["effnet_patch_lead_over_shuffled"][1] > 0
    assert scores["nearer_than_shuffled"] > 0.6


def test_learnt_from_the_shipped_training_split(tools):
    from standin_cards import data_record
    from standin_data import read_split

    now = data_record(read_split("train"))
    assert {json.dumps(row["data"]) for row in standin_records().values()} == {json.dumps(now)}


@pytest.mark.parametrize("name", MLLMS)
def test_loads_through_the_auto_classes_and_answers(name):
    import torch
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from mmpc_analysis.completion.checkpoints import register_processors
    from mmpc_analysis.completion.prompts import conversation, prompt_for

    register_processors()
    processor = AutoProcessor.from_pretrained(FOLDER / name)
    model = AutoModelForImageTextToText.from_pretrained(FOLDER / name, dtype=torch.float32)
    assert hasattr(processor, "image_processor") and processor.tokenizer.padding_side == "left"
    assert type(model).__name__ == standin_records()[name]["class"]
    ends = model.generation_config.eos_token_id
    turn = "<|im_end|>" if "qwen" in name else "<end_of_turn>"
    assert processor.tokenizer.convert_tokens_to_ids(turn) in ends
    title, prompt = prompt_for("image_to_text", short=True), prompt_for("text_to_image", short=True)
    picture = Image.new("RGB", (224, 224), "white")
    for talk, images in (
        (conversation(title, image=True), [[picture]]),
        (conversation(title), None),
        (conversation(prompt, title="Nötö 吉他 Guitar - music"), None),
        (conversation(prompt), None),
    ):
        text = processor.apply_chat_template([talk], add_generation_prompt=True, tokenize=False)
        inputs = processor(text=text, images=images, return_tensors="pt", add_special_tokens=False)
        with torch.inference_mode():
            ids = model.generate(**inputs, max_new_tokens=3, do_sample=False)
        assert ids.shape[1] > inputs["input_ids"].shape[1]


@pytest.mark.parametrize("name", MLLMS[::3])
def test_tokenizer_returns_any_text(name):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(FOLDER / name)
    for text in ("Noto Acoustic Guitar - music, strings", "Ünïcode 吉他 🎸, 5 µm", 'a "quoted" {brace}'):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text


def test_scores_of_the_record_can_be_measured_again(tools):
    from standin_cards import examine_mllm
    from standin_data import read_split

    train = read_split("train")
    name = "standin-qwen-s"
    again = examine_mllm(FOLDER / name, read_split("unseen", like=train), train)
    kept = standin_records()[name]["scores"]["unseen"]
    for metric, value in kept["image_to_text"].items():
        assert again["image_to_text"][metric] == pytest.approx(value, abs=0.02 if metric != "chrf" else 2), (
            metric
        )


# ---------------------------------------------------------------- the training script


def test_same_seed_same_weights(tools, tmp_path):
    import torch
    from standin_data import read_split, synthetic_catalogue
    from standin_mllm import Recipe, train_mllm

    train = read_split("train", synthetic_catalogue(tmp_path, concepts=4))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        few = Recipe(warm_epochs=2, epochs=2)
        first, second, other = (
            train_mllm("gemma", "s", train, few, seed, lambda _: None)[0].state_dict() for seed in (0, 0, 1)
        )
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_smoke_training_runs(tmp_path):
    command = [
        sys.executable,
        str(ROOT / "tools" / "standins" / "train_standins.py"),
        "--smoke",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(
        [*command, "--only", "standin-qwen-s", "standin-sd3"], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "standins.json").read_text("utf-8"))["models"]
    assert set(record) == {"standin-qwen-s", "standin-sd3"}
    for name, row in record.items():
        assert row["cpu_seconds"] > 0 and row["scores"]["test"]["n"] == 12
        assert (tmp_path / name / "README.md").exists()


def test_smoke_never_overwrites_the_shipped_ones():
    command = [sys.executable, str(ROOT / "tools" / "standins" / "train_standins.py"), "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "--smoke needs --out" in done.stderr


# ---------------------------------------------------------------- whole weights


def tensors(path, *shapes):
    "A safetensors file of zeros, by the format's own description."
    offsets = np.cumsum([0, *(4 * int(np.prod(shape)) for shape in shapes)]).tolist()
    header = {
        f"t{i}": {"dtype": "F32", "shape": list(shape), "data_offsets": offsets[i : i + 2]}
        for i, shape in enumerate(shapes)
    }
    head = json.dumps({"__metadata__": {"format": "pt"}} | header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(offsets[-1]))
    return path


def test_shipped_weights_are_whole():
    for name in standin_records():
        check_weights(FOLDER / name)


def test_the_format_is_that_of_the_safetensors_library(tmp_path):
    from safetensors.numpy import load_file, save_file

    check_weights(tensors(tmp_path / "own" / "model.safetensors", (3, 2), (5,)).parent)
    assert load_file(tmp_path / "own" / "model.safetensors")["t1"].shape == (5,)
    (tmp_path / "theirs").mkdir()
    save_file({"a": np.ones((7, 3)), "b": np.zeros((0, 4))}, tmp_path / "theirs" / "model.safetensors")
    check_weights(tmp_path / "theirs")
    save_file({}, tmp_path / "theirs" / "model.safetensors")
    check_weights(tmp_path / "theirs")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 438784\n"
DAMAGE = {
    "half": lambda data: data[: len(data) // 2],
    "one byte less": lambda data: data[:-1],
    "one byte more": lambda data: data + b"x",
    "inside the header": lambda data: data[:20],
    "inside the length": lambda data: data[:3],
    "empty": lambda data: b"",
    "a web page": lambda data: b"<!DOCTYPE html><title>404</title>" * 9,
    "a pointer of Git LFS": lambda data: POINTER,
    "a header that is a list": lambda data: struct.pack("<Q", 2) + b"[]",
    "a header of numbers": lambda data: struct.pack("<Q", 9) + b'{"a": 12}',
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(
    "name", ["model.safetensors", "model-00002-of-00002.safetensors", "text_encoder/model.safetensors"]
)
def test_a_damaged_file_is_refused_by_its_name(tmp_path, damage, name):
    tensors(tmp_path / "model-00001-of-00002.safetensors", (4, 4))
    path = tensors(tmp_path / name, (3, 2), (5,))
    check_weights(tmp_path)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(ValueError, match=re.escape(str(path))):
        check_weights(tmp_path)


def test_the_pointer_of_git_lfs_is_called_so(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(POINTER)
    with pytest.raises(ValueError, match="git lfs pull"):
        check_weights(tmp_path)


@pytest.mark.parametrize(
    "index", ["model.safetensors.index.json", "diffusion_pytorch_model.safetensors.index.fp16.json"]
)
@pytest.mark.parametrize("part", ["", "transformer"])
def test_a_shard_that_the_index_names_must_be_there(tmp_path, index, part):
    names = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    tensors(tmp_path / "another.safetensors", (2, 2))
    for name in names:
        tensors(tmp_path / part / name, (2, 2))
    (tmp_path / part / index).write_text(
        json.dumps({"metadata": {}, "weight_map": {f"w{n}": n for n in names}})
    )
    check_weights(tmp_path)
    (tmp_path / part / names[1]).unlink()
    with pytest.raises(ValueError, match=names[1]):
        check_weights(tmp_path)
    (tmp_path / part / index).write_text("{")
    with pytest.raises(ValueError, match=re.escape(index)):
        check_weights(tmp_path)


def test_a_folder_without_weights_and_a_pipeline_without_a_part_are_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"0" * 99)
    with pytest.raises(ValueError, match=r"only \*.safetensors are read"):
        check_weights(tmp_path)
    pipeline = tmp_path / "pipeline"
    tensors(pipeline / "vae" / "model.safetensors", (2, 2))
    (pipeline / "vae" / "config.json").write_text("{}")
    index = {
        "_class_name": "P",
        "vae": ["diffusers", "V"],
        "text_encoder_3": [None, None],
        "scheduler": ["diffusers", "S"],
    }
    (pipeline / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="scheduler is not there"):
        check_weights(pipeline)
    (pipeline / "scheduler").mkdir()
    check_weights(pipeline)
    (pipeline / "vae" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="vae has no weights"):
        check_weights(pipeline)


def test_checking_reads_headers_only(tmp_path):
    path = tensors(tmp_path / "model.safetensors", (4, 4))
    with open(path, "r+b") as file:  # As large as a model of 16 GB, without taking the disk's space
        head = path.read_bytes()
        size = 16_000_000_000
        row = {"w": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}
        text = json.dumps(row).encode()
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + size)
    assert len(head) < 1000
    check_weights(tmp_path)
