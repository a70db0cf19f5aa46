"""lm-eval's verifiers of instructions, made reproducible: what does a response follow?

The rules live in lm-eval and nowhere else. What this module adds: no download, no random draw that
depends on what was verified before, no argument lost because it is zero.
"""

from __future__ import annotations

import io
import logging
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from functools import cache
from typing import Any

from heed.core.errors import DataError

NEEDS_PUNKT = frozenset(
    {"change_case:capital_word_frequency", "length_constraints:number_sentences"}
)
"""Instruction types whose verifiers split text with nltk's `punkt_tab` data."""

SEED = 0
"""Every verdict is given as if it were the first thing done after seeding with this number."""

Row = Mapping[str, Any]
"""One prompt: `key`, `prompt`, `instruction_id_list`, and one dict of `kwargs` per instruction."""


def verify(row: Row, response: str | None) -> tuple[list[bool], list[bool]]:
    """Which of a row's instructions a response follows.

    The outcome depends on the row and the response alone: the verifiers' random draws (a letter
    where a row names a non-letter, the language detector's start) begin from the same seed every
    time, and the caller's random state is left as it was.

    Args:
        row: A row in IFEval's format.
        response: The model's text; None or blank text follows nothing.

    Returns:
        Strict verdicts (the text as it is), then loose ones (followed by the text or by one of its
        `loose_forms`), one per instruction.
    """
    names = row["instruction_id_list"]
    if response is None:
        return [False] * len(names), [False] * len(names)
    forms = loose_forms(response)
    strict, loose = [], []
    for name, given in zip(names, row["kwargs"], strict=True):
        with _seeded():
            check = _verifier(name, given)
            strict.append(_follows(check, response))
            loose.append(strict[-1] or any(_follows(check, form) for form in forms))
    return strict, loose


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


@cache
def registry() -> Mapping[str, Any]:
    """lm-eval's verifiers by instruction type; importing them does not reach for the network."""
    import nltk

    download = nltk.download
    nltk.download = lambda *_, **__: False
    try:
        with redirect_stdout(io.StringIO()):  # it would report a download that did not happen
            from lm_eval.tasks.ifeval import instructions_registry
    finally:
        nltk.download = download
    # An undetectable language counts as followed, and is logged with the whole response.
    logging.getLogger("lm_eval.tasks.ifeval.instructions").setLevel(logging.CRITICAL)
    known: Mapping[str, Any] = instructions_registry.INSTRUCTION_DICT
    return known


def find_punkt(folder: str | None) -> None:
    """Make nltk's `punkt_tab` data available to the verifiers, without a download.

    Args:
        folder: Where to look first; None looks only where nltk itself would.

    Raises:
        DataError: it is found nowhere.
    """
    import nltk

    if folder is not None and folder not in nltk.data.path:
        nltk.data.path.insert(0, folder)
    try:
        nltk.data.find("tokenizers/punkt_tab/english/")
    except LookupError:
        place = f"neither in nltk_data={folder} nor" if folder else "nowhere"
        raise DataError(
            f"nltk's punkt_tab data was found {place} on nltk's own path, so instructions of the "
            f"types {', '.join(sorted(NEEDS_PUNKT))} cannot be verified. Get it with `python -m "
            f"nltk.downloader punkt_tab`, or point the task's nltk_data to the folder that holds "
            f"tokenizers/punkt_tab."
        ) from None


def _verifier(name: str, given: Mapping[str, Any]) -> Any:
    """A verifier with its arguments; only null counts as not given."""
    check = registry()[name](name)
    check.build_description(**{key: value for key, value in given.items() if value is not None})
    return check


def _follows(check: Any, text: str) -> bool:
    return bool(text.strip() and check.check_following(text))


@contextmanager
def _seeded() -> Iterator[None]:
    """Seed what the verifiers draw from, and put the caller's random state back afterwards."""
    from langdetect import DetectorFactory

    state, detector = random.getstate(), DetectorFactory.seed
    random.seed(SEED)
    DetectorFactory.seed = SEED
    try:
        yield
    finally:
        random.setstate(state)
        DetectorFactory.seed = detector
