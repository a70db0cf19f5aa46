"""A training that goes on says what is otherwise than before, and keeps it; the leader alone."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from forked import run_ranks

from heed.core.files import read_jsonl
from heed.core.manifest import code_state
from heed.training.points import Point
from heed.training.resumed import RESUMED, going_on, parts_of, said

OTHER = "4f1 source 0000"
HERE = {"device": "cpu", "threads": 1}


def point(run: Path, ranks: int = 1, **changes: Any) -> Point:
    """A checkpoint of step 3, written by so many ranks."""
    directory = run / "checkpoints" / "3"
    directory.mkdir(parents=True)
    state = {"step": 3, "code": code_state(), **HERE, "random": [{}] * ranks}
    return Point(directory, state | {"time": "noon"} | changes)


def rows(run: Path) -> list[dict[str, Any]]:
    return read_jsonl(run / "checkpoints" / RESUMED)


def test_the_next_examples_are_named_and_of_many_the_first():
    examples = [SimpleNamespace(id=f"id{i}") for i in range(9)]
    planned = {3: SimpleNamespace(indices=[8, 2, 5, 1, 4]), 4: SimpleNamespace(indices=[7])}
    data = SimpleNamespace(planned=planned, examples=examples)
    line = going_on(Point(Path("3"), {"step": 3, "time": "noon"}), 10, data)
    assert "after step 3 of 10 (checkpoint of noon)" in line
    assert line.endswith("the next examples are id8, id2, id5 and 2 more")
    assert going_on(Point(Path("4"), {"step": 4, "time": "noon"}), 10, data).endswith("are id7")


@pytest.mark.parametrize(
    ("before", "told"),
    [
        ({}, None),
        ({"ranks": 2}, "They were done by 2 ranks, the next by 1: the same examples"),
        ({"code": OTHER}, f"heed's code {OTHER}, the next by {code_state()}"),
        ({"device": "cuda"}, "They were done on cuda, the next are on cpu"),
        ({"threads": 4}, "They were done by 4 threads of the CPU, the next by 1: the student will"),
        ({"threads": None}, None),  # of an older heed
    ],
)
def test_what_is_otherwise_is_said_and_what_is_not_is_not(before, told, tmp_path: Path, capsys):
    said(point(tmp_path, **before), "  Going on.", HERE)
    first, *others = capsys.readouterr().err.splitlines()
    assert first == "  Going on."
    assert len(others) == (told is not None)
    assert told is None or told in others[0]
    (row,) = rows(tmp_path)
    assert row == {
        "step": 3, "code": code_state(), "before": before.get("code", code_state()),
        "device": "cpu", "ranks": 1, "threads": 1, "ranks_before": before.get("ranks", 1),
        "device_before": before.get("device", "cpu"), "threads_before": before.get("threads", 1),
    }  # fmt: skip


def test_threads_of_the_processor_are_nothing_to_a_gpu(tmp_path: Path, capsys):
    here = {"device": "cuda", "threads": 1}
    said(point(tmp_path, **here | {"threads": 4}), "  Going on.", here)
    assert capsys.readouterr().err == "  Going on.\n"
    assert parts_of(rows(tmp_path)) == {}


def test_where_no_step_is_left_nothing_is_otherwise(tmp_path: Path, capsys):
    said(point(tmp_path, ranks=2, threads=4, device="cuda"), "  All is trained.", None)
    assert capsys.readouterr().err == "  All is trained.\n"
    assert parts_of(rows(tmp_path)) == {}


def test_in_what_the_parts_of_a_training_differ_is_told_in_order():
    first = {"device_before": "cpu", "threads_before": 4, "threads": 1, "device": "cpu"}
    old = {"step": 3, "code": "a", "before": "a", "device": "cuda", "ranks": 1, "ranks_before": 2}
    assert parts_of([first, old]) == {"ranks": [2, 1], "threads": [4, 1]}
    other = {"device_before": "cpu", "device": "cuda", "threads_before": 4, "threads": 1}
    assert parts_of([other]) == {"device": ["cpu", "cuda"]}
    assert parts_of([]) == {}


def test_of_two_ranks_the_leader_keeps_it_once(tmp_path: Path):
    before = point(tmp_path, ranks=3)
    run_ranks(2, partial(said, before, "  Going on.", HERE))
    (row,) = rows(tmp_path)
    assert (row["ranks_before"], row["ranks"]) == (3, 2)
