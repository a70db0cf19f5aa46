"""What a leader calls for, the others do: each job once, in order, until they are dismissed."""

import gc
import time
import weakref
from dataclasses import dataclass
from typing import Any

import pytest
from forked import run_ranks

from heed.core import ranks
from heed.study import crew

WORLD = 3
DONE: list[Any] = []
"""What this process has done."""


@dataclass(frozen=True)
class Note:
    """A job: notes who did what."""

    what: Any

    def take_part(self) -> None:
        DONE.append((ranks.rank(), self.what))


@dataclass(frozen=True)
class Talk:
    """A job in which ranks talk among themselves, as they do in a training."""

    def take_part(self) -> None:
        DONE.append(sum(ranks.everybody(ranks.rank())))


@dataclass(frozen=True)
class Fail:
    """A job that cannot be done by one of them."""

    rank: int

    def take_part(self) -> None:
        if ranks.rank() == self.rank:
            raise ZeroDivisionError("this rank cannot")


def work_together() -> tuple[list[Any], str]:
    if not ranks.leads():
        crew.follow()
        return DONE, ranks.from_leader("")
    first = Note({"number": 1})
    crew.call(first)
    time.sleep(0.05)
    crew.call(Talk())
    Talk().take_part()
    crew.call(Note("last"))
    crew.dismiss()
    return DONE, ranks.from_leader("said after they were dismissed")


def test_every_other_rank_does_every_job_once_and_in_order():
    lead, *others = run_ranks(WORLD, work_together)
    assert lead == ([3], "said after they were dismissed"), "the leader does its own part itself"
    for rank, (done, heard) in enumerate(others, 1):
        assert done == [(rank, {"number": 1}), 3, (rank, "last")]
        assert heard == lead[1], "nothing is left over of the jobs"


def end_at_once() -> list[Any]:
    crew.dismiss() if ranks.leads() else crew.follow()
    return DONE


def test_without_jobs_all_are_dismissed_at_once():
    assert run_ranks(WORLD, end_at_once) == [[]] * WORLD


def fail() -> None:
    crew.call(Fail(rank=2)) if ranks.leads() else crew.follow()


def test_a_job_that_fails_is_not_passed_over():
    with pytest.raises(AssertionError, match=r"(?s)rank \d of 3.*(this rank cannot|Connection)"):
        run_ranks(WORLD, fail)


def test_a_process_alone_calls_nobody():
    crew.call(Fail(rank=0))
    crew.dismiss()


class Holding:
    """A job that holds something large, in a circle."""

    def __init__(self) -> None:
        self.model = [self]

    def take_part(self) -> None:
        DONE.append("large")


def test_what_a_job_held_is_free_while_the_next_is_waited_for(monkeypatch):
    gone: list[weakref.ref] = []
    jobs = [Holding(), Holding(), None]

    def next_job(_: Any) -> Any:
        assert all(ref() is None for ref in gone), "the last job still holds its model"
        job = jobs.pop(0)
        gone.extend([weakref.ref(job)] if job is not None else [])
        return job

    monkeypatch.setattr(crew, "from_leader", next_job)
    gc.disable()
    try:
        crew.follow()
    finally:
        gc.enable()
    assert len(gone) == 2
