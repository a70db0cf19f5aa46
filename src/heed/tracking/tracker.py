"""The local files are the record; a tracker mirrors them elsewhere."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from heed.core.component import component
from heed.core.console import progress_console
from heed.core.errors import HeedError
from heed.core.secrets import without_secrets

Kind = Literal["tuned", "base", "pretraining", "report"]
"""What a mirrored run is: a cell, the scores before tuning, the making of a base, a study."""


@dataclass(frozen=True)
class Mirrored:
    """Who is mirrored.

    Attributes:
        id: The same for the same run, whoever mirrors it and however often.
        name: For people.
        kind: What it is.
        config: Its settings; the names that a study compares by (`student`, `lr`) are flat keys.
        directory: Of the run; `metrics.jsonl` there has the rows of its steps.
        root: Of the outputs.
        group: The study that it belongs to.
        tags: Words that it is found by, as `student:nano`.
        live: Whether it is under way, or told afterwards from its files.
    """

    id: str
    name: str
    kind: Kind
    config: Mapping[str, Any]
    directory: Path
    root: Path
    group: str | None = None
    tags: Sequence[str] = ()
    live: bool = True


@dataclass(frozen=True)
class Rows:
    """A table.

    Attributes:
        columns: Their names.
        rows: One value for each column; None where there is none.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Ending:
    """How a mirrored run has ended.

    Attributes:
        summary: Name -> number or text.
        failed: Whether it has failed, or was stopped.
        tables: Makes them when they are wanted: name -> table.
        figures: Name -> PNG file.
        pages: Name -> HTML file.
        model: Folder of what was trained, for mirrors that are asked to keep it.
    """

    summary: Mapping[str, Any] = field(default_factory=dict)
    failed: bool = False
    tables: Callable[[], Mapping[str, Rows]] = dict
    figures: Mapping[str, Path] = field(default_factory=dict)
    pages: Mapping[str, Path] = field(default_factory=dict)
    model: Path | None = None


OWN = "metrics.jsonl"
"""What a run itself has written of its steps."""


class Tracker(ABC):
    """A mirror of one run. Its failure is reported and never stops the run."""

    afar: ClassVar[bool] = False
    """Whether it keeps runs elsewhere, under their ids, so that they can be sent afterwards."""

    @property
    def alone(self) -> bool:
        """Whether the run belongs to no sweep, which would see to what its runs share."""
        return True

    def within(self, study: str, tags: tuple[str, ...] = (), *, offline: bool = False) -> Tracker:
        """This mirror for the runs of a study.

        Args:
            study: Its name.
            tags: Further words that its runs are found by.
            offline: Whether the mirror's server is known to be out of reach.
        """
        return self

    def why_not(self) -> str | None:
        """Why nothing can be sent at all, whatever server answers; None: it can."""
        return None

    def reachable(self) -> bool:
        """Whether what is sent now would arrive; one that keeps all here says so too."""
        return True

    def where(self, root: Path) -> str:
        """Where runs are found that were sent, for people.

        Args:
            root: Of the outputs.
        """
        return ""

    def arrived(self) -> bool:
        """Whether all of the last run is there."""
        return True

    @abstractmethod
    def start(self, run: Mirrored) -> None:
        """Begin to mirror a run, or go on with it: the same run has the same id."""

    @abstractmethod
    def log(self, row: Mapping[str, Any]) -> None:
        """Mirror one row of metrics; `row["step"]` counts optimiser steps."""

    @abstractmethod
    def finish(self, ending: Ending) -> None:
        """End the mirror with the run's result."""


@component
class LocalOnly(Tracker):
    """No mirror: the files in the run directory are all there is."""

    def start(self, run: Mirrored) -> None:
        """Nothing to begin."""

    def log(self, row: Mapping[str, Any]) -> None:
        """Nothing to mirror: `metrics.jsonl` has the row."""

    def finish(self, ending: Ending) -> None:
        """Nothing to end."""


@dataclass
class Outage:
    """What a mirror has missed of the run that it follows.

    Attributes:
        begun: Whether there is a mirror to send to.
        lost: Rows that it did not take.
        said: Whether the screen has been told of rows that are lost.
        ended: Whether the mirror took the end.
    """

    begun: bool = False
    lost: int = 0
    said: bool = False
    ended: bool = False


class Mirror(Tracker):
    """A tracker whose every failure is caught, counted and told: the first at once, all at the end.

    What it does is written in `begin`, `send` and `end`, which may raise what they like.
    """

    @abstractmethod
    def begin(self, run: Mirrored) -> None:
        """As `start`."""

    @abstractmethod
    def send(self, row: Mapping[str, Any]) -> None:
        """As `log`."""

    @abstractmethod
    def end(self, ending: Ending) -> None:
        """As `finish`."""

    @cached_property
    def outage(self) -> Outage:
        """What was missed so far."""
        return Outage()

    def arrived(self) -> bool:
        """Whether the last run was begun and ended, and no row of it was lost."""
        return self.outage.begun and self.outage.ended and not self.outage.lost

    def start(self, run: Mirrored) -> None:
        """Begin; without a mirror the run goes on all the same."""
        self.__dict__["outage"] = Outage()  # of this run: a mirror may follow one after another
        self.outage.begun = self._tried(lambda: self.begin(run))

    def log(self, row: Mapping[str, Any]) -> None:
        """Send a row, or count it as lost."""
        quiet = self.outage.said
        if not (self.outage.begun and self._tried(lambda: self.send(row), quiet=quiet)):
            self.outage.lost += 1
            self.outage.said = True

    def finish(self, ending: Ending) -> None:
        """End, and tell how many rows were lost."""
        if self.outage.begun:
            self.outage.ended = self._tried(lambda: self.end(ending))
        if self.outage.lost:
            progress_console().print(
                f"{type(self).__name__} mirror: {self.outage.lost} rows of metrics are not in it; "
                f"metrics.jsonl has them all.",
                markup=False,
            )

    def _tried(self, call: Callable[[], None], *, quiet: bool = False) -> bool:
        """Whether something succeeded; an outage may raise anything, and is told of once."""
        try:
            call()
        except Exception as error:
            if not quiet:
                kind = "" if isinstance(error, HeedError) else f"{type(error).__name__}: "
                progress_console().print(
                    f"{type(self).__name__} mirror: {kind}{without_secrets(str(error))} "
                    f"The run goes on; its files are whole.",
                    markup=False,
                    soft_wrap=True,
                )
            return False
        return True


def chart(key: str) -> str:
    """Where a metric of a row is shown: a folder of charts and a name.

    Example:
        >>> chart("loss"), chart("validation_loss"), chart("look/score")
        ('train/loss', 'validation/loss', 'look/score')
    """
    if "/" in key:
        return key
    return key.replace("_", "/", 1) if key.startswith("validation_") else f"train/{key}"


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row by where they are shown, without the step."""
    kinds = {key: value for key, value in row.items() if key != "step"}
    return {
        chart(key): float(value)
        for key, value in kinds.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def whole_rows(path: Path) -> list[dict[str, Any]]:
    """The rows that a run itself has written, but for a last line that is torn."""
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.split("\n") if line]
