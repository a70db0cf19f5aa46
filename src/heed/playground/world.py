"""The playground's world: facts drawn from a seed, and the instructions that ask for them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import combinations
from typing import Any

from heed.core.identity import short_hash
from heed.data.teacher import share_of
from heed.playground.language import (
    ASKED,
    ATTRIBUTES,
    ENTITIES,
    KEYWORDS,
    NOTED,
    QUESTIONS,
    Attribute,
)

TAUGHT_SHARE = 0.5
"""Chance of a fact to be one that tuning asks about; the hash of entity and attribute decides."""

TEST_SHARE = 0.2
"""Chance of a demand (a fact and constraints) to be a test prompt's; its hash decides."""

TRAIN, TEST = 2080, 520
"""Instructions of a world that teachers answer, and that only the task knows."""

SHORT, LONG = 5, 12
"""Bounds in words of the two length constraints."""

COMMA = "punctuation:no_comma"
KEYWORD = "keywords:existence"
FORBIDDEN = "keywords:forbidden_words"
END = "startend:end_checker"
QUOTED = "startend:quotation"
BULLETS = "detectable_format:number_bullet_lists"
TITLED = "detectable_format:title"
POSTSCRIPT = "detectable_content:postscript"
GAP = "detectable_content:number_placeholders"
WORDS = "length_constraints:number_words"

_VERB = "Take the verb."


@dataclass(frozen=True)
class Fact:
    """What is so in the world: an entity, an attribute, and its value."""

    entity: str
    attribute: Attribute
    value: str

    @property
    def others(self) -> tuple[str, ...]:
        """All wrong values."""
        return tuple(v for v in self.attribute.values if v != self.value)

    @property
    def taught(self) -> bool:
        """Whether training instructions ask for it; no teacher ever speaks of the other facts."""
        return share_of(f"taught {self.entity} {self.attribute.noun}") < TAUGHT_SHARE


@dataclass(frozen=True)
class Constraint:
    """One verifiable demand on a response.

    Attributes:
        kind: IFEval instruction type.
        word: The word it is about, if any.
        count: Bullets, gaps, or (negative: fewer than) words; 0 if none.
    """

    kind: str
    word: str = ""
    count: int = 0

    @property
    def kwargs(self) -> dict[str, Any]:
        """Arguments in IFEval's row format."""
        match self.kind:
            case "keywords:existence":
                return {"keywords": [self.word]}
            case "keywords:forbidden_words":
                return {"forbidden_words": [self.word]}
            case "startend:end_checker":
                return {"end_phrase": self.word}
            case "detectable_format:number_bullet_lists":
                return {"num_bullets": self.count}
            case "detectable_content:number_placeholders":
                return {"num_placeholders": self.count}
            case "detectable_content:postscript":
                return {"postscript_marker": "P.S."}
            case "length_constraints:number_words":
                relation = "less than" if self.count < 0 else "at least"
                return {"relation": relation, "num_words": abs(self.count)}
        return {}

    def worded(self, wordings: Mapping[str, str]) -> str:
        """The demand in words, asked for (`ASKED`) or noted (`NOTED`)."""
        relation = "less than" if self.count < 0 else "at least"
        return wordings[self.kind].format(
            w=self.word, a=self.word, n=self.count, r=relation, m=abs(self.count)
        )


@dataclass(frozen=True)
class Instruction:
    """A question about a fact with one or two constraints."""

    prompt: str
    fact: Fact
    constraints: tuple[Constraint, ...]

    @property
    def id(self) -> str:
        """The same for every teacher."""
        return short_hash(self.prompt)

    @property
    def demand(self) -> str:
        """The fact and the constraints, however the prompt words and orders them.

        Two instructions have one demand if and only if they have one right, clear response: that a
        word is avoided and that a response is short both take the fact's verb, which has no comma.
        """
        asked = {_VERB if _takes_verb(c) else c.worded(ASKED) for c in self.constraints}
        if _VERB in asked:
            asked.discard(ASKED[COMMA])
        return " ".join([self.fact.entity, self.fact.attribute.noun, *sorted(asked)])

    @property
    def held_out(self) -> bool:
        """Whether this is a test prompt; its demand decides, so that no demand is in both parts."""
        return share_of(self.demand) < TEST_SHARE

    def row(self, key: int) -> dict[str, Any]:
        """IFEval's row format, with the right `answer` and the `wrong` ones."""
        return {
            "key": key,
            "prompt": self.prompt,
            "instruction_id_list": [c.kind for c in self.constraints],
            "kwargs": [c.kwargs for c in self.constraints],
            "answer": self.fact.value,
            "wrong": list(self.fact.others),
        }


@dataclass(frozen=True)
class World:
    """Facts and instructions of one seed.

    Attributes:
        facts: One for every entity and attribute.
        instructions: Distinct, in a fixed order, train and test mixed. Training asks for taught
            facts only; the test asks for all facts alike, and for no demand twice.
    """

    facts: tuple[Fact, ...]
    instructions: tuple[Instruction, ...]

    @cached_property
    def train(self) -> tuple[Instruction, ...]:
        """Instructions that teachers answer."""
        return tuple(i for i in self.instructions if not i.held_out)

    @cached_property
    def test(self) -> tuple[Instruction, ...]:
        """Instructions that only the task knows."""
        return tuple(i for i in self.instructions if i.held_out)


@cache
def make_world(seed: int) -> World:
    """The world of a seed; values of an attribute are spread evenly over the entities."""
    rng = random.Random(f"world {seed}")
    facts = []
    for attribute in ATTRIBUTES:
        values = [attribute.values[i % len(attribute.values)] for i in range(len(ENTITIES))]
        rng.shuffle(values)
        facts += [Fact(e, attribute, v) for e, v in zip(ENTITIES, values, strict=True)]
    return World(tuple(facts), tuple(_instructions(facts, rng)))


def _instructions(facts: Sequence[Fact], rng: random.Random) -> list[Instruction]:
    """Draw instructions until there are enough to train on and to test with."""
    found: dict[str, Instruction] = {}
    wanted = {False: TRAIN, True: TEST}
    while any(wanted.values()):
        made = _instruct(rng.choice(facts), rng)
        held_out = made.held_out
        name = made.demand if held_out else made.prompt
        if wanted[held_out] and name not in found and (held_out or made.fact.taught):
            found[name] = made
            wanted[held_out] -= 1
    return list(found.values())


def _instruct(fact: Fact, rng: random.Random) -> Instruction:
    constraints = draw_constraints(fact, rng)
    question = rng.choice(QUESTIONS).format(a=fact.attribute.noun, e=fact.entity)
    prompt = " ".join([question, *(c.worded(ASKED) for c in constraints)])
    return Instruction(prompt, fact, constraints)


def draw_constraints(fact: Fact, rng: random.Random) -> tuple[Constraint, ...]:
    """One or two constraints (equally often) that one response can meet together."""
    while True:
        kinds = rng.sample(tuple(NOTED), rng.choice((1, 2)))
        drawn = tuple(_draw(kind, fact, rng) for kind in kinds)
        if all(_agree(a, b) for a, b in combinations(drawn, 2)):
            return drawn


def _draw(kind: str, fact: Fact, rng: random.Random) -> Constraint:
    if kind in (KEYWORD, END):
        return Constraint(kind, word=rng.choice(KEYWORDS))
    if kind == FORBIDDEN:
        return Constraint(kind, word=fact.attribute.noun)
    if kind in (BULLETS, GAP):
        return Constraint(kind, count=rng.choice((2, 3)))
    if kind == WORDS:
        return Constraint(kind, count=rng.choice((-SHORT, LONG)))
    return Constraint(kind)


def _takes_verb(constraint: Constraint) -> bool:
    """Whether a response meets it by the fact's verb: fewer words, and not the attribute's noun."""
    return constraint.kind == FORBIDDEN or (constraint.kind == WORDS and constraint.count < 0)


def _agree(one: Constraint, other: Constraint) -> bool:
    """Whether two constraints can be met together, and neither makes the other empty."""
    kinds = {one.kind, other.kind}
    if WORDS in kinds and min(one.count, other.count) < 0:  # fewer than: no room for additions
        return bool(kinds & {COMMA, QUOTED})
    if BULLETS in kinds:
        return not kinds & {COMMA, FORBIDDEN, QUOTED, WORDS}
    return not kinds >= {COMMA, FORBIDDEN}
