"""Items that have a score on some sides of a comparison only, such as a judge's unreadable reply.

Such an item says nothing of a difference: it is taken from all sides, and counted. What says no
reason why it has no score is left as it is, and refused where an interval is made: something else
is wrong there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from heed.core.types import ItemScore, Ratio

MISSING = "missing"
"""Where the details of an item say why it has no score."""

UNSCORED = "left out on all sides, for want of a score on one"


def scored_on_all(*sides: Sequence[ItemScore]) -> tuple[list[list[ItemScore]], dict[str, int]]:
    """Take from every side what one side has no score of, and says why, each metric by itself.

    Items that only some sides hold stay as they are: they are another list of items, and refused
    where the sides are set against each other.

    Args:
        sides: Scores of one list of items, each in an order of its own.

    Returns:
        The sides, each in its order, and how many items were taken from a metric or more.

    Example:
        >>> sides = [
        ...     [ItemScore("judged", "0", "", "", None, 0, {"win_rate": ratio}, {MISSING: "why"})]
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
    """Metrics that some of an item's scores lack, and not all; those that do have to say why."""
    found = []
    for metric in sorted(set.intersection(*(set(score.metrics) for score in scores))):
        lacking = [score for score in scores if not score.metrics[metric].den]
        told = all(MISSING in score.details for score in lacking)
        if lacking and len(lacking) < len(scores) and told:
            found.append(metric)
    return found


def _without(score: ItemScore, metrics: Sequence[str]) -> ItemScore:
    if not metrics:
        return score
    left = {**score.metrics, **dict.fromkeys(metrics, Ratio(0, 0))}
    return replace(score, metrics=left, details={MISSING: UNSCORED, **score.details})
