"""A child process that is watched: how it is begun, asked to end, and why it ended."""

from __future__ import annotations

import glob
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from heed.core.console import visible
from heed.core.errors import StoppedError
from heed.core.locks import WAITS
from heed.study.devices import NOTHING, Claim

CHILD = ("-m", "heed.study.child")
POLL_SECONDS = 0.2
GRACE_SECONDS = 20.0
"""A child that is asked to end may take this long to keep what it has; SLURM gives us 30."""

TAIL = 20
"""Last lines of a log that are recorded with a failure."""

ASKING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that ask a process to end."""

MEMORY_EVENTS = Path("/sys/fs/cgroup/memory.events")
"""Where the kernel counts what it has killed for memory in our group."""

OTHERS = ("SLURM_", "SLURMD_", "SUBMITIT_", "PMI_", "PMIX_", "TORCHELASTIC_")
RANKS = ("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
ADDRESS = ("MASTER_ADDR", "MASTER_PORT")
"""Variables of whoever started us, by which a training would take itself for a part of a group."""


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes:
        code: Its exit code; below zero the signal that killed it.
        hung: Whether it was ended because it took too long.
        asked: Whether it was ended because we were asked to.
        reason: Why, in words, where it had no result.
    """

    code: int
    hung: bool
    asked: bool
    reason: str

    @property
    def stopped(self) -> bool:
        """Whether somebody asked it to end, so that it can go on."""
        by_others = self.code in {128 + n for n in ASKING} or -self.code in ASKING
        return self.asked or (by_others and not self.hung)


@dataclass(frozen=True)
class Limits:
    """What a child may take.

    Attributes:
        threads: Of the CPU; None leaves that to it.
        seconds: Until it counts as hung, without those in which it waits for another process to
            free a lock; None: never.
        gpus: Those it sees.
        kept: Variables of a scheduler that it needs, to begin ranks by it.
    """

    threads: int | None
    seconds: float | None
    gpus: Claim = NOTHING
    kept: tuple[str, ...] = ()


def watch(file: Path, limits: Limits, signals: Signals, ends: Callable[[], bool]) -> Ended:
    """Run a child on a resolved config file to its end; what it prints goes to a log beside it.

    Args:
        file: For `heed.study.child`; the log has its name.
        limits: What it may take.
        signals: Noted meanwhile; any ends the child.
        ends: Whether it is to be ended for another reason; asked again and again.
    """
    kills, line = memory_kills(), [sys.executable, *CHILD, str(file)]
    waits = file.with_name(f"{file.name.removesuffix('.yaml')}.waits")
    log_of(file).write_bytes(b"")
    forget_reasons(file)
    waits.unlink(missing_ok=True)
    with log_of(file).open("ab") as log:  # one that outlives its supervisor may still write
        process = subprocess.Popen(  # noqa: S603 (our own child)
            line,
            stdin=subprocess.PIPE,  # closed when we die: the child ends with us
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(limits) | dict(limits.gpus.environment) | {WAITS: str(waits)},
            pass_fds=limits.gpus.files,  # it holds its GPUs, whatever becomes of us
            start_new_session=True,  # Ctrl-C is for us; we ask the child
        )
    end = time.monotonic() + (limits.seconds or float("inf"))
    asked = False
    try:
        while process.poll() is None and not asked and time.monotonic() < end:
            began = time.monotonic()
            _wait(process)
            if waits.exists():  # for another process, which has a limit of its own
                end += time.monotonic() - began
            asked = process.poll() is None and (bool(signals.noted) or ends())
        hung = process.poll() is None and not asked
    finally:
        _end(process, signals)
        waits.unlink(missing_ok=True)
    kills = memory_kills() - kills
    reason = why_ended(process.returncode, limits.seconds if hung else None, kills)
    return Ended(process.returncode, hung, asked, reason)


def log_of(file: Path) -> Path:
    """The log of the child of a config file."""
    return file.with_name(f"{file.name.removesuffix('.yaml')}.log")


def reason_file(file: Path) -> Path:
    """Where the child of a config file says why it failed, if it runs it by a group of ranks."""
    return file.with_name(f"{file.name.removesuffix('.yaml')}.reason.json")


def forget_reasons(file: Path) -> None:
    """Remove what a group of ranks has left to be recorded, and what its ranks told each other."""
    reason_file(file).unlink(missing_ok=True)
    for path in file.parent.glob(f"{glob.escape(file.name.removesuffix('.yaml'))}.*-rank*.json"):
        path.unlink(missing_ok=True)


def tail_of(file: Path) -> list[str]:
    """The last lines of that log."""
    lines = log_of(file).read_text(errors="replace").strip().splitlines()
    return [visible(line) for line in lines[-TAIL:]]


def _wait(process: subprocess.Popen[bytes]) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(POLL_SECONDS)


def _end(process: subprocess.Popen[bytes], signals: Signals) -> None:
    """Ask a child to end; kill it with all it began if it does not, or if Ctrl-C comes twice."""
    end = time.monotonic() + GRACE_SECONDS
    if process.poll() is None:
        process.terminate()
    while process.poll() is None and time.monotonic() < end and not signals.insisted:
        _wait(process)
    # ranks whose launcher was killed keep what they have, and then end
    while (
        (process.returncode or 0) < 0
        and _has_members(process.pid)
        and time.monotonic() < end
        and not signals.insisted
    ):
        time.sleep(POLL_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin:
        process.stdin.close()


def _has_members(group: int) -> bool:
    """Whether somebody is left of a group of processes, whose first has ended."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):  # the system's word for dead ones, on a Mac
        return False
    return True


def _environment(limits: Limits) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in limits.kept or not (name.startswith(OTHERS) or name in (*RANKS, *ADDRESS))
    }
    kept["TOKENIZERS_PARALLELISM"] = "false"
    return kept | ({"OMP_NUM_THREADS": str(limits.threads)} if limits.threads else {})


def why_ended(code: int, hung_for: float | None, kills: int) -> str:
    """Why a child ended without a result."""
    if hung_for is not None:
        return f"it had not ended after cell_timeout={hung_for:g} seconds"
    if code == -signal.SIGKILL:
        if kills > 0:
            return "killed by the system: out of memory (the kernel has counted it)"
        return "killed by SIGKILL: by the system when memory is used up, or by hand"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}, and nothing recorded"


def memory_kills() -> int:
    """How often the kernel has killed for memory in our group; 0 where it does not tell."""
    lines = MEMORY_EVENTS.read_text().split("\n") if MEMORY_EVENTS.is_file() else []
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def is_one_job() -> bool:
    """Whether a signal is about this job of a cluster, put back or cancelled, not the sweep."""
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm"


class Signals:
    """Signals that ask us to end: they end us at once, but while a child is watched, are noted.

    Who started us may handle them as well (a scheduler's library, say): that is done at the end.
    A worker of a pool is not ended by them: that would end the other workers before they have kept
    what they have. Its owner hears Ctrl-C too, and tells all workers.

    Attributes:
        noted: Those that came while they were only noted.
    """

    def __init__(self) -> None:
        self.noted: list[int] = []
        self.before: dict[int, Any] = {}
        self.noting = False
        self.handed_on = False

    def __enter__(self) -> Signals:
        before: dict[int, Any] = {n: signal.signal(n, self._take) for n in ASKING}
        if in_pool():
            end_with_owner()
            before = {number: _idle for number in ASKING} | {signal.SIGINT: signal.SIG_IGN}
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.before = before
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    @property
    def insisted(self) -> bool:
        """Whether Ctrl-C came twice."""
        return self.noted.count(signal.SIGINT) > 1

    @contextmanager
    def only_noted(self) -> Iterator[None]:
        """Note them meanwhile, instead of ending."""
        self.noting = True
        try:
            yield
        finally:
            self.noting = False

    def hand_on(self) -> None:
        """Do what was put off.

        A worker of a pool goes on, unless nobody is there to give it more.

        Raises:
            SystemExit: a signal has come; with the exit code that is usual for it.
        """
        if self.noted and is_alone():
            os._exit(128 + self.noted[0])
        if self.noted and not in_pool():
            self.handed_on = True  # putting a job back makes a scheduler send the next signal
            first = self.noted[0]
            handler = self.before[first]
            if callable(handler) and handler is not signal.default_int_handler:
                handler(first, None)
            sys.exit(128 + first)

    def _take(self, number: int, _: Any) -> None:
        self.noted.append(number)
        if self.noting or self.handed_on:
            return
        if in_pool():
            raise StoppedError("This worker was asked to end.", number)
        self.hand_on()


def in_pool() -> bool:
    """Whether this process is a worker of a pool on this machine, and lives for its owner."""
    return multiprocessing.parent_process() is not None


@cache
def end_with_owner() -> None:
    """Ask this worker to end, again and again, as soon as the owner of its pool is gone."""

    def wait() -> None:
        while True:
            time.sleep(POLL_SECONDS)
            if is_alone():
                os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True, name="owner").start()


def is_alone() -> bool:
    """Whether this is a worker of a pool whose owner is gone."""
    owner = multiprocessing.parent_process()
    return owner is not None and os.getppid() != owner.pid


def _idle(number: int, _: Any) -> None:
    """What signals do to a worker between two tasks: nothing, unless its owner is gone."""
    if is_alone():
        os._exit(128 + number)
