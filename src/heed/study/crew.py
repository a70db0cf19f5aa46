"""What the ranks of a cell do: one leads and runs the cell, the others take part where it asks.

The leader runs `run_cell` as a process alone would: it holds the locks, and writes ledger, records
and pages. Only what needs all devices, a training or the answers of a student, is a job for all.
"""

from __future__ import annotations

from typing import Protocol

from heed.core.collector import release
from heed.core.ranks import from_leader


class Job(Protocol):
    """A piece of work in which all ranks take part; it travels between processes, so it is data."""

    def take_part(self) -> None:
        """What a rank that does not lead does of it; the leader does its own part itself."""
        ...


def call(job: Job) -> None:
    """Have the other ranks take part in a job, if there are others; the leader calls."""
    from_leader(job)


def follow() -> None:
    """Take part in the leader's jobs until there are no more."""
    while (job := from_leader(None)) is not None:
        job.take_part()
        del job  # with the model that it may hold
        release()


def dismiss() -> None:
    """Let the others go: there are no more jobs; the leader calls."""
    from_leader(None)
