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

FEWEST = 4
"""Rates that a parabola in the logarithm of the rate is fitted to: it has three numbers of its own,
and goes through any three points."""

POINTS = 41
"""Points of a fitted curve."""

Half = np.ndarray[Any, np.dtype[np.bool_]]
"""Which of the items, bool[items]."""


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
    choice: the best of several looks better than it is where it was chosen. The curve is a parabola
    in the logarithm of the rate, by least squares over the mean deltas of all items; its interval
    comes from resampled items and seeds.

    Args:
        tried: Rates of one student under one method and teacher.
        keys: Of the items.
        bootstrap: `level`, `resamples` and `seed`.
        less: Whether the metric is better when it falls.

    Returns:
        `peaks`, `names`, `means` (mean delta over seeds on all items), `chosen`, `reported`,
        `edge` (the chosen rate is the lowest or highest tried, so that a better one may lie
        beyond) and `fit`, whose own `edge` says so of the curve's best rate, and whose interval
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
    best = rates[place]
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
        "edge": {0: "lowest", len(rates) - 1: "highest"}.get(place),
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
        return {
            "reason": f"a curve is fitted to {FEWEST} rates or more: through {len(rates)} it would "
            f"pass whatever they are."
        }
    x = np.log10([rate.peak for rate in rates])
    middle = float((x[0] + x[-1]) / 2)
    inverse = np.linalg.pinv(np.vander(x - middle, 3))  # f64[3, rates]
    means = np.array([np.mean([c.delta for c in rate.changes]) for rate in rates])
    grid = np.linspace(x[0], x[-1], POINTS)
    curve = np.polyval(inverse @ means, grid - middle)
    draws = _drawn(rates, bootstrap) @ inverse.T  # f64[resamples, 3]
    bests, beyond = _tops(draws, (x - middle)[[0, -1]], sign)
    best, _ = _tops((inverse @ means)[None], (x - middle)[[0, -1]], sign)
    tail = (1 - float(bootstrap["level"])) / 2
    low, high = np.quantile(bests, [tail, 1 - tail])
    at_edges = {
        "lowest": float((bests <= x[0] - middle).mean()),
        "highest": float((bests >= x[-1] - middle).mean()),
    }
    edge = max(at_edges, key=lambda end: at_edges[end])
    return {
        "fit": {
            "curve": [[float(10**a), float(b)] for a, b in zip(grid, curve, strict=True)],
            "best": float(10 ** (best[0] + middle)),
            "low": float(10 ** (low + middle)),
            "high": float(10 ** (high + middle)),
            "outside": float(beyond.mean()),
            "edge": edge if at_edges[edge] > tail else None,
        }
    }


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


def _tops(parabolas: Floats, limits: Floats, sign: int) -> tuple[Floats, Half]:
    """Where parabolas are best within limits, and whether that is at one of the limits.

    Args:
        parabolas: f64[n, 3], coefficients from the square down.
        limits: The lowest and the highest rate.
        sign: 1 if more is better, -1 if less is.
    """
    square, slope = sign * parabolas[:, 0], sign * parabolas[:, 1]
    low, high = limits
    at_edges = np.where(square * (high**2 - low**2) + slope * (high - low) > 0, high, low)
    with np.errstate(divide="ignore", invalid="ignore"):
        top = -slope / (2 * square)
    inside = (square < 0) & (top > low) & (top < high)
    return np.where(inside, top, at_edges), ~inside
