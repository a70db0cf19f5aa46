"""The smallest effect that data can show: before training from plans, after it from the scores."""

from __future__ import annotations

from math import floor, log2, sqrt
from statistics import NormalDist

from heed.core.errors import DataError

POWER = 0.8
"""How often an effect of the stated size is to be found, by custom."""


def detectable(standard_error: float, level: float) -> float:
    """Minimum detectable effect: the true delta that is found in 80 of 100 repetitions.

    (z of the level + z of the power) times the standard error of the delta: 2.80 standard errors at
    level 0.95. A smaller effect may be there and is likely to be missed.

    Args:
        standard_error: Of the paired delta, in the unit of the metric.
        level: Of the interval that must leave zero out, two-sided.

    Source: Cohen 1988, Statistical Power Analysis, chapter 2; Miller 2024,
    https://arxiv.org/abs/2411.00640, section 5.

    Example:
        >>> round(detectable(1.0, 0.95), 2)
        2.8
    """
    normal = NormalDist()
    return (normal.inv_cdf((1 + level) / 2) + normal.inv_cdf(POWER)) * standard_error


def detectable_flips(discordance: float, n: int, level: float) -> float:
    """Minimum detectable effect where every item is right or wrong: 2.80 sqrt(discordance / n).

    The spread is the one of no effect, so that the formula needs no more than the share of items
    that change. It is what 2.80 standard errors are where as many items get better as get worse.

    Args:
        discordance: Share of items that are right on one side only.
        n: Number of items.
        level: Of the interval, two-sided.

    Raises:
        DataError: no items, or a share that is none.

    Source: Connor 1987, https://doi.org/10.2307/2531961 (normal approximation).

    Example:
        >>> [round(100 * detectable_flips(share, 541, 0.95), 1) for share in (0.1, 0.2, 0.3)]
        [3.8, 5.4, 6.6]
    """
    if n < 1 or not 0 <= discordance <= 1:
        raise DataError(
            f"A share of {discordance} of {n} items that change has no detectable effect. Give a "
            f"share from 0 to 1 of at least one item."
        )
    return detectable(sqrt(discordance / n), level)


def fewest_flips(level: float) -> int:
    """Fewest items that must change, all one way, before the exact test calls it an effect.

    Example:
        >>> fewest_flips(0.95)  # five heads in a row, or five tails: 0.0625; six: 0.031
        6
    """
    return floor(log2(2 / (1 - level))) + 1


def least_detectable(n: int, level: float) -> float:
    """The smallest share of items that, changing all one way, is called an effect in 80 of 100.

    Below it no effect is detectable, however few items change the other way: the exact test asks
    for `fewest_flips`, and their number varies. Where n is smaller than that, nothing is
    detectable, and the share is above 1.

    Args:
        n: Number of items.
        level: Of the interval, two-sided.

    Source: Clopper & Pearson 1934, https://doi.org/10.1093/biomet/26.4.404 (the binomial tail as a
    beta quantile).

    Example:
        >>> round(541 * least_detectable(541, 0.95), 1)  # six on average are too few half the time
        7.9
    """
    from scipy.stats import beta

    fewest = fewest_flips(level)
    return float(beta.ppf(POWER, fewest, n - fewest + 1)) if n >= fewest else fewest / n
