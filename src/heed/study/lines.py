"""What ranks print, copied into one output: whole lines, each with its rank."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress
from typing import IO

from heed.study import srun

COPY_SECONDS = 1.0
"""What a rank has begun may hold its output open after it; that is waited for so long."""


class Lines:
    """Copies what ranks print into our own output, line by line.

    The leader's lines stay as they are: they are those of a process alone.

    Args:
        by_slurm: Whether the lines of all come from one `srun`, which labels them.

    Attributes:
        bad_end: The first rank that SLURM tells has ended badly, and how.
    """

    def __init__(self, *, by_slurm: bool):
        self.by_slurm, self.lock = by_slurm, threading.Lock()
        self.threads: list[threading.Thread] = []
        self.bad_end: srun.BadEnd | None = None
        sys.stdout.flush()

    def read(self, rank: int, process: subprocess.Popen[bytes]) -> None:
        """Copy from a process until it ends."""
        assert process.stdout is not None, "it has a pipe"
        thread = threading.Thread(target=self._copy, args=(rank, process.stdout), daemon=True)
        thread.start()
        self.threads.append(thread)

    def finish(self) -> None:
        """Wait for what is still to come."""
        for thread in self.threads:
            thread.join(COPY_SECONDS)

    def _copy(self, rank: int, source: IO[bytes]) -> None:
        with source:
            for line in source:
                self._write(self._named(rank, line.rstrip(b"\n")) + b"\n")

    def _named(self, rank: int, line: bytes) -> bytes:
        if self.by_slurm:
            label = srun.LABEL.match(line)
            if label is None:
                self.bad_end = self.bad_end or srun.bad_end(line.decode(errors="replace"))
                return line
            rank, line = int(label[1]), line[label.end() :]
        return line if rank == 0 else b"[rank %d] %s" % (rank, line)

    def _write(self, line: bytes) -> None:
        with self.lock, suppress(OSError):  # nobody reads any more: the ranks go on all the same
            left = memoryview(line)
            while left:
                left = left[os.write(1, left) :]
