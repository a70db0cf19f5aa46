"""GPUs for cells that run side by side on one machine: each takes its own, and none waits for ever.

Two launchers, or two sweeps, know nothing of each other, and torch takes the first GPU it sees. So
who begins the process of a cell first claims as many GPUs as the cell wants, by a lock on a file
for each, and shows the process those and no others. The process inherits the locks: a GPU is free
when nobody who was begun on it is left, however they ended.

A cell takes all its GPUs at once or none, so two that want two of three do not wait for each other.
Who is first in line has the next that become free, so a cell that wants many is not passed by.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from heed.core.console import progress_console
from heed.core.errors import RunError
from heed.core.identity import short_hash
from heed.study.gpus import ALL, BY_BUS, ORDER, SHOWN, VISIBLE, Gpu, allowed, gpus, places

if TYPE_CHECKING:
    from heed.training.trainer import TrainerSettings

LOOK_SECONDS = 0.2
SAY = progress_console()


@dataclass(frozen=True)
class Claim:
    """GPUs of one cell.

    Attributes:
        environment: Variables for the cell's process: it sees these GPUs alone.
        files: Open files that hold the locks; the process inherits them (`pass_fds`).
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    files: tuple[int, ...] = ()


NOTHING = Claim()


@contextmanager
def claimed(
    trainer: TrainerSettings, title: str, goes_on: Callable[[], bool] = lambda: True
) -> Iterator[Claim | None]:
    """Hold as many GPUs as a cell wants; None inside the block if we were not to go on waiting.

    Nothing is claimed for a processor, for Apple's GPUs, where there is no driver of NVIDIA's, and
    for ranks that SLURM begins, and gives devices to.

    Args:
        trainer: What the cell wants.
        title: Of the cell, for the line that says that it waits.
        goes_on: Whether to wait on; asked again and again.

    Raises:
        RunError: the cell wants more than it is ever to have here.
    """
    _show_hidden(os.environ)
    wanted = _wanted(trainer, gpus, os.environ)
    if not wanted.count:
        yield NOTHING
        return
    folder = _folder()
    files = _take(folder, wanted, title, goes_on)
    try:
        yield None if files is None else _claim(files, wanted.among)
    finally:
        for descriptor in (files or {}).values():
            os.close(descriptor)  # a child that inherited it still holds the lock


@dataclass(frozen=True)
class Wanted:
    """How many of which.

    Attributes:
        count: Of them; 0 takes none.
        among: Those that may be taken, by name, in the order that CUDA is told: how it is told.
    """

    count: int
    among: Mapping[str, str] = field(default_factory=dict)


def _wanted(
    trainer: TrainerSettings, listed: Callable[[], list[Gpu]], environment: Mapping[str, str]
) -> Wanted:
    """What a cell wants of what it may have.

    Raises:
        RunError: it wants more.
    """
    if trainer.accelerator not in ("auto", "gpu") or _given_by_slurm(trainer, environment):
        return Wanted(0)
    found = listed()
    if not found:
        return Wanted(0)  # another maker's, or none: torch knows, and the cell says it
    among = allowed(found, environment.get(VISIBLE), environment.get(ORDER))
    if trainer.accelerator == "auto" and not among:
        return Wanted(0)  # torch takes the processor
    if trainer.devices != 1:  # a process sees one slice at most
        whole = {gpu.uuid or str(place) for place, gpu in enumerate(found) if not gpu.slices}
        among = [one for one in among if one in whole]
    count = max(1, len(among)) if trainer.devices == "all" else trainer.devices
    if count > len(among):
        raise RunError(_too_many(trainer, among, found, environment.get(VISIBLE)))
    index = places(found)
    return Wanted(count, {name: index.get(name, name) for name in among})


def _show_hidden(environment: MutableMapping[str, str]) -> None:
    """Show a job of submitit on this machine what its command was shown.

    submitit hides all, unless it is told how many to show (hydra.launcher.gpus_per_node).
    """
    if environment.get("SUBMITIT_EXECUTOR") != "local" or environment.get(VISIBLE) != "":
        return
    shown = environment.get(SHOWN, "")
    if shown == ALL:
        del environment[VISIBLE]
    else:
        environment[VISIBLE] = shown


def _given_by_slurm(trainer: TrainerSettings, environment: Mapping[str, str]) -> bool:
    """Whether `srun` begins the ranks; one device in a job is taken here, of those of the job."""
    several = trainer.nodes > 1 or trainer.devices != 1
    return trainer.nodes > 1 or (several and "SLURM_JOB_ID" in environment)


def _too_many(
    trainer: TrainerSettings, among: Sequence[str], found: Sequence[Gpu], visible: str | None
) -> str:
    cut = any(gpu.slices for gpu in found)
    whole = "whole GPUs" if cut and trainer.devices != 1 else "GPUs"
    limit = "" if visible is None else f" by {VISIBLE}={visible}"
    return (
        f"trainer.accelerator={trainer.accelerator} trainer.devices={trainer.devices}: "
        f"{len(among)} {whole} may be used here{limit}, of {len(found)} in the machine. The cell "
        f"would wait for ever. Give trainer.devices={max(1, len(among))}, or show it more GPUs; "
        f"trainer=cpu needs none."
    )


def _claim(files: Mapping[str, int], told: Mapping[str, str]) -> Claim:
    """Show a process these GPUs; an index means the same to it as to us."""
    shown = ",".join(told[name] for name in files)
    return Claim({VISIBLE: shown, ORDER: BY_BUS}, tuple(files.values()))


def _folder() -> Path:
    """The folder of locks: of this user on this machine, and in a job of SLURM, of the job.

    A scheduler that lets two jobs share a GPU means it.

    Raises:
        RunError: the folder is another user's.
    """
    job = os.environ.get("SLURM_JOB_ID")
    name = f"heed-gpus-{os.getuid()}" + (f"-{job}" if job else "")
    folder = Path(tempfile.gettempdir()) / name
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise RunError(
            f"{folder} belongs to another user, so GPUs cannot be claimed there, and two cells "
            f"could take the same one. Have it removed, or set TMPDIR to a folder of your own."
        )
    return folder


def _take(
    folder: Path, wanted: Wanted, title: str, goes_on: Callable[[], bool]
) -> dict[str, int] | None:
    """Lock as many as are wanted, waiting in line; None if not to go on. The open files, by GPU."""
    said = False
    line = _opened(folder, f"line-{short_hash(sorted(wanted.among))}")
    try:
        first = False
        while goes_on():
            first = first or _locked(line)
            held = _try(folder, wanted) if first else {}
            if len(held) == wanted.count:
                return held
            if not said:
                SAY.print(_waits(title, wanted), markup=False, soft_wrap=True)
                said = True
            time.sleep(LOOK_SECONDS)
        return None
    finally:
        os.close(line)


def _waits(title: str, wanted: Wanted) -> str:
    return (
        f"{title}: waiting for {wanted.count} of {len(wanted.among)} GPUs; other cells hold too "
        f"many of them"
    )


def _try(folder: Path, wanted: Wanted) -> dict[str, int]:
    """Lock as many as are wanted, or none; one process at a time tries."""
    held: dict[str, int] = {}
    turn = _opened(folder, "turn")
    enough = False
    try:
        fcntl.flock(turn, fcntl.LOCK_EX)  # held for as long as it takes to try
        for gpu in wanted.among:
            descriptor = _opened(folder, gpu)
            if _locked(descriptor):
                held[gpu] = descriptor
            else:
                os.close(descriptor)
            if enough := len(held) == wanted.count:
                return held
        return {}
    finally:
        for descriptor in () if enough else held.values():
            os.close(descriptor)
        os.close(turn)


def _opened(folder: Path, name: str) -> int:
    """A lock's file; it is never removed, since another process may be about to lock it."""
    safe = re.sub(r"[^\w.-]", "_", name)
    return os.open(folder / f"{safe}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
