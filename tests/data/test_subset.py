"""Of a table, the rows that a list names: in the table's order, by their numbers, and counted."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heed.core.errors import DataError
from heed.core.files import write_json, write_jsonl
from heed.core.identity import short_hash
from heed.data.layout import Columns
from heed.data.source import Hub, LocalFile
from heed.data.subset import Subset
from heed.data.tables import raised
from heed.data.teacher import Responses
from heed.evaluation.taught import same_rows

ROWS = [{"asked": f"ask {i}", "said": f"say {i}"} for i in range(8)]
COLUMNS = Columns(
    system=None, instruction="asked", input=None, response="said", sparse=False, reward=None
)


def subset(folder: Path, lists: Any, name: str = "some", rows: str | None = None) -> Subset:
    table, path = folder / "rows.jsonl", folder / "lists.json"
    if rows is None:
        write_jsonl(table, ROWS)
    else:
        table.write_text(rows)
    write_json(path, lists)
    return Subset(source=LocalFile(path=str(table)), path=str(path), subset=name)


def asked(source: Subset) -> list[str]:
    return [row.value["asked"] for row in source.rows(["asked"], raised)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=8, unique=True))
def test_the_rows_of_a_list_come_in_the_tables_order_and_the_rest_is_counted(tmp_path, numbers):
    source = subset(tmp_path, {"some": numbers})
    assert asked(source) == [f"ask {number}" for number in sorted(numbers)]
    assert source.events() == {"not in some, left out": 8 - len(numbers)}


def test_a_row_that_cannot_be_read_keeps_its_number_and_is_told_of_if_it_is_wanted(tmp_path):
    lines = [json.dumps(row) for row in ROWS]
    lines[1], lines[4] = "{", "["
    source = subset(tmp_path, {"some": [0, 4, 7]}, rows="\n".join(lines) + "\n")
    told: list[Exception] = []
    assert [row.value["asked"] for row in source.rows(["asked"], told.append)] == ["ask 0", "ask 7"]
    assert len(told) == 1
    assert "line 5" in str(told[0])
    assert source.events() == {"not in some, left out": 5}


def test_what_is_left_out_of_a_table_of_the_hub_is_counted_too(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_list(ROWS))
    table = Hub(id="some/rows", config=None, revision=40 * "a", split="train")
    source = replace(subset(tmp_path, {"some": [0, 4, 7]}), source=table)
    assert asked(source) == ["ask 0", "ask 4", "ask 7"]
    assert source.events() == {"not in some, left out": 5}


def test_a_list_of_another_table_is_told_also_where_its_rows_are_counted_only(tmp_path):
    source = subset(tmp_path, {"some": [0, 8]})
    assert next(iter(source.rows(["asked"], raised))).value["asked"] == "ask 0"
    with pytest.raises(DataError, match="made for another table"):
        source.events()


def test_the_id_holds_the_numbers_and_the_table_and_neither_place_nor_order(tmp_path):
    lists = {"some": [1, 2], "turned": [2, 1], "other": [1, 3]}
    one = subset(tmp_path, lists)
    (tmp_path / "moved").mkdir()
    assert subset(tmp_path / "moved", lists).digest() == one.digest()
    assert short_hash(subset(tmp_path / "moved", lists)) == short_hash(one)
    assert subset(tmp_path, lists, "turned").digest() == one.digest()
    assert subset(tmp_path, lists, "other").digest() != one.digest()
    before = one.digest()
    changed = subset(tmp_path, lists, rows=f"{json.dumps(ROWS[0])}\n" * 8)
    assert changed.digest() != before


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        ({"sume": [1]}, "no such list; it has sume. Did you mean 'sume'"),
        ([1, 2], "no such list; it has none"),
        ({"some": []}, "the list is empty"),
        ({"some": [1, 1]}, "stands there twice"),
        ({"some": [1, -1]}, "no list of whole numbers"),
        ({"some": [1.0]}, "no list of whole numbers"),
        ({"some": [True]}, "no list of whole numbers"),
        ({"some": "all"}, "no list of whole numbers"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused(tmp_path, lists: Any, said: str):
    with pytest.raises(DataError, match=said):
        asked(subset(tmp_path, lists))


def test_a_file_that_is_no_json_and_one_that_is_not_there_are_told(tmp_path):
    source = subset(tmp_path, {"some": [1]})
    Path(source.path).write_text("[")
    with pytest.raises(DataError, match="it is no JSON"):
        source.digest()
    Path(source.path).unlink()
    with pytest.raises(DataError, match="the list 'some'"):
        source.digest()


def test_a_list_that_was_made_for_a_longer_table_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"names row 8 \(counted from 0\).*has 8 rows"):
        asked(subset(tmp_path, {"some": [1, 8]}))


def test_a_teacher_counts_what_the_list_leaves_out_beside_what_its_layout_counts(tmp_path):
    made = Responses(name="few", source=subset(tmp_path, {"some": [6, 2]}), layout=COLUMNS)
    assert [row.messages[-1].content for row in made.rows()] == ["say 2", "say 6"]
    assert made.events()["not in some, left out"] == 6


def test_rows_that_a_list_chooses_are_seen_to_be_those_of_the_whole_table(tmp_path):
    few = Responses(name="few", source=subset(tmp_path, {"some": [1]}), layout=COLUMNS)
    whole = Responses(name="all", source=few.source.source, layout=COLUMNS)
    assert same_rows(few, whole)
    other = LocalFile(path=str(tmp_path / "other.jsonl"))
    assert not same_rows(few, Responses(name="all", source=other, layout=COLUMNS))
