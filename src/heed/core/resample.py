"""Scores as columns of numerators and denominators: their sums, resampled, and their spread."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heed.core.errors import DataError

COUNTS_AT_ONCE = 4_000_000
"""Resampling counts held in memory at a time (8 bytes each, twice)."""

Floats = NDArray[np.float64]


def first_half(keys: Sequence[str]) -> NDArray[np.bool_]:
    """Which items belong to the first half: by a hash of the key, in every study alike.

    What is chosen on one half is reported on the other.

    Example:
        >>> first_half(["1000", "1001", "1005", "1012"]).tolist()
        [True, True, False, True]
    """
    halves = [hashlib.sha256(key.encode()).digest()[0] % 2 for key in keys]
    return np.array([half == 0 for half in halves], dtype=np.bool_)


def columns(*given: ArrayLike) -> Floats:
    """Stack num, den, num, den, ... into f64[columns, items] after checking them.

    Raises:
        DataError: lengths that differ, or a number that is not finite.
    """
    arrays = [np.asarray(column, dtype=np.float64) for column in given]
    lengths = [array.shape for array in arrays]
    if len(set(lengths)) > 1 or arrays[0].ndim != 1:
        raise DataError(
            f"Numerators and denominators have shapes {lengths}, so items cannot be matched. Score "
            f"both models on one list of items."
        )
    table = np.stack(arrays)
    if not np.isfinite(table).all():
        broken = int((~np.isfinite(table)).any(axis=0).sum())
        raise DataError(
            f"{broken} of {table.shape[1]} items have a score that is not a finite number, so "
            f"there is no mean. Leave out no item: find why the model gave it."
        )
    return table


def informative(table: Floats) -> Floats:
    """Keep items that have a denominator (in every pair of columns), in an order of their own.

    Raises:
        DataError: a negative denominator, a numerator over nothing, an item with a denominator in
            some pairs only, or fewer than two items left.
    """
    nums, dens = table[::2], table[1::2]
    if (dens < 0).any() or ((dens == 0) & (nums != 0)).any():
        raise DataError(
            "An item has a negative denominator, or a numerator over nothing, so the ratio of sums "
            "means nothing. Count what was asked, not what was answered."
        )
    asked = dens > 0
    if (asked.any(axis=0) != asked.all(axis=0)).any():
        raise DataError(
            "An item has a denominator on one side of the comparison only, so it is not the same "
            "item. Score both models on one list of items."
        )
    kept: Floats = table[:, asked.all(axis=0)]
    if kept.shape[1] < 2:
        raise DataError(
            f"Only {kept.shape[1]} of {table.shape[1]} items have something to score, and an "
            f"interval needs at least two. Give the task more items."
        )
    return kept[:, np.lexsort(kept)]  # sums in one order, so that the order of items cannot matter


def resampled_sums(table: Floats, resamples: int, seed: int) -> list[list[Floats]]:
    """Sums of each column over bootstrap resamples of the items, in chunks.

    Equal items are drawn together, by how often their kind is drawn: the same distribution as
    drawing indices, with one count per kind instead of one per item.

    Returns:
        Chunks; each holds one array f64[resamples of the chunk] per column.
    """
    kinds, counts = np.unique(table, axis=1, return_counts=True)
    columns = [np.ascontiguousarray(column) for column in kinds]
    items = int(counts.sum())
    generator = np.random.default_rng(seed)
    sums = []
    for size in chunks(resamples, len(counts)):
        drawn = generator.multinomial(items, counts / items, size=size).astype(np.float64)
        sums.append([drawn @ column for column in columns])
    return sums


def chunks(resamples: int, kinds: int) -> list[int]:
    """How many resamples to hold in memory at a time.

    Example:
        >>> chunks(10, COUNTS_AT_ONCE // 4)
        [4, 4, 2]
    """
    most = max(1, COUNTS_AT_ONCE // kinds)
    return [min(most, resamples - start) for start in range(0, resamples, most)]


def ends(draws: Floats, level: float) -> tuple[float, float]:
    """The ends of the percentile interval of such a level."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def tail_p(draws: Floats) -> float:
    """Twice the smaller tail beyond zero, as a p value; never 0, because resamples are few."""
    tail = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    return min(1.0, 2 * (1 + tail) / (1 + len(draws)))


def percentiles(
    draws: Floats, level: float, amounts: int | None = None
) -> tuple[float, float, float]:
    """The p value and the ends of the percentile interval.

    Of few amounts such an interval is too narrow: by what Student's t is wider than the normal,
    and by n - 1 for n. For 10 amounts, 0.95 would be 0.90. Their percentiles are taken further out
    by just that, and the p value agrees with them.

    Args:
        draws: Resampled differences.
        level: Nominal coverage.
        amounts: Number of items, if they are amounts; None if things are counted.

    Source: Hesterberg 2015, https://doi.org/10.1080/00031305.2015.1089789 (expanded percentile
    interval).

    Example:
        >>> draws = np.arange(-99, 1901) / 1000  # a tail of 5 %
        >>> [round(percentiles(draws, 0.95, n)[0], 2) for n in (None, 1000, 10)]
        [0.1, 0.1, 0.15]
    """
    p = tail_p(draws)
    if amounts is None:
        return (p, *ends(draws, level))
    from scipy.stats import norm, t

    free, wider = amounts - 1, sqrt(amounts / (amounts - 1))
    wide = float(1 - 2 * norm.cdf(wider * t.ppf((1 - level) / 2, free)))
    return (float(2 * t.cdf(norm.ppf(p / 2) / wider, free)), *ends(draws, wide))


def with_two_more(table: Floats) -> Floats:
    """The table and two more items of average size, which gain and lose one thing."""
    dens = table[1::2].mean(axis=1)
    share = table[::2].sum() / table[1::2].sum()
    more = [[share * dens[0], dens[0], share * dens[1] + one, dens[1]] for one in (1, -1)]
    return np.column_stack([table, np.transpose(more)])


def difference(table: Floats) -> float:
    """After minus before: ratio of the sums of the last two columns minus that of the first two."""
    before, before_den, after, after_den = (float(column.sum()) for column in table)
    return after / after_den - before / before_den


def influence(table: Floats) -> Floats:
    """How much each item moves `difference`, times the number of items; the sum is zero.

    Source: the linearised ratio, Cochran 1977, Sampling Techniques, section 6.5.
    """
    parts = [
        (num - num.sum() / den.sum() * den) / den.mean() for num, den in (table[:2], table[2:])
    ]
    return parts[1] - parts[0]


def standard_error(influences: Floats) -> float:
    """Standard error of a difference over items, from what each item moves."""
    return float(influences.std(ddof=1)) / sqrt(len(influences))
