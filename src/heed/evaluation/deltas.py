"""After minus before, item by item: what a suite says about two models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from heed.core.errors import RunError
from heed.core.identity import first_difference
from heed.core.stats import Paired, compare_paired, holm, seeds_interval, verdict_of
from heed.core.types import Delta, Interval, ItemScore, Ratio, StratumDelta
from heed.core.unscored import scored_on_all

if TYPE_CHECKING:
    from heed.evaluation.suite import Suite


def deltas_of(suite: Suite, before: Sequence[ItemScore], after: Sequence[ItemScore]) -> list[Delta]:
    """After minus before of every metric over the same items, the primary metric first.

    An item that one side has no score of counts on neither (`heed.core.unscored`).

    Raises:
        RunError: the two do not hold the same items.
    """
    before, after = item_by_item(before, after)
    found = [
        _delta(suite, (name, metric), before, after)
        for name, task in suite.tasks.items()
        for metric in task.metrics
    ]
    return sorted(found, key=lambda delta: delta.metric != suite.primary)


def primary_delta(suite: Suite, before: Sequence[ItemScore], after: Sequence[ItemScore]) -> Delta:
    """`deltas_of` for the suite's primary metric alone.

    Raises:
        RunError: the two do not hold the same items.
    """
    return metric_delta(suite, suite.primary, before, after)


def metric_delta(
    suite: Suite, which: str, before: Sequence[ItemScore], after: Sequence[ItemScore]
) -> Delta:
    """`deltas_of` for one `<task>/<metric>` alone.

    Raises:
        RunError: the two do not hold the same items.
    """
    name, _, metric = which.partition("/")
    return _delta(suite, (name, metric), *item_by_item(before, after))


def _delta(
    suite: Suite,
    which: tuple[str, str],
    before: Sequence[ItemScore],
    after: Sequence[ItemScore],
) -> Delta:
    """The delta of one metric of one task."""
    name, metric = which
    sums = [sums_of(scores, name, metric) for scores in (before, after)]
    found = compare_paired(sums[0], sums[1], **suite.bootstrap())
    change = found.interval
    less = metric in suite.tasks[name].lower_is_better
    gain = (-change.high, -change.low) if less else (change.low, change.high)
    flips = found.flips[::-1] if found.flips and less else found.flips
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
        mde=found.mde,
        p=found.p,
        flips=flips,
        mcnemar=found.mcnemar,
    )


def stratum_deltas(
    suite: Suite, before: Sequence[ItemScore], after: Sequence[ItemScore], metric: str | None = None
) -> list[StratumDelta]:
    """After minus before of each part of a task's items, with p values adjusted for their number.

    Args:
        suite: What scored them.
        before: Scores before.
        after: Scores after, of the same items.
        metric: `<task>/<metric>`; None: the primary one, or, where that has no parts, the first
            metric of its task that has some.

    Returns:
        One delta for each part in alphabetical order; none where the task has no parts.

    Raises:
        RunError: the two do not hold the same items.
    """
    name, _, asked = (metric or suite.primary).partition("/")
    before, after = item_by_item(before, after)
    task = suite.tasks[name]
    for one in (asked,) if metric else (asked, *task.metrics):
        sides = [
            [dict(task.parts(score, one)) for score in scores if score.task == name]
            for scores in (before, after)
        ]
        parts = sorted({part for side in sides for found in side for part in found})
        if parts:
            found = [_part(suite, part, sides) for part in parts]
            adjusted = holm([pair.p for _, pair in found])
            return [
                _stratum_delta((f"{name}/{one}", part), *told, p)
                for part, told, p in zip(parts, found, adjusted, strict=True)
            ]
    return []


Sums = tuple[list[float], list[float]]
"""Numerators and denominators, one of each per item."""


def _part(
    suite: Suite, part: str, sides: Sequence[Sequence[Mapping[str, Ratio]]]
) -> tuple[tuple[Sums, Sums], Paired]:
    """The sums of a part before and after, and how they compare; of one item nothing is sure."""
    kept = [[found[part] for found in side if part in found] for side in sides]
    before, after = (([r.num for r in side], [r.den for r in side]) for side in kept)
    if len(before[0]) > 1:
        return (before, after), compare_paired(before, after, **suite.bootstrap())
    value = after[0][0] / after[1][0] - before[0][0] / before[1][0]
    return (before, after), Paired(Interval(value, value, value, 1), 1.0, 1.0, None, None)


def _stratum_delta(
    which: tuple[str, str], sums: tuple[Sums, Sums], found: Paired, adjusted: float
) -> StratumDelta:
    (before, before_den), (after, after_den) = sums
    change = found.interval
    alone = change.items == 1
    return StratumDelta(
        metric=which[0],
        name=which[1],
        items=change.items,
        before=sum(before) / sum(before_den),
        after=sum(after) / sum(after_den),
        delta=change.value,
        low=None if alone else change.low,
        high=None if alone else change.high,
        p=found.p,
        adjusted=adjusted,
    )


def seeds_delta(
    suite: Suite,
    pairs: Sequence[tuple[Sequence[ItemScore], Sequence[ItemScore]]],
    metric: str | None = None,
) -> Interval:
    """After minus before on average over training seeds and prompts (`seeds_interval`).

    Args:
        suite: What scored them all.
        pairs: Scores before and after of each seed, at least two, all of the same items.
        metric: `<task>/<metric>`; None: the primary one.

    Raises:
        RunError: they do not hold the same items.
        DataError: fewer than two seeds.
    """
    name, _, one = (metric or suite.primary).partition("/")
    sides = item_by_item(*(side for pair in pairs for side in pair))
    sums = [sums_of(scores, name, one) for scores in sides]
    return seeds_interval(list(zip(sums[::2], sums[1::2], strict=True)), **suite.bootstrap())


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


def item_by_item(*sides: Sequence[ItemScore]) -> list[list[ItemScore]]:
    """Scores in the order of the first side, without what some side has no score of.

    Raises:
        RunError: the sides do not hold the same items.
    """
    ordered = [in_order_of(sides[0], side) for side in sides]
    return scored_on_all(*ordered)[0]


def in_order_of(first: Sequence[ItemScore], second: Sequence[ItemScore]) -> list[ItemScore]:
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
