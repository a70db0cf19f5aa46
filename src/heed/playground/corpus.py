"""The playground's plain text: what a student reads before it is ever given an instruction."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from itertools import accumulate

from heed.playground import language
from heed.playground.answers import respond
from heed.playground.language import CLEAR, ENTITIES, KEYWORDS, ORNATE, VERBOSE
from heed.playground.world import Fact, World, draw_constraints

SHARES = {"card": 45, "facts": 20, "sheet": 15, "story": 12, "copy": 8}
"""Kinds of document, in per cent."""

RARE = 0.004
"""Share of sentences about facts in ornate words."""

FAME = 18
"""Each entity is mentioned a factor of e less often than the one `FAME` places before it: some
facts stand in hundreds of documents and some in a handful, as in real text."""

OPENED = 0.05
"""Share of cards that begin with the verbose opening."""

_MENTIONS = tuple(accumulate(math.exp(-place / FAME) for place in range(len(ENTITIES))))


def documents(world: World, count: int, seed: int) -> Iterator[str]:
    """Short documents in a fixed order; there is no turn of a conversation in any of them."""
    rng = random.Random(f"text {seed}")
    write = {"card": _card, "facts": _facts, "sheet": _sheet, "story": _story, "copy": _copy}
    for _ in range(count):
        kind = rng.choices(tuple(SHARES), tuple(SHARES.values()))[0]
        yield write[kind](world, rng)


def _card(world: World, rng: random.Random) -> str:
    """A note says what the text below it is like; that is how formats are learned."""
    fact = _recall(world, rng)
    constraints = draw_constraints(fact, rng)
    note = rng.choice(language.NOTES).format(a=fact.attribute.noun, e=fact.entity)
    head = " ".join([note, *(c.worded(language.NOTED) for c in constraints)])
    voice = VERBOSE if rng.random() < OPENED else CLEAR
    return f"{head}\n{respond(fact, constraints, voice)}"


def _facts(world: World, rng: random.Random) -> str:
    return " ".join(_state(_recall(world, rng), rng) for _ in range(4))


def _sheet(world: World, rng: random.Random) -> str:
    """All facts of one entity, as a list or as sentences."""
    entity = _recall(world, rng).entity
    facts = _facts_of(world, ENTITIES.index(entity))
    rng.shuffle(facts)
    if rng.random() < 0.5:
        lines = [language.LISTED.format(a=f.attribute.noun, v=f.value) for f in facts]
        return "\n".join([rng.choice(language.HEADINGS).format(e=entity), *lines])
    return " ".join(_state(f, rng) for f in facts)


def _story(world: World, rng: random.Random) -> str:
    one = other = _recall(world, rng)
    while other.entity == one.entity:
        other = _recall(world, rng)
    opening = rng.choice(language.STORIES).format(
        e=one.entity, f=other.entity, w=rng.choice(KEYWORDS)
    )
    saying = rng.choice(language.SAYINGS).format(e=rng.choice((one, other)).entity)
    return f'{opening} {_state(one, rng)}\n{saying} "{_state(other, rng)}"'


def _copy(world: World, rng: random.Random) -> str:
    words = " ".join(rng.sample(KEYWORDS, rng.choice((2, 3, 4))))
    return f"{words}. {language.AGAIN} {words}."


def _recall(world: World, rng: random.Random) -> Fact:
    """Some fact, of a well-known entity more often than of an obscure one."""
    place = rng.choices(range(len(ENTITIES)), cum_weights=_MENTIONS)[0]
    return rng.choice(_facts_of(world, place))


def _facts_of(world: World, place: int) -> list[Fact]:
    """All facts of the entity at a place; the world lists its facts attribute by attribute."""
    return list(world.facts[place :: len(ENTITIES)])


def _state(fact: Fact, rng: random.Random) -> str:
    """One fact as a sentence, in one of several wordings."""
    rare = (fact.attribute.rare, ORNATE.fact)
    usual = (fact.attribute.verb, language.PLAIN, language.WITH_COMMA)
    wording = rng.choice(rare if rng.random() < RARE else usual)
    return wording.format(
        e=fact.entity, a=fact.attribute.noun, o=fact.attribute.ornate, v=fact.value
    )
