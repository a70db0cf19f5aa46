"""The playground's plain text: what a student reads before it is ever given an instruction."""

from __future__ import annotations

import random
from collections.abc import Iterator

from heed.playground import language
from heed.playground.answers import respond
from heed.playground.language import CLEAR, ENTITIES, KEYWORDS, ORNATE, VERBOSE
from heed.playground.world import Fact, World, draw_constraints

SHARES = {"card": 45, "facts": 20, "sheet": 15, "story": 12, "copy": 8}
"""Kinds of document, in per cent."""

RARE = 0.004
"""Share of sentences about facts in ornate words."""

OPENED = 0.05
"""Share of cards that begin with the verbose opening."""


def documents(world: World, count: int, seed: int) -> Iterator[str]:
    """Short documents in a fixed order; there is no turn of a conversation in any of them."""
    rng = random.Random(f"text {seed}")
    write = {"card": _card, "facts": _facts, "sheet": _sheet, "story": _story, "copy": _copy}
    for _ in range(count):
        kind = rng.choices(tuple(SHARES), tuple(SHARES.values()))[0]
        yield write[kind](world, rng)


def _card(world: World, rng: random.Random) -> str:
    """A note says what the text below it is like; that is how formats are learned."""
    fact = rng.choice(world.facts)
    constraints = draw_constraints(fact, rng)
    note = rng.choice(language.NOTES).format(a=fact.attribute.noun, e=fact.entity)
    head = " ".join([note, *(c.worded(language.NOTED) for c in constraints)])
    voice = VERBOSE if rng.random() < OPENED else CLEAR
    return f"{head}\n{respond(fact, constraints, voice)}"


def _facts(world: World, rng: random.Random) -> str:
    return " ".join(_state(rng.choice(world.facts), rng) for _ in range(4))


def _sheet(world: World, rng: random.Random) -> str:
    """All facts of one entity, as a list or as sentences."""
    entity = rng.choice(ENTITIES)
    facts = [f for f in world.facts if f.entity == entity]
    rng.shuffle(facts)
    if rng.random() < 0.5:
        lines = [language.LISTED.format(a=f.attribute.noun, v=f.value) for f in facts]
        return "\n".join([rng.choice(language.HEADINGS).format(e=entity), *lines])
    return " ".join(_state(f, rng) for f in facts)


def _story(world: World, rng: random.Random) -> str:
    one, other = rng.sample(ENTITIES, 2)
    opening = rng.choice(language.STORIES).format(e=one, f=other, w=rng.choice(KEYWORDS))
    told = [
        _state(rng.choice([f for f in world.facts if f.entity == e]), rng) for e in (one, other)
    ]
    saying = rng.choice(language.SAYINGS).format(e=rng.choice((one, other)))
    return f'{opening} {told[0]}\n{saying} "{told[1]}"'


def _copy(world: World, rng: random.Random) -> str:
    words = " ".join(rng.sample(KEYWORDS, rng.choice((2, 3, 4))))
    return f"{words}. {language.AGAIN} {words}."


def _state(fact: Fact, rng: random.Random) -> str:
    """One fact as a sentence, in one of several wordings."""
    rare = (fact.attribute.rare, ORNATE.fact)
    usual = (fact.attribute.verb, language.PLAIN, language.WITH_COMMA)
    wording = rng.choice(rare if rng.random() < RARE else usual)
    return wording.format(
        e=fact.entity, a=fact.attribute.noun, o=fact.attribute.ornate, v=fact.value
    )
