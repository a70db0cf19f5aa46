"""The language of a text, as a detector guesses it: the same guess every time."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

LETTERS = 100
"""A text of fewer letters is not judged: the detector guesses at random on short ones."""

SURE = 0.9
"""A guess of less probability than this is none."""

CHARACTERS = 2000
"""The detector reads no more than the beginning of a text."""

SEED = 0
"""The detector draws random numbers; each text is judged as if it were the first."""


@lru_cache(maxsize=4096)
def language_of(text: str) -> str | None:
    """The language's two-letter code; None if the text is too short or the guess not sure.

    Scripts of one language are not told apart (`zh-cn` and `zh-tw` are both `zh`).

    Args:
        text: Any text; of a long one only the beginning counts.

    Source: langdetect, https://github.com/Mimino666/langdetect, with a fixed seed.

    Example:
        >>> language_of("Ja."), language_of("The quick brown fox jumps over the lazy dog. " * 4)
        (None, 'en')
    """
    from langdetect import LangDetectException

    beginning = text[:CHARACTERS]
    if sum(map(str.isalpha, beginning)) < LETTERS:
        return None
    detector = _profiles().create()
    detector.seed = SEED
    detector.append(beginning)
    try:
        (best, *_) = detector.get_probabilities() or [None]
    except LangDetectException:  # no letter of any language that it knows
        return None
    return str(best.lang)[:2] if best is not None and best.prob >= SURE else None


@cache
def _profiles() -> Any:
    """The detector's profiles of all its languages, read once."""
    from langdetect import detector_factory

    detector_factory.init_factory()
    return detector_factory._factory
