"""What one axis of a study does while all others stand still, and where that cannot be told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Protocol, TypeVar

import numpy as np

from heed.core.errors import DataError
from heed.core.resample import Floats
from heed.core.stats import compare_paired, seeds_interval
from heed.core.types import Interval

SEED = "seed"
"""The axis of which cells are draws, not one that is studied."""

MOST = 600
"""Comparisons at single settings of the other axes are made up to so many; of more, only means."""


class Placed(Protocol):
    """A cell that knows its place among the others."""

    @property
    def place(self) -> Mapping[str, str]:
        """Axis -> value, the seed among them, and all else that tells cells apart."""
        ...


P = TypeVar("P", bound=Placed)


@dataclass(frozen=True)
class Change:
    """What tuning did to each item in one cell.

    Attributes:
        place: Axis -> value, the seed among them.
        num: f64[items], numerators after minus before.
        den: f64[items], denominators, the same before and after.
        run: Id of the cell's run.
    """

    place: Mapping[str, str]
    num: Floats
    den: Floats
    run: str = ""

    @property
    def delta(self) -> float:
        """After minus before of the metric."""
        return float(self.num.sum() / self.den.sum())


def change_of(
    place: Mapping[str, str],
    before: tuple[Sequence[float], Sequence[float]],
    after: tuple[Sequence[float], Sequence[float]],
    run: str = "",
) -> Change:
    """A cell's change from its numerators and denominators, one of each per item.

    Raises:
        DataError: an item was asked for another amount before than after.
    """
    sides = [np.asarray(side, dtype=np.float64) for side in (*before, *after)]
    if sides[1].shape != sides[3].shape or not np.array_equal(sides[1], sides[3]):
        raise DataError(
            "Items have other denominators before than after, so that changes of cells cannot be "
            "set against each other. Compare each cell's own delta."
        )
    return Change(place, sides[2] - sides[0], sides[1], run)


def contrasts(
    changes: Sequence[Change],
    axes: Sequence[str],
    bootstrap: Mapping[str, Any],
    beside: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Each two values of each axis against each other, over cells that are equal in all else.

    Args:
        changes: Of every finished cell, all over the same items in one order.
        axes: The studied ones; the seed is none.
        bootstrap: `level`, `resamples` and `seed`.
        beside: What else tells cells apart and has to be equal, each a key of every place.

    Returns:
        For each pair of values `axis one two`, `pairs` (of cells that differ in the axis alone),
        `also` (what differs wherever these two are compared) and `part` (False). With pairs:
        `seeds`, `difference` (delta of `two` minus that of `one`, the mean over all settings of
        the other axes), `low`, `high`, `items`, `verdict`, `runs` (ids), and `without` (settings
        that have none of the mean's seeds, and are no part of it). Of a single setting, `context`
        names it. Of several, each follows on its own, named in `context`, with `part` True; where
        these are more than `MOST` in all, none does, and `parts_left_out` counts them.

    Raises:
        DataError: cells of other items.
    """
    if any(not np.array_equal(changes[0].den, change.den) for change in changes):
        raise DataError(
            "Cells were scored on other items, so their changes cannot be set against each other. "
            "Score all with one suite."
        )
    found: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    for about, others, matched in two_values(changes, axes, beside):
        found.append(about | _mean(matched, changes, about, others, bootstrap))
        if len(matched) > 1:
            parts += [
                about | {"context": said(others, place), "part": True} | _over([p], bootstrap)
                for place, p in matched.items()
            ]
    if len(parts) > MOST:
        return [one | {"parts_left_out": len(parts)} for one in found]
    return found + parts


def _mean(
    matched: Mapping[Place, Pairs],
    changes: Sequence[Change],
    about: Mapping[str, str],
    others: Sequence[str],
    bootstrap: Mapping[str, Any],
) -> dict[str, Any]:
    """Two values over all settings of the other axes, or what keeps them from being told apart."""
    if not matched:
        sides = (about["one"], about["two"])
        runs = [change.run for change in changes if change.place[about["axis"]] in sides]
        return {"pairs": 0, "part": False, "also": _also(changes, about, others), "runs": runs}
    kept = _with_shared_seeds(matched)
    without = [said(others, place) for place in matched if place not in kept]
    found: dict[str, Any] = {"part": False, "without": without}
    if len(matched) == 1 and others:
        found["context"] = said(others, next(iter(matched)))
    return found | _over(list(kept.values()), bootstrap)


Place = tuple[str, ...]
Pairs = dict[str, tuple[Change, Change]]
"""Seed -> a cell with the one value and a cell with the other."""


def said(names: Sequence[str], values: Sequence[str]) -> str:
    """A setting of some axes in words.

    Example:
        >>> said(["model", "lr"], ["nano", "gentle"])
        'model nano, lr gentle'
    """
    return ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))


def two_values(
    cells: Sequence[P], axes: Sequence[str], beside: Sequence[str] = ()
) -> Iterator[tuple[dict[str, str], list[str], dict[Place, dict[str, tuple[P, P]]]]]:
    """Each two values of each axis, with the pairs of cells that differ in nothing else.

    Args:
        cells: Of which pairs are made.
        axes: The studied ones; the seed is none.
        beside: What else tells cells apart and has to be equal, each a key of every place.

    Yields:
        `axis one two`; the names that have to be equal; and setting of these -> seed -> the cell
        with the one value and the cell with the other.
    """
    for axis in axes:
        others = [name for name in (*axes, *beside) if name != axis]
        for one, two in combinations(dict.fromkeys(cell.place[axis] for cell in cells), 2):
            about = {"axis": axis, "one": one, "two": two}
            yield about, others, _matched(cells, about, others)


def _matched(
    every: Sequence[P], about: Mapping[str, str], others: Sequence[str]
) -> dict[Place, dict[str, tuple[P, P]]]:
    """Setting of the other axes -> pairs by seed, for settings that have the same seeds."""
    cells: dict[tuple[str, Place, str], P] = {}
    for one in every:
        place = tuple(one.place[name] for name in others)
        cells[one.place[about["axis"]], place, one.place.get(SEED, "")] = one
    found: dict[Place, dict[str, tuple[P, P]]] = {}
    for (value, place, seed), cell in cells.items():
        other = cells.get((about["two"], place, seed))
        if value == about["one"] and other is not None:
            found.setdefault(place, {})[seed] = (cell, other)
    return found


def _with_shared_seeds(matched: Mapping[Place, Pairs]) -> dict[Place, Pairs]:
    """Settings with the seeds that all of them have; where none is shared, those of most pairs."""
    shared = set.intersection(*(set(pairs) for pairs in matched.values()))
    if shared:
        return {p: {s: pairs[s] for s in pairs if s in shared} for p, pairs in matched.items()}
    sizes: dict[frozenset[str], int] = {}
    for pairs in matched.values():
        sizes[frozenset(pairs)] = sizes.get(frozenset(pairs), 0) + len(pairs)
    most = max(sizes, key=lambda seeds: (sizes[seeds], sorted(seeds)))
    return {place: pairs for place, pairs in matched.items() if set(pairs) == most}


def _also(changes: Sequence[Change], about: Mapping[str, str], others: Sequence[str]) -> list[str]:
    """What cells with the one value share with none of those with the other; may be nothing."""
    sides = [[c for c in changes if c.place[about["axis"]] == about[s]] for s in ("one", "two")]
    return [
        name
        for name in (*others, SEED)
        if not set.intersection(*({c.place.get(name, "") for c in side} for side in sides))
    ]


def _over(contexts: Sequence[Pairs], bootstrap: Mapping[str, Any]) -> dict[str, Any]:
    """The mean difference over settings that have the same seeds, with its interval."""
    seeds = list(contexts[0])
    sides = [[_sum([pairs[seed][side] for pairs in contexts]) for seed in seeds] for side in (0, 1)]
    interval = _interval(sides, bootstrap)
    apart = interval.low > 0 or interval.high < 0
    return {
        "pairs": len(contexts) * len(seeds),
        "also": [],
        "seeds": len(seeds),
        "difference": interval.value,
        "low": interval.low,
        "high": interval.high,
        "items": interval.items,
        "runs": [c.run for pairs in contexts for seed in seeds for c in pairs[seed]],
        "verdict": "differs" if apart else "no difference shown",
    }


def _sum(changes: Sequence[Change]) -> tuple[Floats, Floats]:
    """Numerators and denominators over several cells: their ratio is the mean of the deltas."""
    nums, dens = ([getattr(c, side) for c in changes] for side in ("num", "den"))
    return np.sum(nums, axis=0), np.sum(dens, axis=0)


def _interval(
    sides: Sequence[Sequence[tuple[Floats, Floats]]], bootstrap: Mapping[str, Any]
) -> Interval:
    """Of one seed over items; of several, over seeds and items together."""
    one, two = sides
    if len(one) == 1:
        return compare_paired(one[0], two[0], **bootstrap).interval
    return seeds_interval(list(zip(one, two, strict=True)), **bootstrap)
