"""A teacher that can answer in more than one way: greedily, as it comes, or the best of several."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from heed.core.component import component
from heed.core.errors import ConfigError, Mistake
from heed.core.identity import Incidental, short_hash
from heed.core.types import Example, Message, OnBad
from heed.data.teacher import Teacher, share_of
from heed.playground.answers import respond
from heed.playground.graded import IGNORED, Mistakes, mistakes_of
from heed.playground.language import CLEAR
from heed.playground.world import Fact, Instruction, make_world

Decoding = Literal["greedy", "sampled", "best_of_n", "worst_of_n"]


@component
class SampledTeacher(Teacher):
    """Answers to a world's training instructions, drawn from a teacher's distribution.

    Its most likely answer is wrong for a share of the instructions, always the same ones. A drawn
    answer is the most likely one, or, by chance, another: wrong where that is right, and right
    where that is wrong. So sampling adds noise, and of several draws the playground's reward can
    pick what greedy decoding never says.
    """

    name: Annotated[str, Incidental]
    """How the teacher is called in tables."""

    decoding: Decoding
    """The most likely answer, the first draw, or the draw of the highest or lowest reward."""

    samples: PositiveInt
    """How many answers are drawn for an instruction; 1 where none is picked."""

    error: Annotated[float, Field(ge=0, le=0.8)]
    """Share of the instructions to which its most likely answer is wrong."""

    spread: Annotated[float, Field(ge=0, le=1)]
    """Chance of a drawn answer to be another than the most likely one."""

    world: int
    """Seed of the world."""

    seed: int
    """Of the draws."""

    def __post_init__(self) -> None:
        picked = self.decoding in ("best_of_n", "worst_of_n")
        if picked == (self.samples == 1):
            why = f"decoding {self.decoding} {'picks one of several' if picked else 'picks none'}."
            action = "Give 2 or more." if picked else "Give 1."
            raise ConfigError([Mistake("samples", str(self.samples), why, action)])

    def rows(self, on_bad: OnBad | None = None) -> Iterator[Example]:
        """One example for every training instruction, in the world's order."""
        for instruction in make_world(self.world).train:
            said = self.answer(instruction)
            turns = (Message("user", instruction.prompt), Message("assistant", said))
            yield Example(id=instruction.id, messages=turns, teacher=self.name)

    def answer(self, instruction: Instruction) -> str:
        """What it says to an instruction under its decoding."""
        if self.decoding == "greedy":
            return self._likeliest.answer(instruction, CLEAR)
        drawn = [self.draw(instruction, number) for number in range(self.samples)]
        if self.samples == 1:
            return drawn[0]
        from heed.playground.rewards import share_met

        rewards = {said: share_met(instruction, said) for said in dict.fromkeys(drawn)}
        pick = max if self.decoding == "best_of_n" else min
        return pick(rewards, key=lambda said: rewards[said])

    def draw(self, instruction: Instruction, number: int) -> str:
        """One of its answers; the first is the same however many are drawn."""
        about = f"{self.seed} {number} {instruction.id}"
        likeliest = self._likeliest
        if share_of(f"departs {about}") >= self.spread:
            return likeliest.answer(instruction, CLEAR)
        if likeliest.faulty(instruction):
            return respond(instruction.fact, instruction.constraints)
        return _slip(instruction, share_of(f"slips {about}"))

    @property
    def _likeliest(self) -> Mistakes:
        return mistakes_of(self.error, self.world)

    def digest(self) -> str:
        """Digest of all rows but their teacher's name."""
        settings = (self.decoding, self.samples, self.error, self.spread)
        return _digest(*settings, self.world, self.seed)


@cache
def _digest(
    decoding: Decoding, samples: int, error: float, spread: float, world: int, seed: int
) -> str:
    teacher = SampledTeacher(
        name="", decoding=decoding, samples=samples, error=error, spread=spread, world=world,
        seed=seed,
    )  # fmt: skip
    return short_hash([[row.id, *map(list, row.messages)] for row in teacher.rows()])


def _slip(instruction: Instruction, share: float) -> str:
    """A wrong answer: a wrong value, or one constraint left unmet; a share in [0, 1) says which."""
    fact = instruction.fact
    kinds = [c.kind for c in instruction.constraints if c.kind in IGNORED]
    place, rest = divmod(share * (1 + len(kinds)), 1)
    if place:
        return respond(fact, instruction.constraints, broken=[kinds[int(place) - 1]])
    other = fact.others[int(rest * len(fact.others))]
    return respond(Fact(fact.entity, fact.attribute, other), instruction.constraints)
