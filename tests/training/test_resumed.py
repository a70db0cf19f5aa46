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
from heed.training.resumed import RESUMED, going_on, said

OTHER = "4f1 source 0000"


def point(run: Path, ranks: int = 1, **changes: Any) -> Point:
    """A checkpoint of step 3, written by so many ranks."""
    directory = run / "checkpoints" / "3"
    directory.mkdir(parents=True)
    state = {"step": 3, "code": code_state(), "device": "cpu", "random": [{}] * ranks}
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
    ],
)
def test_what_is_otherwise_is_said_and_what_is_not_is_not(before, told, tmp_path: Path, capsys):
    said(point(tmp_path, **before), "cpu", "  Going on.")
    first, *others = capsys.readouterr().err.splitlines()
    assert first == "  Going on."
    assert len(others) == (told is not None)
    assert told is None or told in others[0]
    (row,) = rows(tmp_path)
    assert row == {
        "step": 3, "code": code_state(), "before": before.get("code", code_state()),
        "device": "cpu", "ranks": 1, "ranks_before": before.get("ranks", 1),
    }  # fmt: skip


def test_of_two_ranks_the_leader_keeps_it_once(tmp_path: Path):
    before = point(tmp_path, ranks=3)
    run_ranks(2, partial(said, before, "cpu", "  Going on."))
    (row,) = rows(tmp_path)
    assert (row["ranks_before"], row["ranks"]) == (3, 2)
