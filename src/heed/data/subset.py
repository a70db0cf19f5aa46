"""Rows of a table that a published list chooses."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any

from heed.core.component import component, nearest
from heed.core.errors import DataError
from heed.core.files import read_json
from heed.core.identity import Incidental, short_hash
from heed.core.types import OnBad
from heed.data.source import Row, Source
from heed.data.tables import need_file


@component
class Subset(Source):
    """The rows of another source whose numbers stand in a list, in the order of that source."""

    source: Source
    """The whole table."""

    path: Annotated[str, Incidental]
    """A JSON file: name of a list -> numbers of rows, the first row is 0; in the run id stand the
    numbers, not the place of the file."""

    subset: str
    """Name of the list."""

    @property
    def place(self) -> str:
        """The table and the list."""
        return f"{self.source.place}, {self.subset} of {self.path}"

    def rows(self, wanted: Sequence[str], on_bad: OnBad) -> Iterator[Row]:
        """The rows of the list; one that cannot be read keeps its number.

        Raises:
            DataError: the list is not there, or names rows that the table does not have.
        """
        chosen, number = frozenset(self._numbers()), 0

        def refuse(error: Exception) -> None:
            nonlocal number
            number += 1
            if number - 1 in chosen:
                on_bad(error)

        for row in self.source.rows(wanted, refuse):
            number += 1
            if number - 1 in chosen:
                yield row
        self._refuse_shorter(chosen, number)

    def events(self) -> Mapping[str, int]:
        """How many rows the list leaves out.

        Raises:
            DataError: as `rows`, also where not all of them were read.
        """
        bad = 0

        def count(_: Exception) -> None:
            nonlocal bad
            bad += 1

        whole = sum(1 for _ in self.source.rows([], count)) + bad
        numbers = self._numbers()
        self._refuse_shorter(numbers, whole)
        left_out = {f"not in {self.subset}, left out": whole - len(numbers)}
        return {**self.source.events(), **left_out}

    def digest(self) -> str:
        """Digest of the table and of the numbers."""
        return short_hash([self.source.digest(), sorted(self._numbers())])

    def _refuse_shorter(self, chosen: Collection[int], rows: int) -> None:
        """Refuse a table without some of the rows.

        Raises:
            DataError: the list was made for another one.
        """
        if max(chosen) >= rows:
            raise DataError(
                f"{self.place} names row {max(chosen)} (counted from 0), and {self.source.place} "
                f"has {rows} rows: the list was made for another table, and would choose rows at "
                f"random. Give teacher.source.source the table that it was made for."
            )

    def _numbers(self) -> list[int]:
        """The list.

        Raises:
            DataError: the file has no such list, or something else stands in it.
        """
        path = need_file(self.path, f"the list {self.subset!r}")
        try:
            lists = read_json(path)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise self._unread(f"it is no JSON ({error})") from error
        known = list(lists) if isinstance(lists, Mapping) else []
        if self.subset not in known:
            hint = nearest(self.subset, known)
            raise self._unread(f"it has no such list; it has {', '.join(known) or 'none'}. {hint}")
        found: Any = lists[self.subset]
        if not isinstance(found, list) or not all(type(n) is int and n >= 0 for n in found):
            raise self._unread("what stands there is no list of whole numbers from 0 on")
        if not found or len(set(found)) != len(found):
            raise self._unread("the list is empty" if not found else "a number stands there twice")
        return found

    def _unread(self, why: str) -> DataError:
        return DataError(
            f"{self.path}, list {self.subset!r}: {why.strip().rstrip('.')}. Without it all rows "
            f"would be trained on, or others. Correct teacher.source.path or teacher.source.subset."
        )
