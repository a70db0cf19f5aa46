"""How sure a number is: bootstrap intervals over items, and the verdict that they allow.

Everywhere a metric is a ratio of sums over items, sum(num) / sum(den): instructions followed over
instructions asked, bits over bytes. Items are resampled as wholes, so that instructions of one
prompt, or tokens of one text, are never taken for independent.
"""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heed.core.errors import DataError
from heed.core.types import Interval, Verdict

COUNTS_AT_ONCE = 4_000_000
"""Resampling counts held in memory at a time (8 bytes each, twice)."""

Floats = NDArray[np.float64]


def interval(
    num: ArrayLike, den: ArrayLike, *, level: float, resamples: int, seed: int
) -> Interval:
    """The ratio sum(num) / sum(den) with its percentile bootstrap interval over items.

    Items with num = den = 0 have nothing to say about the metric and are left out, also of the
    count. Neither the order of the items nor anything but the seed decides the result. Where all
    resamples agree (every item right, say) the interval has no width.

    Args:
        num: Numerators, one per item.
        den: Denominators, one per item, in the same order; none negative.
        level: Share of resamples inside the interval, 0.95 say.
        resamples: Number of bootstrap resamples.
        seed: Of the resampling.

    Raises:
        DataError: fewer than two items with a denominator, lengths that differ, a negative
            denominator, a numerator over nothing, or a number that is not finite.

    Source: Efron & Tibshirani 1993, chapter 13 (percentile interval).

    Example:
        >>> i = interval([1, 0, 2], [1, 1, 2], level=0.95, resamples=2000, seed=0)
        >>> i.value, i.items
        (0.75, 3)
        >>> i.low <= i.value <= i.high
        True
    """
    table = _informative(_columns(num, den))
    draws = np.concatenate([n / d for n, d in _resampled_sums(table, resamples, seed)])
    return _summary(float(table[0].sum() / table[1].sum()), draws, level, table.shape[1])


def paired_delta(
    before: tuple[ArrayLike, ArrayLike],
    after: tuple[ArrayLike, ArrayLike],
    *,
    level: float,
    resamples: int,
    seed: int,
) -> Interval:
    """After minus before over the same items, with a paired percentile bootstrap interval.

    Each resample draws items, and takes the difference of the two ratios over the items drawn: the
    spread between easy and hard items, which both models share, cancels.

    Args:
        before: Numerators and denominators, one per item.
        after: The same of the second model, items in the same order.
        level: Share of resamples inside the interval.
        resamples: Number of bootstrap resamples.
        seed: Of the resampling.

    Returns:
        The difference and its interval, in the unit of the metric.

    Raises:
        DataError: as `interval`, or if an item has a denominator on one side only.

    Source: Efron & Tibshirani 1993, chapter 13 (percentile interval).

    Example:
        >>> same = ([1, 0, 1], [1, 1, 1])
        >>> paired_delta(same, same, level=0.95, resamples=2000, seed=0)
        Interval(value=0.0, low=0.0, high=0.0, items=3)
    """
    table = _informative(_columns(*before, *after))
    values = [float(table[i].sum() / table[i + 1].sum()) for i in (0, 2)]
    draws = np.concatenate(
        [an / ad - bn / bd for bn, bd, an, ad in _resampled_sums(table, resamples, seed)]
    )
    return _summary(values[1] - values[0], draws, level, table.shape[1])


def share_interval(share: float, n: int, level: float) -> Interval:
    """A share of n independent things with its Wilson score interval, for parts of few items.

    The interval stays within [0, 1] and has a width at shares of 0 and 1 too, where resampling
    finds none. Where several instructions of one prompt are counted, n is the number of prompts:
    instructions of one prompt are not independent.

    Args:
        share: From 0 to 1; also of a finer count than n (3 of 4 instructions of 2 prompts).
        n: Number of independent items, at least 1.
        level: Nominal coverage, 0.95 say.

    Raises:
        DataError: no items, or a share that is none.

    Source: Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953.

    Example:
        >>> found = share_interval(1.0, 10, 0.95)
        >>> round(found.low, 3), found.high
        (0.722, 1.0)
    """
    if n < 1 or not 0 <= share <= 1:
        raise DataError(
            f"A share of {share} of {n} items has no interval. Count what was followed over what "
            f"was asked, of at least one item."
        )
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))
    return Interval(value=share, low=low, high=high, items=n)


def verdict_of(low: float, high: float, margin: float) -> Verdict:
    """The verdict that the paired interval [low, high] of a delta allows.

    The rule: *helped* if the whole interval lies above zero; *hurt* if the whole interval lies
    below zero; otherwise *unchanged* if the whole interval lies within the margin stated before the
    run, from -margin to +margin; otherwise *cannot tell*: the data would fit a change larger than
    the margin as well as none. An interval that touches zero does not exclude it. For a metric of
    which less is better, give the interval of before minus after. A change may be sure and smaller
    than the margin; it is then still called by its sign, and the table shows its size.

    Args:
        low: Lower end of the interval of after - before.
        high: Upper end.
        margin: Largest change that counts as none, in the unit of the metric; not negative.

    Raises:
        DataError: the ends are not finite or out of order, or the margin is negative.

    Example:
        >>> [verdict_of(*ends, 0.02) for ends in [(0.01, 0.1), (-0.01, 0.01), (-0.1, 0.1)]]
        ['helped', 'unchanged', 'cannot tell']
    """
    if not (np.isfinite([low, high]).all() and low <= high and margin >= 0):
        raise DataError(
            f"No verdict follows from the interval [{low}, {high}] with margin {margin}. Give "
            f"finite ends in order and a margin of at least 0."
        )
    if low > 0:
        return "helped"
    if high < 0:
        return "hurt"
    return "unchanged" if -margin <= low and high <= margin else "cannot tell"


def _columns(*columns: ArrayLike) -> Floats:
    """Stack num, den, num, den, ... into f64[columns, items] after checking them."""
    arrays = [np.asarray(column, dtype=np.float64) for column in columns]
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


def _informative(table: Floats) -> Floats:
    """Keep items that have a denominator (on both sides)."""
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


def _resampled_sums(table: Floats, resamples: int, seed: int) -> list[list[Floats]]:
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
    chunk = max(1, COUNTS_AT_ONCE // len(counts))
    sums = []
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = generator.multinomial(items, counts / items, size=size).astype(np.float64)
        sums.append([drawn @ column for column in columns])
    return sums


def _summary(value: float, draws: Floats, level: float, items: int) -> Interval:
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(value=value, low=float(low), high=float(high), items=items)
