"""A study whose models run behind a server, from the command line to the report's decision by price."""

import json
import tomllib

import pytest
from scripted_server import reply, scripted
from typer.testing import CliRunner

from mmpc_analysis import store, tables
from mmpc_analysis.study.command_line import app

pytest.importorskip("openai", reason="the extra server is not installed")
SECRET = "sk-very-secret-0451"
BILL = {"currency": "EUR", "source": "a bill", "date": "2026-11-25"}


def shopkeeper(question, times, body):
    "A server that reads pictures and answers all alike, but for one forbidden word."
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
        again = CliRunner().invoke(app, ["run", str(file), "--out", str(out)])
        assert again.exit_code == 0, again.output
    completions = store.read_shards(f"{out}/completions", tables.COMPLETIONS)
    far = completions[completions["model"] == "far"]
    assert len(far) == 8 and far["outcome"].eq("ok").all() and far["precision"].eq("server").all()
    assert far["input_tokens"].gt(40).all() and far["seconds"].gt(0).all()
    repeated = [body for _, body in server.seen[asked:] if "Write the product title as JSON" in str(body)]
    assert not repeated, "a question of the study was asked again"
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
