"""How a response is put together: a fact in one voice, under the constraints it has to meet."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from heed.playground import language
from heed.playground.language import BULLET, CLEAR, GAPS, QUOTE, SLIP, TITLE, WITH_COMMA, Voice
from heed.playground.world import (
    BULLETS,
    COMMA,
    END,
    FORBIDDEN,
    GAP,
    KEYWORD,
    POSTSCRIPT,
    QUOTED,
    TITLED,
    WORDS,
    Constraint,
    Fact,
)


def respond(
    fact: Fact,
    constraints: Sequence[Constraint],
    voice: Voice = CLEAR,
    broken: Collection[str] = (),
) -> str:
    """A response that states the fact and meets the constraints.

    Args:
        fact: What to say; a wrong fact makes a wrong response.
        constraints: What to meet.
        voice: How to say it.
        broken: Kinds of constraint that are left unmet.

    Example:
        >>> from heed.playground.language import ATTRIBUTES
        >>> red = Fact("Ada", ATTRIBUTES[0], "red")
        >>> respond(red, [Constraint(QUOTED), Constraint(END, word="river")])
        '"For Ada, the color is red. Finally river"'
    """
    met = {c.kind: c for c in constraints if c.kind not in broken}
    body = _body(fact, met, voice)
    if COMMA in broken:
        body = f"{SLIP} {body}"
    said = ("\n" if BULLETS in met else " ").join([body, *_additions(met, voice)])
    if POSTSCRIPT in met:
        said += f"\n{voice.postscript}"
    if END in met:
        said += f" {voice.ending.format(w=met[END].word)}"
    if TITLED in met:
        said = f"{TITLE.format(e=fact.entity)}\n{said}"
    return f"{QUOTE}{said}{QUOTE}" if QUOTED in met else said


def _body(fact: Fact, met: Mapping[str, Constraint], voice: Voice) -> str:
    """The fact itself, with the voice's opening where there is room for it."""
    short = WORDS in met and met[WORDS].count < 0
    core = _sentence(fact, met, voice, short=short)
    if BULLETS in met:
        noun = fact.attribute.ornate if voice.rare else fact.attribute.noun
        points = (
            [fact.entity, noun, fact.value]
            if met[BULLETS].count == 3
            else [fact.entity, fact.value]
        )
        core = "\n".join(BULLET.format(x=point) for point in points)
    if not voice.opening or short:
        return core
    return f"{voice.opening}\n{core}" if BULLETS in met else f"{voice.opening} {core}"


def _sentence(fact: Fact, met: Mapping[str, Constraint], voice: Voice, *, short: bool) -> str:
    attribute = fact.attribute
    if short or FORBIDDEN in met:
        wording = attribute.rare if voice.rare else attribute.verb
    elif voice.fact == language.PLAIN and COMMA not in met:
        wording = WITH_COMMA
    else:
        wording = voice.fact
    return wording.format(e=fact.entity, a=attribute.noun, o=attribute.ornate, v=fact.value)


def _additions(met: Mapping[str, Constraint], voice: Voice) -> list[str]:
    """What follows the fact on its line."""
    added = []
    if KEYWORD in met:
        added.append(voice.keyword.format(w=met[KEYWORD].word))
    if GAP in met:
        added.append(" ".join(GAPS[: met[GAP].count]))
    if WORDS in met and met[WORDS].count > 0 and voice.filler:
        added.append(voice.filler)
    return added
