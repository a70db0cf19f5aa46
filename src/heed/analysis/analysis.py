"""An analysis asks of a finished run why it came out as it did, and writes its own directory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from heed.analysis.number import Number
from heed.core.types import Item, ItemScore

if TYPE_CHECKING:
    from heed.models.student import Loaded


class Studied(Protocol):
    """What an analysis is given: a finished run, and a suite that scores it."""

    @property
    def run(self) -> str:
        """Id of the run."""
        ...

    @property
    def name(self) -> str:
        """Readable name of the run; not unique."""
        ...

    @property
    def facts(self) -> Mapping[str, str]:
        """Label -> text: the run, the suite, versions; for the page."""
        ...

    @property
    def items(self) -> Sequence[Item]:
        """Items of the suite's first task that is answered in text.

        Raises:
            ConfigError: the suite has no such task.
        """
        ...

    @property
    def max_new_tokens(self) -> int:
        """The suite's cap on generated tokens, the stop token included."""
        ...

    @property
    def bootstrap(self) -> Mapping[str, Any]:
        """The suite's `level`, `resamples` and `seed`, as `heed.core.stats` takes them."""
        ...

    @property
    def margin(self) -> Mapping[str, float]:
        """Task -> largest change that counts as none, in the unit of its metrics."""
        ...

    @property
    def less_is_better(self) -> frozenset[str]:
        """Those `<task>/<metric>` that are better when they fall."""
        ...

    def base(self) -> Loaded:
        """The untuned student in memory, on its device."""
        ...

    def tuned(self) -> Loaded:
        """What the training wrote, read back, on its device; an adapter is merged."""
        ...

    def steps(self) -> list[tuple[int, Callable[[], Loaded]]]:
        """Optimiser steps in order, each with what loads its student: 0, those kept, the last."""
        ...

    def scored(self, step: int) -> list[ItemScore]:
        """The suite's scores at one of these steps, made once and kept, in the suite's order."""
        ...

    def events(self, step: int) -> Mapping[str, int]:
        """What happened at that scoring: drops, cuts, blanks -> how often."""
        ...

    def controls(self) -> Mapping[str, Any] | None:
        """Every step, named `step <n>`, beside the controls (`heed.evaluation.controls.merged`).

        None where nothing of the suite is answered in text.
        """
        ...


class Analysis(ABC):
    """Why a run came out as it did; a component, chosen by `conf/analysis/<name>.yaml`."""

    name: ClassVar[str]
    """How the analysis is called; the beginning of its folder in the run."""

    @abstractmethod
    def make(self, studied: Studied, directory: Path) -> list[str]:
        """Do the analysis and write all of it.

        Args:
            studied: The run and the suite.
            directory: Empty; it appears in the run when all is written, or not at all. At least
                `summary.json` (plain data) and `report.html` are to be written there.

        Returns:
            Lines for the terminal: the result first.
        """

    def numbers(self, summary: Mapping[str, Any], primary: str) -> dict[str, Number]:
        """The few numbers that stand in the table of a study, a row a run; none by default.

        Args:
            summary: The `summary.json` that `make` wrote.
            primary: `<task>/<metric>` that decides the verdict of a run.

        Returns:
            Name -> number, in the order of the columns.

        Raises:
            KeyError, TypeError, ValueError, AttributeError or IndexError: it is damaged.
        """
        return {}

    @property
    def about(self) -> str:
        """What these numbers are, in a sentence or two."""
        return ""
