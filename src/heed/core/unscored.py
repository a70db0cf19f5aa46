"""Items that have a score on some sides of a comparison only, such as a judge's unreadable reply.

Such an item says nothing of a difference: it is taken from all sides, and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from heed.core.types import ItemScore, Ratio

UNSCORED = "left out on all sides, for want of a score on one"


def scored_on_all(*sides: Sequence[ItemScore]) -> tuple[list[list[ItemScore]], dict[str, int]]:
    """Take from every side what one side has no score of, each metric by itself.

    Items that only some sides hold stay as they are: they are another list of items, and refused
    where the sides are set against each other.

    Args:
        sides: Scores of one list of items, each in an order of its own.

    Returns:
        The sides, each in its order, and how many items were taken from a metric or more.

    Example:
        >>> sides = [
        ...     [ItemScore("judged", "0", "", "", None, 0, {"win_rate": ratio})]
        ...     for ratio in (Ratio(1, 1), Ratio(0, 0))
        ... ]
        >>> (one, two), left_out = scored_on_all(*sides)
        >>> one == two, list(left_out.values())
        (True, [1])
    """
    found: dict[tuple[str, str], list[ItemScore]] = {}
    for side in sides:
        for score in side:
            found.setdefault((score.task, score.key), []).append(score)
    odd = {place: metrics for place, scores in found.items() if (metrics := _unlike(scores))}
    kept = [[_without(score, odd.get((score.task, score.key), ())) for score in s] for s in sides]
    return kept, {UNSCORED: len(odd)} if odd else {}


def _unlike(scores: Sequence[ItemScore]) -> list[str]:
    """Metrics of which some, and not all, scores of an item have a denominator."""
    shared = set.intersection(*(set(score.metrics) for score in scores))
    asked = {metric: {bool(score.metrics[metric].den) for score in scores} for metric in shared}
    return sorted(metric for metric, both in asked.items() if len(both) > 1)


def _without(score: ItemScore, metrics: Sequence[str]) -> ItemScore:
    if not metrics:
        return score
    return replace(score, metrics={**score.metrics, **dict.fromkeys(metrics, Ratio(0, 0))})
