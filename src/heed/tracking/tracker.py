"""The local files are the record; a tracker mirrors them elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from heed.core.component import component
from heed.core.console import progress_console
from heed.core.errors import HeedError
from heed.core.secrets import without_secrets


class Tracker(ABC):
    """A mirror of one run. Its failure is reported and never stops the run."""

    @abstractmethod
    def start(self, name: str, run_id: str, config: Mapping[str, Any], directory: Path) -> None:
        """Begin to mirror a run, or go on with it: the same run has the same id."""

    @abstractmethod
    def log(self, row: Mapping[str, Any]) -> None:
        """Mirror one row of metrics; `row["step"]` counts optimiser steps."""

    @abstractmethod
    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """End the mirror with the run's result."""


@component
class LocalOnly(Tracker):
    """No mirror: the files in the run directory are all there is."""

    def start(self, name: str, run_id: str, config: Mapping[str, Any], directory: Path) -> None:
        """Nothing to begin."""

    def log(self, row: Mapping[str, Any]) -> None:
        """Nothing to mirror: `metrics.jsonl` has the row."""

    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """Nothing to end."""


@dataclass
class Outage:
    """What a mirror has missed of the run that it follows.

    Attributes:
        begun: Whether there is a mirror to send to.
        lost: Rows that it did not take.
        said: Whether the screen has been told of rows that are lost.
    """

    begun: bool = False
    lost: int = 0
    said: bool = False


class Mirror(Tracker):
    """A tracker whose every failure is caught, counted and told: the first at once, all at the end.

    What it does is written in `begin`, `send` and `end`, which may raise what they like.
    """

    @abstractmethod
    def begin(self, name: str, run_id: str, config: Mapping[str, Any], directory: Path) -> None:
        """As `start`."""

    @abstractmethod
    def send(self, row: Mapping[str, Any]) -> None:
        """As `log`."""

    @abstractmethod
    def end(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """As `finish`."""

    @cached_property
    def outage(self) -> Outage:
        """What was missed so far."""
        return Outage()

    def start(self, name: str, run_id: str, config: Mapping[str, Any], directory: Path) -> None:
        """Begin; without a mirror the run goes on all the same."""
        self.__dict__["outage"] = Outage()  # of this run: a mirror may follow one after another
        self.outage.begun = self._tried(lambda: self.begin(name, run_id, config, directory))

    def log(self, row: Mapping[str, Any]) -> None:
        """Send a row, or count it as lost."""
        quiet = self.outage.said
        if not (self.outage.begun and self._tried(lambda: self.send(row), quiet=quiet)):
            self.outage.lost += 1
            self.outage.said = True

    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """End, and tell how many rows were lost."""
        if self.outage.begun:
            self._tried(lambda: self.end(summary, failed=failed))
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
