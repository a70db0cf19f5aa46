"""How far the cells of a command are, told whenever the ledger hears of one.

It is read from the ledger, so it is the same under every launcher, also where cells run elsewhere.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from heed.analysis.deltas import signed
from heed.core.console import duration
from heed.study.estimate import estimates
from heed.study.ledger import FILE, Key, latest
from heed.study.plan import PlannedCell

LOOK_SECONDS = 1.0


class Progress:
    """Says of each cell how it ended, how many have, and how long the rest will take.

    The rest is taken to go on as it went so far; cells are weighed by what they are likely to take,
    and those under way count as half done. Use it as a context: within it, a thread looks at the
    ledger.

    Args:
        cells: Those that are to be run.
        root: Of the outputs.
        console: Where it is said.
        clock: Seconds.
    """

    def __init__(
        self,
        cells: Sequence[PlannedCell],
        root: Path,
        console: Console,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.cells = {cell.key: cell for cell in cells}
        self.root, self.console, self.clock = root, console, clock
        self.known, self.size = latest(root), self._size()
        self.weights = _weights(cells, self.known)
        self.begun = self._begun()
        self.ended: dict[Key, Mapping[str, Any]] = {}
        self.since = clock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="progress")

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.look()

    def look(self) -> None:
        """Say what the ledger has heard since the last look."""
        size = self._size()
        if size == self.size:
            return
        self.size, now = size, latest(self.root)
        for key in self.cells:
            if key in now and now[key] != self.known.get(key) and now[key] != self.ended.get(key):
                self.ended[key] = now[key]
                self.console.print(self._line(now[key]), markup=False, soft_wrap=True)

    def _line(self, entry: Mapping[str, Any]) -> str:
        rest = sum(weight for key, weight in self.weights.items() if key not in self.ended)
        done = sum(self.weights[key] for key in self.ended)
        half = sum(self.weights[key] for key in self._under_way()) / 2
        left = (rest - half) * (self.clock() - self.since) / (done + half)
        after = f", about {duration(left)} left" if rest > 0 else ""
        named = (entry.get(name) for name in ("student", "teacher", "method", "lr"))
        what = f"{'-'.join(map(str, named))} seed {entry.get('seed')}"
        return f"[{len(self.ended)}/{len(self.cells)}] {what}: {_how(entry)}{after}"

    def _watch(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            self.look()

    def _under_way(self) -> list[Key]:
        """Cells that were begun meanwhile and have not ended."""
        before, now = self.begun, self._begun()
        return [key for key in self.cells if key not in self.ended and now[key] != before[key]]

    def _begun(self) -> dict[Key, int]:
        """When the process of each cell was begun last; 0: never."""
        return {key: begun_at(cell.file) for key, cell in self.cells.items()}

    def _size(self) -> int:
        path = self.root / FILE
        return path.stat().st_size if path.is_file() else 0


def begun_at(file: Path) -> int:
    """When a process was begun last from a config file, in ns; 0: never."""
    return file.stat().st_mtime_ns if file.is_file() else 0


def _how(entry: Mapping[str, Any]) -> str:
    """How a cell ended, in a few words."""
    if entry["event"] != "done":
        return str(entry["event"])
    deltas = [d for d in entry.get("deltas", ()) if d["metric"] == entry["primary"]]
    return "; ".join([f"{signed(d['delta'])} {d['verdict']}" for d in deltas] or ["done"])


def _weights(cells: Sequence[PlannedCell], known: Mapping[Key, Any]) -> dict[Key, float]:
    """What each cell is likely to take, in any unit; the mean where that is not known."""
    found = [estimate.seconds for estimate in estimates(cells, known.values())]
    seconds = [one for one in found if one]
    mean = sum(seconds) / len(seconds) if seconds else 1.0
    return {cell.key: one or mean for cell, one in zip(cells, found, strict=True)}
