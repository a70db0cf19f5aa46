"""The best learning rate of a student: chosen on one half of the items, reported on the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heed.analysis.contrasts import Change
from heed.core.errors import DataError
from heed.core.resample import Floats, chunks, first_half
from heed.core.stats import compare_paired, seeds_interval
from heed.core.types import Interval

FEWEST = 3
"""Rates that a top is looked for between: the best one and a neighbour on either side."""

POINTS = 41
"""Points of the curve."""

Half = np.ndarray[Any, np.dtype[np.bool_]]
"""Which of the items, bool[items]."""

Places = np.ndarray[Any, np.dtype[np.intp]]
"""Indices of rates, i64[n]."""


@dataclass(frozen=True)
class Tried:
    """A learning rate of a student, with all seeds that were run at it.

    Attributes:
        name: Of its option.
        peak: Of the schedule.
        changes: One of each seed, all over the same items.
    """

    name: str
    peak: float
    changes: tuple[Change, ...]


def best_rate(
    tried: Sequence[Tried], keys: Sequence[str], bootstrap: Mapping[str, Any], *, less: bool = False
) -> dict[str, Any]:
    """Which of the rates is best, what it is worth, and the curve through all of them.

    The rate with the best mean delta over seeds on one half of the items is the chosen one; of two
    equal ones, the lower. What it is worth is said by the other half, which had no part in the
    choice: the best of several looks better than it is where it was chosen.

    The curve is a guess at where between the rates the top lies: the parabola in the logarithm of
    the rate through the mean deltas (of all items) of the best rate and its two neighbours. Rates
    further off have no part in it, for responses are flat over some rates and fall off a cliff
    after them. A neighbour on a cliff still pulls the guess away from it, so the interval is not
    the parabola's: it takes for granted only that responses rise to one top and fall after it,
    which then lies between the neighbours of the best rate. It comes from resampled items and
    seeds, each with a best rate of its own; of equal ones, from the first to the last.

    Args:
        tried: Rates of one student under one method and teacher.
        keys: Of the items.
        bootstrap: `level`, `resamples` and `seed`.
        less: Whether the metric is better when it falls.

    Returns:
        `peaks`, `names`, `means` (mean delta over seeds on all items), `chosen`, `reported`,
        `edge` (the chosen rate alone is the best, and the lowest or highest tried, so that a
        better one may lie beyond) and `fit`, whose `edges` say so of the top, and whose interval
        ends at the rates tried; where one of these is not known, None, and `reason`.
    """
    rates = sorted(tried, key=lambda one: one.peak)
    found: dict[str, Any] = {
        "peaks": [rate.peak for rate in rates],
        "names": [rate.name for rate in rates],
        "means": [float(np.mean([c.delta for c in rate.changes])) for rate in rates],
        "chosen": None,
        "reported": None,
        "edge": None,
        "fit": None,
    }
    if len(rates) < 2:
        return found | {"reason": "one rate was tried: there is nothing to choose from."}
    first, asked = first_half(keys), rates[0].changes[0].den > 0
    sizes = [int((asked & half).sum()) for half in (first, ~first)]
    if min(sizes) < 2:
        return found | {"reason": f"halves of {sizes[0]} and {sizes[1]} items are too small."}
    sign = -1 if less else 1
    return found | _chosen(rates, first, bootstrap, sign) | _fitted(rates, bootstrap, sign)


def _chosen(
    rates: Sequence[Tried], first: Half, bootstrap: Mapping[str, Any], sign: int
) -> dict[str, Any]:
    """`chosen`, `reported` and `edge`."""
    values = [_mean(rate, first) for rate in rates]
    place = max(range(len(rates)), key=lambda i: (sign * values[i], -i))
    best, alone = rates[place], values.count(values[place]) == 1
    other = _reported(best, ~first, bootstrap)
    said = {"peak": best.peak, "name": best.name, "delta": values[place]}
    said |= {"runs": [change.run for change in best.changes]}
    return {
        "chosen": said | {"items": int((best.changes[0].den[first] > 0).sum())},
        "reported": {
            "delta": other.value,
            "low": other.low,
            "high": other.high,
            "items": other.items,
        },
        "edge": {0: "lowest", len(rates) - 1: "highest"}.get(place) if alone else None,
    }


def _mean(rate: Tried, half: Half) -> float:
    """Mean delta over seeds on some of the items."""
    return float(np.mean([c.num[half].sum() / c.den[half].sum() for c in rate.changes]))


def _reported(rate: Tried, half: Half, bootstrap: Mapping[str, Any]) -> Interval:
    """The delta of a rate on some of the items, with its interval."""
    pairs = [
        ((np.zeros(half.sum()), c.den[half]), (c.num[half], c.den[half])) for c in rate.changes
    ]
    if len(pairs) == 1:
        return compare_paired(*pairs[0], **bootstrap).interval
    return seeds_interval(pairs, **bootstrap)


def _fitted(rates: Sequence[Tried], bootstrap: Mapping[str, Any], sign: int) -> dict[str, Any]:
    """`fit`, or the `reason` why there is none."""
    if len(rates) < FEWEST:
        return {"reason": f"a top between the rates is looked for among {FEWEST} or more."}
    x = np.log10([rate.peak for rate in rates])
    if (np.diff(x) == 0).any():
        return {"reason": "two options have one peak: no top is looked for between the rates."}
    means = sign * np.array([np.mean([c.delta for c in rate.changes]) for rate in rates])
    if np.ptp(means) == 0:
        return {"reason": "all rates do the same: none is the best."}
    first, last = _best(sign * _drawn(rates, bootstrap))
    tail = (1 - float(bootstrap["level"])) / 2
    low = np.quantile(np.maximum(first - 1, 0), tail, method="lower")
    high = np.quantile(np.minimum(last + 1, len(x) - 1), 1 - tail, method="higher")
    ends = {"lowest": float((first == 0).mean()), "highest": float((last == len(x) - 1).mean())}
    top, curve = _top(x, means)
    return {
        "fit": {
            "curve": [[float(10**rate), float(sign * delta)] for rate, delta in curve],
            "best": float(10**top),
            "low": rates[int(low)].peak,
            "high": rates[int(high)].peak,
            "outside": float(((first == 0) | (last == len(x) - 1)).mean()),
            "edges": [end for end, share in ends.items() if share > tail],
        }
    }


def _best(values: Floats) -> tuple[Places, Places]:
    """The first and the last of the best rates of each response.

    Args:
        values: f64[n, rates], each line a response in which more is better.
    """
    last = values.shape[1] - 1
    return values.argmax(axis=1), last - values[:, ::-1].argmax(axis=1)


def _top(x: Floats, values: Floats) -> tuple[float, list[tuple[float, float]]]:
    """The top of the parabola through the best rate and its neighbours, and points along it.

    Of equal rates the lower counts. At an end, the best rate is the top, and there is no curve.

    Args:
        x: f64[rates], logarithms of the rates, rising.
        values: f64[rates], in which more is better.
    """
    place = int(values.argmax())
    if place in (0, len(x) - 1):
        return float(x[place]), []
    near = slice(place - 1, place + 2)
    parabola = np.polynomial.Polynomial.fit(x[near], values[near], 2)
    grid = np.linspace(x[place - 1], x[place + 1], POINTS)
    points = [(float(rate), float(delta)) for rate, delta in zip(grid, parabola(grid), strict=True)]
    return float(parabola.deriv().roots()[0]), points


def _drawn(rates: Sequence[Tried], bootstrap: Mapping[str, Any]) -> Floats:
    """Mean deltas of the rates over resampled items and seeds, f64[resamples, rates].

    Raises:
        DataError: rates that were scored on other items.
    """
    dens = rates[0].changes[0].den
    if any(not np.array_equal(dens, c.den) for rate in rates for c in rate.changes):
        raise DataError(
            "Rates were scored on other items, so no curve goes through them. Score all with one "
            "suite."
        )
    generator = np.random.default_rng(int(bootstrap["seed"]))
    nums = [np.stack([c.num for c in rate.changes], axis=1) for rate in rates]
    drawn = []
    for size in chunks(int(bootstrap["resamples"]), len(dens)):
        items = generator.multinomial(len(dens), np.full(len(dens), 1 / len(dens)), size=size)
        asked = items @ dens
        columns = []
        for num in nums:
            seeds = num.shape[1]
            weights = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=size) / seeds
            columns.append(((items @ num) * weights).sum(axis=1) / asked)
        drawn.append(np.stack(columns, axis=1))
    return np.concatenate(drawn)
