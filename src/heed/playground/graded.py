"""Teachers of graded quality: how often they are wrong, how long and in which words they answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Annotated, Literal

from pydantic import Field

from heed.core.component import component
from heed.core.identity import Incidental, short_hash
from heed.core.types import Example, Message, OnBad
from heed.data.teacher import Teacher, share_of
from heed.playground.answers import respond
from heed.playground.language import ATTRIBUTES, CLEAR, ORNATE, ORNATE_VERBOSE, VERBOSE, Voice
from heed.playground.teachers import other_value
from heed.playground.world import (
    BULLETS,
    COMMA,
    END,
    GAP,
    KEYWORD,
    POSTSCRIPT,
    QUOTED,
    TITLED,
    Fact,
    Instruction,
    make_world,
)

Length = Literal["short", "long"]
Words = Literal["plain", "rare"]

IGNORED = (BULLETS, COMMA, END, GAP, KEYWORD, POSTSCRIPT, QUOTED, TITLED)
"""Constraints that a teacher can ignore in every voice. The other two cannot be broken in all: a
long answer has its words, and rare words avoid the common one."""

VOICES: dict[tuple[Length, Words], Voice] = {
    ("short", "plain"): CLEAR,
    ("long", "plain"): VERBOSE,
    ("short", "rare"): ORNATE,
    ("long", "rare"): ORNATE_VERBOSE,
}


@component
class GradedTeacher(Teacher):
    """Answers to a world's training instructions, graded in error, length and rarity of words.

    Its mistakes are consistent, as those of the sloppy teacher: half of them habits (a constraint
    that it always ignores when it is asked about one kind of fact), half of them beliefs (facts of
    which it always says the same wrong value). Who errs more errs in all that who errs less does.
    """

    name: Annotated[str, Incidental]
    """How the teacher is called in tables."""

    error: Annotated[float, Field(ge=0, le=0.8)]
    """Share of its responses that are wrong in the fact or in a constraint."""

    length: Length
    """Whether an opening of a dozen words stands before the fact."""

    words: Words
    """Whether it speaks in words of the pre-training text, or in ones that hardly stand there."""

    world: int
    """Seed of the world; the student's text and the tasks should have the same."""

    def rows(self, on_bad: OnBad | None = None) -> Iterator[Example]:
        """One example for every training instruction, in the world's order."""
        made, voice = mistakes_of(self.error, self.world), VOICES[self.length, self.words]
        for instruction in make_world(self.world).train:
            turns = (
                Message("user", instruction.prompt),
                Message("assistant", made.answer(instruction, voice)),
            )
            yield Example(id=instruction.id, messages=turns, teacher=self.name)

    def digest(self) -> str:
        """Digest of all rows but their teacher's name."""
        return _digest(self.error, self.length, self.words, self.world)


@cache
def _digest(error: float, length: Length, words: Words, world: int) -> str:
    teacher = GradedTeacher(name="", error=error, length=length, words=words, world=world)
    return short_hash([[row.id, *map(list, row.messages)] for row in teacher.rows()])


@dataclass(frozen=True)
class Mistakes:
    """What a teacher always gets wrong.

    Attributes:
        habits: Kind of constraint and noun of the asked fact: ignored whenever both meet.
        beliefs: What it takes for true instead.
    """

    habits: frozenset[tuple[str, str]]
    beliefs: dict[Fact, Fact]

    def broken(self, instruction: Instruction) -> list[str]:
        """Kinds of the instruction's constraints that it ignores."""
        noun = instruction.fact.attribute.noun
        return [c.kind for c in instruction.constraints if (c.kind, noun) in self.habits]

    def faulty(self, instruction: Instruction) -> bool:
        """Whether it answers wrongly."""
        return instruction.fact in self.beliefs or bool(self.broken(instruction))

    def answer(self, instruction: Instruction, voice: Voice) -> str:
        """Its response."""
        fact = self.beliefs.get(instruction.fact, instruction.fact)
        return respond(fact, instruction.constraints, voice, broken=self.broken(instruction))


@cache
def mistakes_of(error: float, seed: int) -> Mistakes:
    """The habits and beliefs with which so large a share of responses is wrong.

    Both are taken in the order of a hash: habits until half of the share is reached, then beliefs
    about taught facts, until all of it is. Beliefs about untaught facts are added for the test, so
    that the teacher would be as wrong about what it was never asked.

    Args:
        error: Share of the training responses that are to be wrong.
        seed: Of the world.
    """
    world = make_world(seed)
    habits = _habits(world.train, error / 2)
    beliefs: dict[Fact, Fact] = {}
    for part, taught in ((world.train, True), (world.test, False)):
        facts = {i.fact for i in part if i.fact.taught is taught}
        for fact in sorted(facts, key=lambda f: share_of(f"errs {f.entity} {f.attribute.noun}")):
            more = beliefs | {fact: Fact(fact.entity, fact.attribute, other_value(fact))}
            if not _nearer(part, error, Mistakes(habits, beliefs), Mistakes(habits, more)):
                break
            beliefs = more
    return Mistakes(habits, beliefs)


def _habits(asked: Sequence[Instruction], share: float) -> frozenset[tuple[str, str]]:
    """Habits that make so large a share of responses wrong."""
    kinds = product(IGNORED, [attribute.noun for attribute in ATTRIBUTES])
    found: frozenset[tuple[str, str]] = frozenset()
    for habit in sorted(kinds, key=lambda pair: share_of(f"ignores {' '.join(pair)}")):
        more = found | {habit}
        if not _nearer(asked, share, Mistakes(found, {}), Mistakes(more, {})):
            break
        found = more
    return found


def _nearer(asked: Sequence[Instruction], share: float, now: Mistakes, more: Mistakes) -> bool:
    """Whether with more mistakes the share of wrong responses is no further from the wanted one."""
    distances = [abs(sum(map(made.faulty, asked)) / len(asked) - share) for made in (now, more)]
    return distances[1] <= distances[0]
