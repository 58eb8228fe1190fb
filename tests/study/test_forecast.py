"""A whole forecast: what a study needs, whether it can run, and the command that prints it."""

import http.server
import threading
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from mmpc_analysis.completion.models import model_card
from mmpc_analysis.study.choices import (
    CatalogueChoice,
    CompletionChoice,
    DrawingChoice,
    ModelChoice,
    PriceChoice,
    RecommendationChoice,
    Study,
)
from mmpc_analysis.study.command_line import app
from mmpc_analysis.study.forecast import forecast, server_state
from mmpc_analysis.study.forecast_words import duration, forecast_text
from mmpc_analysis.study.places import Machine

ROOMY = Machine(2, 16.0, disk=lambda folder: 1000.0)
GPU = Machine(16, 64.0, (("NVIDIA A100", 79.0),), lambda folder: 1000.0)
ANSWERING = ("qwen2.5-vl-7b", "qwen2.5-vl-32b", "qwen2.5-vl-72b", "gemma-3-4b", "gemma-3-12b", "gemma-3-27b")
SMALL = Study(
    catalogue=CatalogueChoice(limit=4),
    completion=CompletionChoice(models=("standin-gemma-s",), device="cpu"),
    drawing=DrawingChoice(device="cpu"),
    recommendation=RecommendationChoice(interactions="none"),
)
PRICED = PriceChoice(2.0, 8.0, currency="EUR", source="a list", date="2026-11-01")


def widest(text):
    return max(map(len, text.split("\n")))


@pytest.fixture(scope="module")
def published():
    study = Study(
        "published",
        catalogue=CatalogueChoice(limit=10),
        completion=CompletionChoice(models=ANSWERING, batch_size=8),
        drawing=DrawingChoice("sd3.5-large-turbo"),
        prices={"gemma-3-4b": PRICED},
    )
    return forecast(study, machine=GPU)


def test_published_models_are_guesses_and_to_be_downloaded(published):
    rows = published.places.set_index("model")
    for name in ANSWERING:
        assert rows["download"][name] == pytest.approx(model_card(name).parameters * 2 / 1e9)
    assert set(published.work["how"]) == {"guess"}
    assert rows["verdict"].to_dict() == dict.fromkeys(rows.index, "fits") | {
        "qwen2.5-vl-72b": "fits with nf4"
    }
    assert published.problems == [f"qwen2.5-vl-72b: {rows['todo']['qwen2.5-vl-72b']}"]


def test_money_of_guessed_tokens_by_hand_and_none_without_a_price(published):
    work = published.work[published.work["model"] == "gemma-3-4b"]
    read = (11 * work["input_tokens"]).sum() / 1e6  # 10 items and one blind
    written = 11 * (128 + 256) / 3 / 1e6
    assert work["cost"].sum() == pytest.approx(2 * read + 8 * written)
    assert published.work.loc[published.work["model"] != "gemma-3-4b", "cost"].isna().all()
    text = forecast_text(published)
    assert f"~{work['cost'].sum():,.2f} EUR" in text and "no price for 6 of 7" in text


def test_the_text_is_narrow_and_says_guess(published):
    text = forecast_text(published)
    assert widest(text) <= 80
    assert "guess one A100" in text and "guessed from characters" in text and "It cannot run here:" in text
    assert "measured here" not in text


def test_a_disk_that_is_too_small_for_all_downloads_together():
    study = replace(SMALL, completion=CompletionChoice(models=("gemma-3-4b", "qwen2.5-vl-7b")))
    # 8.6 and 16.6 GB: each would fit into 20 GB, both do not
    tight = forecast(study, machine=replace(GPU, disk=lambda folder: 20.0))
    assert len(tight.problems) == 1 and "25.2 GB to download into" in tight.problems[0]
    assert "where 20.0 are free; set HF_HOME to another disk" in tight.problems[0]
    assert forecast(study, machine=GPU).problems == []


def test_a_disk_that_is_too_small_for_the_run():
    full = forecast(SMALL, machine=replace(ROOMY, disk=lambda folder: 1e-9))
    assert len(full.problems) == 1 and "the run writes about" in full.problems[0]


@pytest.mark.parametrize(
    ("study", "words"),
    [
        (replace(SMALL, completion=CompletionChoice(models=("standin-sd3",))), "must be models that answer"),
        (
            replace(SMALL, completion=CompletionChoice(models=("standin-qwen-z",))),
            "did you mean 'standin-qwen",
        ),
        (replace(SMALL, catalogue=CatalogueChoice("no/such.csv")), "no/such.csv"),
        (replace(SMALL, prices={"standin-gemma-s": PriceChoice(1.0)}), "one token price without the other"),
    ],
)
def test_a_refusal_is_the_runs_own_and_no_traceback(study, words):
    found = forecast(study, machine=ROOMY)
    assert words in found.refusal and found.problems == [found.refusal] and found.places.empty
    assert words in " ".join(forecast_text(found).split()) and widest(forecast_text(found)) <= 80


def test_a_measured_stand_in_of_four_items(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = replace(
        SMALL,
        prices={"standin-gemma-s": PriceChoice(hour_price=3600.0, currency="EUR", source="s", date="d")},
    )
    found = forecast(study, measure=True, machine=ROOMY)
    assert found.problems == [] and not list(
        tmp_path.iterdir()
    )  # Nothing of it is left, least of all in a run
    asked = found.work[found.work["task"] != "drawing"]
    assert asked["how"].tolist() == ["measured", "measured"] and asked["on"].tolist() == ["here", "here"]
    assert (
        (asked["number"] == 5).all()
        and (asked["low"] <= asked["hours"]).all()
        and (asked["hours"] <= asked["high"]).all()
    )
    assert asked["cost"].sum() == pytest.approx(3600 * asked["hours"].sum())  # One a second
    drawn = found.work[found.work["task"] == "drawing"].iloc[0]
    assert (drawn["number"], drawn["how"]) == (8, "measured")
    text = forecast_text(found)
    assert "measured here" in text and "(measured)" in text and "~" not in text and "It can run here." in text


def test_a_model_that_breaks_while_it_is_timed_is_told(monkeypatch):
    from mmpc_analysis.completion.devices import BackendError

    class Broken:
        identity, precision, batch_size = "broken", "float32", 8

        def ask(self, requests):
            raise BackendError("weights are cut short; copy them again")

    monkeypatch.setattr("mmpc_analysis.study.forecast.backend_of", lambda *given: Broken())
    monkeypatch.setattr("mmpc_analysis.study.forecast._timed_drawings", lambda *given: None)
    found = forecast(SMALL, measure=True, machine=ROOMY)
    assert found.problems == ["standin-gemma-s: weights are cut short; copy them again"]
    assert set(found.work["how"]) == {"guess"}


SEEN = []


class Answering(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        SEEN.append((self.path, self.headers.get("Authorization")))
        body = b'{"data": [{"id": "gemma"}]}' if self.path == "/v1/models" else b""
        if self.path == "/v3/models":  # Somebody else's address, where no key may go
            self.send_response(302)
            self.send_header("Location", "/v1/models")
        else:
            self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *given):
        "Say nothing."


@pytest.fixture
def server():
    SEEN.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/v1"
        running.shutdown()


def test_a_server_is_asked_only_when_measuring(server, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret-123")
    choice = ModelChoice(server=server, key_variable="MY_KEY", family="Gemma-3")
    study = replace(
        SMALL,
        completion=CompletionChoice(models=("far",), device="cpu"),
        models={"far": choice},
        prices={"far": PRICED},
    )
    silent = forecast(study, machine=ROOMY)
    assert SEEN == [] and "not asked whether it answers" in silent.places["todo"].iloc[0]
    monkeypatch.setattr("mmpc_analysis.study.forecast._timed_drawings", lambda *given: None)
    asked = forecast(study, measure=True, machine=ROOMY)
    assert SEEN == [("/v1/models", "Bearer secret-123")]
    text = forecast_text(asked)
    assert (
        "answers, and lists gemma" in " ".join(text.split())
        and "secret-123" not in text
        and asked.problems == []
    )
    assert "unknown server" in text and "~" in text and "time unknown for 1 of 2" in text


def test_a_server_that_is_not_there_stops_the_study(server):
    down = ModelChoice(server="http://127.0.0.1:9/v1")
    assert server_state(down).startswith("does not answer: ")
    assert server_state(ModelChoice(server=server.replace("/v1", "/v2"))).startswith(
        "does not answer as asked: HTTP 404"
    )
    assert "url must be http(s)://host/path" in server_state(ModelChoice(server="file:///etc/passwd"))


def test_doctor_shows_no_key_and_takes_it_nowhere_else(server, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret-123\n")
    choice = ModelChoice(server=server, key_variable="MY_KEY")
    assert server_state(choice) == "answers, and lists gemma"
    assert "secret-123" not in server_state(replace(choice, server=server.replace("/v1", "/v2")))
    SEEN.clear()
    told = server_state(replace(choice, server=server.replace("/v1", "/v3")))
    assert told.startswith("does not answer") and [path for path, _ in SEEN] == ["/v3/models"]


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        (1 / 3600, "1.0 s"),
        (59 / 3600, "59 s"),
        (2.5 / 60, "2.5 min"),
        (47.4, "47 h"),
        (72, "3.0 days"),
        (float("nan"), "?"),
    ],
)
def test_durations(hours, text):
    assert duration(hours) == text


def test_what_a_run_would_refuse_on_this_machine_is_told_beside_the_tables():
    study = replace(SMALL, completion=replace(SMALL.completion, device="cuda:7"))
    found = forecast(study)
    assert "completion.device" in found.refusal and "'cuda:7' is not there" in found.refusal
    assert not found.places.empty and found.problems[0] == found.refusal
    text = forecast_text(found)
    assert "Where the models are" in text and "'cuda:7' is not there" in " ".join(text.split())
    assert forecast(study, machine=ROOMY).refusal == ""  # Of a machine that is described nothing is asked


def test_doctor_prints_a_forecast_and_ends_as_the_study_would(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.toml").write_text(
        '[catalogue]\nlimit = 4\n[completion]\nmodels = ["standin-gemma-s"]\n'
    )
    shown = CliRunner().invoke(app, ["doctor", "--study", "good.toml"])
    assert shown.exit_code == 0 and "It can run here." in shown.stdout and widest(shown.stdout) <= 80
    assert [path.name for path in tmp_path.iterdir()] == ["good.toml"]
    (tmp_path / "bad.toml").write_text('[completion]\nmodels = ["standin-sd3"]\n')
    shown = CliRunner().invoke(app, ["doctor", "--study", "bad.toml"])
    assert shown.exit_code == 2 and "must be models that answer" in shown.stdout
    shown = CliRunner().invoke(app, ["doctor", "--study", "gone.toml"])
    assert shown.exit_code == 2 and "there is no study file 'gone.toml'" in shown.stderr
    monkeypatch.setattr("mmpc_analysis.study.forecast.this_machine", lambda: replace(ROOMY, memory=1e-6))
    shown = CliRunner().invoke(app, ["doctor", "--study", "good.toml"])
    assert shown.exit_code == 2 and "take a GPU with more, a smaller model or a server" in " ".join(
        shown.stdout.split()
    )
