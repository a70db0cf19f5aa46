"""Files of rows as tables of `datasets`, for packages that ask for these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heed.core.errors import DataError
from heed.data.tables import READERS, kind_of, need_file, raised

KINDS = (".jsonl", ".json")
"""Endings of files whose values keep their types; `.gz` may follow."""


@contextmanager
def without_bars() -> Iterator[None]:
    """No progress bars of `datasets` inside the block."""
    from datasets import disable_progress_bars, enable_progress_bars
    from datasets.utils import are_progress_bars_disabled

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            enable_progress_bars()


def local_data(splits: Mapping[str, str]) -> Any:
    """Files of rows in memory, as `datasets` holds them; nothing is cached, so nothing is stale.

    Args:
        splits: Name of the split -> path.

    Raises:
        DataError: a file is missing, empty, or has rows with other columns than its first, or
            with nothing in a column in which others have something.
    """
    from datasets import Dataset, DatasetDict

    found = {}
    for split, name in splits.items():
        path, kind = need_file(name, "rows"), kind_of(name)
        if kind not in KINDS:  # in a .csv every value is text
            raise DataError(f"{path}: its ending is none of {', '.join(KINDS)}. Convert it.")
        rows = [(place, dict(row)) for place, row in READERS[str(kind)](path, (), raised)]
        if not rows:
            raise DataError(f"{path} has no rows, so there is nothing to ask. Give it some.")
        _refuse_nothing(path, rows)
        first = set(rows[0][1])
        for place, row in rows:
            if set(row) != first:
                odd = ", ".join(sorted(first ^ set(row)))
                raise DataError(
                    f"{path}, {place}: this row and the first do not have the same columns "
                    f"({odd}), and what is missing would be asked as nothing. Correct it."
                )
        found[split] = Dataset.from_list([row for _, row in rows])
    return DatasetDict(found)


def _refuse_nothing(path: Path, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Refuse a null where other rows have a value; it would be asked as the word `None`.

    Raises:
        DataError: naming the row and the column.
    """
    filled = {name for _, row in rows for name, value in row.items() if value is not None}
    for place, row in rows:
        for name, value in row.items():
            if _holds_nothing(value) and name in filled:
                raise DataError(
                    f"{path}, {place}: {name} holds nothing (null), and other rows have something "
                    f"there; it would be asked as the word None. Correct it."
                )


def _holds_nothing(value: Any) -> bool:
    """Whether a value is null, or is a list or an object with a null in it."""
    if isinstance(value, Mapping):
        return any(map(_holds_nothing, value.values()))
    return value is None or (isinstance(value, list) and any(map(_holds_nothing, value)))
