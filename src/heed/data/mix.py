"""Several teachers in given shares, as one."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import Field, PositiveInt

from heed.core.component import component, nearest
from heed.core.errors import ConfigError, DataError, Mistake
from heed.core.identity import Incidental, short_hash
from heed.core.types import Example, OnBad
from heed.data.teacher import AGAIN, Teacher


@component
class Mix(Teacher):
    """Rows of several teachers; ids are `<part>/<id>`.

    Which rows of a part are taken is drawn by the seed. The parts lie evenly among each other, so
    that the first rows have the same shares as all of them. If more rows of a part are asked for
    than it has, all of them are given as often as whole passes fit, and then some of them again.
    """

    name: Annotated[str, Incidental]
    """How the mix is called in tables."""

    teachers: Mapping[str, Teacher]
    """Part -> teacher."""

    weights: Mapping[str, Annotated[float, Field(gt=0)]]
    """Part -> its share of the rows, in any unit: {a: 3.0, b: 1.0} means three quarters and one."""

    total: PositiveInt | None
    """Number of rows; null for as many as there are in these shares without giving a row twice."""

    seed: int
    """Of the draw; not the run's, so that runs of several seeds are trained on the same rows."""

    def __post_init__(self) -> None:
        if len(self.teachers) < 2:
            raise ConfigError(
                [Mistake("teachers", f"{len(self.teachers)} of them", "a mix has several parts.",
                         "Name at least two teachers.")]
            )  # fmt: skip
        wrong = [
            Mistake("weights", f"no weight of {part!r}", "its share of the rows is unknown.",
                    f"Add {part}: <number> to the weights.")
            for part in self.teachers.keys() - self.weights.keys()
        ] + [
            Mistake(f"weights.{part}", str(self.weights[part]), "there is no such part.",
                    f"{nearest(part, list(self.teachers))} Parts: {', '.join(self.teachers)}.")
            for part in self.weights.keys() - self.teachers.keys()
        ]  # fmt: skip
        if wrong:
            raise ConfigError(sorted(wrong, key=lambda mistake: mistake.where + mistake.found))

    def digest(self) -> str:
        """Digest of the parts, their shares and the draw."""
        parts = [[part, made.digest(), self.weights[part]] for part, made in self.teachers.items()]
        return short_hash([parts, self.total, self.seed])

    def parts(self) -> Mapping[str, Teacher]:
        """The teachers that are mixed; of a mix in a mix, those that it mixes."""
        return {
            f"teachers.{part}" + (f".{below}" if below else ""): found
            for part, made in self.teachers.items()
            for below, found in made.parts().items()
        }

    def events(self) -> Mapping[str, int]:
        """Rows taken of each part, those left out, and those given again.

        Rows that cannot be read are in none of these numbers.
        """
        sizes = self._sizes(_ignored)
        found = {}
        for part, taken in self._quotas(sizes).items():
            found[f"mix: rows of {part} taken"] = taken
            if taken < sizes[part]:
                found[f"mix: rows of {part} left out"] = sizes[part] - taken
            if taken > sizes[part]:
                found[f"mix: rows of {part} {AGAIN}"] = taken - sizes[part]
            for kind, count in self.teachers[part].events().items():
                found[f"{part}: {kind}"] = count
        return found

    def rows(self, on_bad: OnBad | None = None) -> Iterator[Example]:
        """The parts' rows, evenly among each other; every part is read at least twice.

        Raises:
            DataError: a part cannot be read, or has no row.
        """
        sizes = self._sizes(on_bad)
        quotas = self._quotas(sizes)
        streams = [
            self._stream(order, part, sizes[part], quotas[part])
            for order, part in enumerate(self.teachers)
        ]
        for _, _, example in heapq.merge(*streams, key=lambda placed: placed[:2]):
            yield example

    def _sizes(self, on_bad: OnBad | None) -> dict[str, int]:
        """Rows of each part that can be read."""
        sizes = {part: sum(1 for _ in made.rows(on_bad)) for part, made in self.teachers.items()}
        empty = [part for part, size in sizes.items() if not size]
        if empty:
            raise DataError(
                f"teacher {self.name!r}: no row of {', '.join(empty)} can be read, so there is "
                f"nothing to mix. Check its source, or take it out of teachers and weights."
            )
        return sizes

    def _quotas(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """Rows to take of each part."""
        total = sum(self.weights.values())
        share = {part: self.weights[part] / total for part in sizes}
        if self.total is None:
            most = min(size / share[part] for part, size in sizes.items())
            return {p: max(1, min(size, round(most * share[p]))) for p, size in sizes.items()}
        return whole_shares(share, self.total)

    def _stream(
        self, order: int, part: str, size: int, quota: int
    ) -> Iterator[tuple[float, int, Example]]:
        """A part's rows with where they stand in the mix, between 0 and 1."""
        drawn = np.random.default_rng((self.seed, order)).permutation(size)[: quota % size]
        again = np.zeros(size, dtype=bool)
        again[drawn] = True
        given = 0
        for turn in range(math.ceil(quota / size)):
            last = turn == quota // size
            for number, row in enumerate(self.teachers[part].rows(_ignored)):
                if last and not again[number]:
                    continue
                yield (
                    (given + 0.5) / quota,
                    order,
                    replace(row, id=f"{part}/{row.id}", teacher=self.name),
                )
                given += 1


def whole_shares(share: Mapping[str, float], total: int) -> dict[str, int]:
    """Shares of a total in whole numbers: largest remainders, ties in the given order.

    Example:
        >>> whole_shares({"a": 0.5, "b": 0.25, "c": 0.25}, 7)
        {'a': 3, 'b': 2, 'c': 2}
    """
    exact = {part: total * value for part, value in share.items()}
    whole = {part: math.floor(value) for part, value in exact.items()}
    left = total - sum(whole.values())
    for part in sorted(exact, key=lambda p: whole[p] - exact[p])[:left]:
        whole[part] += 1
    return whole


def _ignored(error: Exception) -> None:
    """Rows that cannot be read were told of when the parts were counted."""
