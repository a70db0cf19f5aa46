"""The table has each step once, in order, however often a training was broken off."""

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrors import mirrored

from heed.tracking.csv_file import CSV, FILE, Table
from heed.tracking.tracker import OWN, Ending


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]


def row(step: int, **more: object) -> dict[str, object]:
    return {"step": step, "loss": step / 8, **more}


def shown(rows: list[dict[str, object]]) -> list[dict[str, str]]:
    return [{key: str(value) for key, value in one.items()} for one in rows]


def test_a_row_is_a_line_and_rows_of_a_step_share_one(tmp_path: Path):
    table = Table(tmp_path / FILE)
    for one in (row(1), row(2), {"step": 2, "validation_loss": 3.5}, row(3)):
        table.add(one)
    table.flush()
    assert read(tmp_path / FILE) == shown([row(1), row(2, validation_loss=3.5), row(3)])


@pytest.mark.parametrize("again", [1, 2, 3, 4])
def test_steps_that_are_done_again_stand_there_once(tmp_path: Path, again: int):
    first = Table(tmp_path / FILE)
    for step in (1, 2, 3, 4):
        first.add(row(step))
    first.flush()
    second = Table(tmp_path / FILE)
    for step in range(again, 7):
        second.add(row(step))
    second.flush()
    assert read(tmp_path / FILE) == shown([row(step) for step in range(1, 7)])


def test_a_table_whose_process_died_while_it_wrote_is_gone_on_with(tmp_path: Path):
    table = Table(tmp_path / FILE)
    for step in (1, 2, 3):
        table.add(row(step))
    table.flush()
    whole = (tmp_path / FILE).read_bytes()
    for cut in range(len(b"step,loss\n"), len(whole)):
        (tmp_path / FILE).write_bytes(whole[:cut])
        again = Table(tmp_path / FILE)
        again.add(row(3))
        again.add(row(4))
        again.flush()
        steps = [int(one["step"]) for one in read(tmp_path / FILE)]
        assert steps == sorted(set(steps))
        assert steps[-2:] == [3, 4]
        assert read(tmp_path / FILE) == shown([row(step) for step in steps])


@pytest.mark.parametrize("held", [0, 1, 3])
def test_rows_that_the_run_has_and_the_table_lost_are_added(tmp_path: Path, held: int):
    """Its process was killed before the last step was written, or wrote no table at all."""
    table = Table(tmp_path / FILE)
    for step in range(1, held + 1):
        table.add(row(step))
    own = "".join(f"{json.dumps(row(step))}\n" for step in (1, 2, 3, 4))
    (tmp_path / OWN).write_text(own + '{"step": 5, "lo')
    mirror = CSV()
    mirror.begin(mirrored(tmp_path))
    for step in (4, 5):
        mirror.send(row(step))
    mirror.end(Ending())
    assert read(tmp_path / FILE) == shown([row(step) for step in (1, 2, 3, 4, 5)])


def test_what_would_break_a_line_is_put_on_one(tmp_path: Path):
    table = Table(tmp_path / FILE)
    table.add(row(1, said='one,\n"two"', nothing=None))
    table.add(row(2))
    table.flush()
    assert read(tmp_path / FILE) == shown([row(1, said='one, "two"'), row(2)])
    assert len((tmp_path / FILE).read_text().splitlines()) == 3


ROWS = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from(["loss", "rate", "validation_loss"])), max_size=12
)


@given(parts=st.lists(ROWS, max_size=3))
def test_the_file_is_what_a_plain_reading_of_the_rows_says(parts, tmp_path_factory):
    path, want = tmp_path_factory.mktemp("table") / FILE, {}
    for part in parts:
        table = Table(path)
        for number, (step, key) in enumerate(part):
            if want and step < max(want):
                want = {s: kept for s, kept in want.items() if s < step}
            want.setdefault(step, {"step": str(step)})[key] = str(number)
            table.add({"step": step, key: number})
        table.flush()
    assert (read(path) if path.is_file() else []) == [want[step] for step in sorted(want)]


def test_one_mirror_follows_run_after_run(tmp_path: Path):
    mirror = CSV()
    for name in ("one", "two"):
        mirror.start(mirrored(tmp_path / name, id=name))
        mirror.log(row(1, run=name))
        mirror.finish(Ending())
    assert [read(tmp_path / name / FILE) for name in ("one", "two")] == [
        shown([row(1, run=name)]) for name in ("one", "two")
    ]


def test_a_full_disk_is_told_once_and_counted(tmp_path: Path, capsys):
    (tmp_path / FILE).mkdir()
    mirror = CSV()
    mirror.start(mirrored(tmp_path))
    for step in (1, 2, 3):
        mirror.log(row(step))
    mirror.finish(Ending())
    said = capsys.readouterr().err
    assert said.count("The run goes on") == 1 + 1, "a row, and the end"
    assert "1 rows" in said or "2 rows" in said
