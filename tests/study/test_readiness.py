"""What cannot work is refused before any model is asked, in one sentence that names the key."""

import json
import shutil
from pathlib import Path

import pytest

from mmpc_analysis.completion import backends, models
from mmpc_analysis.completion.backend_choice import register_backend
from mmpc_analysis.completion.models import ModelCard, model_card
from mmpc_analysis.study import stages
from mmpc_analysis.study.choices import Study
from mmpc_analysis.study.declaration import study_from
from mmpc_analysis.study.readiness import check_hub, check_run
from mmpc_analysis.study.stages import run_study

TITLES = {"completion": {"tasks": ["image_to_text"]}}


def merged(*parts):
    "Sections of several parts as one study, about eight items and one stand-in."
    base = {"catalogue": {"limit": 8}, "completion": {"models": ["standin-qwen-s"], "blind": False}}
    for part in parts:
        for section, keys in part.items():
            base[section] = base.get(section, {}) | keys
    return study_from(base)


@pytest.fixture
def unasked(monkeypatch):
    "Whoever is asked fails the test, and so does whoever is loaded."

    def asked(*args, **how):
        pytest.fail("a model was asked")

    monkeypatch.setattr(stages, "run_completions", asked)
    for name in ("ask", "answer", "prepare"):
        monkeypatch.setattr(backends.TransformersBackend, name, asked)
    return asked


def refused(study, out):
    "The one line with which a study is refused."
    with pytest.raises(ValueError) as problem:
        run_study(study, str(out), progress=False, say=lambda line: None)
    assert "\n" not in str(problem.value)
    return str(problem.value)


@pytest.mark.parametrize(
    ("given", "key", "message"),
    [
        # Nothing would be left to average
        (
            {"scores": {"metrics": ["corpus_bleu"]}},
            "scores.metrics",
            "must name a metric of single items, got corpus_bleu",
        ),
        (
            {"scores": {"metrics": ["corpus_bleu", "corpus_chrf"]}},
            "scores.metrics",
            "got corpus_bleu, corpus_chrf",
        ),
        ({"scores": {"metrics": ["effnet_frechet"]}}, "scores.metrics", "which are of whole sets"),
        # Of a task that is not asked
        ({"scores": {"metrics": ["mse"]}} | TITLES, "scores.metrics", "got 'mse', which is of text_to_image"),
        (
            {"scores": {"metrics": ["chrf", "ssim"]}} | TITLES,
            "scores.metrics",
            "got 'ssim', which is of text_to_image",
        ),
        (
            {"scores": {"metrics": ["chrf"]}, "completion": {"tasks": ["text_to_image"]}},
            "scores.metrics",
            "got 'chrf', which is of image_to_text",
        ),
        # Encoders that are not here
        (
            {"scores": {"metrics": ["clip_cosine", "mse"]}},
            "scores.metrics",
            "got 'clip_cosine': its encoder is not here",
        ),
        (
            {"scores": {"metrics": ["clip_score"]}} | TITLES,
            "scores.metrics",
            "got 'clip_score': it needs CLIP",
        ),
        ({"scores": {"metrics": ["dinov2_cosine"]}}, "scores.metrics", "got 'dinov2_cosine'"),
        (
            {"scores": {"weights": {"clip": "nowhere/at/all"}}},
            "scores.weights.clip",
            "must be a folder or name@revision",
        ),
        (
            {"scores": {"metrics": ["clip_score"], "weights": {"clip": "no/such/place"}}} | TITLES,
            "scores.weights",
            "folder",
        ),
        ({"scores": {"weights": {"minilm": "nowhere/at/all"}}} | TITLES, "scores.weights.minilm", "folder"),
        # Devices and number formats
        ({"completion": {"device": "tpu"}}, "completion.device", "must be auto, cpu, cuda"),
        ({"completion": {"device": "cuda:99"}}, "completion.device", "is not there"),
        (
            {"models": {"standin-qwen-s": {"device": "gpu"}}},
            "models.standin-qwen-s.device",
            "must be auto, cpu, cuda",
        ),
        (
            {"completion": {"precision": "int8"}},
            "completion.precision",
            "must be float32, bfloat16 or float16",
        ),
        (
            {"models": {"standin-qwen-s": {"precision": "fp8"}}},
            "models.standin-qwen-s.precision",
            "got 'fp8'",
        ),
        ({"completion": {"quantisation": "int3"}}, "completion.quantisation", "'nf4', got 'int3'"),
        (
            {"completion": {"quantisation": "nf4", "device": "cpu"}},
            "completion.quantisation",
            "needs a CUDA GPU",
        ),
        (
            {"models": {"standin-qwen-s": {"quantisation": "nf4", "device": "cpu"}}},
            "models.standin-qwen-s.quantisation",
            "GPU",
        ),
        ({"drawing": {"device": "cuda:99"}}, "drawing.device", "is not there"),
        ({"drawing": {"device": "spread"}}, "drawing", "got 'spread'"),
        ({"drawing": {"precision": "int8"}}, "drawing.precision", "got 'int8'"),
        ({"drawing": {"offload": "all"}}, "drawing", "offload must be one of none, model, sequential"),
        ({"scores": {"device": "cuda:99"}}, "scores.device", "is not there"),
        ({"scores": {"device": "spread"}}, "scores.device", "got 'spread'"),
        ({"scores": {"device": "tpu"}}, "scores.device", "must be auto, cpu, cuda"),
        # Named twice
        (
            {"completion": {"tasks": ["image_to_text", "image_to_text"]}},
            "completion.tasks",
            "'image_to_text' 2 times",
        ),
        (
            {"completion": {"models": ["standin-qwen-s", "standin-qwen-s"]}},
            "completion.models",
            "name each model once",
        ),
        (
            {"recommendation": {"recommenders": ["vbpr", "bm3", "vbpr"]}},
            "recommendation.recommenders",
            "'vbpr' 2 times",
        ),
        ({"recommendation": {"fills": ["zeros", "zeros"]}}, "recommendation.fills", "'zeros' 2 times"),
        # A generator where a writer is asked, and the other way round
        ({"completion": {"models": ["standin-sd3"]}}, "completion.models", "got 'standin-sd3', which draws"),
        (
            {"drawing": {"generator": "standin-gemma-s"}},
            "drawing.generator",
            "got 'standin-gemma-s', which answers",
        ),
        # What the catalogue and the purchases say
        ({"catalogue": {"split": "none"}}, "catalogue.split", "must be"),
        ({"missing": {"rates": [0.0001]}}, "missing.rates", "none of 8 items is drawn"),
        (
            {"recommendation": {"interactions": "nowhere.csv"}},
            "recommendation.interactions",
            "must be a file",
        ),
        (
            {"missing": {"mechanism": "by_popularity"}, "recommendation": {"interactions": "none"}},
            "by_popularity",
            "needs interactions",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anyone_is_asked(given, key, message, tmp_path, unasked):
    said = refused(merged(given), tmp_path / "run")
    assert key in said and message in said


def test_the_same_model_is_asked_once_or_in_two_precisions(tmp_path, unasked):
    two = {
        "completion": {"models": ["standin-qwen-s", "again"]},
        "models": {"again": {"card": "standin-qwen-s"}},
    }
    assert "models.again must differ from 'standin-qwen-s'" in refused(merged(two), tmp_path)
    two["models"]["again"]["precision"] = "bfloat16"
    check_run(merged(two), str(tmp_path))


def test_no_model_has_the_name_of_a_floor(tmp_path, unasked):
    source = model_card("standin-qwen-s").folder
    for name in ("oracle", "shuffled"):
        mine = {"completion": {"models": [name]}, "models": {name: {"source": source}}}
        assert f"models.{name} must not be called oracle, template, shuffled" in refused(
            merged(mine), tmp_path
        )


# ---------------------------------------------------------------- folders of weights


def cut(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def pointer(folder):
    (folder / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    )


def without_weights(folder):
    (folder / "model.safetensors").unlink()


def text_only(folder):
    config = json.loads((folder / "config.json").read_text())
    config = config["text_config"] | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
    (folder / "config.json").write_text(json.dumps(config))


def without_tokenizer(folder):
    for path in folder.iterdir():
        if "token" in path.name or "processor" in path.name:
            path.unlink()


def without_config(folder):
    (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (cut, "copy or download it again"),
        (pointer, "is a pointer of Git LFS"),
        (without_weights, "safetensors"),
        (text_only, "has no picture processor"),
        (without_tokenizer, "models.mine: "),
        (without_config, "config.json"),
    ],
)
def test_a_folder_of_weights_must_be_whole_and_see(harm, message, tmp_path, unasked):
    folder = tmp_path / "weights"
    shutil.copytree(model_card("standin-qwen-s").folder, folder)
    mine = {
        "completion": {"models": ["mine"]},
        "models": {"mine": {"source": str(folder), "parameters": 1000}},
    }
    check_run(merged(mine), str(tmp_path / "run"))
    harm(folder)
    said = refused(merged(mine), tmp_path / "run")
    assert said.startswith("models.mine: ") and message in said


def test_a_folder_that_draws_is_no_writer(tmp_path, unasked):
    mine = {
        "completion": {"models": ["mine"]},
        "models": {"mine": {"source": model_card("standin-sd3").folder}},
    }
    assert "config.json" in refused(merged(mine), tmp_path)


@pytest.mark.parametrize("name", ["gemma-3-4b", "qwen2.5-vl-7b"])
def test_weights_on_a_hub_are_tried_unless_there_are_answers(name, tmp_path, unasked, monkeypatch):
    fetched = []

    def fetch(hub_id, file, revision):
        fetched.append((hub_id, file, revision))
        raise TimeoutError("no network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    card = model_card(name)
    said = refused(merged({"completion": {"models": [name], "device": "cpu"}}), tmp_path)
    assert said.startswith(f"models.{name}: {card.hub_id} is not on this machine") and "TimeoutError" in said
    assert fetched == [(card.hub_id, "config.json", card.revision)]
    monkeypatch.setattr("mmpc_analysis.study.readiness.store.shard_names", lambda folder: ["one"])
    check_run(merged({"completion": {"models": [name], "device": "cpu"}}), str(tmp_path))
    assert len(fetched) == 1


def test_a_generator_on_a_hub_is_tried_too(monkeypatch):
    monkeypatch.setattr(
        "huggingface_hub.hf_hub_download", lambda hub_id, file, revision: fetched.append(file)
    )
    fetched = []
    check_hub(model_card("sd3.5-large-turbo"))
    assert fetched == ["model_index.json"]


# ---------------------------------------------------------------- backends and folders


class Sightless:
    identity, precision, batch_size, sees_images = "sightless", "float32", 4, False

    def ask(self, requests):
        pytest.fail("a model was asked")


class Absent(Sightless):
    def __init__(self):
        raise OSError("the socket is closed")


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(models, "_REGISTERED", {})
    register_backend("sightless", Sightless)
    register_backend("absent", Absent)


def test_an_engine_without_pictures_is_asked_for_no_titles_from_them(registered, tmp_path, unasked):
    said = refused(merged({"completion": {"models": ["sightless"]}}), tmp_path)
    assert said.startswith("models.sightless must see pictures for the task image_to_text")
    prompts = {"completion": {"models": ["sightless"], "tasks": ["text_to_image"]}}
    check_run(merged(prompts), str(tmp_path))


def test_a_server_without_pictures_is_refused_too(tmp_path, unasked, monkeypatch):
    asked = []

    def backend(study, name, card, out):
        asked.append((name, card.name))
        return Sightless()

    monkeypatch.setattr("mmpc_analysis.study.readiness.backend_of", backend)
    far = {"completion": {"models": ["far"]}, "models": {"far": {"server": "http://localhost:1/v1"}}}
    assert refused(merged(far), tmp_path).startswith("models.far must see pictures")
    assert asked == [("far", "far")]


def test_an_engine_that_cannot_be_had_is_named(registered, tmp_path, unasked):
    assert (
        refused(merged({"completion": {"models": ["absent"]}}), tmp_path)
        == "models.absent: the socket is closed"
    )


def test_the_folder_of_a_run_must_be_a_folder(tmp_path, unasked):
    (tmp_path / "file").write_text("x")
    study = merged({})
    assert "out must be a folder, got the file" in refused(study, tmp_path / "file")
    assert "is not one that is a folder" in refused(study, tmp_path / "file" / "below" / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_may_not_be_written_is_refused(tmp_path, unasked, monkeypatch):
    monkeypatch.setattr("mmpc_analysis.study.readiness.os.access", lambda place, mode: False)
    assert "is not one that may be written" in refused(merged({}), tmp_path / "new" / "run")


def test_the_demo_passes_and_loads_no_model(tmp_path, unasked):
    check_run(Study(), str(tmp_path / "run"))
    assert not Path(tmp_path / "run").exists()
    assert isinstance(model_card("standin-qwen-s"), ModelCard)
