"""Planned cells and entries of a ledger that nobody ran."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from heed.core.compose import compose_component
from heed.study.cell import Cell
from heed.study.ledger import record
from heed.study.plan import PlannedCell

CONF = Path(__file__).resolve().parents[2] / "conf"
METRIC = "play_follow/inst_level_strict_acc"


@cache
def _cell() -> Cell:
    return compose_component(CONF, "train", ["suite=play"])


def planned(root: Path, number: int, **settings: str) -> PlannedCell:
    """The cell of a seed; `student`, `teacher` and `lr` are names, `debugging` is its own."""
    cell: Any = replace(_cell(), outputs=str(root), seed=number)  # type: ignore[type-var]
    for key, name in settings.items():
        field = "model" if key == "student" else key
        value = name if key == "debugging" else replace(getattr(cell, field), name=name)
        cell = replace(cell, **{field: value})
    said = tuple(f"{'model' if k == 'student' else k}={v}" for k, v in settings.items())
    baseline = root / "baselines" / cell.model.name
    key = (f"{number:04x}" * 3, "0123456789ab")
    return PlannedCell((*said, f"seed={number}"), cell, key, baseline, None)


def done(root: Path, cell: PlannedCell, **more: Any) -> dict[str, Any]:
    """Enter a finished cell; what took it may be given as `cost` (seconds, of the fit, tokens)."""
    delta = {"metric": METRIC, "before": 0.25, "after": 0.375, "delta": 0.125, "items": 520}
    deltas = [delta | {"low": 0.1, "high": 0.15, "verdict": "helped"}]
    cost = dict(zip(("seconds", "fit_seconds", "supervised_tokens"), more.pop("cost"), strict=True))
    names = {"primary": METRIC, "level": 0.95, "margin": 0.03, "code": "c0de", "name": "n"}
    place = {"directory": f"runs/{cell.key[0]}", "before": "baselines/x"}
    entry = {**cell.names, **names, **place, "deltas": deltas, "cost": cost, "flags": [], **more}
    record(root, "done", entry)
    return entry
