"""The local files are the record; a tracker mirrors them elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heed.core.component import component


class Tracker(ABC):
    """A mirror of one run. Its failure is reported and never stops the run."""

    @abstractmethod
    def start(self, name: str, run_id: str, config: Mapping[str, Any], directory: Path) -> None:
        """Begin to mirror a run."""

    @abstractmethod
    def log(self, row: Mapping[str, float]) -> None:
        """Mirror one row of metrics; `row["step"]` counts optimiser steps."""

    @abstractmethod
    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """End the mirror with the run's result."""


@component
class LocalOnly(Tracker):
    """No mirror: the files in the run directory are all there is."""

    def start(self, name: str, run_id: str, config: Mapping[str, Any], directory: Path) -> None:
        """Nothing to begin."""

    def log(self, row: Mapping[str, float]) -> None:
        """Nothing to mirror: `metrics.jsonl` has the row."""

    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """Nothing to end."""
