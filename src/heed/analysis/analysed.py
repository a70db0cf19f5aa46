"""What an analysis found of each cell of a study, and cells equal in all else set side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from heed.analysis.contrasts import two_values
from heed.analysis.number import Kind, Number

MOST_PARTS = 4
"""Of more things that an analysis tells of, those that are hurt in no cell are only counted."""


@dataclass(frozen=True)
class AnalysedCell:
    """One cell of which an analysis was made.

    Attributes:
        run: Id of its run.
        place: Axis -> value, the seed among them, and all else that tells cells apart.
        page: The page of the analysis, below the run's directory; None: it is lost.
        numbers: Name -> number, in the order in which they are shown.
        code: The state of heed's code that did the analysis, which may be another than that of
            the training.
    """

    run: str
    place: Mapping[str, str]
    page: str | None
    numbers: Mapping[str, Number]
    code: str


@dataclass(frozen=True)
class Analysed:
    """One analysis over a study.

    Attributes:
        name: Of the analysis.
        about: One sentence: what its numbers are.
        axes: The studied ones; the seed is none.
        beside: What else tells cells apart, and has to be equal in a pair.
        cells: Of which it was made.
        missing: Run ids of finished cells of which it was not made.
        otherwise: Those of them of which it was made with other settings or versions.
        damaged: Run id -> why what it found cannot be read.
    """

    name: str
    about: str
    axes: tuple[str, ...]
    beside: tuple[str, ...]
    cells: tuple[AnalysedCell, ...]
    missing: tuple[str, ...] = ()
    otherwise: tuple[str, ...] = ()
    damaged: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def every(self) -> dict[str, Number]:
        """Name of each number that some cell has -> one of these cells' numbers."""
        return {name: one for cell in self.cells for name, one in cell.numbers.items()}

    @cached_property
    def unhurt(self) -> list[str]:
        """Parts that are hurt in no cell, where there are too many parts to show all."""
        parts = dict.fromkeys(number.part for number in self.every.values() if number.part)
        numbers = [number for cell in self.cells for number in cell.numbers.values()]
        hurt = {number.part for number in numbers if number.hurt}
        return [part for part in parts if part not in hurt] if len(parts) > MOST_PARTS else []

    @property
    def names(self) -> list[str]:
        """Names of the numbers that are shown, in order."""
        return [name for name, one in self.every.items() if one.part not in self.unhurt]


@dataclass(frozen=True)
class Sided:
    """One number over all pairs of cells that differ in one axis alone.

    Attributes:
        number: Its name.
        kind: Of the number.
        ones: Of the cells with the first value.
        twos: Of the cells with the second, in the same order.
        unknown: Pairs beside these of which a side does not know the number.
    """

    number: str
    kind: Kind
    ones: tuple[float, ...]
    twos: tuple[float, ...]
    unknown: int

    @property
    def pairs(self) -> int:
        """How many there are of which both sides know the number."""
        return len(self.ones)

    @property
    def above(self) -> int:
        """Pairs in which the second is more than the first; never comes after every step."""
        return sum(two > one for one, two in zip(self.ones, self.twos, strict=True))

    @property
    def below(self) -> int:
        """Pairs in which the second is less than the first."""
        return sum(two < one for one, two in zip(self.ones, self.twos, strict=True))

    @property
    def equal(self) -> int:
        """Pairs in which both are the same."""
        return self.pairs - self.above - self.below

    @property
    def differences(self) -> list[float]:
        """Second minus first of each pair; of steps there is none, as they may never come."""
        if self.kind == "step":
            return []
        return [two - one for one, two in zip(self.ones, self.twos, strict=True)]

    @property
    def means(self) -> tuple[float, float] | None:
        """Over the pairs, of either side; None where there are no differences."""
        if not self.differences:
            return None
        return math.fsum(self.ones) / self.pairs, math.fsum(self.twos) / self.pairs


@dataclass(frozen=True)
class TwoValues:
    """Two values of an axis over all pairs of cells that are equal in all else.

    Attributes:
        axis: Which.
        one: The first value.
        two: The second.
        pairs: How many there are; at least one.
        runs: Ids of their cells.
        numbers: Each number over these pairs.
    """

    axis: str
    one: str
    two: str
    pairs: int
    runs: tuple[str, ...]
    numbers: tuple[Sided, ...]


def all_else_equal(found: Analysed) -> tuple[list[TwoValues], int]:
    """Each two values of each axis, over pairs of cells that differ in nothing else.

    Args:
        found: An analysis.

    Returns:
        Those with a pair at least, and how many have none.
    """
    told, without = [], 0
    for about, _, matched in two_values(found.cells, found.axes, found.beside):
        pairs = [pair for by_seed in matched.values() for pair in by_seed.values()]
        if not pairs:
            without += 1
            continue
        runs = tuple(cell.run for pair in pairs for cell in pair)
        numbers = tuple(_sided(name, found.every[name].kind, pairs) for name in found.names)
        told.append(TwoValues(about["axis"], about["one"], about["two"], len(pairs), runs, numbers))
    return told, without


def _sided(name: str, kind: Kind, pairs: Sequence[tuple[AnalysedCell, AnalysedCell]]) -> Sided:
    known = []
    for pair in pairs:
        one, two = (_value(cell, name) for cell in pair)
        if one is not None and two is not None:
            known.append((one, two))
    ones, twos = (tuple(pair[side] for pair in known) for side in (0, 1))
    return Sided(name, kind, ones, twos, len(pairs) - len(known))


def _value(cell: AnalysedCell, name: str) -> float | None:
    return cell.numbers[name].value if name in cell.numbers else None
