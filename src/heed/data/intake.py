"""Rows of a source as they are let in: numbered, the bad and the empty left out, repeats seen."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from heed.core.errors import DataError
from heed.core.types import ChatTemplate, Example, Message, RowSource
from heed.data.teacher import share_of
from heed.data.treatment import Treatment

BAD = "dropped: row cannot be read"
EMPTY = "dropped: empty response"
REPEATED = "duplicate of an earlier row, kept"
DUPLICATE = "dropped: duplicate of an earlier row"
Events = list[tuple[int, str]]


class Row(NamedTuple):
    """A row that was let in.

    Attributes:
        number: Its place in the source, from 0, bad rows counted.
        name: How it is called in messages and tables.
        messages: Its turns.
        held_out: Whether it is kept apart for validation.
    """

    number: int
    name: str
    messages: tuple[Message, ...]
    held_out: bool


class Intake:
    """One pass over a source.

    Attributes:
        events: (row, what) of everything that was left out, and of every repeat.
        read: Rows that were read, bad ones counted.
    """

    def __init__(self, source: RowSource, treatment: Treatment):
        self.source = source
        self.treatment = treatment
        self.events: Events = []
        self.read = 0

    def numbered(self) -> Iterator[tuple[int, Example]]:
        """Every row that can be read, with its place in the source.

        Raises:
            DataError: a row cannot be read, and such rows are not to be dropped.
        """
        strict = self.treatment.on_bad_row == "error"
        for row in self.source.rows() if strict else self.source.rows(self._bad):
            self.read += 1
            yield self.read - 1, row

    def _bad(self, _: Exception) -> None:
        self.events.append((self.read, BAD))
        self.read += 1

    def rows(self) -> Iterator[Row]:
        """The rows that are to be encoded."""
        seen: set[bytes] = set()
        for number, row in self.numbered():
            if says_nothing(row.messages):
                self.events.append((number, EMPTY))
                continue
            mark = conversation_digest(row.messages)
            if mark in seen:
                drop = self.treatment.duplicates == "drop"
                self.events.append((number, DUPLICATE if drop else REPEATED))
                if drop:
                    continue
            seen.add(mark)
            apart = is_held_out(row.messages, self.treatment.validation_share)
            yield Row(number, f"{row.teacher}/{row.id}", row.messages, apart)


def says_nothing(messages: Sequence[Message]) -> bool:
    """Whether the last turn, or any turn of the assistant that would be trained on, is blank.

    A student that is trained on it would learn to end its turn at once.

    Example:
        >>> says_nothing([Message("user", "Hi"), Message("assistant", " ")])
        True
    """
    return any(
        (at == len(messages) or (m.role == "assistant" and m.supervised))
        and (not m.content or m.content.isspace())
        for at, m in enumerate(messages, start=1)
    )


def conversation_digest(messages: Sequence[Message]) -> bytes:
    """16 bytes that two conversations share if every turn is the same."""
    parts = [f"{m.role}\0{len(m.content)}\0{m.content}" for m in messages]
    return hashlib.blake2b("".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def is_held_out(messages: Sequence[Message], share: float) -> bool:
    """Whether a conversation is kept apart: the hash of its first prompt decides, nothing else.

    The prompt is the first turn of the user; of a plain text, the text.
    """
    if not share:
        return False
    asked = next((m.content for m in messages if m.role == "user"), messages[0].content)
    return share_of(f"validation\n{asked}") < share


def check_rows(source: RowSource, template: ChatTemplate, treatment: Treatment) -> None:
    """Read and render every row, so that bad data are found before anything is computed.

    Raises:
        DataError: a row cannot be read or rendered and such rows are not dropped, or none is left.
    """
    count = 0
    for _, row in Intake(source, treatment).numbered():
        try:
            template.render(row.messages)
        except DataError as error:
            if treatment.on_bad_row == "error":
                raise named(f"{row.teacher}/{row.id}", error) from error
            continue
        count += 1
    if not count:
        raise DataError(
            f"teacher {source.name!r} has no row at all that can be read, so there is nothing to "
            f"learn. Check its path, split or filter."
        )


def named(item: str, error: DataError) -> DataError:
    """The same error, naming the item that it is about."""
    return DataError(f"item {item}: {error}")
