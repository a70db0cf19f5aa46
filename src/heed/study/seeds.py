"""Cells that differ in their seed alone, taken together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heed.core.stats import verdict_of
from heed.core.types import ItemScore
from heed.evaluation.deltas import seeds_delta
from heed.evaluation.record import read_scores
from heed.study.plan import PlannedCell


def over_seeds(
    cells: Sequence[PlannedCell], done: Mapping[tuple[str, str], Mapping[str, Any]], root: Path
) -> list[dict[str, Any]]:
    """The delta of the primary metric to be expected of another seed, for each group of cells.

    Args:
        cells: Of a study.
        done: (run id, suite hash) -> result of the finished ones.
        root: Of the outputs, where the scores of all items are.

    Returns:
        One entry for each group of two or more finished cells that differ in their seed alone:
        `cell` (its name without the seed), `seeds`, `metric`, `delta`, `low`, `high`, `items` and
        `verdict`, in the order of the study.

    Raises:
        RunError: scores of a finished cell are lost.
    """
    groups: dict[tuple[str, ...], list[PlannedCell]] = {}
    for planned in cells:
        alike = tuple(text for text in planned.overrides if not text.startswith("seed="))
        if planned.key in done:
            groups.setdefault(alike, []).append(planned)
    return [_together(group, done, root) for group in groups.values() if len(group) > 1]


def _together(
    group: Sequence[PlannedCell],
    done: Mapping[tuple[str, str], Mapping[str, Any]],
    root: Path,
) -> dict[str, Any]:
    results = [done[planned.key] for planned in group]
    suite = group[0].cell.suite
    pairs = [
        (
            _items(root / result["before"]),
            _items(root / result["directory"] / "scores" / suite.name),
        )
        for result in results
    ]
    found = seeds_delta(suite, pairs)
    name, _, metric = suite.primary.partition("/")
    less = metric in suite.tasks[name].lower_is_better
    gain = (-found.high, -found.low) if less else (found.low, found.high)
    names = [results[0][key] for key in ("student", "teacher", "method", "lr")]
    return {
        "cell": ", ".join(map(str, names)),
        "seeds": [result["seed"] for result in results],
        "metric": suite.primary,
        "delta": found.value,
        "low": found.low,
        "high": found.high,
        "items": found.items,
        "verdict": verdict_of(*gain, suite.margin[name]),
    }


def _items(directory: Path) -> list[ItemScore]:
    return read_scores(directory)[0]
