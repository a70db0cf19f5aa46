"""The playground's teachers: known quality, four styles, the same instructions for all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import Annotated, Literal

from pydantic import PositiveInt

from heed.core.component import component
from heed.core.identity import Incidental, short_hash
from heed.core.types import Example, Message, OnBad
from heed.data.teacher import Teacher, share_of
from heed.playground.answers import respond
from heed.playground.corpus import documents
from heed.playground.language import CLEAR, ORNATE, VERBOSE
from heed.playground.world import POSTSCRIPT, Fact, Instruction, make_world

Style = Literal["clear", "verbose", "sloppy", "ornate"]

FAULTY = 0.30
"""Share of the sloppy teacher's responses that are wrong in the fact or in a constraint."""

HABIT = (POSTSCRIPT,)
"""Constraints that the sloppy teacher always ignores."""


@component
class PlayTeacher(Teacher):
    """Answers to a world's training instructions, in one style.

    clear: right and short. verbose: right, after a long opening. ornate: right, in words that the
    student hardly read. sloppy: it is wrong as people are, by belief and by habit, and not at
    random: the same few facts are always wrong, and one constraint is always ignored. (A student
    averages random mistakes away; it learns a consistent one.)
    """

    name: Annotated[str, Incidental]
    """How the teacher is called in tables."""

    style: Style
    """Quality and wording of the responses."""

    world: int
    """Seed of the world; the student's text and the tasks should have the same."""

    def rows(self, on_bad: OnBad | None = None) -> Iterator[Example]:
        """One example for every training instruction, in the world's order."""
        answer = answers_of(self.style, self.world)
        for instruction in make_world(self.world).train:
            turns = (Message("user", instruction.prompt), Message("assistant", answer(instruction)))
            yield Example(id=instruction.id, messages=turns, teacher=self.name)

    def digest(self) -> str:
        """Digest of all rows but their teacher's name."""
        return _digest(self.style, self.world)


@cache
def _digest(style: Style, world: int) -> str:
    rows = PlayTeacher(name="", style=style, world=world).rows()
    return short_hash([[row.id, *map(list, row.messages)] for row in rows])


@component
class PlayText(Teacher):
    """The world's plain text, for pre-training: facts, stories, lists, and texts with formats."""

    name: Annotated[str, Incidental]
    """How the corpus is called in tables."""

    world: int
    """Seed of the world."""

    documents: PositiveInt
    """Number of documents; about 25 tokens each."""

    def rows(self, on_bad: OnBad | None = None) -> Iterator[Example]:
        """One example a document."""
        texts = documents(make_world(self.world), self.documents, self.world)
        for number, text in enumerate(texts):
            yield Example(id=str(number), messages=(Message("text", text),), teacher=self.name)

    def digest(self) -> str:
        """Digest of a sample of the documents: all come from one stream of random numbers."""
        return _text_digest(self.documents, self.world)


@cache
def _text_digest(number: int, world: int) -> str:
    return short_hash([number, *documents(make_world(world), min(number, 500), world)])


def answers_of(style: Style, seed: int) -> Callable[[Instruction], str]:
    """How a style answers an instruction of the world, a held-out one too."""
    if style == "sloppy":
        beliefs = wrong_beliefs(seed)
        return lambda i: respond(beliefs.get(i.fact, i.fact), i.constraints, CLEAR, broken=HABIT)
    voice = {"clear": CLEAR, "verbose": VERBOSE, "ornate": ORNATE}[style]
    return lambda i: respond(i.fact, i.constraints, voice)


@cache
def wrong_beliefs(seed: int) -> dict[Fact, Fact]:
    """What the sloppy teacher believes instead of some facts.

    Facts are taken in the order of a hash, until with the broken constraints the share of faulty
    responses is as near as possible to `FAULTY`: taught facts for the training instructions, and
    then untaught ones for the test, so that the teacher is as good on what it was never asked.
    """
    world = make_world(seed)
    facts = sorted(world.facts, key=_order)
    beliefs: dict[Fact, Fact] = {}
    for part, taught in ((world.train, True), (world.test, False)):
        met = [i.fact for i in part if not any(c.kind in HABIT for c in i.constraints)]
        asked = Counter(fact for fact in met if fact not in beliefs)
        faulty = len(part) - asked.total()
        for fact in facts:
            if fact.taught is not taught:
                continue
            if faulty + asked[fact] / 2 > FAULTY * len(part):
                break
            faulty += asked[fact]
            beliefs[fact] = Fact(fact.entity, fact.attribute, other_value(fact))
    return beliefs


def _order(fact: Fact) -> float:
    return share_of(f"believes {fact.entity} {fact.attribute.noun}")


def other_value(fact: Fact) -> str:
    """Some wrong value, chosen by a hash."""
    return fact.others[int(share_of(f"instead {fact.entity} {fact.value}") * len(fact.others))]
