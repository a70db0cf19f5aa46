"""How likely a student finds the responses of a teacher that it was not tuned on."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

from pydantic import PositiveInt

from heed.core.component import component, is_component
from heed.core.errors import DataError
from heed.core.types import Answer, Item, ItemScore, Message, Ratio, Request, RowSource
from heed.evaluation.task import Task, weighed


@component
class ResponseLikelihood(Task):
    """Bits per byte of a teacher's responses, each after its instruction in the chat template.

    bits_per_byte = sum of nats / ln 2 / number of UTF-8 bytes of the responses. The end of the turn
    is not weighed. Of a row, the first instruction and the response to it are taken.
    """

    teacher: RowSource
    """Whose responses; they must not be what a student is tuned on."""

    responses: PositiveInt
    """Most responses, taken evenly from all that can be used."""

    max_chars: PositiveInt
    """Longer rows (instruction and response, in characters) are left out, and counted."""

    metrics = ("bits_per_byte",)
    lower_is_better = frozenset(metrics)

    def items(self) -> list[Item]:
        """One item a response, called as its instruction is called for every teacher.

        Raises:
            DataError: a row cannot be read, or no row can be used.
        """
        found = list(self._usable(Counter()))
        if not found:
            raise DataError(
                f"Teacher {self.teacher.name!r} has no response that can be weighed: an "
                f"instruction and a response of at most max_chars={self.max_chars} characters "
                f"together. Raise max_chars, or choose another teacher."
            )
        count = min(self.responses, len(found))
        return [found[i * len(found) // count] for i in range(count)]

    def score(self, name: str, item: Item, answer: Answer) -> ItemScore:
        """Bits over bytes of one response."""
        (found,) = answer.likelihoods
        response = item.requests[0].continuation
        bits = Ratio(found.nats / math.log(2), len(response.encode()))
        details = {"weighed_tokens": found.tokens, "weighed_response": response}
        return weighed(name, item, {"bits_per_byte": bits}, details)

    def events(self, scores: Sequence[ItemScore]) -> dict[str, int]:
        """Rows of the teacher that are not weighed as they are, by reason."""
        seen: Counter[str] = Counter()
        usable = sum(1 for _ in self._usable(seen))
        if usable > self.responses:
            seen["left out of the responses, to have as many as asked"] = usable - self.responses
        return {f"{self.teacher.name}: {what}": times for what, times in seen.items()}

    def digest(self) -> str:
        """Hash of the instructions and responses."""
        found = hashlib.sha256()
        for item in self.items():
            for text in item.requests[0][:2]:
                found.update(f"{len(text)}:{text}".encode())
        return found.hexdigest()[:16]

    def _usable(self, seen: Counter[str]) -> Iterator[Item]:
        """Items of all rows that can be weighed; what happens to the others is counted."""
        times: Counter[str] = Counter()
        for row in self.teacher.rows():
            pair = first_pair(row.messages)
            if pair is None:
                seen["row without an instruction and a response to it, left out"] += 1
                continue
            asked, said = pair
            if len(asked) + len(said) > self.max_chars:
                seen["response too long to be weighed, left out"] += 1
                continue
            if row.messages[0].role == "system":
                seen["system prompt left out"] += 1
            if sum(message.role == "assistant" for message in row.messages) > 1:
                seen["only the first response of a conversation weighed"] += 1
            times[row.id] += 1
            key = row.id if times[row.id] == 1 else f"{row.id}/{times[row.id]}"
            yield Item(key=key, prompt=asked, requests=(Request(asked, said, asked=True),))


def first_pair(messages: Sequence[Message]) -> tuple[str, str] | None:
    """The first instruction of a conversation and the response to it.

    Returns:
        None if it does not begin so (a system prompt may stand before it), or the response is
        empty.

    Example:
        >>> first_pair([Message("user", "Hi."), Message("assistant", "Hello."),
        ...             Message("user", "Why?"), Message("assistant", "So.")])
        ('Hi.', 'Hello.')
    """
    turns = [message for message in messages if message.role != "system"]
    if [turn.role for turn in turns[:2]] != ["user", "assistant"] or not turns[1].content.strip():
        return None
    return turns[0].content, turns[1].content


def _table(teacher: Any) -> Any:
    """Where a teacher's rows are: of rows that a list chooses, the whole table."""
    while hasattr(teacher, "source"):
        teacher = teacher.source
    return teacher


def same_rows(one: Any, other: Any) -> bool:
    """Whether two teachers certainly give the same responses, whatever they are called.

    Teachers that read a table are the same if the table is, however its rows are read; nothing is
    read to find out. Copies of a table are not seen here: shared words are counted from its rows
    (`heed.data.contamination`).
    """
    if hasattr(one, "source") and hasattr(other, "source"):
        return bool(_table(one) == _table(other))
    if not (is_component(one) and is_component(other)) or type(one) is not type(other):
        return False
    named = any(field.name == "name" for field in fields(one))
    return bool(replace(one, name=other.name) == other) if named else bool(one == other)
