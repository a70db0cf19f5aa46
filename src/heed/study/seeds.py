"""Cells that differ in their seed alone, taken together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heed.core.errors import RunError
from heed.core.identity import first_difference
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
        `verdict`, in the order of the study. Of cells whose items are lost, or were scored in
        different ways, instead of the last five: `reason`.
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
    names = [results[0][key] for key in ("student", "teacher", "method", "lr")]
    about = {
        "cell": ", ".join(map(str, names)),
        "seeds": [result["seed"] for result in results],
        "metric": suite.primary,
    }
    try:
        found = seeds_delta(suite, _pairs(results, suite.name, root))
    except RunError as error:
        return about | {"reason": str(error)}
    name, _, metric = suite.primary.partition("/")
    less = metric in suite.tasks[name].lower_is_better
    gain = (-found.high, -found.low) if less else (found.low, found.high)
    return about | {
        "delta": found.value,
        "low": found.low,
        "high": found.high,
        "items": found.items,
        "verdict": verdict_of(*gain, suite.margin[name]),
    }


def _pairs(
    results: Sequence[Mapping[str, Any]], suite: str, root: Path
) -> list[tuple[list[ItemScore], list[ItemScore]]]:
    """Scores before and after of each seed.

    Raises:
        RunError: some are lost, or were made in another way than the first.
    """
    found = [
        (
            read_scores(root / result["before"]),
            read_scores(root / result["directory"] / "scores" / suite),
        )
        for result in results
    ]
    first = found[0][0][1]
    for result, (before, after) in zip(results, found, strict=True):
        for _, fingerprint in (before, after):
            if fingerprint != first:
                where, one, two = first_difference(first, fingerprint)
                raise RunError(
                    f"Seeds {results[0]['seed']} and {result['seed']} were scored in different "
                    f"ways: {where} is {one!r} and {two!r}. Score all of them with one suite and "
                    f"one installation."
                )
    return [(before[0], after[0]) for before, after in found]
