"""Two scorings item by item: how many items flip, and which of them change most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from heed.core.types import ItemScore

MOST = 20
"""Items with the largest change that a page shows."""

FOLLOWED = "inst_level_strict_acc"
"""The metric whose numerator is how many instructions of a prompt were followed."""


class Pair(NamedTuple):
    """The same item under two models, A and B."""

    first: ItemScore
    second: ItemScore


@dataclass(frozen=True)
class Flips:
    """How two models succeed on the same items, where an item is either right or wrong.

    Attributes:
        both: Items that both get right.
        lost: Right under A only.
        gained: Right under B only.
        neither: Wrong under both.
    """

    both: int
    lost: int
    gained: int
    neither: int


def pairs_of(first: Sequence[ItemScore], second: Sequence[ItemScore]) -> list[Pair]:
    """Each item under both models, in the order of the first; the items are the same."""
    found = {(score.task, score.key): score for score in second}
    return [Pair(score, found[score.task, score.key]) for score in first]


def natural(key: str) -> tuple[int, int, str]:
    """What to sort keys by: numbers as numbers and before all other text.

    Example:
        >>> sorted(["10", "9", "b", "1/2"], key=natural)
        ['9', '10', '1/2', 'b']
    """
    whole = key.isascii() and key.isdigit()
    return (0, int(key), key) if whole else (1, 0, key)


def flips_of(pairs: Sequence[Pair], metric: str) -> Flips | None:
    """The two-by-two table of a metric; None if an item is not simply right or wrong.

    Items that have nothing to say about the metric (0 of 0) are in no cell.

    Args:
        pairs: Items of one task.
        metric: One of its metrics.
    """
    ratios = [(pair.first.metrics[metric], pair.second.metrics[metric]) for pair in pairs]
    asked = [two for two in ratios if any(ratio.den for ratio in two)]
    if any(ratio.den != 1 or ratio.num not in (0, 1) for two in asked for ratio in two):
        return None
    told = [(bool(one.num), bool(two.num)) for one, two in asked]
    cells = ((True, True), (True, False), (False, True), (False, False))
    return Flips(*(told.count(cell) for cell in cells)) if told else None


def change_of(pair: Pair, metric: str) -> float:
    """How much more of a metric B has on one item: instructions followed, for `FOLLOWED`."""
    return pair.second.metrics[metric].num - pair.first.metrics[metric].num


def largest_changes(pairs: Sequence[Pair], metric: str, most: int = MOST) -> list[Pair]:
    """The items that change most, up or down; ties in the order of their keys.

    Args:
        pairs: Items of one task.
        metric: Whose numerators are compared.
        most: How many are given at most; items without a change are never among them.

    Example:
        >>> from heed.core.types import Ratio
        >>> def item(key, followed):
        ...     metrics = {"m": Ratio(followed, 3)}
        ...     return ItemScore("t", key, "Ask.", "Say.", None, 0, metrics)
        >>> pairs = [Pair(item(k, 1), item(k, n)) for k, n in [("10", 3), ("9", 3), ("8", 1)]]
        >>> [pair.first.key for pair in largest_changes(pairs, "m")]
        ['9', '10']
    """
    changed = [pair for pair in pairs if change_of(pair, metric)]
    ranked = sorted(changed, key=lambda p: (-abs(change_of(p, metric)), natural(p.first.key)))
    return ranked[:most]
