"""Whom a study asks: cards, engines and prices behind the names, and a server from the command line to a decision."""

import json
import tomllib

import pandas as pd
import pytest
from scripted_server import reply, scripted
from typer.testing import CliRunner

from mmpc_analysis import store, tables
from mmpc_analysis.study.asked import backend_of, cards_of, check_study, model_choice, price_table
from mmpc_analysis.study.command_line import app
from mmpc_analysis.study.declaration import study_from

BOTH = {
    "completion": {"models": ["standin-qwen-s", "half", "far"], "device": "cpu", "pixels": 802_816},
    "models": {
        "half": {"card": "standin-qwen-s", "precision": "bfloat16", "pixels": 50_176},
        "far": {"server": "http://localhost:8000/v1", "family": "Qwen2.5-VL", "parameters": 7_000_000_000},
    },
}


def answers(*rows):
    "Completions as far as a price list needs them: model, precision, prompt, role."
    frame = pd.DataFrame(rows, columns=["model", "precision", "prompt", "role"])
    return frame.assign(task="image_to_text", item_id=[str(i) for i in range(len(frame))])


def test_what_a_model_leaves_empty_is_what_the_study_says():
    study = study_from(BOTH)
    half, plain = model_choice(study, "half"), model_choice(study, "standin-qwen-s")
    assert (half.precision, half.device, half.pixels) == ("bfloat16", "cpu", 50_176)
    assert (plain.precision, plain.device, plain.pixels, plain.batch_size) == ("", "cpu", 802_816, 64)


def test_a_model_can_leave_the_study_s_quantisation():
    study = study_from(
        {
            "completion": {"models": ["standin-qwen-s", "gemma-3-4b"], "quantisation": "nf4"},
            "models": {"standin-qwen-s": {"quantisation": "none"}},
        }
    )
    assert model_choice(study, "standin-qwen-s").quantisation == ""
    assert model_choice(study, "gemma-3-4b").quantisation == "nf4"


def test_a_server_s_model_runs_on_no_device_of_ours():
    study = study_from(BOTH)
    far = model_choice(study, "far")
    assert (far.device, far.quantisation, far.precision, far.pixels) == ("", "", "", 802_816)


def test_cards_keep_a_known_model_s_name_and_size():
    cards = cards_of(study_from(BOTH))
    assert [card.name for card in cards.values()] == ["standin-qwen-s", "standin-qwen-s", "far"]
    assert cards["half"].parameters == cards["standin-qwen-s"].parameters
    assert (cards["far"].family, cards["far"].parameters) == ("Qwen2.5-VL", 7_000_000_000)


def test_one_model_in_two_precisions_is_two_engines():
    study = study_from(BOTH)
    cards = cards_of(study)
    whole, half = (backend_of(study, name, cards[name]) for name in ("standin-qwen-s", "half"))
    assert (whole.precision, half.precision) == ("float32", "bfloat16")
    assert whole.identity != half.identity


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": {"other": {"card": "standin-qwen-s"}}}, r"\[models.other\] must be of a model in"),
        ({"models": {"half": {"card": "standin-qwen-x"}}}, "models.half: .*did you mean"),
        ({"models": {"half": {"card": "standin-qwen-s", "source": "x/y"}}}, "models.half: takes a card or a source"),
        ({"models": {"half": {"source": "x/y"}}}, "models.half: parameters must be given"),
        ({"models": {"half": {"card": "standin-qwen-s", "served": "m"}}}, "models.half: served is said of a model behind"),
        ({"models": {"half": {"server": "http://a/v1", "device": "cuda"}}}, "models.half: device is said of a model that"),
        ({"completion": {"models": ["standin-qwen-s", "standin-qwen-s"]}}, "must name each model once"),
        ({"prices": {"other": {"hour_price": 1.0}}}, r"\[prices.other\] must be of a model in"),
        ({"prices": {"half": {"hour_price": 1.0}}}, "prices: .*without currency, source and date"),
        (
            {"prices": {"half": {"input_price": 1.0, "currency": "EUR", "source": "s", "date": "d"}}},
            "prices: .*one token price without the other",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_or_paid_is_refused_by_name(change, message):
    given = BOTH | {key: BOTH.get(key, {}) | value for key, value in change.items()}
    if "completion" in change:
        given = {"completion": change["completion"]}
    with pytest.raises(ValueError, match=message):
        check_study(study_from(given))


def test_prices_reach_each_system_under_its_own_name():
    bill = {"currency": "EUR", "source": "a bill", "date": "2026-11-25"}
    study = study_from(
        BOTH
        | {
            "prices": {
                "half": {"hour_price": 2.0} | bill,
                "far": {"input_price": 1.0, "output_price": 3.0} | bill,
            }
        }
    )
    systems = {
        "standin-qwen-s": ("standin-qwen-s", "float32"),
        "half": ("standin-qwen-s", "bfloat16"),
        "far": ("far", "server"),
    }
    rows = [
        (model, precision, prompt, role)
        for model, precision in systems.values()
        for prompt in ("title-short-1", "title-full-1")
        for role in ("model", "blind")
    ]
    listed = price_table(study, systems, answers(*rows)).set_index("model")
    assert len(listed) == 6 and not any(name.startswith("blind") for name in listed.index)
    half = listed[listed.index.str.contains("bfloat16")]
    assert len(half) == 2 and (half["hour_price"] == 2.0).all() and half["input_price"].isna().all()
    far = listed[listed.index.str.startswith("far")]
    assert far["output_price"].eq(3.0).all() and far["currency"].eq("EUR").all()
    unpriced = listed[listed.index.str.contains("float32") & ~listed.index.str.contains("bfloat16")]
    assert len(unpriced) == 2 and unpriced[["input_price", "output_price", "hour_price"]].isna().all(
        axis=None
    )


def test_no_price_is_no_list():
    study = study_from(BOTH)
    assert price_table(study, {}, answers(("far", "server", "p", "model"))) is None


SECRET = "sk-very-secret-0451"
BILL = {"currency": "EUR", "source": "a bill", "date": "2026-11-25"}


def shopkeeper(question, times, body):
    "A server that reads pictures, answers by their length, and takes no schema."
    parts = body["messages"][-1]["content"]
    seen = (
        ""
        if isinstance(parts, str)
        else "".join(p["image_url"]["url"] for p in parts if p["type"] == "image_url")
    )
    if body.get("response_format"):
        return 400, {}, {"error": {"message": "no schemas here", "param": "response_format"}}
    usage = {"prompt_tokens": 40 + len(seen) // 500, "completion_tokens": 6}
    return reply(json.dumps({"title": f"Thing {len(seen) % 97}"}), usage=usage)


def study_file(folder, server, **more):
    import tomli_w

    given = {
        "name": "served",
        "catalogue": {"limit": 8},
        "missing": {"rates": [1.0]},
        "completion": {"models": ["far", "standin-gemma-s"], "tasks": ["image_to_text"], "device": "cpu", "blind": False, "prompts": {"image_to_text": ["title-short-1"]}},
        "models": {"far": {"server": server, "family": "Gemma-3", "parameters": 4_000_000_000}},
        "prices": {"far": {"input_price": 1.0, "output_price": 2.0} | BILL, "standin-gemma-s": {"hour_price": 3.0} | BILL},
        "scores": {"metrics": ["token_f1"], "draws": 100, "device": "cpu"},
        "recommendation": {"interactions": "none"},
    }  # fmt: skip
    file = folder / "study.toml"
    file.write_text(tomli_w.dumps(given | more), encoding="utf-8")
    return file


def test_a_study_with_a_server_runs_to_its_decision(tmp_path, monkeypatch):
    monkeypatch.setenv("MMPC_API_KEY", SECRET)
    with scripted(shopkeeper) as server:
        url = server.url
        file, out = study_file(tmp_path, url), tmp_path / "run"
        done = CliRunner().invoke(app, ["run", str(file), "--out", str(out)])
        assert done.exit_code == 0, done.output
        asked = len(server.seen)
    again = CliRunner().invoke(app, ["run", str(file), "--out", str(out)])  # The server is gone by now
    assert again.exit_code == 0, again.output
    completions = store.read_shards(f"{out}/completions", tables.COMPLETIONS)
    far = completions[completions["model"] == "far"]
    assert len(far) == 8 and far["outcome"].eq("ok").all() and far["precision"].eq("server").all()
    assert far["input_tokens"].gt(40).all() and far["seconds"].gt(0).all()
    assert len(server.seen) == asked, "what was answered and found out is not asked again"
    frontier = (
        store.read_shards(f"{out}/frontier", tables.FRONTIER).query("category == 'all'").set_index("model")
    )
    by_hand = (far["input_tokens"].mean() * 1.0 + far["output_tokens"].mean() * 2.0) / 1000
    assert frontier.loc["far", "cost"] == pytest.approx(by_hand)
    own = completions[completions["model"] == "standin-gemma-s"]
    assert frontier.loc["standin-gemma-s", "cost"] == pytest.approx(own["seconds"].mean() * 1000 / 3600 * 3.0)
    assert frontier["unit"].eq("EUR").all()
    engines = json.loads((out / "engines.json").read_text())
    assert engines["far"]["server"]["model"] and url not in engines["far"]["identity"]
    assert tomllib.loads((out / "study.toml").read_text())["models"]["far"]["server"] == url
    for path in out.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def test_one_option_is_a_served_model(tmp_path):
    with scripted(shopkeeper) as server:
        words = [
            "complete",
            "--model",
            "gemma-3-4b",
            "--server",
            server.url,
            "--limit",
            "3",
            "--out",
            str(tmp_path / "run"),
        ]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
    completions = store.read_shards(f"{tmp_path}/run/completions", tables.COMPLETIONS)
    assert set(completions["model"]) == {"gemma-3-4b"} and completions["parameters"].eq(4_300_079_472).all()


def test_a_server_that_is_not_there_is_told_before_anything_is_asked(tmp_path):
    file = study_file(tmp_path, "http://127.0.0.1:9/v1")
    done = CliRunner().invoke(app, ["run", str(file), "--out", str(tmp_path / "run")])
    assert done.exit_code == 2 and "127.0.0.1:9" in done.output
    assert not (tmp_path / "run" / "completions").exists()


def test_a_server_with_a_forbidden_key_is_told_without_the_key(tmp_path, monkeypatch):
    monkeypatch.setenv("MMPC_API_KEY", SECRET)
    with scripted(lambda *told: (401, {}, {"error": {"message": f"bad key {SECRET}"}})) as server:
        words = ["run", str(study_file(tmp_path, server.url)), "--out", str(tmp_path / "run")]
        done = CliRunner().invoke(app, words)
    assert done.exit_code == 2 and "MMPC_API_KEY" in done.output and SECRET not in done.output
