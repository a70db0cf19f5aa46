"""How well metrics rank teachers as an outcome does: intervals for one rho, and for differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Literal

import numpy as np

from heed.analysis.spearman import FEWEST, spearman
from heed.core.errors import DataError
from heed.core.resample import Floats, ends
from heed.core.types import Interval

Over = Literal["teachers", "instructions", "both"]
"""What is resampled: the teachers (other teachers of the kind), the instructions (the same teachers
asked otherwise), or both."""


@dataclass(frozen=True)
class Sample:
    """What is known of each teacher, and how it moves with the instructions.

    Attributes:
        values: f64[teachers].
        draws: f64[resamples, teachers], the same over resampled instructions; None: not known.
    """

    values: Floats
    draws: Floats | None = None


@dataclass(frozen=True)
class Resamples:
    """Drawn teachers and instructions, the same for all that is to be compared.

    Attributes:
        teachers: i64[resamples, teachers], which ones are drawn.
        over: What is resampled.
    """

    teachers: np.ndarray[tuple[int, int], np.dtype[np.int64]]
    over: Over

    def of(self, sample: Sample) -> Floats:
        """f64[resamples, teachers]: a sample as it is drawn.

        Without draws over instructions a sample is the same in all of them.

        Raises:
            DataError: its draws are of another number.
        """
        if sample.draws is None or self.over == "teachers":
            drawn = np.broadcast_to(sample.values, self.teachers.shape)
        elif sample.draws.shape != self.teachers.shape:
            raise DataError(
                f"Draws of shape {sample.draws.shape} do not belong to resamples of shape "
                f"{self.teachers.shape}. Draw instructions as often as teachers."
            )
        else:
            drawn = sample.draws
        return np.take_along_axis(drawn, self.teachers, axis=1)


def resamples_of(teachers: int, over: Over, *, resamples: int, seed: int) -> Resamples:
    """Draw teachers with replacement; over instructions alone every one stands in each draw.

    Args:
        teachers: How many there are.
        over: What is resampled.
        resamples: How often.
        seed: Of the drawing.

    Raises:
        DataError: too few teachers for an interval.
    """
    if teachers < FEWEST:
        raise DataError(
            f"{teachers} teachers are too few for an interval of their ranks. Take at least "
            f"{FEWEST}."
        )
    if over == "instructions":
        return Resamples(np.tile(np.arange(teachers), (resamples, 1)), over)
    generator = np.random.default_rng(seed)
    return Resamples(generator.integers(0, teachers, (resamples, teachers)), over)


@dataclass(frozen=True)
class Agreement:
    """How well metrics rank teachers as an outcome does.

    Attributes:
        rhos: Metric -> Spearman's rho with the outcome and its interval; None where a metric is the
            same for all teachers.
        draws: Metric -> its rho in each resample.
        level: Of the intervals.
        undefined: Metric -> resamples in which there is no order, left out of the interval.
    """

    rhos: Mapping[str, Interval | None]
    draws: Mapping[str, Floats]
    level: float
    undefined: Mapping[str, int]

    def difference(self, one: str, two: str) -> Interval | None:
        """Rho of one metric minus that of another, over the same drawn teachers."""
        first, second = self.rhos[one], self.rhos[two]
        if first is None or second is None:
            return None
        return _interval(
            first.value - second.value, self.draws[one] - self.draws[two], self.level, first.items
        )


def agreement(
    metrics: Mapping[str, Sample],
    outcome: Sample,
    over: Over,
    *,
    level: float,
    resamples: int,
    seed: int,
) -> Agreement:
    """Spearman's rho of each metric with an outcome, with percentile bootstrap intervals.

    All metrics see the same draws, so that differences of two are paired. A drawn teacher stands in
    a resample as often as it was drawn, with equal ranks.

    Args:
        metrics: Name -> values of the teachers.
        outcome: What the metrics are to rank alike, of the same teachers in the same order.
        over: What is resampled.
        level: Share of resamples inside an interval.
        resamples: How many.
        seed: Of the drawing.

    Raises:
        DataError: too few teachers, or unequal lengths.

    Example:
        >>> one, two = Sample(np.arange(8.0)), Sample(np.arange(8.0) % 4)
        >>> found = agreement(
        ...     {"one": one, "two": two}, one, "teachers", level=0.95, resamples=500, seed=0
        ... )
        >>> found.rhos["one"].value, found.difference("one", "two").low > 0
        (1.0, True)
    """
    teachers = len(outcome.values)
    drawn = resamples_of(teachers, over, resamples=resamples, seed=seed)
    target = drawn.of(outcome)
    draws = {name: spearman(drawn.of(sample), target) for name, sample in metrics.items()}
    values = {name: float(spearman(s.values, outcome.values)) for name, s in metrics.items()}
    return Agreement(
        {
            name: None if isnan(value) else _interval(value, draws[name], level, teachers)
            for name, value in values.items()
        },
        draws,
        level,
        {name: int(np.isnan(rhos).sum()) for name, rhos in draws.items()},
    )


def _interval(value: float, draws: Floats, level: float, teachers: int) -> Interval | None:
    """A percentile interval that holds its value; None where no resample has an order."""
    known = draws[~np.isnan(draws)]
    if not len(known):
        return None
    low, high = ends(known, level)
    return Interval(value, min(low, value), max(high, value), teachers)


@dataclass(frozen=True)
class LeftOut:
    """A parameter chosen on all students but one, and what it is worth on that one.

    Attributes:
        chosen: Place in the grid, for each student.
        rhos: Rho of each student at the place that the others chose, with its interval over drawn
            teachers; in each draw the choice is made anew.
        mean: Their mean over students.
        over_first: This mean minus that at the first place of the grid.
    """

    chosen: tuple[int, ...]
    rhos: tuple[Interval, ...]
    mean: Interval
    over_first: Interval


def leave_one_out(
    grids: Sequence[Floats],
    outcomes: Sequence[Floats],
    owners: Sequence[str] | None = None,
    *,
    level: float,
    resamples: int,
    seed: int,
) -> LeftOut:
    """Choose a parameter for each student on the others, by their mean rho.

    Of places that are equally good the first is taken. The best of a grid looks better than it is
    where it was chosen; on the student that had no part in the choice it does not.

    Args:
        grids: For each student f64[places, teachers], a metric at each place of the grid.
        outcomes: For each student f64[teachers]; the same teachers for all students.
        owners: Entries of one owner are one student, and have no part in each other's choice.
        level: Share of resamples inside the interval.
        resamples: How many.
        seed: Of the drawing.

    Raises:
        DataError: fewer than two students, or too few teachers.
    """
    own = _same_owner(owners if owners is not None else tuple(map(str, range(len(grids)))))
    teachers = outcomes[0].shape[-1]
    rhos = np.stack([spearman(grid, o) for grid, o in zip(grids, outcomes, strict=True)])
    chosen, values = _chosen_on_others(rhos[None], own)
    if np.isnan(values).any() or np.isnan(rhos[:, 0]).any():
        raise DataError(
            "A metric or an outcome is the same for all teachers of a student, so nothing can be "
            "ranked. Leave that student out."
        )
    drawn = resamples_of(teachers, "teachers", resamples=resamples, seed=seed).teachers
    table = _drawn_rhos(grids, outcomes, drawn)
    again = _chosen_on_others(table, own)[1]

    def interval(value: np.float64, draws: Floats) -> Interval:
        found = _interval(float(value), draws, level, teachers)
        assert found is not None, "what has an order has one in most resamples"
        return found

    gains = (values[0] - rhos[:, 0]).mean(), (again - table[..., 0]).mean(axis=1)
    return LeftOut(
        tuple(map(int, chosen[0])),
        tuple(interval(*pair) for pair in zip(values[0], again.T, strict=True)),
        interval(values[0].mean(), again.mean(axis=1)),
        interval(*gains),
    )


def _same_owner(owners: Sequence[str]) -> Floats:
    """f64[students, students]: 1 where two entries are one student.

    Raises:
        DataError: all are.
    """
    if (number := len(set(owners))) < 2:
        raise DataError(
            f"{number} student leaves none to choose on. Train two students or more on the same "
            f"teachers."
        )
    return np.array([[one == other for other in owners] for one in owners], dtype=np.float64)


def _drawn_rhos(
    grids: Sequence[Floats],
    outcomes: Sequence[Floats],
    drawn: np.ndarray[tuple[int, int], np.dtype[np.int64]],
) -> Floats:
    """f64[resamples, students, places]: rho over the drawn teachers."""
    tables = [
        np.stack([spearman(place[drawn], outcome[drawn]) for place in grid], axis=-1)
        for grid, outcome in zip(grids, outcomes, strict=True)
    ]
    return np.stack(tables, axis=1)


def _chosen_on_others(
    rhos: Floats, own: Floats
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.intp]], Floats]:
    """Of f64[draws, students, places]: place that the other students choose, and the rho there.

    `own` is f64[students, students]: 1 where two entries are one student.
    """
    known = np.nan_to_num(rhos, nan=-2.0)  # no order is worse than any
    others = known.sum(axis=1, keepdims=True) - own @ known
    chosen = others.round(12).argmax(axis=-1)
    return chosen, np.take_along_axis(rhos, chosen[..., None], axis=-1)[..., 0]
