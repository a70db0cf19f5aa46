"""Files of rows as tables of `datasets`: every row as it stands, and nothing missing unseen."""

import json
from pathlib import Path

import pytest

from heed.core.errors import DataError
from heed.data.arrow import local_data, without_bars

ROWS = [
    {"when": "2020-01-01", "n": {"a": [1, 2]}, "answer": 0},
    {"when": "2020-01-02T03:04:05", "n": {"a": []}, "answer": 3},
]


def written(path: Path, rows) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return str(path)


def test_rows_are_as_they_stand_even_if_they_look_like_dates(tmp_path):
    found = local_data({"test": written(tmp_path / "a.jsonl", ROWS)})
    assert list(found["test"]) == ROWS


def test_rows_that_changed_in_place_are_read_anew(tmp_path):
    path = written(tmp_path / "a.jsonl", ROWS)
    local_data({"test": path})
    written(tmp_path / "a.jsonl", ROWS[::-1])
    assert list(local_data({"test": path})["test"]) == ROWS[::-1]


@pytest.mark.parametrize(
    ("name", "rows", "said"),
    [
        ("a.jsonl", [{"a": 1}, {"b": 1}], r"line 2: .*same columns \(a, b\)"),
        ("a.jsonl", [], "has no rows"),
        ("a.text", [{"a": 1}], "its ending is none of"),
        ("a.jsonl", [{"a": "x"}, {"a": None}], r"line 2: a holds nothing"),
        ("a.jsonl", [{"a": None}, {"a": "x"}], r"line 1: a holds nothing"),
        ("a.jsonl", [{"a": {"t": ["x", None]}}], r"line 1: a holds nothing"),
    ],
)
def test_what_would_be_asked_as_nothing_is_named(name, rows, said, tmp_path):
    with pytest.raises(DataError, match=said):
        local_data({"test": written(tmp_path / name, rows)})


def test_a_column_that_no_row_uses_is_let_be(tmp_path):
    rows = [{"a": "x", "b": None}, {"a": "y", "b": None}]
    assert list(local_data({"test": written(tmp_path / "a.jsonl", rows)})["test"]) == rows


def test_bars_are_as_before_outside():
    from datasets import disable_progress_bars, enable_progress_bars
    from datasets.utils import are_progress_bars_disabled

    for before, setting in ((True, disable_progress_bars), (False, enable_progress_bars)):
        setting()
        with without_bars():
            assert are_progress_bars_disabled()
        assert are_progress_bars_disabled() == before
