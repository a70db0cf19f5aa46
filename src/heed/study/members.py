"""The processes of a group: watched until all have ended, and the first bad end of them."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from heed.study.rank import Report, reports_of
from heed.study.srun import BadEnd
from heed.study.supervisor import ASKING, why_ended

LOOK_SECONDS = 0.02
REPORT_SECONDS = 0.5

ALONE_SECONDS = 3.0
"""After one has failed, the others may end by themselves for so long."""

END_SECONDS = 5.0
"""After that, asked to, for so long; then they are killed."""

KEEP_SECONDS = 20.0
"""A group that is asked to end may keep what it has for so long; SLURM gives 30."""

AGREED_SECONDS = 10.0
"""After a rank has ended because it was asked to, the others may do so by themselves so long."""

LAST_SECONDS = 30.0
"""When the leader has done all, who has not left yet may take so long, itself too."""

SUDDEN_SECONDS = 0.5
"""A killed process is seen later than what others say of its end, by less than this."""

SRUN = -1
"""Stands for the rank where `srun` itself ended, and no rank is known to have."""

SUDDEN = (signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
"""Ends of which a process can say nothing."""


class Members:
    """Processes that end together; under SLURM one `srun` stands for all ranks.

    Args:
        file: Of the cell; the ranks leave their reports beside it.
        processes: The process of each rank, or for all ranks that of `srun`, as rank 0.
        world: Number of ranks.
    """

    def __init__(self, file: Path, processes: Mapping[int, subprocess.Popen[bytes]], world: int):
        self.file, self.processes, self.world = file, processes, world
        self.by_slurm = len(processes) < world
        self.looked = 0.0
        self.codes: dict[int, int] = {}
        self.seen: dict[int, float] = {}
        self.ask_at = self.kill_at = float("inf")
        self.asked_at = float("inf")
        self.killed: set[int] = set()

    def see_out(self, noted: list[int]) -> None:
        """Wait until all have ended, and see to it once one has ended badly.

        Args:
            noted: Signals that ask us to end, as they come.
        """
        while len(self.codes) < len(self.processes):
            time.sleep(LOOK_SECONDS)
            self._look()
            self._set_ends(asked=bool(noted))
            now = time.monotonic()
            if now >= self.ask_at:
                self.ask_at = float("inf")
                self.asked_at = time.time()
                self._ask()
            if now >= self.kill_at or noted.count(signal.SIGINT) > 1:
                self._kill(now)

    def verdict(
        self, asked: int | None, kills: int, bad_end: BadEnd | None = None
    ) -> Report | None:
        """How the group ended: the report of the rank that decides it, or None if it did its work.

        Args:
            asked: The signal that asked us to end, if one did.
            kills: Of the kernel, for want of memory, meanwhile.
            bad_end: What SLURM says of a rank.
        """
        told = reports_of(self.file, self.world)
        known = {report.rank for report in told}
        silent = [self._silent(rank, kills) for rank in self.codes]
        if self.by_slurm:
            silent = [_of_srun(self.codes[0], bad_end)]
        silent = [one for one in silent if one is not None and one.rank not in known]
        every = [*told, *filter(None, silent)]
        own = [one for one in every if one.kind != "lost" and one.time <= self.asked_at]
        failed = [one for one in own if one.kind != "asked"]
        if asked is not None and not failed and (every or any(self.codes.values())):
            name = signal.Signals(asked).name
            return Report(0, 0.0, 128 + asked, "asked", name, f"{name}; the same command goes on.")
        if self.leader_is_done and not told:
            return None  # who did not leave was ended
        if not every:
            return None
        first = min(own or every, key=lambda one: one.time)
        same = [one for one in told if (one.rank, one.reason) == (0, first.reason)]
        return same[0] if same else first

    @property
    def leader_is_done(self) -> bool:
        """Whether the leader has done all: it, or all that it dismisses then, ended so.

        A library may wait for ever in taking leave of others that are gone.
        """
        others = self.processes.keys() - {0}
        dismissed = bool(others) and all(self.codes.get(rank) == 0 for rank in others)
        return dismissed or self.codes.get(0) == 0

    def _look(self) -> None:
        for rank, process in self.processes.items():
            if rank not in self.codes and process.poll() is not None:
                self.codes[rank], self.seen[rank] = process.returncode, time.time()

    def _set_ends(self, *, asked: bool) -> None:
        """When the rest is to be asked, and when killed; the first reason to do so counts."""
        if self.kill_at < float("inf"):
            return
        now, bad = time.monotonic(), [code for code in self.codes.values() if code]
        told = self._told(now, at_once=bool(bad))
        if asked:
            self.ask_at, self.kill_at = now, now + KEEP_SECONDS
        elif any(map(_asks, bad)) or any(one.kind == "asked" for one in told):
            # ranks that train have agreed on it: asked again, they would die while they keep it
            self.ask_at, self.kill_at = now + AGREED_SECONDS, now + KEEP_SECONDS
        elif bad or told:
            self.ask_at = now + ALONE_SECONDS
            self.kill_at = self.ask_at + END_SECONDS
        elif self.leader_is_done:
            self.ask_at = now + LAST_SECONDS
            self.kill_at = self.ask_at + END_SECONDS

    def _told(self, now: float, *, at_once: bool) -> list[Report]:
        """The reports that are there, looked for now and then: the folder may be a shared one."""
        if not at_once and now - self.looked < REPORT_SECONDS:
            return []
        self.looked = now
        return reports_of(self.file, self.world)

    def _ask(self) -> None:
        """Ask all that are left to end; `srun` would kill its tasks at once, and is not asked.

        Tasks read their standard input through it, and take its end for a wish to end.
        """
        for process in self._left():
            if self.by_slurm and process.stdin is not None:
                process.stdin.close()
            else:
                process.terminate()

    def _kill(self, now: float) -> None:
        """Kill all that are left; `srun` that is asked to end kills its tasks, and then ends."""
        again = self.killed == self.processes.keys() - self.codes.keys()
        self.killed |= self.processes.keys() - self.codes.keys()
        for process in self._left():
            if not self.by_slurm or now >= self.kill_at + END_SECONDS:
                process.kill()
            elif not again:
                process.terminate()

    def _left(self) -> list[subprocess.Popen[bytes]]:
        return [one for rank, one in self.processes.items() if rank not in self.codes]

    def _silent(self, rank: int, kills: int) -> Report | None:
        """What is known of a rank that ended badly and said nothing."""
        code, when = self.codes[rank], self.seen[rank]
        if code == 0 or rank in self.killed:
            return None
        if -code in SUDDEN:
            when -= SUDDEN_SECONDS
        return _report(rank, when, 128 - code if code < 0 else code, why_ended(code, None, kills))


def _of_srun(code: int, bad_end: BadEnd | None) -> Report | None:
    """The same of ranks that SLURM has begun, of which it tells."""
    if bad_end is not None:
        return _report(bad_end.rank, bad_end.time, bad_end.code, bad_end.how)
    code = 128 - code if code < 0 else code  # any word of a rank comes before this
    return _report(SRUN, float("inf"), code, f"it ended with {code}") if code else None


def _report(rank: int, when: float, code: int, reason: str) -> Report:
    kind: Literal["asked", "crash"] = "asked" if _asks(code) else "crash"
    return Report(rank, when, code, kind, reason, reason)


def _asks(code: int) -> bool:
    """Whether an exit code says that somebody asked for the end."""
    return -code in ASKING or code - 128 in ASKING
