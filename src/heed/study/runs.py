"""Runs that were made before: found by id, name or directory, and read from what they wrote."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from heed.core.component import build
from heed.core.errors import ConfigError, RunError
from heed.core.files import read_json
from heed.core.types import RowSource
from heed.models.student import Student
from heed.study.ledger import latest

SHOWN = 8
"""Most runs that a message lists."""

MANIFEST = {"run": r"[0-9a-f]{12}", "time": r".+", "code": r".+"}
"""What is read of a run's manifest -> the pattern of its text."""


@dataclass(frozen=True)
class TrainedRun:
    """A run whose training is finished; scores may be missing.

    Attributes:
        directory: Of the run.
        config: Its `config.yaml`: that of a cell, or of a pre-training.
        manifest: Its `manifest.json`.
    """

    directory: Path
    config: Mapping[str, Any]
    manifest: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The run id."""
        return str(self.manifest["run"])

    @property
    def name(self) -> str:
        """Readable, not unique."""
        return _name(self.directory)

    @cached_property
    def student(self) -> Student:
        """What it started from: how the student is spoken to, and in which type it is held."""
        return self._built("student" if "student" in self.config else "model")

    @cached_property
    def teacher(self) -> RowSource:
        """What it was trained on."""
        return self._built("recipe.teacher" if "recipe" in self.config else "teacher")

    def _built(self, at: str) -> Any:
        node: Any = self.config
        try:
            for key in at.split("."):
                node = node[key]
            built = build(node, at)
            if not isinstance(built, Student | RowSource):
                raise TypeError(f"{at} is {built!r}.")
            return built
        except (ConfigError, KeyError, TypeError) as error:
            raise RunError(
                f"{self.directory / 'config.yaml'} cannot be read as the settings of a run: "
                f"{error} It was made by another version of heed, was changed by hand, or names "
                f"what is gone; how its student is spoken to would be a guess. Put that right, or "
                f"train it again."
            ) from error


def find_run(given: str, root: Path) -> TrainedRun:
    """The run with an id, the beginning of one, a name, or a directory.

    Args:
        given: As typed.
        root: Of the outputs.

    Raises:
        RunError: there is none, or several, or it is not trained yet; with what is there.
    """
    runs = root / "runs"
    there = sorted(p for p in runs.glob("[!.]*") if p.is_dir()) if runs.is_dir() else []
    found = (
        [p for p in there if p.name == given]
        or [p for p in there if _name(p) == given]
        or [p for p in there if _id(p).startswith(given)]
    )
    if not found and os.path.isdir(given):  # unlike Path.is_dir, for words of any length
        return read_run(Path(given).resolve())
    if not found:
        raise RunError(_missing(given, runs, there))
    if len(found) > 1:
        raise RunError(
            f"{given!r} is the name of {len(found)} runs below {runs}, or the beginning of their "
            f"ids, so it is not clear which one is meant:\n{_listed(found)}\nGive the id, or as "
            f"many of its digits as tell it from the others."
        )
    return read_run(found[0])


def run_lock(directory: Path) -> Path:
    """The lock of a run: beside its directory, so that it is the same for whoever finds it."""
    return directory.with_name(f"{directory.name}.lock")


def read_run(directory: Path) -> TrainedRun:
    """Read a directory that a training left, whose model can be loaded.

    Raises:
        RunError: it is none, or the training is not finished, or files are damaged or lack what is
            needed of them.
    """
    run = read_record(directory)
    if not (directory / "model").is_dir():
        raise RunError(
            f"{directory} is a finished run, but its folder model/ is gone, so there is nothing to "
            f"load. Put it back, or remove the directory and train again."
        )
    return run


def read_record(directory: Path) -> TrainedRun:
    """`read_run` of a directory whose model may be gone.

    Raises:
        RunError: as there.
    """
    if not (directory / "config.yaml").is_file():
        raise RunError(_no_run(directory))
    try:
        config = yaml.safe_load((directory / "config.yaml").read_text(encoding="utf-8"))
        manifest = read_json(directory / "manifest.json")
        run = TrainedRun(directory, dict(config), dict(manifest))
        _check(run.manifest)
    except FileNotFoundError:
        raise RunError(_unfinished(directory)) from None
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise RunError(
            f"{directory}: config.yaml or manifest.json is damaged ({type(error).__name__}: "
            f"{error}), so what was trained is not known. Remove the directory and train again."
        ) from error
    return run


def _check(manifest: Mapping[str, Any]) -> None:
    """Refuse a manifest that lacks what is read of it, or holds something else there."""
    for key, pattern in MANIFEST.items():
        found = manifest[key]
        if not (isinstance(found, str) and re.fullmatch(pattern, found)):
            raise ValueError(f"{key} is {found!r:.60}")


def _id(path: Path) -> str:
    return path.name.rpartition("--")[2]


def _name(path: Path) -> str:
    return path.name.rpartition("--")[0] or path.name


def _missing(given: str, runs: Path, there: Sequence[Path]) -> str:
    """What to say of a run that is not there."""
    said = f"There is no run {given!r} below {runs}, and no directory of that name here. "
    if not there:
        return (
            f"{said}No run has been made there yet: `python train.py` makes one. If they are "
            f"elsewhere, add outputs=<folder>."
        )
    names = [p.name for p in there]
    near = difflib.get_close_matches(given, [*names, *map(_id, there)], n=SHOWN, cutoff=0.4)
    close = [p for p in there if p.name in near or _id(p) in near]
    last = sorted(there, key=lambda p: -p.stat().st_mtime)[:SHOWN]
    what = "The nearest of" if close else "The last of"
    return (
        f"{said}{what} {len(there)} there:\n{_listed(close or last)}\nGive an id, the beginning "
        f"of one, a name, or a directory that heed has made."
    )


def _listed(paths: Sequence[Path]) -> str:
    """Runs by name, and whether they can be scored."""
    lines = [
        f"  {p.name}{'' if (p / 'manifest.json').is_file() else '  (not trained yet)'}"
        for p in paths[:SHOWN]
    ]
    more = len(paths) - len(lines)
    return "\n".join([*lines, f"  and {more} more"] if more > 0 else lines)


def _no_run(directory: Path) -> str:
    """What to say of a directory that no training left."""
    if (directory.parent / "config.yaml").is_file():
        return f"{directory} is a part of a run. Give the run itself: {directory.parent}."
    said = f"{directory} is no run of heed: it has no config.yaml, so how its student "
    said += "is spoken to is not known. "
    if any((directory / name).is_file() for name in ("config.json", "adapter_config.json")):
        return (
            f"{said}It looks like a model in Hugging Face layout: score it with `python "
            f"evaluate.py model=hub model.path={directory} model.revision=null "
            f"model.template.end_of_turn=<its end-of-text token>` (an adapter: merge it first)."
        )
    return f"{said}Give a directory below outputs/runs."


def _unfinished(directory: Path) -> str:
    """What to say of a run that has not been trained to its end."""
    root = directory.parent.parent
    entries = [e for (run, _), e in latest(root).items() if run == _id(directory)]
    reasons = [f" It ended with: {e['reason']}" for e in entries if e.get("reason")]
    return (
        f"{directory} was begun, but its training has not finished (no manifest.json), so there is "
        f"nothing to score.{''.join(reasons[-1:])} Run the command that began it again, and it "
        f"goes on; or give another run."
    )
