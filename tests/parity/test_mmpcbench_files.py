"""Old files of MMPCBench's published code: ids and words survive, failures stay failures, bad lines are set aside."""

import csv
import io
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpc_analysis.parity.mmpcbench_files import (
    read_mmpcbench_answers,
    read_mmpcbench_items,
    read_mmpcbench_results,
)
from mmpc_analysis.parity.walk import defect_table, mmpcbench_text_tables
from mmpc_analysis.tables import COMPLETIONS, validate

CELLS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


def test_a_run_goes_from_files_to_a_walk(tmp_path):
    (tmp_path / "All_Beauty_data.txt").write_text(
        "007\tRed lipstick, matte\n008\tNone\n009\tBlue nail polish\n"
    )
    (tmp_path / "All_Beauty_gpu0.csv").write_text(
        'item_id,title\n007,"Red lipstick, matte"\n008,None\n009,error\n'
    )
    items = read_mmpcbench_items([tmp_path / "All_Beauty_data.txt"]).rows
    read = read_mmpcbench_answers([tmp_path / "All_Beauty_gpu0.csv"], "q7")
    assert read.rows["item_id"].tolist() == ["007", "008", "009"] and read.set_aside.empty
    assert read.rows["outcome"].tolist() == ["ok", "invalid", "invalid"]
    assert read.rows["text"].notna().tolist() == [True, False, False]
    tables = mmpcbench_text_tables(read.rows, items)
    assert tables.detailed["valid_pairs"].item() == 3
    walk = defect_table(read.rows, items)
    end = walk[(walk["metric"] == "jaccard") & (walk["category"] == "all")]
    assert end["value"].iloc[-1] == pytest.approx(1 / 3)


def test_a_failure_is_never_a_title(tmp_path):
    path = tmp_path / "Video_Games_prompts_gpu1.jsonl"
    rows = [{"prompt": p, "description": "d", "image": f"{k:03d}", "raw_output": raw} for k, (p, raw) in enumerate(
        [("error", None), (" ERROR ", "blah {"), ("", "x"), (None, ""), (["a"], "x"), ("a red console on white", "{}"), ("error", "I'm sorry, but I can't help")]
    )]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "005.jpg").write_bytes(b"x")
    read = read_mmpcbench_answers([path], "m", pictures=str(tmp_path)).rows
    assert read["outcome"].tolist() == [
        "engine_error",
        "invalid",
        "invalid",
        "invalid",
        "invalid",
        "ok",
        "refused",
    ]
    assert read["text"].dropna().tolist() == ["a red console on white"]
    assert read["task"].eq("text_to_image").all() and read["image"].dropna().tolist() == ["005.jpg"]
    pd.testing.assert_frame_equal(validate(read, COMPLETIONS), read)


def test_bad_lines_are_set_aside_and_the_rest_is_read(tmp_path):
    lines = [
        "{",
        "[1]",
        "null",
        '{"title": "x"}',
        '{"title": "x", "image": 7}',
        '{"title": "Mug", "image": "a"}',
        "[" * 100_000,
    ]
    (tmp_path / "X_titles_gpu0.jsonl").write_text("\n".join(lines))
    read = read_mmpcbench_answers([tmp_path / "X_titles_gpu0.jsonl"], "m")
    assert read.rows["text"].tolist() == ["Mug"] and read.set_aside["line"].tolist() == [1, 2, 3, 4, 5, 7]
    (tmp_path / "X.tsv").write_text("item_id\ttitle\n1\tMug\n2\n\tx\n1\tCup\n3\ta\tb\n")
    read = read_mmpcbench_answers([tmp_path / "X.tsv"], "m")
    assert read.rows["text"].tolist() == ["Cup"] and len(read.set_aside) == 4
    (tmp_path / "Y_data.txt").write_text("only\n\tno id\n1\tMug\n../../etc\tpath\n")
    read = read_mmpcbench_items([tmp_path / "Y_data.txt"])
    assert read.rows["item_id"].tolist() == ["1", "../../etc"] and read.rows["image"].isna().all()


def test_several_files_are_all_read(tmp_path):
    for gpu in range(3):
        (tmp_path / f"Office_Products_gpu{gpu}.tsv").write_text(
            f"item_id\ttitle\n0{gpu}\tPen {gpu}\n00\tPen of {gpu}\n"
        )
    read = read_mmpcbench_answers(tmp_path.glob("*.tsv"), "m")
    assert read.rows["item_id"].tolist() == ["00", "01", "02"] and read.rows["text"].iloc[0] == "Pen of 2"
    assert set(read.rows["category"]) == {"Office_Products"} and len(read.set_aside) == 3


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(CELLS.filter(lambda t: t.strip() == t and t), CELLS, min_size=1, max_size=8))
def test_cells_survive_a_csv(tmp_path_factory, cells):
    path = tmp_path_factory.mktemp("csv") / "X_gpu0.csv"
    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([("item_id", "title"), *cells.items()])
    path.write_text(buffer.getvalue(), "utf-8")
    read = read_mmpcbench_answers([path], "m")
    assert read.rows["item_id"].tolist() == list(cells) and read.set_aside.empty
    assert read.rows["raw_text"].tolist() == list(cells.values())


def test_results_with_bare_nan_and_both_kinds(tmp_path):
    (tmp_path / "benchmark_results_1.json").write_text(
        '{"detailed_results": [{"model": "m", "category": "A", "total_files": 4, "valid_files": 3, "psnr_mean": Infinity, '
        '"psnr_std": NaN, "clip_mean": 0.5, "clip_std": 0.1, "clip_valid_count": 2, "fid_score": 12.5}, {"category": "B"}, 7], '
        '"summary_results": [{"model": "m", "categories_evaluated": 1, "psnr_mean": 3, "psnr_std": 0, "fid_mean": 12.5, "fid_std": 0, "total_files_processed": 4}]}'
    )
    (tmp_path / "text_benchmark_summary_1.csv").write_text(
        "model,categories_evaluated,cosine_sim_mean,cosine_sim_std,bleu_score_mean,bleu_score_std,total_items_processed\nm,9,0.2,N/A,0.1,0.2,9000\n"
    )
    read = read_mmpcbench_results(sorted(tmp_path.iterdir()))
    rows = read.rows.set_index(["task", "category", "metric"])
    assert np.isinf(rows.loc[("text_to_image", "A", "psnr"), "estimate"]) and np.isnan(
        rows.loc[("text_to_image", "A", "psnr"), "sd"]
    )
    assert (
        rows.loc[("text_to_image", "A", "clip"), "n"] == 2
        and rows.loc[("text_to_image", "A", "fid"), "estimate"] == 12.5
    )
    assert rows.loc[("text_to_image", "all", "fid"), "estimate"] == 12.5
    assert (
        np.isnan(rows.loc[("image_to_text", "all", "cosine_sim"), "sd"])
        and rows.loc[("image_to_text", "all", "bleu_score"), "n"] == 9000
    )
    assert len(read.set_aside) == 2
