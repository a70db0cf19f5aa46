"""A step's examples among ranks, so that no rank waits long for the heaviest."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

EVEN = 1.05
"""A division is even if its heaviest rank has at most so many times the mean of the ranks."""

LOOKS = 4000
"""Most states that the exact search looks at; about 20 ms."""

SEARCHED = 256
"""Most examples of an exact search; more of them are hardly ever divided unevenly."""

Shares = list[list[int]]
"""Indices of examples by rank."""


class _GivenUpError(Exception):
    """The search has looked at too many states."""


def balance(lengths: Sequence[int], ranks: int) -> Shares:
    """Give every rank about as many tokens.

    The largest differencing method divides them. Where that is not even, examples are moved and
    exchanged until nothing is gained; where that is not even either, an exact search looks for a
    division that is.

    Returns:
        Indices into `lengths`, every one exactly once; for one rank in their own order.

    Example:
        >>> balance([5, 1, 4, 2], ranks=2)
        [[2, 3], [0, 1]]
    """
    if ranks == 1:
        return [list(range(len(lengths)))]
    shares = _differencing(lengths, ranks)
    if uneven(_loads(lengths, shares)) <= EVEN:
        return shares
    shares = _exchanged(lengths, shares)
    if uneven(_loads(lengths, shares)) <= EVEN:
        return shares
    return _searched(lengths, ranks)[0] or shares


def uneven(loads: Sequence[int]) -> float:
    """Tokens of the heaviest rank over the mean of all; 1 is even.

    Example:
        >>> uneven([3, 5])
        1.25
    """
    return max(loads) * len(loads) / sum(loads)


def none_is_even(lengths: Sequence[int], ranks: int) -> bool:
    """Whether it is proved that no division among ranks is even.

    Example:
        >>> none_is_even([9, 1, 1, 1], ranks=2), none_is_even([3, 1, 1, 1], ranks=2)
        (True, False)
    """
    return _searched(lengths, ranks) == (None, True)


def _loads(lengths: Sequence[int], shares: Shares) -> list[int]:
    return [sum(lengths[i] for i in share) for share in shares]


def _differencing(lengths: Sequence[int], ranks: int) -> Shares:
    """The largest differencing method.

    Every example begins as a division of its own among the ranks. Again and again the two most
    uneven divisions become one, the heaviest share of one joined to the lightest of the other.
    Source: Karmarkar and Karp 1982, "The differencing method of set partitioning", UC Berkeley
    technical report CSD-83-113.
    """
    idle: list[tuple[int, list[int]]] = [(0, [])] * (ranks - 1)
    heap = [(-n, i, [*idle, (n, [i])]) for i, n in enumerate(lengths)]
    heapify(heap)
    for number in range(len(lengths), 2 * len(lengths) - 1):
        one, other = heappop(heap)[2], heappop(heap)[2]
        pairs = zip(one, reversed(other), strict=True)
        made = sorted((a + b, mine + yours) for (a, mine), (b, yours) in pairs)
        heappush(heap, (made[0][0] - made[-1][0], number, made))
    return [sorted(share) for _, share in reversed(heap[0][2])]


def _exchanged(lengths: Sequence[int], shares: Shares) -> Shares:
    """Move an example off the heaviest rank, or exchange it, as long as both ranks end lighter."""
    held = [set(share) for share in shares]
    while True:
        loads = _loads(lengths, [sorted(share) for share in held])
        heavy = max(range(len(held)), key=loads.__getitem__)
        # (heavier of the two afterwards, the other rank, what goes, what comes or -1)
        best = (loads[heavy], -1, -1, -1)
        for rank, share in enumerate(held):
            for gone in held[heavy] if rank != heavy else ():
                for come in (-1, *share):
                    less = lengths[gone] - (lengths[come] if come >= 0 else 0)
                    after = max(loads[heavy] - less, loads[rank] + less)
                    best = min(best, (after, rank, gone, come))
        after, rank, gone, come = best
        if after == loads[heavy]:
            return [sorted(share) for share in held]
        held[heavy].remove(gone)
        held[rank].add(gone)
        if come >= 0:
            held[rank].remove(come)
            held[heavy].add(come)


def _searched(lengths: Sequence[int], ranks: int) -> tuple[Shares | None, bool]:
    """An even division, or None; and whether the search came to its end."""
    most = round(100 * EVEN) * sum(lengths) // (100 * ranks)
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    if _least(sorted(lengths, reverse=True), ranks) > most:
        return None, True
    if len(lengths) > SEARCHED:
        return None, False
    try:
        places = _placed([lengths[i] for i in order], ranks, most)
    except _GivenUpError:
        return None, False
    if places is None:
        return None, True
    return [
        sorted(order[at] for at, r in enumerate(places) if r == rank) for rank in range(ranks)
    ], True


def _least(lengths: Sequence[int], ranks: int) -> int:
    """A load that the heaviest rank has at least.

    Of the k x ranks + 1 longest examples, some rank has k + 1: at least their shortest ones.

    Args:
        lengths: Longest first.
        ranks: How many.
    """
    firsts = range(1, len(lengths) + 1, ranks)
    return max(sum(lengths[first - k - 1 : first]) for k, first in enumerate(firsts))


def _placed(lengths: Sequence[int], ranks: int, most: int) -> list[int] | None:
    """The rank of each example, so that none has more than `most` tokens; None if there is no way.

    Args:
        lengths: Longest first.
        ranks: How many.
        most: Tokens of a rank.

    Raises:
        _GivenUpError: it takes too long.
    """
    spare, shortest = ranks * most - sum(lengths), lengths[-1]
    loads, places = [0] * ranks, [0] * len(lengths)
    seen: set[tuple[int, ...]] = set()

    def place(at: int) -> bool:
        """Place this example and all shorter ones; ranks of equal load are alike."""
        if at == len(lengths):
            return True
        state = (at, *sorted(loads))
        lost = sum(most - load for load in loads if most - load < shortest)
        if lost > spare or state in seen:
            return False
        if len(seen) == LOOKS:
            raise _GivenUpError
        seen.add(state)
        choices = {load: rank for rank, load in enumerate(loads) if load + lengths[at] <= most}
        for load in sorted(choices, reverse=True):
            rank = places[at] = choices[load]
            loads[rank] += lengths[at]
            if place(at + 1):
                return True
            loads[rank] -= lengths[at]
        return False

    return places if place(0) else None
