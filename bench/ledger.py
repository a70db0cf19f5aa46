"""What a look at a long ledger costs.

    python bench/ledger.py [entries] [cells]

Writes that many entries of the size that real ones have, and prints the seconds of a look at all of
them, of how a study's cells ended by them, of what these are likely to take, and of a look at one.
"""

import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from heed.core.compose import compose_component
from heed.core.types import Delta
from heed.study.estimate import estimates
from heed.study.ledger import FILE, last_word, latest, record
from heed.study.plan import PlannedCell, states

ROOT = Path(__file__).parents[1]
METRICS = 9


def entry(number: int, names: dict) -> dict:
    """A line as a finished cell leaves it."""
    numbers = {"before": 0.123456789, "after": 0.234567891, "delta": 0.111111102}
    ends = {"low": 0.012345678, "high": 0.234567891, "items": 541, "verdict": "helped"}
    deltas = [asdict(Delta(metric=f"task{i}/accuracy", **numbers, **ends)) for i in range(METRICS)]
    cost = {"seconds": 1234.5, "fit_seconds": 1000.1, "supervised_tokens": 1234567}
    said = {"primary": "task0/accuracy", "level": 0.95, "margin": 0.03, "code": "0" * 12}
    place = {"name": "n" * 40, "directory": "runs/" + "d" * 60, "before": "baselines/" + "b" * 50}
    return names | {"run": f"{number:012x}", "deltas": deltas, "cost": cost, **said, **place}


def planned(number: int) -> list[PlannedCell]:
    """Cells of a study, every other one of them finished."""
    cell = compose_component(ROOT / "conf", "train", [])
    keys = [(f"{2 * i:012x}", cell.names["suite"]) for i in range(number)]
    return [PlannedCell((f"seed={i}",), cell, key, ROOT, None) for i, key in enumerate(keys)]


def seconds(what: str, look) -> None:
    """Print what a look takes, the best of three."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        look()
        times.append(time.perf_counter() - began)
    print(f"{what:40} {min(times):7.3f} s")


def main(entries: int = 10_000, cells: int = 200) -> None:
    """Write a ledger, and look at it."""
    asked = planned(cells)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number in range(entries):
            record(root, "done", entry(number, asked[0].names))
        known, size = latest(root), (root / FILE).stat().st_size
        print(f"{entries} entries, {size / entries / 1000:.1f} kB each; a study of {cells} cells")
        seconds("all entries", lambda: latest(root))
        seconds("how the study's cells ended", lambda: states(asked, known))
        seconds("what they are likely to take", lambda: estimates(asked, known.values()))
        seconds("one entry", lambda: last_word(root, asked[-1].key))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
