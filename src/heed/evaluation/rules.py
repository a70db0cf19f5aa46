"""Where the rules of a benchmark come from: the installed package that holds its verifiers."""

from __future__ import annotations

import importlib
import io
import json
import logging
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Any, Literal

from heed.core.errors import DataError
from heed.evaluation.nltk_data import without_download

RulesName = Literal["ifeval", "ifbench"]
"""Whose verifiers: lm-eval's of IFEval, or IFBench's own."""


@dataclass(frozen=True)
class Rules:
    """A package of verifiers.

    Attributes:
        module: Holds `INSTRUCTION_DICT`, instruction type -> verifier.
        package: The distribution that it comes in.
        beside: Other distributions whose versions are told, because they too can change a verdict.
        install: The command that gets the package and what it needs.
        needs: Distributions without which it would fail only when a response is verified.
        settings: Names of `instructions`, the module beside `module`, and what they are set to.
    """

    module: str
    package: str
    beside: tuple[str, ...]
    install: str
    needs: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def instructions(self) -> str:
        """The module that defines the verifiers."""
        return f"{self.module.rpartition('.')[0]}.instructions"


RULES: Mapping[RulesName, tuple[Rules, ...]] = {
    "ifeval": (
        Rules(
            module="lm_eval.tasks.ifeval.instructions_registry",
            package="lm_eval",
            beside=("langdetect", "nltk"),
            install="pip install 'lm-eval[ifeval]'",
        ),
    ),
    "ifbench": (
        Rules(
            module="ifbench.instructions_registry",
            package="ifbench",
            beside=("emoji", "langdetect", "nltk", "syllapy"),
            install="pip install git+https://github.com/allenai/IFBench",
        ),
        Rules(
            module="lighteval.tasks.tasks.ifbench.instructions_registry",
            package="lighteval",
            beside=("emoji", "nltk", "syllapy"),
            # its own requirements, an older nltk among them, are of its other parts
            install="pip install --no-deps lighteval && pip install emoji spacy syllapy",
            needs=("emoji", "spacy", "syllapy"),
            # true: do not fetch a model of spaCy's at the first verifier; no rule reads it
            settings={"RESOURCES_DOWNLOADED": True},
        ),
    ),
}
"""The packages that hold the rules a task can name, the authors' own first: the first that is
installed is taken. What a config says is looked up here, never imported."""


@cache
def registry(rules: RulesName = "ifeval") -> Mapping[str, Any]:
    """Verifiers by instruction type; importing them does not reach for the network.

    Raises:
        DataError: no package of them is installed, or it does not work; with the command that
            gets it.
    """
    chosen, _ = _installed(rules)
    try:
        with (
            without_download(f"the verifiers of {chosen.package}"),
            redirect_stdout(io.StringIO()),  # it prints of downloads that were not
        ):
            found = importlib.import_module(chosen.module)
            _set(chosen)
    except (ImportError, AttributeError, OSError) as error:
        raise DataError(
            f"The verifiers of rules={rules} are installed and cannot be imported ({error}), so no "
            f"response can be scored. Install them with what they need: {chosen.install}"
        ) from error
    # An undetectable language counts as followed, and is logged with the whole response.
    logging.getLogger(chosen.instructions).setLevel(logging.CRITICAL)
    known: Mapping[str, Any] = found.INSTRUCTION_DICT
    return known


def _set(chosen: Rules) -> None:
    """Set what is to be set in the package.

    Raises:
        AttributeError: this version of it has no such setting.
    """
    for name, value in chosen.settings.items():
        module = importlib.import_module(chosen.instructions)
        getattr(module, name)
        setattr(module, name, value)


def rules_versions(rules: RulesName) -> dict[str, str | None]:
    """Versions of the package of verifiers and of those beside it; None for one that is not there.

    Where pip installed from git, the commit is added.

    Raises:
        DataError: no package of them is installed.
    """
    chosen, main = _installed(rules)
    return {chosen.package: _version(main)} | {name: _version_of(name) for name in chosen.beside}


def _installed(rules: RulesName) -> tuple[Rules, Distribution]:
    """The first package of these rules that is installed, with all that it needs."""
    for known in RULES[rules]:
        if (found := _distribution(known.package)) is not None:
            if lacks := [name for name in known.needs if _distribution(name) is None]:
                raise DataError(
                    f"The verifiers of rules={rules} come from {known.package} {found.version}, "
                    f"and need {', '.join(lacks)}, not installed: without, a response would "
                    f"seem to follow nothing. Install all of it with `{known.install}`."
                )
            return known, found
    packages = " or ".join(known.package for known in RULES[rules])
    commands = ", or with ".join(f"`{known.install}`" for known in RULES[rules])
    raise DataError(
        f"The package {packages} is not installed, and rules={rules} are its verifiers: without "
        f"them no response can be scored. Install it with {commands}."
    )


def _distribution(name: str) -> Distribution | None:
    """A package that need not be there."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _version_of(name: str) -> str | None:
    found = _distribution(name)
    return None if found is None else _version(found)


def _version(found: Distribution) -> str:
    origin = json.loads(found.read_text("direct_url.json") or "{}")
    commit = origin.get("vcs_info", {}).get("commit_id", "")
    return f"{found.version}@{commit}" if commit else str(found.version)
