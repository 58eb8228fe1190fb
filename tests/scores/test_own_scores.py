"""Anybody's results become scores that every analysis takes, and what cannot be true is refused by column and row."""

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from mmpc_analysis import tables
from mmpc_analysis.analysis.comparison import compare, direction, sensitivity
from mmpc_analysis.analysis.conclusions import conclusion_tables
from mmpc_analysis.analysis.correlation import scale_effect
from mmpc_analysis.analysis.decision import cheapest
from mmpc_analysis.analysis.equivalence import equivalence
from mmpc_analysis.analysis.stability import rank_agreement, rank_stability
from mmpc_analysis.metrics.cards import METRICS, headline_metrics
from mmpc_analysis.metrics.own_metrics import given_metric, metric_keys, register_metric
from mmpc_analysis.scores.averages import average, paired_difference
from mmpc_analysis.scores.measures import available_metrics
from mmpc_analysis.scores.own_scores import balance, from_scores, read_parameters

SIZES = {"a-7b": 7e9, "a-32b": 32e9, "a-72b": 72e9, "b-4b": 4e9, "b-27b": 27e9}
COLUMNS = {"item": "question", "model": "who", "parameters": "size", "family": "maker", "category": "topic"}


@pytest.fixture(autouse=True)
def known_metrics():
    before = dict(METRICS)
    yield
    METRICS.clear()
    METRICS.update(before)


def results(items=12, seed=0):
    rng, rows = np.random.default_rng(seed), []
    for topic in ("maps", "charts"):
        for k in range(items):
            hard = rng.normal(0, 0.1)
            for who, size in SIZES.items():
                accuracy = 0.5 + hard + 0.1 * np.log10(size / 1e10) + rng.normal(0, 0.05)
                rows.append((f"{topic}-{k}", topic, who, who[0], size, accuracy, rng.uniform(1, 9)))
    return pd.DataFrame(rows, columns=["question", "topic", "who", "maker", "size", "acc", "wer"])


def two_metrics():
    value = {"accuracy": "acc", "word_error": "wer"}
    which = {"accuracy": "higher", "word_error": "lower"}
    bounds = {"accuracy": (None, None), "word_error": (0, 10)}
    return from_scores(results(), **COLUMNS, value=value, direction=which, bounds=bounds)


def test_every_analysis_takes_them():
    scores = two_metrics()
    assert list(scores.columns) == tables.SCORES.names
    averages = average(scores, draws=50)
    assert len(averages) == 2 * 5 * 3
    assert len(compare(scores, draws=50)) == 2 * 3 * 10
    assert len(sensitivity(scores[scores["metric"] == "accuracy"], "a-7b", "b-4b", draws=50)) == 4 * 3
    assert len(equivalence(scores[scores["metric"] == "word_error"], 0.2, draws=50)) == 3 * 10
    assert len(rank_agreement(scores, draws=50)) == 4 and len(rank_stability(scores, draws=50)) == 20
    assert len(paired_difference(scores, others=["a-7b"], draws=50))
    effects = scale_effect(scores, draws=50)
    assert effects["estimate"].notna().any()
    costs = pd.DataFrame({"task": "own_scores", "model": list(SIZES), "cost": range(1, 6), "unit": "USD"})
    decided = cheapest(scores, costs, {"accuracy": 0.02, "word_error": 0.2}, draws=50)
    assert len(decided) == 6
    makers = conclusion_tables(scores, tables.empty(tables.COMPLETIONS), averages, draws=50)
    made = {name: make() for name, make in makers.items()}
    slopes = made["slopes"].query("category == 'all' and question == 'these_models'").set_index("metric")
    assert slopes.loc["accuracy", "low"] < 0.1 < slopes.loc["accuracy", "high"]
    assert all(len(made[name]) for name in ("slopes", "lines", "variances", "comparisons", "powers"))
    assert headline_metrics(averages, "own_scores") == ["accuracy", "word_error"]


def test_values_are_those_of_the_table():
    table, scores = results(), two_metrics()
    for metric, column in (("accuracy", "acc"), ("word_error", "wer")):
        got = scores[scores["metric"] == metric].set_index(["item_id", "model"])["value"]
        want = table.set_index(["question", "who"])[column]
        assert got.to_dict() == want.to_dict()


def test_direction_is_that_of_the_call():
    rows = compare(two_metrics(), draws=50).query(
        "category == 'all' and model == 'a-32b' and other == 'a-72b'"
    )
    means = results().groupby("who")[["acc", "wer"]].mean().loc["a-32b"] - results().groupby("who")[["acc", "wer"]].mean().loc["a-72b"]  # fmt: skip
    estimates = rows.set_index("metric")["estimate"]
    assert estimates["accuracy"] == pytest.approx(means["acc"])
    assert estimates["word_error"] == pytest.approx(-means["wer"])


def test_a_directionless_metric_makes_no_better_model():
    scores = from_scores(results(), **COLUMNS, value="wer", metric="words", direction="neither", bounds=None)
    assert compare(scores, draws=20).empty
    assert len(average(scores, draws=20)) == 15 and np.isnan(METRICS["words"].failure)


def test_a_long_table_is_the_wide_one():
    long = results().melt(["question", "topic", "who", "maker", "size"], ["acc", "wer"], "name", "points")
    long["name"] = long["name"].map({"acc": "accuracy", "wer": "word_error"})
    scores = from_scores(long, **COLUMNS, value="points", metric="name", direction={"accuracy": "higher", "word_error": "lower"}, bounds=None)  # fmt: skip
    wide = two_metrics()
    key = ["item_id", "model", "metric"]
    assert scores.set_index(key)["value"].to_dict() == wide.set_index(key)["value"].to_dict()


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_a_file_is_the_table_it_holds(tmp_path, ending):
    table = results().assign(question=lambda t: t["question"].factorize()[0])
    table["question"] = table["question"].map("{:03d}".format)  # 007 stays 007
    path = tmp_path / f"scores.{ending}"
    table.to_parquet(path) if ending == "parquet" else table.to_csv(
        path, index=False, sep="\t" if ending == "tsv" else ","
    )
    how = {**COLUMNS, "value": "acc", "bounds": None}
    read, held = from_scores(path, **how), from_scores(table, **how)
    assert read["item_id"].tolist() == held["item_id"].tolist() and "007" in set(read["item_id"])
    pd.testing.assert_frame_equal(read, held)


def test_unknown_scores_stay_unknown_and_are_counted():
    table = results()
    table.loc[[0, 7, 8], "acc"] = np.nan
    scores = from_scores(table, **COLUMNS, value="acc", bounds=None)
    assert len(scores) == len(table) and scores["value"].isna().sum() == 3
    assert scores.attrs["own_scores"] == {"unknown": 3, "filled": 0, "repeated": 0, "outcomes": False}
    assert (scores.loc[[0, 7, 8], "outcome"] == "ok").all()
    assert average(scores, draws=20).query("model == 'a-7b' and category == 'all'")["n"].item() == 23


def test_failed_answers_score_the_failure_value_and_lost_ones_nothing():
    table = results().assign(fate="ok")
    table.loc[[0, 1, 2], "fate"] = ["refused", "engine_error", "truncated"]
    table.loc[0, "wer"] = np.nan
    scores = from_scores(table, **COLUMNS, value="wer", direction="lower", bounds=(0, 10), outcome="fate")
    assert scores["value"][0] == 10  # The worse end of a metric of which less is better
    assert np.isnan(scores["value"][1]) and scores["value"][2] == table["wer"][2]
    assert scores.attrs["own_scores"] == {"unknown": 1, "filled": 1, "repeated": 0, "outcomes": True}
    unknown = from_scores(table, **COLUMNS, value="wer", metric="open_end", direction="lower", bounds=(0, None), outcome="fate")  # fmt: skip
    assert np.isnan(unknown["value"][0])


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("size", 0.0, "column 'size', row 7: expected a count of parameters, such as 7e9, got 0.0"),
        ("size", -7e9, "column 'size', row 7: expected a count"),
        ("size", 7.0, "column 'size', row 7: expected a count"),
        ("size", np.inf, "column 'size', row 7: expected a count"),
        ("size", np.nan, "column 'size', row 7: expected a number of parameters, got nan"),
        ("size", None, "column 'size', row 7: expected a number of parameters"),
        ("size", "7B", "column 'size', row 7: expected a number of parameters, got '7B'"),
        ("size", "32000000000", "column 'size', row 7: expected a number of parameters, got '32000000000'"),
        ("size", 8e9, "column 'size', row 7: expected one size for a model"),
        ("acc", np.inf, "column 'acc', row 7: expected a finite number, got inf"),
        ("acc", -np.inf, "column 'acc', row 7: expected a finite number, got -inf"),
        ("acc", "good", "column 'acc', row 7: expected a number, got 'good'"),
        ("acc", "45%", "column 'acc', row 7: expected a number, got '45%'"),
        ("acc", 45.2, "column 'acc', row 7: expected a value in [0, 1]"),
        ("question", None, "column 'question', row 7: expected a name"),
        ("who", " ", "column 'who', row 7: expected a name"),
        ("topic", "all", "column 'topic', row 7: expected a category, got 'all'"),
        ("topic", None, "column 'topic', row 7: expected a name"),
        ("question", "maps-0", "row 7 repeats model 'a-72b' on item 'maps-0'"),
    ],
)  # fmt: skip
def test_what_cannot_be_true_is_refused_by_column_and_row(column, value, said):
    table = results().astype({column: object})
    table.loc[7, column] = value
    table["acc"] = table["acc"].map(lambda v: min(max(v, 0), 1) if isinstance(v, float) and abs(v) < 2 else v)
    with pytest.raises(tables.TableError) as error:
        from_scores(table, **COLUMNS, value="acc")
    assert said in str(error.value) and ";" in str(error.value)


def test_a_model_of_unknown_size_is_named():
    table = results()
    table.loc[table["who"] == "b-27b", "size"] = np.nan
    scores = from_scores(table, **COLUMNS, value="acc", bounds=None, unknown_size=["b-27b"])
    assert scores.loc[scores["model"] == "b-27b", "parameters"].isna().all()
    assert scale_effect(scores, draws=20)["models"].max() == 4
    with pytest.raises(ValueError, match="unknown_size names 'c', which is no model"):
        from_scores(table, **COLUMNS, value="acc", bounds=None, unknown_size=["c"])


def test_what_an_analysis_lacks_is_named():
    scores = two_metrics()
    with pytest.raises(ValueError, match=r"scores has no column 'metric'.*from_scores"):
        compare(scores.drop(columns="metric"))
    costs = pd.DataFrame({"model": list(SIZES), "cost": 1.0})
    with pytest.raises(ValueError, match=r"costs has no column 'task'.*assign.task='own_scores'"):
        cheapest(scores, costs, {"accuracy": 0.1, "word_error": 1})
    with pytest.raises(ValueError, match="costs has no column 'unit'"):
        cheapest(scores, costs.assign(task="own_scores"), {"accuracy": 0.1, "word_error": 1})
    with pytest.raises(ValueError, match="no cost is known for any model of own_scores"):
        cheapest(scores, costs.assign(task="other", unit="USD"), {"accuracy": 0.1, "word_error": 1})
    with pytest.raises(ValueError, match=r"'unheard' has no card.*from_scores"):
        direction("unheard")


def test_choices_that_are_none_are_refused():
    table = results()
    for said, changes in (
        ("which has question, topic", {"item": "doc"}),
        ("A leaderboard, one score a model", {"item": "doc"}),
        ("value='score' is no column", {"value": "score"}),
        ("parameters='params' is no column", {"parameters": "params"}),
        ("repeats must be refuse or mean", {"repeats": "first"}),
        ("direction names no 'acc'", {"direction": {"wer": "lower"}}),
        ("better must be higher, lower or neither", {"direction": "up"}),
        ("level must be one of", {"level": "fine"}),
        ("name must be lower case", {"metric": "My metric"}),
        ("has a card that says lower", {"metric": "mse", "direction": "higher"}),
    ):
        with pytest.raises(ValueError, match=said):
            from_scores(table, **{**COLUMNS, "value": "acc", "bounds": None} | changes)
    with pytest.raises(ValueError, match=r"expected a DataFrame or the path of a .csv"):
        from_scores("scores.xlsx")


def test_a_metric_that_the_package_has_keeps_its_card():
    table = results().assign(acc=lambda t: t["acc"].clip(0, 1))
    scores = from_scores(table, **COLUMNS, value="acc", metric="mse", task="text_to_image")
    assert METRICS["mse"].better == "lower" and set(scores["level"]) == {"pixel"}
    with pytest.raises(tables.TableError, match=r"expected a value in \[0, 1\], the bounds of 'chrf'"):
        from_scores(table.assign(acc=45.0), **COLUMNS, value="acc", metric="chrf")


def test_a_given_card_computes_nothing_and_has_a_key():
    card = given_metric("points", bounds=(0, 10))
    assert available_metrics(["chrf", "points"])[0] == ["chrf"]
    assert "brought in as scores" in available_metrics(["points"])[1][0]["reason"]
    assert "points" not in available_metrics(None)[0]
    keys = metric_keys(["points", "chrf"])
    assert len(keys) == 1 and metric_keys(["points"]) == keys
    given_metric("points", "lower", (0, 10))
    assert metric_keys(["points"]) != keys
    assert register_metric(card) == METRICS["points"]


def test_repeated_rows_are_averaged_on_request_only():
    table = pd.concat([results().assign(acc=0.2), results().assign(acc=0.6)], ignore_index=True)
    scores = from_scores(table, **COLUMNS, value="acc", repeats="mean")
    assert len(scores) == len(table) / 2 and scores["value"].to_numpy() == pytest.approx(0.4)
    assert scores.attrs["own_scores"]["repeated"] == len(table) // 2
    two = from_scores(
        table.assign(wording=["one"] * 120 + ["two"] * 120), **COLUMNS, value="acc", prompt="wording"
    )
    assert tables.system_names(two).nunique() == 10


def test_uneven_tables_keep_every_row_and_say_so():
    table = results()
    rng = np.random.default_rng(1)
    kept = table[rng.random(len(table)) > 0.2]
    scores = from_scores(kept, **COLUMNS, value="acc", bounds=None)
    assert len(scores) == len(kept)
    rows = balance(scores).set_index("model")
    have = kept.groupby("who")["question"].nunique()
    shared = (kept.groupby("question")["who"].nunique() == 5).sum()
    assert rows["scored"].to_dict() == have.to_dict()
    assert set(rows["common"]) == {shared} and (rows["scored"] + rows["absent"] == rows["of"]).all()


def test_a_leaderboard_speaks_of_categories_and_of_sizes():
    board = pd.read_csv(ROOT / "tests/data/scores/leaderboard.csv")
    with pytest.raises(tables.TableError, match="A leaderboard, one score a model and category"):
        from_scores(board, value="score")
    board["size"] = read_parameters(board["params"])
    scores = from_scores(board, item="category", value="score", parameters="size", bounds=(0, 100))
    effect = scale_effect(scores, draws=50).query(
        "category == 'all' and scope == 'pooled' and term == 'spearman'"
    )
    assert effect["estimate"].tolist() == [1.0, 1.0] and set(effect["models"]) == {4}
    assert compare(scores, draws=20).query("category == 'all'")["n"].tolist() == [3] * 6


@pytest.mark.parametrize(("text", "count"), [("7B", 7e9), ("0.5b", 5e8), (".5 B", 5e8), ("350M", 3.5e8), ("1.3 billion", 1.3e9), ("7e9", 7e9), ("1,300M", 1.3e9), ("1T", 1e12)])  # fmt: skip
def test_sizes_as_people_write_them(text, count):
    assert read_parameters(pd.Series([text]))[0] == pytest.approx(count)


@pytest.mark.parametrize("text", ["7B-chat", "8x7B", "large", "-7B", "B"])
def test_sizes_that_are_none(text):
    with pytest.raises(ValueError, match="row 1 of 'params'"):
        read_parameters(pd.Series(["7B", text], name="params"))
