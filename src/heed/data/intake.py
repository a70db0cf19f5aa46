"""Rows of a source as they are let in: numbered, the bad and the empty left out, repeats seen."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from heed.core.errors import DataError
from heed.core.types import ChatTemplate, Example, LossOn, Message, RowSource
from heed.data.teacher import AGAIN, share_of
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
            if says_nothing(row.messages, self.treatment.loss_on):
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


def is_blank(text: str) -> bool:
    """Whether there is nothing but space."""
    return not text or text.isspace()


def says_nothing(messages: Sequence[Message], loss_on: LossOn = "every_turn") -> bool:
    """Whether the last turn, or any turn of the assistant that would be trained on, is blank.

    A student that is trained on it would learn to end its turn at once.

    Example:
        >>> says_nothing([Message("user", "Hi"), Message("assistant", " ")])
        True
    """
    every = loss_on == "every_turn"
    return any(
        (at == len(messages) or (every and m.role == "assistant" and m.supervised))
        and is_blank(m.content)
        for at, m in enumerate(messages, start=1)
    )


def conversation_digest(messages: Sequence[Message]) -> bytes:
    """16 bytes that two conversations share if every turn is the same.

    Which of the assistant's turns may be trained on is part of it.
    """
    parts = [
        f"{m.role}{'' if m.supervised or m.role != 'assistant' else '-'}"
        f"\0{len(m.content)}\0{m.content}"
        for m in messages
    ]
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
    """Read and render the rows, so that bad data are found before anything is computed.

    Rows behind those that fill `treatment.limit` are not looked at: they are not trained on.

    Raises:
        DataError: a row cannot be read or rendered and such rows are not dropped, or none is left,
            or rows that are given again on purpose would be dropped as duplicates.
    """
    refuse_repeats(source, treatment)
    intake, count, trained = Intake(source, treatment), 0, 0
    for row in intake.rows():
        try:
            template.render(row.messages)
        except DataError as error:
            if treatment.on_bad_row == "error":
                raise named(row.name, error) from error
            continue
        count += 1
        trained += not row.held_out
        if trained == treatment.limit:
            return
    if not count:
        happened = dict(Counter(what for _, what in intake.events))
        raise DataError(
            f"teacher {source.name!r} has no row at all that can be read and rendered (rows read: "
            f"{intake.read}; {happened}), so there is nothing to learn. Check its path, split or "
            f"filter."
        )


def refuse_repeats(source: RowSource, treatment: Treatment) -> None:
    """Refuse to drop as duplicates what a source gives more than once on purpose.

    Raises:
        DataError: naming what is given again.
    """
    if treatment.duplicates == "keep":
        return
    again = {what: count for what, count in source.events().items() if what.endswith(AGAIN)}
    if again:
        raise DataError(
            f"teacher {source.name!r} gives rows more than once to keep the shares of its parts "
            f"({again}), and data.duplicates=drop would drop them: the shares would not be those "
            f"that were asked for. Give data.duplicates=keep, or teacher.total=null (every row "
            f"once at most)."
        )


def named(item: str, error: DataError) -> DataError:
    """The same error, naming the item that it is about."""
    return DataError(f"item {item}: {error}")
