"""Spearman's rank correlation, and what can be said of a published one."""

from __future__ import annotations

from math import atanh, sqrt, tanh
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from heed.core.errors import DataError
from heed.core.resample import Floats
from heed.core.types import Interval

FEWEST = 4
"""Teachers below which no interval is given: three have six orders, and resamples hold two."""


def ranks(values: ArrayLike) -> Floats:
    """Ranks from 1 along the last axis; equal values share the mean of theirs.

    Example:
        >>> ranks([10.0, 30.0, 20.0, 30.0]).tolist()
        [1.0, 3.5, 2.0, 3.5]
    """
    from scipy.stats import rankdata

    found: Floats = rankdata(np.asarray(values, dtype=np.float64), axis=-1)
    return found


def spearman(one: ArrayLike, two: ArrayLike) -> Floats:
    """Spearman's rho along the last axis: Pearson's correlation of the ranks.

    Where all values of a side are equal there is no order, and rho is NaN.

    Args:
        one: f64[..., teachers].
        two: The same teachers in the same order; shapes are broadcast.

    Raises:
        DataError: lengths that differ, or a number that is not finite.

    Source: Spearman 1904, https://doi.org/10.2307/1412159.

    Example:
        >>> spearman([1, 2, 3, 4], [[1, 2, 3, 4], [4, 3, 2, 1], [1, 3, 2, 4]]).tolist()
        [1.0, -1.0, 0.8]
    """
    sides = [np.asarray(side, dtype=np.float64) for side in (one, two)]
    if sides[0].shape[-1:] != sides[1].shape[-1:]:
        raise DataError(
            f"{sides[0].shape[-1:]} and {sides[1].shape[-1:]} values cannot be ranked against each "
            f"other. Give one of each for every teacher."
        )
    if not all(np.isfinite(side).all() for side in sides):
        raise DataError(
            "A value that is not a finite number has no rank. Leave that teacher out of both "
            "sides, and say so."
        )
    a, b = (_standardised(ranks(side)) for side in sides)
    found: Floats = np.round((a * b).sum(axis=-1), 12)  # 1.0, not 1.0000000000000002
    return found


def _standardised(ranked: Floats) -> Floats:
    centred = ranked - ranked.mean(axis=-1, keepdims=True)
    size = np.sqrt((centred**2).sum(axis=-1, keepdims=True))
    standardised: Floats = centred / np.where(size > 0, size, np.nan)
    return standardised


def lattice(teachers: int) -> Floats:
    """All values that rho can have over so many teachers without ties, from the lowest up.

    Without ties rho is 1 - 6 S / (n^3 - n), where S, the sum of squared differences of ranks, is
    an even number.

    Example:
        >>> lattice(3).tolist()
        [-1.0, -0.5, 0.0, 0.5, 1.0]
    """
    whole = teachers**3 - teachers
    return 1 - 6 * np.arange(whole // 3, -1, -2) / whole


def on_lattice(rho: float, teachers: int, digits: int) -> bool:
    """Whether a printed rho can come from so many teachers without ties.

    Args:
        rho: As printed.
        teachers: How many are said to have been ranked.
        digits: After the point; the last one may have been rounded either way at a half.

    Example:
        >>> on_lattice(0.8754, 19, 4), on_lattice(0.8754, 18, 4)
        (True, False)
    """
    nearest = float(np.abs(lattice(teachers) - rho).min())
    return nearest <= 0.5 * 10**-digits + 1e-12


def fisher_interval(rho: float, teachers: int, level: float) -> Interval:
    """An interval for a rho of which nothing but the number of teachers is known.

    Fisher's transformation with the variance (1 + rho^2 / 2) / (n - 3), for published values. It
    says nothing of the difference of two of them: both are of the same teachers, and how they hang
    together is not published.

    Args:
        rho: Published.
        teachers: How many were ranked.
        level: Nominal coverage.

    Raises:
        DataError: fewer than four teachers, or a rho outside (-1, 1).

    Source: Bonett & Wright 2000, https://doi.org/10.1007/BF02294183.

    Example:
        >>> found = fisher_interval(0.8888, 19, 0.95)
        >>> round(found.low, 2), round(found.high, 2)
        (0.68, 0.96)
    """
    if teachers < FEWEST or not -1 < rho < 1:
        raise DataError(
            f"A rho of {rho} over {teachers} teachers has no interval. Give at least {FEWEST} "
            f"teachers and a rho between -1 and 1."
        )
    z = NormalDist().inv_cdf((1 + level) / 2) * sqrt((1 + rho**2 / 2) / (teachers - 3))
    return Interval(rho, tanh(atanh(rho) - z), tanh(atanh(rho) + z), teachers)
