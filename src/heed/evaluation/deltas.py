"""After minus before, item by item: what a suite says about two models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from heed.core.errors import RunError
from heed.core.identity import first_difference
from heed.core.stats import paired_delta, verdict_of
from heed.core.types import Delta, ItemScore, Ratio

if TYPE_CHECKING:
    from heed.evaluation.suite import Suite


def deltas_of(suite: Suite, before: Sequence[ItemScore], after: Sequence[ItemScore]) -> list[Delta]:
    """After minus before of every metric over the same items, the primary metric first.

    Raises:
        RunError: the two do not hold the same items.
    """
    after = _in_order_of(before, after)
    found = [
        _delta(suite, (name, metric), before, after)
        for name, task in suite.tasks.items()
        for metric in task.metrics
    ]
    return sorted(found, key=lambda delta: delta.metric != suite.primary)


def _delta(
    suite: Suite,
    which: tuple[str, str],
    before: Sequence[ItemScore],
    after: Sequence[ItemScore],
) -> Delta:
    """The delta of one metric of one task."""
    name, metric = which
    sums = [sums_of(scores, name, metric) for scores in (before, after)]
    change = paired_delta(sums[0], sums[1], **suite.bootstrap())
    less = metric in suite.tasks[name].lower_is_better
    gain = (-change.high, -change.low) if less else (change.low, change.high)
    return Delta(
        metric=f"{name}/{metric}",
        before=sum(sums[0][0]) / sum(sums[0][1]),
        after=sum(sums[1][0]) / sum(sums[1][1]),
        delta=change.value,
        low=change.low,
        high=change.high,
        items=change.items,
        verdict=verdict_of(*gain, suite.margin[name]),
        lower_is_better=less,
    )


def refuse_unequal(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Refuse to compare scores that were made in different ways.

    Args:
        before: `Suite.fingerprint` of the first scores.
        after: That of the second.

    Raises:
        RunError: naming the first difference.
    """
    if before != after:
        where, one, two = first_difference(before, after)
        raise RunError(
            f"Before and after were scored differently: {where} is {one!r} before and {two!r} "
            f"after. Their difference would mix the change of the model with the change of the "
            f"measurement. Score both again with one suite and one installation."
        )


def sums_of(scores: Sequence[ItemScore], task: str, metric: str) -> tuple[list[float], list[float]]:
    """Numerators and denominators of a metric, one per item of a task."""
    ratios: list[Ratio] = [score.metrics[metric] for score in scores if score.task == task]
    return [ratio.num for ratio in ratios], [ratio.den for ratio in ratios]


def _in_order_of(first: Sequence[ItemScore], second: Sequence[ItemScore]) -> list[ItemScore]:
    """The second scores, item by item beside the first."""
    keys = [(score.task, score.key) for score in first]
    found = {(score.task, score.key): score for score in second}
    if len(set(keys)) != len(keys) or len(found) != len(second) or set(keys) != set(found):
        odd = sorted(set(keys) ^ set(found))
        example = f", for example {'/'.join(odd[0])}" if odd else ""
        raise RunError(
            f"Before has {len(keys)} scores and after {len(second)}, and {len(odd)} items are in "
            f"one of them only{example}. A delta needs the same items twice. Score both models "
            f"with one suite."
        )
    return [found[key] for key in keys]
