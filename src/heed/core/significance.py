"""Exact tests of before against after: could a difference like this come from chance alone?"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np

from heed.core.errors import DataError
from heed.core.resample import Floats, chunks, influence, standard_error, with_two_more

WEIGHED = 20_000
"""Things that changed, in all: up to so many, every way to swap items is weighed."""


def mcnemar(better: int, worse: int) -> float:
    """Exact two-sided p value of McNemar's test: are gains and losses equally likely?

    Only the items that changed say anything; without any, the p value is 1.

    Args:
        better: Items that were wrong before and are right after.
        worse: Items that were right before and are wrong after.

    Source: McNemar 1947, https://doi.org/10.1007/BF02295996 (here with exact binomial tails).

    Example:
        >>> mcnemar(4, 0), mcnemar(6, 0), mcnemar(0, 0)
        (0.125, 0.03125, 1.0)
    """
    from scipy.stats import binomtest

    changed = better + worse
    return float(binomtest(better, changed, 0.5).pvalue) if changed else 1.0


def exchange_p(table: Floats, resamples: int, seed: int) -> float:
    """Two-sided p value of the exchange test: how odd is the difference among random swaps?

    If the two models did not differ, before and after of an item could be swapped. The p value is
    the share of all ways to swap items in which the two differ by at least as much. Where both
    sides count whole things over the same denominators, it is exact; where every item is right or
    wrong, it is McNemar's. Otherwise, and where more than `WEIGHED` things changed, swaps are
    drawn, and it is (1 + swaps that differ as much) / (1 + resamples), but no less than any exact
    one of so many items that changed can be: 2 / 2^items.

    Args:
        table: f64[4, items]: numerators and denominators before, and after.
        resamples: Number of random swaps, where not all are weighed.
        seed: Of the swaps.

    Returns:
        From 0, not included, to 1.

    Source: Fisher 1935, The Design of Experiments, section 21.

    Example:
        >>> ones, gained = np.ones(9), np.repeat([1.0, 0.0], [4, 5])
        >>> exchange_p(np.stack([0 * ones, ones, gained, ones]), 1000, 0)  # as mcnemar(4, 0)
        0.125
    """
    change = table[2] - table[0]
    weighed = np.abs(change).sum() <= WEIGHED and counted(table)
    if weighed and (table[1] == table[3]).all():
        return _all_swaps(change.astype(np.int64))
    return _random_swaps(table, resamples, seed)


def counted(table: Floats) -> bool:
    """Whether all numerators are whole numbers: things counted, not amounts measured."""
    return bool((table[::2] == np.floor(table[::2])).all())


def spread_over_items(seeds: Sequence[Floats]) -> float:
    """Standard error over items of the mean difference of several seeds.

    Where things are counted it is no less than if nothing had changed but two more items, one that
    gained and one that lost: of few items it is not sure that nothing changes.

    Args:
        seeds: A table of four columns each, all over the same items.
    """
    own = standard_error(np.mean([influence(table) for table in seeds], axis=0))
    if not all(map(counted, seeds)):
        return own
    unchanged = with_two_more(seeds[0][[0, 1, 0, 1]])
    return max(own, standard_error(influence(unchanged)))


def two_proportions_z(before: int, after: int, n: int) -> float:
    """The z value of two counts out of n each, taken for independent and not paired.

    What can be said of published counts whose items are unknown; where items are known, pair them.

    Args:
        before: Things that were right before, of n.
        after: Things that were right after, of n.
        n: Things asked, of each model.

    Raises:
        DataError: a count that is none of n, or counts without any spread.

    Example:
        >>> round(two_proportions_z(171, 123, 834), 1)
        -3.1
    """
    shares = [before / n, after / n] if n > 0 else []
    if not all(0 <= share <= 1 for share in shares) or not 0 < sum(shares) < 2:
        raise DataError(
            f"{before} and {after} of {n} have no z value. Give counts from 0 to n, of which not "
            f"all are 0 and not all are n."
        )
    return (shares[1] - shares[0]) / sqrt(sum(share * (1 - share) for share in shares) / n)


def _all_swaps(change: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
    """P(|sum of +-change| >= |sum of change|) over all signs, by adding one size after another."""
    from scipy.stats import binom

    sizes, counts = np.unique(np.abs(change[change != 0]), return_counts=True)
    weights = np.ones(1)  # of the sum of the swapped items' changes: 0, 1, 2, ...
    for size, count in zip(sizes, counts, strict=True):
        spread = np.zeros(int(size * count) + 1)
        spread[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
        weights = np.convolve(weights, spread)
    whole = np.abs(change).sum()
    sums = np.abs(2 * np.arange(len(weights)) - whole)
    found = weights[sums >= abs(change.sum())].sum()
    return float(np.clip(found, np.finfo(float).tiny, 1.0))


def _random_swaps(table: Floats, resamples: int, seed: int) -> float:
    """The share of random swaps that differ by as much, itself counted as one of them."""
    kinds, counts = np.unique(table, axis=1, return_counts=True)
    sums = table.sum(axis=1)
    found = abs(sums[2] / sums[3] - sums[0] / sums[1])
    generator = np.random.default_rng([seed, 1])  # apart from the bootstrap's numbers
    extreme = 0
    for size in chunks(resamples, len(counts)):
        swapped = generator.binomial(counts, 0.5, size=(size, len(counts))).astype(np.float64)
        num, den = (swapped @ (kinds[i + 2] - kinds[i]) for i in (0, 1))
        gap = (sums[2] - num) / (sums[3] - den) - (sums[0] + num) / (sums[1] + den)
        extreme += int((np.abs(gap) >= found * (1 - 1e-9)).sum())
    changed = counts[(kinds[:2] != kinds[2:]).any(axis=0)].sum()
    return max((1 + extreme) / (1 + resamples), min(1.0, 2.0 ** (1 - int(changed))))
