"""Times as shops write them: read with certainty, or refused with the column, the form and the remedy."""

from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpc_analysis.catalogue.purchases import read_interactions
from mmpc_analysis.catalogue.times import read_times

DAY = 1_705_276_800  # 15 January 2024, 00:00 UTC: 19,737 days of 86,400 s


def seconds(*values, **kwargs):
    return read_times(pd.Series(values, dtype=object), **kwargs).tolist()


@pytest.mark.parametrize(
    "value",
    [
        20240115, "20240115", 20240115.0, "20240115000000", "2024-01-15", "2024/01/15", "2024.01.15", "2024-1-15", "1/15/2024", "01/15/2024",
        "15/1/2024", "15.01.2024", "15.1.2024", "15-01-2024", "Jan 15, 2024", "15 January 2024", "15-Jan-2024", "Mon, 15 Jan 2024 00:00:00 +0000",
        "2024-01-15T00:00:00Z", "2024-01-15 02:00:00+02:00", "2024-01-14T19:00:00-05:00", "2024-01-15 00:00:00 UTC", "1705276800", "1.7052768e9",
        DAY, float(DAY), "1/15/2024 12:00 AM", "15.01.2024 00:00:00", date(2024, 1, 15), datetime(2024, 1, 15, tzinfo=UTC), "  2024-01-15 ",
    ],
)  # fmt: skip
def test_one_day_in_every_form(value):
    assert seconds(value) == [DAY]
    assert seconds(value, None, value)[::2] == [DAY, DAY]


def test_the_time_of_day_is_kept():
    for value in (
        "1/15/2024 1:30 PM",
        "15/01/2024 13:30",
        "15.01.2024, 13:30:00",
        "20240115133000",
        "Jan 15, 2024 1:30 PM",
        "2024-01-15T13:30",
    ):
        assert seconds(value) == [DAY + 13.5 * 3600]


@pytest.mark.parametrize(
    ("values", "days"),
    [
        (["1/2/2024", "1/15/2024"], [-13, 0]),
        (["1/2/2024", "15/1/2024"], [17, 0]),
        (["1.2.2024"], [17]),
        (["01-02-2024", "31-01-2024"], [17, 16]),
    ],
)
def test_the_column_decides_which_is_the_day(values, days):
    assert seconds(*values) == [DAY + 86_400 * n for n in days]


@pytest.mark.parametrize(
    ("values", "example", "said"),
    [
        (["1/5/2024", "2/5/2024"], "1/5/2024", "nobody can tell the day from the month"),
        (["01-05-2024"], "01-05-2024", "nobody can tell"),
        (["15/1/2024", "1/15/2024"], "15/1/2024", "in the other order"),
        (["15/01/24"], "15/01/24", "two digits"),
        (["24-01-15"], "24-01-15", "two digits"),
        (["2024-01-15", "1/5/2024"], "1/5/2024", "nobody can tell"),
        (["15 janv. 2024"], "15 janv. 2024", "a form that is not read"),
        (["soon", "15.1.2024", "later"], "soon", "a form that is not read"),
        (["2024-W03-1"], "2024-W03-1", "a form that is not read"),
    ],
)
def test_what_nobody_can_read_is_refused_with_the_column_the_form_and_the_remedy(values, example, said):
    with pytest.raises(ValueError) as error:
        seconds(*values, name="sold on")
    assert "the column 'sold on' has" in str(error.value) and repr(example) in str(error.value)
    assert said in str(error.value) and "date_format=" in str(error.value)


@pytest.mark.parametrize(
    ("values", "form"),
    [
        (["1/5/2024"], "%d/%m/%Y"),
        (["5/1/2024"], "%m/%d/%Y"),
        (["01.05.24"], "%d.%m.%y"),
        (["20240501"], "%Y%m%d"),
        ([20240501.0], "%Y%m%d"),
    ],
)
def test_a_named_form_settles_it(values, form):
    assert seconds(*values, date_format=form) == [DAY + 107 * 86_400]


def test_a_form_that_fits_nothing_is_said():
    with pytest.raises(ValueError, match="fits no cell of the column 'timestamp', such as '1/5/2024'"):
        seconds("1/5/2024", date_format="%Y-%m-%d")


def test_days_as_numbers_need_nine_in_ten_and_the_odd_ones_are_none():
    values = seconds(*[20240115] * 19, 7)
    assert values[:19] == [DAY] * 19 and np.isnan(values[19])
    assert seconds(*[20240115] * 8, 7, 8)[0] == 20240115  # Seconds, of August 1970
    assert seconds(20240230, 19_000_101) == [20240230, 19_000_101]  # No day, and before 1990
    assert seconds(1_600_000_000_123, unit="ms") == [1_600_000_000.123]


def test_what_is_no_time_is_none():
    values = [
        "2024-01-15",
        None,
        float("nan"),
        True,
        [1],
        {},
        "soon",
        "",
        pd.NaT,
        10**400,
        "2024-02-30",
        "31/4/2024",
    ]
    found = seconds(*["2024-01-15"] * 20, *values)
    assert found[20] == DAY and np.isnan(found[21:]).all()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.datetimes(datetime(1990, 1, 1), datetime(2099, 12, 31)), min_size=1, max_size=20))
def test_iso_and_numbers_agree_with_python(moments):
    moments = [m.replace(microsecond=0, tzinfo=UTC) for m in moments]
    expected = [m.timestamp() for m in moments]
    assert seconds(*[m.isoformat() for m in moments]) == expected
    assert seconds(*[m.strftime("%Y%m%d%H%M%S") for m in moments]) == expected
    assert seconds(*[m.strftime("%d.%m.%Y %H:%M:%S") for m in moments], *["31.12.2024"])[:-1] == expected
    assert read_times(pd.Series(moments)).tolist() == expected


# ---------------------------------------------------------------- files of purchases


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("a.csv", "utf-8"),
        ("a.csv", "cp1252"),
        ("a.csv.gz", "utf-16"),
        ("a.tsv", "utf-8-sig"),
        ("a.xlsx", None),
        ("a.jsonl", "utf-8"),
        ("a.parquet", None),
    ],
)
def test_purchases_come_through_the_same_door_whatever_the_file(tmp_path, name, encoding):
    table = pd.DataFrame(
        {
            "user_id": ["Jörg", "Zoë", "Anaïs"],
            "item_id": ["007", "8", "9"],
            "timestamp": ["15.01.2024", "16.01.2024", "17.01.2024"],
        }
    )
    path = tmp_path / name
    if name.endswith("xlsx"):
        table.assign(timestamp=pd.to_datetime(table["timestamp"], dayfirst=True)).to_excel(path, index=False)
    elif name.endswith("jsonl"):
        table.to_json(path, orient="records", lines=True)
    elif name.endswith("parquet"):
        table.assign(timestamp=[20240115, 20240116, 20240117]).to_parquet(path)
    else:
        table.to_csv(path, index=False, encoding=encoding, sep="\t" if "tsv" in name else ";")
    import warnings

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = read_interactions(path)
    assert found["user_id"].tolist() == ["Jörg", "Zoë", "Anaïs"] and found["item_id"].tolist() == [
        "007",
        "8",
        "9",
    ]
    assert found["timestamp"].tolist() == [DAY, DAY + 86_400, DAY + 172_800]
    assert any("which is a guess" in str(w.message) for w in said) is (encoding == "cp1252")


def test_purchases_name_the_remedy_for_dates_and_encodings(tmp_path):
    (tmp_path / "a.csv").write_bytes("user_id;item_id;day\n茶;1;1/5/2024\n".encode("gb18030"))
    columns = {"timestamp": "day"}
    with pytest.raises(ValueError, match="--encoding"):
        read_interactions(tmp_path / "a.csv", columns=columns)
    with pytest.raises(ValueError, match="the column 'day' has dates such as '1/5/2024'"):
        read_interactions(tmp_path / "a.csv", columns=columns, encoding="gb18030")
    found = read_interactions(tmp_path / "a.csv", columns=columns, encoding="gb18030", date_format="%m/%d/%Y")
    assert found["user_id"].tolist() == ["茶"] and found["timestamp"].tolist() == [DAY - 10 * 86_400]
