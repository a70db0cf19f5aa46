"""Packages of verifiers, made reproducible: which instructions does a response follow?

The rules live in these packages and nowhere else. What this module adds: no download, no random
draw that depends on what was verified before, no argument lost because it is zero or empty, and no
response that ends an evaluation because a verifier fails on it.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import logging
import random
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Any, Literal, NamedTuple

from heed.core.errors import DataError

RulesName = Literal["ifeval", "ifbench"]
"""Whose verifiers: lm-eval's of IFEval, or IFBench's own."""

NEEDS_PUNKT = frozenset(
    {"change_case:capital_word_frequency", "length_constraints:number_sentences"}
)
"""IFEval's instruction types whose verifiers split text with nltk's `punkt_tab` data."""

PUNKT_FILES = ("abbrev_types.txt", "collocations.tab", "ortho_context.tab", "sent_starters.txt")
"""What the English part of that data is made of."""

SEED = 0
"""Every verdict is given as if it were the first thing done after seeding with this number."""

Row = Mapping[str, Any]
"""One prompt: `key`, `prompt`, `instruction_id_list`, and one dict of `kwargs` per instruction."""


@dataclass(frozen=True)
class Rules:
    """A package of verifiers.

    Attributes:
        module: Holds `INSTRUCTION_DICT`, instruction type -> verifier.
        package: The distribution that it comes in.
        beside: Other distributions whose versions are told, because they too can change a verdict.
        install: The command that gets the package.
    """

    module: str
    package: str
    beside: tuple[str, ...]
    install: str


RULES: Mapping[str, Rules] = {
    "ifeval": Rules(
        module="lm_eval.tasks.ifeval.instructions_registry",
        package="lm_eval",
        beside=("langdetect", "nltk"),
        install="pip install 'lm-eval[ifeval]'",
    ),
    "ifbench": Rules(
        module="ifbench.instructions_registry",
        package="ifbench",
        beside=("emoji", "langdetect", "nltk", "syllapy"),
        install="pip install git+https://github.com/allenai/IFBench",
    ),
}
"""The packages that a task can name; what a config says is looked up here, never imported."""


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
        with _seeded(SEED), _without_download(f"instruction {name}"):
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


@cache
def registry(rules: RulesName = "ifeval") -> Mapping[str, Any]:
    """Verifiers by instruction type; importing them does not reach for the network.

    Raises:
        DataError: the package is not installed, or does not work; with the command that gets it.
    """
    chosen = RULES[rules]
    _installed(rules)
    try:
        with (
            _without_download(f"the verifiers of {chosen.package}"),
            redirect_stdout(io.StringIO()),
        ):
            found = importlib.import_module(chosen.module)  # it prints of downloads that were not
    except ImportError as error:
        raise DataError(
            f"The verifiers of rules={rules} are installed and cannot be imported ({error}), so no "
            f"response can be scored. Install them with what they need: {chosen.install}"
        ) from error
    # An undetectable language counts as followed, and is logged with the whole response.
    logging.getLogger(f"{chosen.module.rpartition('.')[0]}.instructions").setLevel(logging.CRITICAL)
    known: Mapping[str, Any] = found.INSTRUCTION_DICT
    return known


def rules_versions(rules: RulesName) -> dict[str, str | None]:
    """Versions of the package of verifiers and of those beside it; None for one that is not there.

    Where pip installed from git, the commit is added.

    Raises:
        DataError: the package is not installed.
    """
    main, beside = _installed(rules), RULES[rules].beside
    return {RULES[rules].package: _version(main)} | {name: _version_of(name) for name in beside}


def _installed(rules: RulesName) -> Distribution:
    chosen = RULES[rules]
    try:
        return distribution(chosen.package)
    except PackageNotFoundError:
        raise DataError(
            f"The package {chosen.package} is not installed, and rules={rules} are its verifiers: "
            f"without them no response can be scored. Install it with `{chosen.install}`."
        ) from None


def _version_of(name: str) -> str | None:
    """The version of a package that need not be there."""
    try:
        return _version(distribution(name))
    except PackageNotFoundError:
        return None


def _version(found: Distribution) -> str:
    origin = json.loads(found.read_text("direct_url.json") or "{}")
    commit = origin.get("vcs_info", {}).get("commit_id", "")
    return f"{found.version}@{commit}" if commit else str(found.version)


def use_nltk_folder(folder: str | None) -> None:
    """Let nltk look into a folder first; None leaves its own search path as it is."""
    import nltk

    if folder is not None and folder not in nltk.data.path:
        nltk.data.path.insert(0, folder)


def find_punkt(folder: str | None) -> str:
    """Make nltk's `punkt_tab` data available to the verifiers, without a download.

    Args:
        folder: Where to look first; None looks only where nltk itself would.

    Returns:
        A digest of the data: they decide where a sentence ends.

    Raises:
        DataError: it is found nowhere.
    """
    import nltk

    use_nltk_folder(folder)
    found = hashlib.sha256()
    try:
        for name in PUNKT_FILES:
            with nltk.data.find(f"tokenizers/punkt_tab/english/{name}").open() as file:
                found.update(file.read())
    except LookupError:
        place = f"neither in nltk_data={folder} nor" if folder else "nowhere"
        raise DataError(
            f"nltk's punkt_tab data was found {place} on nltk's own path, so instructions of the "
            f"types {', '.join(sorted(NEEDS_PUNKT))} cannot be verified. {_how_to_get('punkt_tab')}"
        ) from None
    return found.hexdigest()[:16]


def _how_to_get(resource: str) -> str:
    return (
        f"Get it with `python -m nltk.downloader {resource}`, or point the task's nltk_data to the "
        f"folder that holds nltk's data, such as tokenizers/punkt_tab."
    )


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
def _without_download(what: str) -> Iterator[None]:
    """Keep nltk off the network, and say what it lacks."""
    import nltk

    download = nltk.download
    nltk.download = lambda *_, **__: False
    try:
        yield
    except LookupError as error:
        if type(error) is not LookupError:
            raise
        named = re.search(r"nltk\.download\(\W*(\w+)", str(error))
        resource = named.group(1) if named else "all"
        raise DataError(
            f"nltk's data {resource!r} is missing, and {what} cannot be verified without. "
            f"{_how_to_get(resource)}"
        ) from None
    finally:
        nltk.download = download


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
