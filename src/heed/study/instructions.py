"""The file of instructions that a teacher is to answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heed.core.errors import DataError
from heed.data.layout import text_of
from heed.data.source import LocalFile
from heed.data.tables import need_file, raised

UNNAMED = {
    "input": "it belongs to the instruction, which says another thing without it. "
    "Name it: generation.input=input.",
    "system": "an instruction is asked here without a system turn. Remove the column.",
}
"""A column that says more about what is asked -> why no instruction goes without it."""


def read_instructions(path: str, column: str, further: str | None = None) -> list[str]:
    """The instructions of a file, in order; nothing heavy is imported.

    Args:
        path: The file.
        column: Holds the instruction.
        further: Holds further input to it, joined to it by a blank line; None: no column does.

    Raises:
        DataError: there is no such file or column, no row, a row without an instruction, or one
            that says more in a column that is not named.
    """
    need_file(path, "instructions for a teacher")
    found = []
    wanted = [column, *([further] if further else []), *UNNAMED]
    for row in LocalFile(path=path).rows(wanted, raised):
        try:
            text = text_of(row.value, column)
            more = text_of(row.value, further, empty=True) if further else ""
        except DataError as error:
            raise DataError(
                f"{path}, {row.place}: {error} Every row holds one instruction for the teacher. "
                f"Name the column: generation.column=<column>, and generation.input=<column> or "
                f"null for further input."
            ) from error
        if not text.strip():
            raise DataError(
                f"{path}, {row.place}: the instruction is empty, so there is nothing to answer. "
                f"Remove the row."
            )
        _refuse_more(f"{path}, {row.place}", row.value, {column, further})
        found.append(f"{text}\n\n{more}" if more else text)
    if not found:
        raise DataError(f"{path} holds no instruction, so there is nothing to answer.")
    return found


def _refuse_more(place: str, row: Mapping[str, Any], named: set[str | None]) -> None:
    for column, why in UNNAMED.items():
        if column not in named and row.get(column):
            raise DataError(f"{place}: the column {column!r} is not empty, and {why}")
