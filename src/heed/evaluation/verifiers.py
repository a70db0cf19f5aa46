"""Verifiers, made reproducible: which instructions does a response follow?

The rules live in packages of others (`heed.evaluation.rules`) and nowhere else. What this module
adds: no download, no random draw that depends on what was verified before, no argument lost because
it is zero or empty, and no response that ends an evaluation because a verifier fails on it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from heed.core.errors import DataError
from heed.evaluation.nltk_data import without_download
from heed.evaluation.rules import RulesName, registry

SEED = 0
"""Every verdict is given as if it were the first thing done after seeding with this number."""

Row = Mapping[str, Any]
"""One prompt: `key`, `prompt`, `instruction_id_list`, and one dict of `kwargs` per instruction."""


class Verdict(NamedTuple):
    """Whether a response follows one instruction.

    Attributes:
        strict: The text as it is.
        loose: The text, or one of its `loose_forms`.
        drawn: Arguments that the row leaves to chance, as the seed decides them: name -> value.
        error: What the verifier failed with on some form of the text, which then counts as not
            followed; empty if it did not fail.
    """

    strict: bool
    loose: bool
    drawn: Mapping[str, Any] = {}
    error: str = ""


def verify(row: Row, response: str | None, rules: RulesName = "ifeval") -> list[Verdict]:
    """Which of a row's instructions a response follows.

    The outcome depends on the row and the response alone: the verifiers' random draws (a letter
    where a row names a non-letter, the language detector's start) begin from the same seed every
    time, and the caller's random state is left as it was.

    Args:
        row: A row in IFEval's format.
        response: The model's text; None or blank text follows nothing.
        rules: Whose verifiers.

    Returns:
        One verdict per instruction.

    Raises:
        DataError: the package of verifiers or nltk's data is missing.
    """
    forms = [] if response is None else loose_forms(response)
    verdicts = []
    for place, name in enumerate(row["instruction_id_list"]):
        with _seeded(SEED), without_download(f"instruction {name}"):
            check = _verifier(row, place, rules)
            drawn = _drawn(check, row["kwargs"][place])
            verdicts.append(_verdict(check, forms)._replace(drawn=drawn))
    return verdicts


def loose_forms(response: str) -> list[str]:
    r"""A response whole, and without its first line, last line or both, each also without `*`.

    Source: Zhou et al. 2023, https://arxiv.org/abs/2311.07911, section 3 (loose accuracy).

    Example:
        >>> loose_forms("Sure:\n*yes*")
        ['Sure:\n*yes*', '*yes*', 'Sure:', '', 'Sure:\nyes', 'yes', 'Sure:', '']
    """
    lines = response.split("\n")
    cut = ["\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])]
    plain = [response, *cut]
    return plain + [form.replace("*", "") for form in plain]


def _verifier(row: Row, place: int, rules: RulesName) -> Any:
    """The verifier of a row's instruction with its arguments; only null counts as not given."""
    name, given = row["instruction_id_list"][place], row["kwargs"][place]
    arguments = {key: value for key, value in given.items() if value is not None}
    check = registry(rules)[name](name)
    try:
        check.build_description(**arguments)
        if "prompt" in (check.get_instruction_args() or ()):  # as the packages' own harnesses do
            check.build_description(prompt=row["prompt"])
    except Exception as error:
        if type(error) is LookupError:  # nltk lacks data
            raise
        raise DataError(
            f"Row {row['key']}: the verifier of {name} does not take the arguments {arguments} "
            f"({type(error).__name__}: {error}), so no response to it can be scored. Correct the "
            f"row's kwargs; null stands for an argument that is not given."
        ) from error
    return check


def _drawn(check: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that the verifier drew, if building it moved the random state from the seed's."""
    if random.getstate() == random.Random(SEED).getstate():
        return {}
    held = check.get_instruction_args() or {}
    return {name: value for name, value in held.items() if given.get(name) != value}


def _verdict(check: Any, forms: list[str]) -> Verdict:
    """Strict and loose verdict on the forms of a response, of which the first is the response."""
    strict = loose = False
    error = ""
    for place, form in enumerate(forms):
        followed, failure = _follows(check, form)
        strict, loose, error = strict or (followed and not place), followed, error or failure
        if loose:
            break
    return Verdict(strict, loose, error=error)


def _follows(check: Any, text: str) -> tuple[bool, str]:
    """Whether a text is not blank and follows; a text on which the verifier fails does not."""
    try:
        return bool(text.strip() and check.check_following(text)), ""
    except Exception as error:
        if type(error) is LookupError:  # nltk lacks data: no verdict on anything
            raise
        return False, f"{type(error).__name__}: {error}"[:200]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed what the verifiers draw from, and put the caller's random state back afterwards."""
    from langdetect import DetectorFactory

    state, detector = random.getstate(), DetectorFactory.seed
    random.seed(seed)
    DetectorFactory.seed = seed
    try:
        yield
    finally:
        random.setstate(state)
        DetectorFactory.seed = detector
