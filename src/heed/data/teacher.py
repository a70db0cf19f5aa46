"""A teacher is a named source of responses to instructions, or of plain text."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from heed.core.component import component
from heed.core.errors import DataError
from heed.core.files import digest_file
from heed.core.identity import Incidental, canonical, short_hash
from heed.core.types import Example, Message, OnBad
from heed.data.layout import Layout
from heed.data.source import Source
from heed.data.tables import need_file, open_text, raised

AGAIN = "given again"
"""How an event ends that counts rows which a teacher gives more than once on purpose."""


class Teacher(ABC):
    """A named source of examples in a fixed order."""

    name: Annotated[str, Incidental]

    family: Annotated[str | None, Incidental] = None
    """Models of one maker and release, whom the teacher belongs to; None where that is not said."""

    size_b: Annotated[float | None, Incidental] = None
    """Its parameters, in billions; None where they are not public."""

    @abstractmethod
    def rows(self, on_bad: OnBad | None = None) -> Iterator[Example]:
        """All examples, always in the same order.

        Args:
            on_bad: Told of each row that cannot be read; None: the first one is raised.
        """

    @abstractmethod
    def digest(self) -> str:
        """Changes whenever a row changes."""

    def events(self) -> Mapping[str, int]:
        """What the teacher itself left out or gave twice, by kind, before any limit."""
        return {}

    def parts(self) -> Mapping[str, Teacher]:
        """The teachers whose rows these are, by their place below this one's config key."""
        return {"": self}


@component
class Responses(Teacher):
    """Responses of one teacher, a conversation a row: where the rows are, and how one reads."""

    name: Annotated[str, Incidental]
    """How the teacher is called in tables."""

    source: Source
    """Where the rows are."""

    layout: Layout
    """How a row reads."""

    family: Annotated[str | None, Incidental] = None
    """Models of one maker and release, whom the teacher belongs to; for tables."""

    size_b: Annotated[float | None, Field(gt=0), Incidental] = None
    """Its parameters, in billions; for tables. Null where they are not public."""

    def digest(self) -> str:
        """Digest of the source and of how its rows are read."""
        return short_hash([canonical(self.source), canonical(self.layout)])

    def events(self) -> Mapping[str, int]:
        """What the source leaves out, and what the layout names and no row has."""
        values = (row.value for row in self.source.rows(self.layout.columns, _ignored))
        return {**self.source.events(), **self.layout.events(values)}

    def rows(self, on_bad: OnBad | None = None) -> Iterator[Example]:
        """One example a row, in the source's order.

        Args:
            on_bad: Told of each row that cannot be read; None: the first one is raised.

        Raises:
            DataError: the source cannot be read, or holds no row.
        """
        count = 0

        def refuse(error: Exception) -> None:
            nonlocal count
            count += 1
            tell(on_bad, self.name, error)

        for row in self.source.rows(self.layout.columns, refuse):
            try:
                found = self.layout.read(row.value)
            except DataError as error:
                refuse(DataError(f"{self.source.place}, {row.place}: {error}"))
                continue
            count += 1
            asked = id_of(found.messages)
            yield Example(asked, found.messages, self.name, found.reward, found.rewards)
        if not count:
            raise DataError(
                f"teacher {self.name!r}: {self.source.place} holds no row at all, so there is "
                f"nothing to learn. Check the path or the split."
            )


def _ignored(error: Exception) -> None:
    """Rows that cannot be read are told of where they are read to be trained on."""


def tell(on_bad: OnBad | None, teacher: str, error: Exception) -> None:
    """Tell of a row that cannot be read, or raise it if no row may be left out."""
    (on_bad or raised)(
        DataError(
            f"teacher {teacher!r}: {error} Trained on as it is, it would teach something that the "
            f"data do not say. Correct the row, name its parts in teacher.layout, or leave such "
            f"rows out, counted, with data.on_bad_row=drop."
        )
    )


def id_of(messages: Sequence[Message]) -> str:
    """A hash of what stands before the first response: the same for every teacher of a prompt."""
    prompt = []
    for message in messages:
        if message.role == "assistant":
            break
        prompt.append(message.content)
    return hashlib.sha256("\0".join(prompt).encode()).hexdigest()[:16]


@component
class TextCorpus(Teacher):
    """Plain text, every token supervised; documents are held out whole, by a hash of their text."""

    name: Annotated[str, Incidental]
    """How the corpus is called in tables."""

    path: Annotated[str, Incidental]
    """A .txt or .txt.gz file; in the run id stands a digest of its content, not its place."""

    separator: str
    """A line that stands between two documents."""

    part: Literal["train", "heldout"]
    """Which documents: those to train on, or those kept apart."""

    heldout_share: Annotated[float, Field(gt=0, lt=1)]
    """Chance of a document to be held out (the hash decides, so the split never moves)."""

    passage_chars: Annotated[int, Field(gt=0)]
    """Documents are given as passages of about this many characters, cut between paragraphs."""

    def overlaps(self, other: TextCorpus) -> bool:
        """Whether both can hold a document: of one file, wherever it or a copy of it lies."""
        if not _same_content(Path(self.path), Path(other.path)):
            return False
        same_cut = (self.separator, self.heldout_share) == (other.separator, other.heldout_share)
        return not same_cut or self.part == other.part

    def digest(self) -> str:
        """Digest of the file's bytes and of how it is cut."""
        content = digest_file(need_file(self.path, f"corpus {self.name!r}"))
        cut = (self.separator, self.part, self.heldout_share, self.passage_chars)
        return short_hash([content, *cut])

    def rows(self, on_bad: OnBad | None = None) -> Iterator[Example]:
        """One example a passage; ids are `<document>/<passage>`."""
        text = open_text(need_file(self.path, f"corpus {self.name!r}"))
        for number, document in enumerate(text.split(f"\n{self.separator}\n")):
            held_out = share_of(document) < self.heldout_share
            if held_out != (self.part == "heldout"):
                continue
            for place, passage in enumerate(passages(document, self.passage_chars)):
                yield Example(
                    id=f"{number}/{place}",
                    messages=(Message("text", passage),),
                    teacher=self.name,
                )


def _same_content(one: Path, two: Path) -> bool:
    if one.resolve() == two.resolve():
        return True
    there = one.is_file() and two.is_file() and one.stat().st_size == two.stat().st_size
    return there and digest_file(one) == digest_file(two)


def share_of(text: str) -> float:
    """A number in [0, 1) that depends on the text alone: splits by it never move.

    Example:
        >>> 0 <= share_of("Once upon a time") < 1
        True
    """
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def passages(document: str, chars: int) -> Iterator[str]:
    r"""Cut a document between paragraphs into passages of at least `chars` characters.

    The blank line after each paragraph counts.

    The passages joined by a blank line are the document again.

    Example:
        >>> list(passages("one\n\ntwo\n\nthree", 6))
        ['one\n\ntwo', 'three']
    """
    part: list[str] = []
    length = 0
    for paragraph in document.split("\n\n"):
        part.append(paragraph)
        length += len(paragraph) + 2
        if length >= chars:
            yield "\n\n".join(part)
            part, length = [], 0
    if part:
        yield "\n\n".join(part)
