"""Files of rows: every kind of file gives the same rows, and a place counts as an editor does."""

import csv
import gzip
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core.errors import DataError
from heed.data.tables import READERS, json_lines, kept_columns, kind_of, lines_of, raised, shown

ROWS = [{"asked": f'Ask\u2028{i}, or "not"', "said": f"Say {i}\r\nand {i}"} for i in range(5)]
KINDS = [".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".csv.gz", ".parquet", " lines.json"]


def write(path: Path, rows: list[dict]) -> Path:
    """Write rows as the kind of file that the name says."""
    kind = kind_of(str(path))
    if kind == ".parquet":
        import pyarrow
        from pyarrow.parquet import write_table

        write_table(pyarrow.Table.from_pylist(rows), path)
        return path
    if kind == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            made = csv.DictWriter(file, list(rows[0]))
            made.writeheader()
            made.writerows(rows)
    elif kind == ".json" and "lines" not in path.name:
        path.write_text(json.dumps(rows, ensure_ascii=False))
    else:
        path.write_bytes(b"".join(f"{json.dumps(r, ensure_ascii=False)}\n".encode() for r in rows))
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(path.read_bytes()))
    return path


def read(path: Path) -> list[tuple[str, dict]]:
    return list(READERS[kind_of(str(path))](path, list(ROWS[0]), raised))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_the_same_from_every_kind_of_file(tmp_path: Path, kind: str):
    assert [row for _, row in read(write(tmp_path / f"rows{kind}", ROWS))] == ROWS


def test_a_place_is_the_line_on_which_a_row_begins(tmp_path: Path):
    text = '{"a": "1"}\n\n{"a": "2"}\n'
    (tmp_path / "rows.jsonl").write_text(text)
    assert [place for place, _ in read(tmp_path / "rows.jsonl")] == ["line 1", "line 3"]
    (tmp_path / "rows.csv").write_text('a\n"1\n1"\n\n2\n')
    assert [place for place, _ in read(tmp_path / "rows.csv")] == ["line 2", "line 5"]
    (tmp_path / "rows.json").write_text('[{"a": 1}, {"a": 2}]')
    assert [place for place, _ in read(tmp_path / "rows.json")] == ["row 1", "row 2"]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv"])
def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path, name: str):
    path = write(tmp_path / name, ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [row for _, row in read(path)] == ROWS


def test_a_value_of_a_megabyte_is_read_whole(tmp_path: Path):
    long = [{"asked": "a", "said": "b" * 2**20}]
    for kind in KINDS:
        assert [row for _, row in read(write(tmp_path / f"rows{kind}", long))] == long


def test_a_parquet_file_is_read_by_the_columns_that_are_wanted(tmp_path: Path):
    path = write(tmp_path / "rows.parquet", [{"v2.5": {"x": "1"}, "b": "2", "c": "3"}])
    for wanted, kept in [(["c", "v2.5.x"], {"v2.5", "c"}), (["none"], {"v2.5", "b", "c"})]:
        ((_, row),) = READERS[".parquet"](path, wanted, raised)
        assert row.keys() == kept


@given(st.lists(st.text("ab.", min_size=1), unique=True), st.lists(st.text("ab.", min_size=1)))
def test_no_column_that_is_wanted_is_left_out(names: list[str], wanted: list[str]):
    kept = kept_columns(names, wanted)
    needed = {n for n in names for w in wanted if w == n or w.startswith(f"{n}.")}
    assert needed <= set(kept)
    assert [name for name in names if name in kept] == kept


@given(st.recursive(st.none() | st.text() | st.integers() | st.binary(), st.lists))
def test_whatever_stands_in_a_row_is_shown_in_few_printable_words(value: object):
    for one in (value, [value] * 50, {"x" * 10**5: value}, [[[[value]]]]):
        text = shown(one)
        assert len(text) <= 120
        assert text.encode()


def test_what_is_nested_a_thousand_deep_is_shown_too():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert shown(deep) == "[[[...]]]"
    while deep:  # taken apart by hand: Python's own way is recursive
        deep = deep[0]


@pytest.mark.parametrize("damage", ["cut short", "wrong sum"])
def test_no_line_of_a_damaged_file_is_given(tmp_path: Path, damage: str):
    text = "\n".join(map(str, random.Random(0).sample(range(10**9), 50_000)))
    whole = gzip.compress(text.encode())
    broken = {"cut short": whole[: len(whole) // 2], "wrong sum": whole[:-8] + bytes(8)}
    (tmp_path / "rows.gz").write_bytes(broken[damage])
    with pytest.raises(DataError, match=r"rows\.gz cannot be read as gzipped"):
        next(lines_of(tmp_path / "rows.gz"))


def test_objects_of_a_file_are_given_without_their_places(tmp_path: Path):
    assert list(json_lines(write(tmp_path / "rows.jsonl.gz", ROWS))) == ROWS
