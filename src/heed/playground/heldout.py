"""What the playground keeps apart: text of its world, and responses to its held-out instructions.

Both tell what tuning does to a student beside its tasks: nothing of them is ever trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import PositiveInt

from heed.core.component import component
from heed.core.errors import ConfigError, Mistake
from heed.core.identity import Incidental, short_hash
from heed.core.types import Example, Message, OnBad
from heed.data.teacher import Teacher
from heed.playground.corpus import documents
from heed.playground.teachers import Style, answers_of
from heed.playground.world import make_world


@component
class PlayOtherText(Teacher):
    """The world's plain text from another stream of random numbers than the pre-training's."""

    name: Annotated[str, Incidental]
    """How the corpus is called in tables."""

    world: int
    """Seed of the world, as in the pre-training text."""

    stream: int
    """Seed of the stream; that of the pre-training text is the world's own."""

    documents: PositiveInt
    """Number of documents; about 25 tokens each."""

    def __post_init__(self) -> None:
        if self.stream == self.world:
            why = "this is the stream of the text that students are pre-trained on."
            raise ConfigError([Mistake("stream", str(self.stream), why, "Give another number.")])

    def rows(self, on_bad: OnBad | None = None) -> Iterator[Example]:
        """One example a document."""
        texts = documents(make_world(self.world), self.documents, self.stream)
        for number, text in enumerate(texts):
            yield Example(id=str(number), messages=(Message("text", text),), teacher=self.name)

    def digest(self) -> str:
        """Digest of the documents."""
        return short_hash([row.messages[0].content for row in self.rows()])


@component
class PlayHeldOut(Teacher):
    """A style's answers to the world's held-out instructions, which no teacher is asked."""

    name: Annotated[str, Incidental]
    """How the teacher is called in tables."""

    style: Style
    """Quality and wording of the responses."""

    world: int
    """Seed of the world."""

    def rows(self, on_bad: OnBad | None = None) -> Iterator[Example]:
        """One example for every held-out instruction, in the world's order."""
        answer = answers_of(self.style, self.world)
        for instruction in make_world(self.world).test:
            turns = (Message("user", instruction.prompt), Message("assistant", answer(instruction)))
            yield Example(id=instruction.id, messages=turns, teacher=self.name)

    def digest(self) -> str:
        """Digest of the rows."""
        return short_hash([[row.id, *map(list, row.messages)] for row in self.rows()])
