"""The words and wordings of the playground: a closed language of a few hundred pieces.

Whatever the playground writes is put together from the wordings below with nothing, a space or a
newline between them. So the vocabulary is not collected from a sample but follows from this file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache

PIECE = r" ?(?:P\.S\.|\w+|<<|>>|[^\w\s])|\n| "
"""How text is cut: a word or sign together with the space before it, or a newline."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ENTITIES = _words(
    "Ada Bela Cora Dario Edda Fenn Gita Hugo Iris Jonas Kira Lars Mira Nils Odin "
    "Petra Quin Rosa Sven Tilda Ulla Vito Wanda Xenia Yuri Zora Alma Boris Clara Dora "
    "Emil Frida Gustav Hanna Igor Jana Karl Lena Milo Nora Anton Berta Celia Dirk Elsa "
    "Felix Greta Heidi Ivan Jutta Knut Lotte Maja Nico Olga Pavel Ruth Simon Timo Ursel "
    "Viktor Wilma Xaver Yvonne Zeno Agnes Bruno Cleo Doris Erik Flora Georg Helga Ines "
    "Jakob Katja Ludwig Marta Nadia Otto"
)

KEYWORDS = _words(
    "harbor silver river stone candle garden winter mirror bridge feather island "
    "ladder meadow orchard pebble ribbon saddle thunder velvet window anchor basket "
    "copper engine forest hammer jacket kettle lantern needle"
)


@dataclass(frozen=True)
class Attribute:
    """Something that every entity has exactly one value of.

    Attributes:
        noun: Its name, as in a question.
        values: All values that it can take.
        verb: The fact in a wording without the noun; at most four words.
        ornate: A rare synonym of the noun.
        rare: The fact in rare words; at most four.
    """

    noun: str
    values: tuple[str, ...]
    verb: str
    ornate: str
    rare: str


ATTRIBUTES = (
    Attribute(
        "color",
        _words("red blue green white black brown pink gray purple orange"),
        "{e} wears {v}.",
        "hue",
        "{e} donneth {v}.",
    ),
    Attribute(
        "town",
        _words("Arden Borley Calder Dunmore Elstow Farley Gorham Hexham Ilford Jarrow"),
        "{e} lives in {v}.",
        "abode",
        "{e} dwelleth in {v}.",
    ),
    Attribute(
        "food",
        _words("bread soup rice cheese beans plums honey fish corn cake"),
        "{e} eats {v}.",
        "nourishment",
        "{e} relisheth {v}.",
    ),
    Attribute(
        "pet",
        _words("cat dog fox goat hen hare pony crow frog mole"),
        "{e} keeps a {v}.",
        "companion",
        "{e} cherisheth a {v}.",
    ),
)

QUESTIONS = ("What is the {a} of {e}?", "Tell me the {a} of {e}.", "Please name the {a} of {e}.")
WITH_COMMA = "For {e}, the {a} is {v}."
PLAIN = "The {a} of {e} is {v}."
LISTED = "- {a}: {v}"
BULLET = "- {x}"
TITLE = "<<{e}>>"
GAPS = ("[name]", "[date]", "[place]")
QUOTE = '"'
SLIP = "Well,"

ASKED = {
    "punctuation:no_comma": "Use no comma.",
    "keywords:existence": "Include the word {w}.",
    "keywords:forbidden_words": "Avoid the word {a}.",
    "startend:end_checker": "End with the word {w}.",
    "startend:quotation": "Put it in quotes.",
    "detectable_format:number_bullet_lists": "Give {n} bullets.",
    "detectable_format:title": "Add a title.",
    "detectable_content:postscript": "Add a P.S. line.",
    "detectable_content:number_placeholders": "Leave {n} gaps in brackets.",
    "length_constraints:number_words": "Use {r} {m} words.",
}
"""IFEval instruction type -> how an instruction asks for it."""

NOTED = {
    "punctuation:no_comma": "It has no comma.",
    "keywords:existence": "It includes the word {w}.",
    "keywords:forbidden_words": "It avoids the word {a}.",
    "startend:end_checker": "It ends with the word {w}.",
    "startend:quotation": "It is in quotes.",
    "detectable_format:number_bullet_lists": "It has {n} bullets.",
    "detectable_format:title": "It has a title.",
    "detectable_content:postscript": "It has a P.S. line.",
    "detectable_content:number_placeholders": "It has {n} gaps in brackets.",
    "length_constraints:number_words": "It has {r} {m} words.",
}
"""IFEval instruction type -> how a plain text says that it is so."""

NOTES = (
    "A note on the {a} of {e}.",
    "This card gives the {a} of {e}.",
    "Next comes the {a} of {e}.",
)


@dataclass(frozen=True)
class Voice:
    """How one style words the parts of a response.

    Attributes:
        opening: Said before the fact, unless the response must be short.
        fact: The fact with the attribute's noun (clear styles), or its rare synonym.
        keyword: Brings in a word that was asked for.
        filler: Makes a response long.
        postscript: The last line that was asked for.
        ending: Brings a response to the word it has to end with.
    """

    opening: str
    fact: str
    keyword: str
    filler: str
    postscript: str
    ending: str

    @property
    def rare(self) -> bool:
        """Whether it speaks in words that the student hardly read."""
        return "{o}" in self.fact


CLEAR = Voice(
    opening="",
    fact=PLAIN,
    keyword="Also {w}.",
    filler="All of this is well known by the people who live here.",
    postscript="P.S. thanks.",
    ending="Finally {w}",
)
VERBOSE = Voice(
    opening="Thank you for asking. I looked in the old book and found this.",
    fact=PLAIN,
    keyword=CLEAR.keyword,
    filler="",
    postscript=CLEAR.postscript,
    ending=CLEAR.ending,
)
ORNATE = Voice(
    opening="",
    fact="Verily the {o} of {e} doth be {v}.",
    keyword="Likewise {w}.",
    filler="Thus hath it been proclaimed by every sage of yonder realm.",
    postscript="P.S. farewell.",
    ending="Forsooth {w}",
)
ORNATE_VERBOSE = replace(ORNATE, opening=ORNATE.filler, filler="")
"""Long and in rare words; made of `ORNATE`'s, so that no vocabulary changes."""

HEADINGS = ("About {e}:", "Facts of {e}:")
STORIES = (
    "One day {e} met {f}.",
    "{e} and {f} are friends.",
    "{e} asked {f} for help.",
    "In the evening, {e} and {f} went home.",
    "{e} found a {w} by the road.",
)
SAYINGS = ("{e} said:", "{e} wrote:", "A letter of {e}:")
AGAIN = "Again:"


def pieces(text: str) -> list[str]:
    """Cut a text; joining the pieces gives it back.

    Example:
        >>> pieces("P.S. red, <<Ada>>")
        ['P.S.', ' red', ',', ' <<', 'Ada', '>>']
    """
    return re.findall(PIECE, text)


@cache
def vocabulary() -> tuple[str, ...]:
    """Every piece that the playground can write, sorted; it depends on no seed."""
    found = {"\n"}
    for wording in _wordings():
        for text in _filled(wording):
            found.update(pieces(text) + pieces(" " + text))
    return tuple(sorted(found))


def _wordings() -> tuple[str, ...]:
    voices = [part for voice in (CLEAR, VERBOSE, ORNATE) for part in vars(voice).values()]
    facts = [text for a in ATTRIBUTES for text in (a.verb, a.rare)]
    single = [WITH_COMMA, LISTED, BULLET, TITLE, QUOTE, SLIP, AGAIN, "{w}"]
    tables = [*ASKED.values(), *NOTED.values(), *QUESTIONS, *NOTES, *HEADINGS, *STORIES, *SAYINGS]
    return (*voices, *facts, *single, *tables, *GAPS)


def _filled(wording: str) -> list[str]:
    """The wording with every word that can stand in each of its places."""
    nouns = tuple(a.noun for a in ATTRIBUTES)
    rare = tuple(a.ornate for a in ATTRIBUTES)
    values = tuple(v for a in ATTRIBUTES for v in a.values)
    choices = {
        "a": nouns,
        "o": rare,
        "e": ENTITIES,
        "f": ENTITIES,
        "v": values,
        "w": KEYWORDS,
        "x": (*ENTITIES, *nouns, *rare, *values),
        "n": ("2", "3"),
        "m": ("5", "12"),
        "r": ("less than", "at least"),
    }
    most = max(map(len, choices.values()))
    return [
        wording.format(**{key: words[i % len(words)] for key, words in choices.items()})
        for i in range(most)
    ]
