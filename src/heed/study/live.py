"""A log that is shown while it grows."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

LOOK_SECONDS = 0.1
PIECE = 65536


@contextmanager
def shown(log: Path) -> Iterator[None]:
    """Inside the block, what is appended to a log is also printed; at its end, all of it.

    A process that prints into a file goes on when nobody reads; one that prints into a pipe fails.

    Args:
        log: It is emptied first.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    ended = threading.Event()
    with log.open("rb") as file:
        thread = threading.Thread(target=_show, args=(file, ended), daemon=True, name="live")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _show(file: IO[bytes], ended: threading.Event) -> None:
    while True:
        last = ended.wait(LOOK_SECONDS)  # before reading, so that nothing comes after the last
        while piece := file.read(PIECE):
            try:
                sys.stdout.buffer.write(piece)
                sys.stdout.flush()
            except BrokenPipeError:  # nobody reads any more; the log has it all
                sys.stdout = open(os.devnull, "w")  # noqa: SIM115
                return
        if last:
            return
