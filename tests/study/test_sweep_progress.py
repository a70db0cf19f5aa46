"""While cells run, each that ends is told once, with how long the rest will take."""

import io
from pathlib import Path
from typing import Any

import pytest
from made_up import done, planned
from rich.console import Console

from heed.study import progress
from heed.study.ledger import record
from heed.study.plan import PlannedCell
from heed.study.progress import Progress


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def watched(root: Path, cells: list[PlannedCell]) -> tuple[Progress, Clock, io.StringIO]:
    clock, out = Clock(), io.StringIO()
    return Progress(cells, root, Console(file=out, width=80), clock), clock, out


COST: Any = (10.0, 5.0, 100)


def test_each_cell_is_told_once_with_the_rest_at_the_pace_so_far(tmp_path: Path):
    cells = [planned(tmp_path, n) for n in range(4)]
    watch, clock, out = watched(tmp_path, cells)
    watch.look()
    assert out.getvalue() == ""
    clock.now += 60
    done(tmp_path, cells[2], cost=COST)
    for _ in range(2):
        watch.look()
    (line,) = out.getvalue().splitlines()
    assert line.startswith("[1/4] nano-")
    assert line.endswith("seed 2: +0.125 helped, about 3 min left")
    clock.now += 60
    record(tmp_path, "failed", cells[0].names | {"reason": "x"})
    record(tmp_path, "stopped", cells[3].names | {"reason": "x"})
    watch.look()
    told = out.getvalue().splitlines()[1:]
    assert [line.split()[0] for line in told] == ["[2/4]", "[3/4]"]
    assert "seed 0: failed, about 2 min left" in told[0]
    done(tmp_path, cells[1], cost=COST)
    watch.look()
    assert out.getvalue().splitlines()[-1].endswith("+0.125 helped")


def test_what_was_there_before_and_what_is_not_asked_for_is_not_told(tmp_path: Path):
    cells = [planned(tmp_path, n) for n in range(3)]
    record(tmp_path, "failed", cells[0].names | {"reason": "of old"})
    watch, _, out = watched(tmp_path, cells[:2])
    done(tmp_path, cells[2], cost=COST)
    watch.look()
    assert out.getvalue() == ""
    record(tmp_path, "failed", cells[0].names | {"reason": "of now"})
    watch.look()
    assert out.getvalue().startswith("[1/2]")


def test_a_cell_that_is_known_to_take_long_weighs_more(tmp_path: Path):
    for number, (name, seconds) in enumerate((("short", 100.0), ("long", 900.0))):
        done(tmp_path, planned(tmp_path, number, teacher=name), cost=(seconds, 1.0, 1))
    cells = [planned(tmp_path, 8, teacher="short"), planned(tmp_path, 9, teacher="long")]
    watch, clock, out = watched(tmp_path, cells)
    clock.now += 20
    done(tmp_path, cells[0], cost=COST)
    watch.look()
    assert out.getvalue().strip().endswith("about 3 min left")


def test_a_cell_that_runs_beside_counts_as_half_done(tmp_path: Path):
    cells = [planned(tmp_path, n) for n in range(4)]
    (tmp_path / "cells").mkdir()
    cells[3].file.touch()  # of old
    watch, clock, out = watched(tmp_path, cells)
    for cell in cells[:2]:
        cell.file.touch()
    clock.now += 200
    done(tmp_path, cells[0], cost=COST)
    watch.look()
    assert "about 6 min left" in out.getvalue()
    assert watch._under_way() == [cells[1].key]


def test_a_thread_looks_meanwhile_and_once_more_at_the_end(tmp_path: Path, monkeypatch: Any):
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.01)
    cells = [planned(tmp_path, n) for n in range(2)]
    watch, _, out = watched(tmp_path, cells)
    with pytest.raises(ValueError, match="mine"), watch:  # noqa: PT012
        done(tmp_path, cells[0], cost=COST)
        while not out.getvalue():
            pass
        monkeypatch.setattr(progress, "LOOK_SECONDS", 1e9)
        done(tmp_path, cells[1], cost=COST)
        raise ValueError("mine")
    assert [line[:5] for line in out.getvalue().splitlines()] == ["[1/2]", "[2/2]"]
    assert not watch._thread.is_alive()
