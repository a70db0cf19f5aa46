"""Locks between processes, also of several machines that share a folder; they die with their owner.

Two locks in one. The system's own (`flock`) is freed the moment its owner dies, but some shared
folders keep it to one machine. A lease (a marker file that its owner touches again and again) holds
on every machine; that of a dead owner is taken over, at once on its own machine, and on others when
nothing has touched it for `LEASE_SECONDS`.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import LeaseCompromise, SoftFileLease, Timeout

from heed.core.errors import RunError
from heed.core.files import NO_LOCKS
from heed.core.ranks import is_follower

LOOK_SECONDS = 0.2
"""How often one that waits looks whether the lock is free."""

LEASE_SECONDS = 60.0
"""After this time without a sign of life from another machine, its owner counts as dead."""

EMPTY_SECONDS = 10.0
"""Who makes a lease writes into it at once: one that stays empty was made by a process that died
between the two, and filelock would wait for its owner for ever."""


WAITS = "HEED_WAITS"
"""Variable that names a file: it is there while this process waits, for who measures its time."""


class HeldError(RunError):
    """A lock that was not waited for is held by another process."""


@contextmanager
def lock(
    path: Path,
    on_wait: Callable[[], None] | None = None,
    *,
    wait: bool | Callable[[], bool] = True,
    on_loss: Callable[[], None] | None = None,
) -> Iterator[None]:
    """Hold an exclusive lock.

    Args:
        path: The lock's file; the lease is beside it.
        on_wait: Called once if another process holds the lock, before waiting for it.
        wait: Whether to wait for it; asked again and again while it is held.
        on_loss: Called, from a thread of its own, if another machine has taken the lock over
            because this one showed no sign of life; whoever gives none is interrupted.

    Raises:
        HeldError: another process holds it, and it is not to be waited for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)

    def lost(_: LeaseCompromise) -> None:
        (on_loss or _interrupt)()

    lease = SoftFileLease(f"{path}.lease", lease_duration=LEASE_SECONDS, on_compromise=lost)
    waiting = Waiting(path, on_wait, wait if callable(wait) else lambda: wait)
    with path.open("a") as file:
        try:
            with waiting:
                _flock(file, waiting)
                _take(lease, waiting)
            try:
                yield
            finally:
                lease.release()
        finally:
            with suppress(OSError):  # a folder without such locks; closing the file frees it too
                fcntl.flock(file, fcntl.LOCK_UN)


class Waiting:
    """What to do when a lock is held: say so once and wait a moment, or refuse.

    Of several ranks only the first is seen to wait: another may wait for one of its own.
    """

    def __init__(self, path: Path, on_wait: Callable[[], None] | None, wait: Callable[[], bool]):
        self.path, self.on_wait, self.wait, self.said = path, on_wait, wait, False
        named = None if is_follower() else os.environ.get(WAITS)
        self.mark = Path(named) if named else None

    def __enter__(self) -> Waiting:
        return self

    def __exit__(self, *_: object) -> None:
        if self.said and self.mark is not None:
            self.mark.unlink(missing_ok=True)

    def a_moment(self) -> None:
        """Called whenever the lock is seen to be held.

        Raises:
            HeldError: it is not to be waited for.
        """
        if not self.wait():
            raise HeldError(f"{self.path} is held by another process.")
        if not self.said:
            self.said = True
            if self.mark is not None:
                with suppress(OSError):  # it only tells; its folder may be gone
                    self.mark.touch()
            if self.on_wait is not None:
                self.on_wait()
        time.sleep(LOOK_SECONDS)


def _flock(file: IO[str], waiting: Waiting) -> None:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting.a_moment()
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            return  # the lease alone holds there
        else:
            return


def _take(lease: SoftFileLease, waiting: Waiting) -> None:
    """Take the lease; the same one looks again and again: it measures how long it saw no sign."""
    while True:
        try:
            lease.acquire(blocking=False)
        except Timeout:
            if not _took_empty_away(Path(lease.lock_file)):
                waiting.a_moment()
        else:
            return


def _took_empty_away(path: Path) -> bool:
    """Whether a lease was left empty, and is gone now; another may do the same at this moment.

    So it is renamed first: what turns out to be the lease of who was quicker is given back.
    """
    if not _is_left_empty(path):
        return False
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return True
    if aside.stat().st_size:
        aside.rename(path)
        return False
    aside.unlink()
    return True


def _is_left_empty(path: Path) -> bool:
    """Whether a lease was made a while ago, and nothing was written into it."""
    with suppress(FileNotFoundError):
        found = path.stat()
        return found.st_size == 0 and time.time() - found.st_mtime > EMPTY_SECONDS
    return False


def _interrupt() -> None:
    """End the program as Ctrl-C does: what it would write belongs to another machine now.

    One that was begun in the background may ignore Ctrl-C: it is asked to end in the other way.
    """
    import _thread

    if callable(signal.getsignal(signal.SIGINT)):
        _thread.interrupt_main()
    else:
        os.kill(os.getpid(), signal.SIGTERM)
