"""Models of one's own: trained from another, as whole weights or as an adapter, with their lineage."""

import dataclasses
import json
import shutil
import sys
from importlib.resources import files
from pathlib import Path

import pandas as pd
import pytest
import torch

from mmpc_analysis import tables
from mmpc_analysis.catalogue.pictures import open_image
from mmpc_analysis.completion.backend_choice import load_backend
from mmpc_analysis.completion.backends import TransformersBackend
from mmpc_analysis.completion.checkpoints import BackendError, check_adapter, load_weights
from mmpc_analysis.completion.completions import complete
from mmpc_analysis.completion.models import (
    find_weights,
    list_models,
    model_card,
    weights_fingerprint,
    weights_id,
)
from mmpc_analysis.completion.own_models import check_base, own_model, read_lineage, write_lineage
from mmpc_analysis.completion.prompts import conversation, prompt_for
from mmpc_analysis.completion.protocol import Request

ROOT = str(files("mmpc_analysis") / "data" / "catalogue")
STARTS = ["standin-gemma-s", "standin-qwen-s"]
PROMPT = prompt_for("image_to_text", short=True)


@pytest.fixture(scope="module")
def items():
    return pd.read_csv(f"{ROOT}/items.csv", dtype=str).query("split == 'test'").iloc[::40]


def lora(name):
    "A stand-in with random LoRA matrices beside its weights, as a training would leave it."
    peft = pytest.importorskip("peft")
    wrapped = peft.get_peft_model(
        load_weights(find_weights(model_card(name))),
        peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"),
    )
    numbers = torch.Generator().manual_seed(0)
    for key, weight in wrapped.named_parameters():
        if "lora_" in key:
            torch.nn.init.normal_(weight, std=0.03, generator=numbers)
    return wrapped.eval()


@pytest.fixture(scope="module", params=STARTS)
def trained(request, tmp_path_factory):
    "Name of a start, folder of an adapter on it, folder of the same merged."
    name, root = request.param, tmp_path_factory.mktemp("trained")
    model, start = lora(name), model_card(name)
    model.save_pretrained(root / "adapter")
    whole = shutil.copytree(start.folder, root / "merged", ignore=shutil.ignore_patterns("*.safetensors"))
    model.merge_and_unload().save_pretrained(whole)
    write_lineage(root / "adapter", f"{name}-grpo-0", start, "adapter")
    write_lineage(whole, f"{name}-grpo-1", start, precision="float32")
    return name, root / "adapter", whole


def requests(items):
    rows = zip(items["item_id"], items["image"], strict=True)
    asked = conversation(PROMPT, image=True)
    return [Request(i, asked, open_image(ROOT, image), PROMPT.max_new_tokens) for i, image in rows]


def logits(backend, asked):
    inputs = backend.prepare(asked).inputs
    with torch.inference_mode():
        return backend.engine.model(**inputs).logits


# ---------------------------------------------------------------- the card


def test_the_card_is_the_base_s_under_another_name(trained):
    name, adapter, merged = trained
    start, one, two = model_card(name), own_model(adapter), own_model(merged)
    assert (one.name, two.name) == (f"{name}-grpo-0", f"{name}-grpo-1")
    for card in (one, two):
        assert (card.base, card.family, card.parameters) == (name, start.family, start.parameters)
        assert card.standin and not card.embedded and card.note.startswith(f"trained from {name}; stand-in")
    assert (one.adapter, one.folder, one.precision) == (str(adapter), start.folder, "float16")
    assert (two.adapter, two.folder, two.precision) == (None, str(merged), "float32")


def test_what_the_caller_says_comes_first(trained):
    card = own_model(trained[1], family="mine", parameters=7, name="shop")
    assert (card.name, card.family, card.parameters, card.base) == ("shop", "mine", 7, trained[0])


def test_no_two_of_them_share_an_identity(trained):
    name, adapter, merged = trained
    backends = [load_backend(card) for card in (name, own_model(adapter), own_model(merged))]
    assert len({backend.identity for backend in backends}) == 3
    assert len({backend.precision for backend in backends}) == 1
    assert weights_id(own_model(adapter)).startswith(weights_id(model_card(name)) + "+")


def test_the_identity_sees_both_the_adapter_and_its_base(trained, tmp_path):
    name, adapter, _ = trained
    copy = shutil.copytree(adapter, tmp_path / "adapter")
    before = load_backend(own_model(copy)).identity
    (copy / "trainer_state.json").write_text("{}")
    assert load_backend(own_model(copy)).identity == before, "what is not read when it is loaded"
    settings = json.loads((copy / "adapter_config.json").read_text())
    (copy / "adapter_config.json").write_text(json.dumps(settings | {"lora_alpha": 16}))
    changed = load_backend(own_model(copy)).identity
    assert changed != before
    other = name.removesuffix("-s") + "-m"
    plain = TransformersBackend(find_weights(model_card(other)), adapter=str(copy))
    assert plain.identity not in (before, changed)


def test_a_lineage_is_no_weight(trained, tmp_path):
    copy = shutil.copytree(trained[2], tmp_path / "copy")
    before = weights_fingerprint(copy)
    (copy / "alignment.json").unlink()
    assert weights_fingerprint(copy) == before
    card = own_model(copy)
    assert (card.base, card.standin, card.family, card.name) == ("", False, "own", "copy")


def test_an_adapter_without_a_lineage_says_its_base(trained, tmp_path):
    name, adapter, _ = trained
    copy = shutil.copytree(adapter, tmp_path / "mine")
    (copy / "alignment.json").unlink()
    card = own_model(copy)
    assert (card.name, card.base, card.standin, card.folder) == ("mine", name, True, model_card(name).folder)


def test_a_published_base_lends_its_size(tmp_path):
    settings = {
        "base_model_name_or_path": "Qwen/Qwen2.5-VL-7B-Instruct",
        "peft_type": "LORA",
        "revision": None,
    }
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(
        ValueError, match="needs a pinned revision, got 'main'; give the 40 digits of a commit"
    ):
        own_model(tmp_path)
    start = model_card("qwen2.5-vl-7b")
    card = own_model(tmp_path, revision="1" * 40)
    assert (card.base, card.parameters, card.hub_id) == ("qwen2.5-vl-7b", start.parameters, start.hub_id)
    assert card.revision == "1" * 40 and not card.standin and card.folder is None
    assert weights_id(card).startswith("1" * 40 + "+")
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings | {"revision": "2" * 40}))
    assert own_model(tmp_path).revision == "2" * 40
    settings["base_model_name_or_path"] = "shop/unknown"
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="parameters must be given"):
        own_model(tmp_path, revision="1" * 40)


def test_a_lineage_on_the_hub_is_pinned(tmp_path):
    start = model_card("gemma-3-4b")
    written = write_lineage(tmp_path, "gemma-3-4b-grpo-0", start, "adapter")
    assert written.base_source == {
        "hub_id": start.hub_id,
        "revision": start.revision,
        "fingerprint": start.revision,
    }
    assert not written.embedded_prompt and read_lineage(tmp_path) == written
    card = own_model(tmp_path)
    assert (card.hub_id, card.revision, card.base) == (start.hub_id, start.revision, "gemma-3-4b")
    with pytest.raises(ValueError, match="must stand on the gemma-3-4b"):
        own_model(tmp_path, base=dataclasses.replace(start, revision="3" * 40))
    check_base(tmp_path, str(tmp_path))  # A mirror in a folder cannot be compared with a commit


# ---------------------------------------------------------------- what an adapter answers


def test_an_adapter_answers_as_its_merged_model(trained, items):
    name, adapter, merged = trained
    asked = requests(items)
    apart, whole, start = (load_backend(card) for card in (own_model(adapter), own_model(merged), name))
    found = logits(apart, asked)
    error = (found - logits(whole, asked)).abs().max() / found.abs().max()
    assert error < 3e-6  # Of logits of 27 and 39; 1e-6 was measured, where float32 has steps of 1e-7
    assert (found - logits(start, asked)).abs().max() > 1
    answers = [[answer.text for answer in backend.ask(asked)] for backend in (apart, whole, start)]
    assert answers[0] == answers[1] != answers[2]
    assert (apart.batch_size, apart.threads, apart.batch_bytes) == (start.batch_size, 1, start.batch_bytes)
    unmerged = [module for module in apart.engine.model.modules() if hasattr(module, "lora_A")]
    assert unmerged and not any(module.merged for module in unmerged)
    assert not apart.engine.model.training


def test_a_half_precision_base_keeps_its_adapter_in_float32(trained):
    model = load_weights(find_weights(model_card(trained[0])), dtype="bfloat16", adapter=str(trained[1]))
    kinds = {key.split(".")[-3]: value.dtype for key, value in model.named_parameters() if "lora_" in key}
    assert set(kinds.values()) == {torch.float32} and model.dtype == torch.bfloat16


# ---------------------------------------------------------------- what is refused


def test_another_base_is_refused(trained, tmp_path):
    name, adapter, _ = trained
    with pytest.raises(ValueError, match=f"must stand on the {name} whose fingerprint is"):
        own_model(adapter, base=model_card(name.removesuffix("-s") + "-m"))
    other = shutil.copytree(model_card(name).folder, tmp_path / "other")
    (other / "generation_config.json").write_text('{"temperature": 0.5}')
    with pytest.raises(BackendError, match="give it the weights that it was trained on"):
        load_backend(own_model(adapter), weights=str(other)).ask(
            [Request("k", conversation(PROMPT), None, 4)]
        )
    with pytest.raises(ValueError, match="whole weights that answers questions, got the generator"):
        own_model(adapter, base=model_card("standin-sd3"))


def test_a_name_that_fits_no_weight_is_refused(trained, tmp_path):
    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(trained[1], tmp_path / "renamed")
    stored = load_file(copy / "adapter_model.safetensors")
    save_file({key.replace("layers.0", "blocks.0"): value for key, value in stored.items()}, copy / "adapter_model.safetensors")  # fmt: skip
    with pytest.raises(BackendError, match=r"names do not, such as .*layers\.0.*save it again"):
        load_weights(find_weights(model_card(trained[0])), adapter=str(copy))


def test_pickles_other_kinds_and_cut_files_are_refused(trained, tmp_path):
    copy = shutil.copytree(trained[1], tmp_path / "copy")
    path, settings = (
        copy / "adapter_model.safetensors",
        json.loads((copy / "adapter_config.json").read_text()),
    )
    (copy / "adapter_config.json").write_text(json.dumps(settings | {"peft_type": "IA3"}))
    with pytest.raises(BackendError, match="must hold a LoRA adapter, got the kind 'IA3'"):
        check_adapter(str(copy))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="where its header says"):
        check_adapter(str(copy))
    path.rename(copy / "adapter_model.bin")
    with pytest.raises(BackendError, match="only safetensors are read"):
        check_adapter(str(copy))
    with pytest.raises(BackendError, match="only safetensors are read"):
        load_weights(find_weights(model_card(trained[0])), adapter=str(copy))
    with pytest.raises(ValueError, match=r"found no adapter_model\.safetensors"):
        _ = load_backend(own_model(copy)).identity


def test_without_peft_it_is_said_what_to_install(trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(BackendError, match=r"needs the package peft; pip install 'mmpc_analysis\[align\]'"):
        load_backend(own_model(trained[1])).ask([Request("k", conversation(PROMPT), None, 4)])


def test_wrong_lineages_are_refused(trained, tmp_path):
    name, adapter, _ = trained
    with pytest.raises(ValueError, match="merge that one first"):
        write_lineage(tmp_path, "twice", own_model(adapter), "adapter")
    assert write_lineage(tmp_path, "twice", own_model(adapter)).base == f"{name}-grpo-0"
    with pytest.raises(ValueError, match="kind must be weights or adapter"):
        write_lineage(tmp_path, "mine", model_card(name), "merged")
    nothing = dataclasses.replace(model_card(name), folder=None)
    with pytest.raises(ValueError, match="must be a model with weights"):
        write_lineage(tmp_path, "mine", nothing)
    row = json.loads((tmp_path / "alignment.json").read_text())
    for wrong in (
        "{",
        "[]",
        "{}",
        json.dumps(row | {"kind": "whole"}),
        json.dumps(row | {"base_source": {}}),
    ):
        (tmp_path / "alignment.json").write_text(wrong)
        with pytest.raises(ValueError, match="write_lineage writes it"):
            read_lineage(tmp_path)
    with pytest.raises(ValueError, match="got role 'generator'"):
        own_model(adapter, role="generator")


# ---------------------------------------------------------------- every other stage


def test_it_is_asked_the_short_prompt_and_its_rows_name_the_base(trained, items, tmp_path):
    name, adapter, merged = trained
    for source in (adapter, merged):
        rows = complete(
            items, own_model(source), "image_to_text", root=ROOT, out=str(tmp_path), progress=False
        )
        assert set(rows["prompt"]) == {PROMPT.id} and set(rows["base"]) == {name}
        assert set(rows["parameters"]) == {model_card(name).parameters}
        assert not rows["outcome"].eq("engine_error").any()
    start = complete(items, name, "image_to_text", root=ROOT, out=str(tmp_path), progress=False)
    assert set(start["base"]) == {""} and not set(start["key"]) & set(rows["key"])
    stored = tables.validate(pd.concat([start, rows]), tables.COMPLETIONS)
    assert stored.groupby("model")["base"].first().to_dict() == {name: "", f"{name}-grpo-1": name}


def test_a_registered_one_stands_in_the_list(trained, monkeypatch):
    from mmpc_analysis.completion import models

    monkeypatch.setattr(models, "_REGISTERED", {})
    models.register_model(own_model(trained[1]))
    row = list_models().set_index("name").loc[f"{trained[0]}-grpo-0"]
    assert row["weights"] == "folder" and row["found"]


def test_a_copy_of_a_start_is_asked_in_full(tmp_path):
    "Whoever wants a stand-in's folder to be asked the short prompt says so in its lineage."
    copy = Path(shutil.copytree(model_card(STARTS[0]).folder, tmp_path / "copy"))
    assert not own_model(copy).standin
    write_lineage(copy, "tuned", model_card(STARTS[0]))
    assert own_model(copy).standin
