"""How sure a number is: intervals over items and over seeds, and the verdict that they allow.

Everywhere a metric is a ratio of sums over items, sum(num) / sum(den): instructions followed over
instructions asked, bits over bytes. Items are resampled as wholes, so that instructions of one
prompt, or tokens of one text, are never taken for independent. How the verdict comes about, and how
often the intervals hold the truth, is in docs/verdict.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from heed.core.errors import DataError
from heed.core.power import detectable, detectable_flips, least_detectable
from heed.core.resample import (
    Floats,
    columns,
    difference,
    ends,
    influence,
    informative,
    percentiles,
    resampled_sums,
    standard_error,
    with_two_more,
)
from heed.core.significance import counted, exchange_p, mcnemar, spread_over_items
from heed.core.types import Interval, Verdict

Scores = tuple[ArrayLike, ArrayLike]
"""Numerators and denominators, one of each per item."""


@dataclass(frozen=True)
class Paired:
    """What the same items say about two models.

    Attributes:
        interval: After minus before, and where it may lie.
        p: Two-sided p value, above 0; below 1 - level exactly where the interval leaves zero out.
        mde: Minimum detectable effect, in the unit of the metric.
        flips: Items that gained and that lost, where every item is 0 or 1; None otherwise.
        mcnemar: Exact p value of these flips; None otherwise.
    """

    interval: Interval
    p: float
    mde: float
    flips: tuple[int, int] | None
    mcnemar: float | None


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
    table = informative(columns(num, den))
    draws = np.concatenate([n / d for n, d in resampled_sums(table, resamples, seed)])
    low, high = ends(draws, level)
    return Interval(float(table[0].sum() / table[1].sum()), low, high, table.shape[1])


def paired_delta(
    before: Scores, after: Scores, *, level: float, resamples: int, seed: int
) -> Interval:
    """After minus before over the same items: the interval of `compare_paired`, alone.

    Example:
        >>> before, after = ([0] * 50, [1] * 50), ([1] * 20 + [0] * 30, [1] * 50)
        >>> found = paired_delta(before, after, level=0.95, resamples=2000, seed=0)
        >>> found.value, 0.2 < found.low, found.high < 0.6
        (0.4, True, True)
    """
    return compare_paired(before, after, level=level, resamples=resamples, seed=seed).interval


def compare_paired(
    before: Scores, after: Scores, *, level: float, resamples: int, seed: int
) -> Paired:
    """After minus before over the same items, and how sure the difference is.

    Each resample draws items, and takes the difference of the two ratios over the items drawn: the
    spread between easy and hard items, which both models share, cancels. Two guards keep few items
    that change from looking sure. Where things are counted, two more items of average size are
    drawn from, one that gained one thing and one that lost one; of few amounts, the percentiles are
    taken further out, as Student's t asks. And where before and after swapped item by item at
    random differ as much in more than 1 - level of all swaps, the interval is drawn out to zero.
    The p value is the larger one of the bootstrap and of the swaps.

    Args:
        before: Numerators and denominators, one per item.
        after: The same of the second model, items in the same order.
        level: Share of resamples inside the interval.
        resamples: Number of bootstrap resamples.
        seed: Of the resampling.

    Raises:
        DataError: as `interval`, or if an item has a denominator on one side only.

    Source: Efron & Tibshirani 1993, chapter 13 (percentile interval); Bonett & Price 2012,
    https://doi.org/10.3102/1076998611411915 (one more gain and loss); for the swaps `exchange_p`.

    Example:
        >>> wrong, ones = [0] * 500, [1] * 500
        >>> few = compare_paired(
        ...     (wrong, ones), ([1] * 4 + [0] * 496, ones), level=0.95, resamples=2000, seed=0
        ... )
        >>> few.flips, few.mcnemar, few.p >= 0.125, few.interval.low <= 0
        ((4, 0), 0.125, True, True)
    """
    table = informative(columns(*before, *after))
    value = difference(table)
    seen = with_two_more(table) if counted(table) else table
    draws = np.concatenate(
        [an / ad - bn / bd for bn, bd, an, ad in resampled_sums(seen, resamples, seed)]
    )
    flips = _flips(table)
    exact = None if flips is None else mcnemar(*flips)
    swapped = exchange_p(table, resamples, seed) if exact is None else exact
    n = table.shape[1]
    p, low, high = percentiles(draws, level, None if counted(table) else n)
    p = max(p, swapped)
    interval = _guarded(Interval(value, low, high, n), p, level)
    return Paired(interval, p, _detectable(table, flips, level), flips, exact)


def seeds_interval(
    seeds: Sequence[tuple[Scores, Scores]], *, level: float, resamples: int, seed: int
) -> Interval:
    """After minus before, on average over training seeds and prompts: a t interval.

    The estimand is not that of a single seed. `compare_paired` says how *this trained student*
    would do on other prompts of the kind; here, what to expect of *another student trained alike*,
    of which each seed is a draw. Two half widths are joined as a root of squares: t, with one
    degree of freedom less than seeds, times the standard error over the seeds' deltas; and z times
    that of their mean over prompts. What is random in each answer counts in both, so that the
    interval is rather too wide. With two seeds t is 12.7, and the interval as wide as that little
    knowledge is. It is drawn out to zero as in `compare_paired`.

    Args:
        seeds: Before and after of each training seed, all over the same items in one order.
        level: Nominal coverage.
        resamples: Number of random swaps, where things are not counted.
        seed: Of the swaps.

    Raises:
        DataError: fewer than two seeds, or as `compare_paired`.

    Example:
        >>> before = ([0, 1] * 50, [1] * 100)
        >>> after = [([0, 1, 1, 1] * 25, [1] * 100), ([1, 1, 0, 1] * 25, [1] * 100)]
        >>> found = seeds_interval(
        ...     [(before, one) for one in after], level=0.95, resamples=1000, seed=0
        ... )
        >>> found.value, round(found.low, 2)
        (0.25, 0.2)
    """
    if len(seeds) < 2:
        raise DataError(
            f"{len(seeds)} seed says nothing of the spread between seeds. Give the scores of two "
            f"or more, or speak of this one trained student: compare_paired."
        )
    from scipy.stats import t

    table = informative(columns(*(column for pair in seeds for side in pair for column in side)))
    parts = [table[i : i + 4] for i in range(0, len(table), 4)]
    deltas = np.array([difference(part) for part in parts])
    spread = float(deltas.std(ddof=1)) / sqrt(len(seeds))
    prompts = spread_over_items(parts)
    middle = (1 + level) / 2
    half = np.hypot(t.ppf(middle, len(seeds) - 1) * spread, NormalDist().inv_cdf(middle) * prompts)
    value = float(deltas.mean())
    found = Interval(value, value - float(half), value + float(half), table.shape[1])
    return _guarded(found, exchange_p(np.sum(parts, axis=0), resamples, seed), level)


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

    The rule: A run is judged by the delta of its suite's primary metric alone, after minus before
    on the same items, with its interval at the stated level. *helped*: the whole interval lies on
    the better side of zero. *hurt*: the whole interval lies on the worse side. *unchanged*: the
    interval holds zero and lies, as a whole, within the margin that was stated before the run.
    *cannot tell*: anything else; a change larger than the margin fits the data as well as none. The
    interval leaves zero out only where the paired bootstrap and the exchange test (McNemar's exact
    test, where items are right or wrong) both do, so that at level 0.95 neither helped nor hurt
    ever rests on fewer than six items that changed. Whether answers are degenerate is a flag beside
    the verdict and does not change it.

    For a metric of which less is better, give the interval of before minus after. A change may be
    sure and smaller than the margin; it is then still called by its sign, and the table shows its
    size.

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
    return "unchanged" if equivalent(low, high, margin) else "cannot tell"


def equivalent(low: float, high: float, margin: float) -> bool:
    """Whether the whole interval lies within the margin: a larger change is excluded.

    The same interval as everywhere, of level 0.95 say; two one-sided tests at 5 % would ask this of
    the 90 % interval only, so that *unchanged* here is the harder claim.

    Source: Schuirmann 1987, https://doi.org/10.1007/BF01068419.

    Example:
        >>> equivalent(-0.01, 0.02, 0.02), equivalent(-0.01, 0.03, 0.02)
        (True, False)
    """
    return -margin <= low and high <= margin


def holm(ps: Sequence[float]) -> list[float]:
    """P values adjusted for their number, in their order: each may be held against the level alone.

    With them, the chance that *any* of the tests finds an effect where there is none is at most
    1 - level, however the tests hang together.

    Args:
        ps: P values of all tests that were made, not only of those that looked well.

    Raises:
        DataError: a number that is no p value.

    Source: Holm 1979, https://www.jstor.org/stable/4615733.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    if not all(0 <= p <= 1 for p in ps):
        raise DataError(f"{list(ps)} are not all p values. Give numbers from 0 to 1.")
    adjusted, largest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = largest
    return adjusted


def _flips(table: Floats) -> tuple[int, int] | None:
    """Items that gained and lost, if every item is 0 or 1."""
    if not ((table[1::2] == 1).all() and np.isin(table[::2], (0, 1)).all()):
        return None
    change = table[2] - table[0]
    return int((change > 0).sum()), int((change < 0).sum())


def _detectable(table: Floats, flips: tuple[int, int] | None, level: float) -> float:
    """The smallest effect that such items show; of counted things, no less than the exact test."""
    n = table.shape[1]
    if flips is None:
        found = detectable(standard_error(influence(table)), level)
    else:
        found = detectable_flips(sum(flips) / n, n, level)
    if not counted(table):
        return found
    return max(found, least_detectable(n, level) * n / float(table[3].sum()))


def _guarded(found: Interval, p: float, level: float) -> Interval:
    """The interval with its value inside, and zero too unless the p value excludes it."""
    inside = [found.value] if p < 1 - level else [found.value, 0.0]
    low, high = min(found.low, *inside), max(found.high, *inside)
    return Interval(found.value, low, high, found.items)
