"""A study: a question, and the axes of names whose product are its cells."""

from __future__ import annotations

from itertools import product
from typing import Annotated

from pydantic import Field, PositiveInt

from heed.core.component import component
from heed.core.identity import FileName, Incidental


@component
class Study:
    """One YAML in `conf/study/`."""

    name: FileName
    """Directory below `outputs/studies`."""

    question: str
    """What the study is to answer, in a sentence."""

    axes: Annotated[dict[str, tuple[str | int | float, ...]], Field(min_length=1)]
    """Config group or key -> the options that are compared."""

    fixed: dict[str, str | int | float | bool]
    """Config group or key -> the one value that all cells share."""

    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    """Every cell is run with each of them."""

    def cells(self) -> list[list[str]]:
        """Overrides of each cell, as they would be typed after `python train.py`."""
        keys = [*self.axes, "seed"]
        fixed = [f"{key}={_typed(value)}" for key, value in self.fixed.items()]
        return [
            [*(f"{key}={_typed(v)}" for key, v in zip(keys, values, strict=True)), *fixed]
            for values in product(*self.axes.values(), self.seeds)
        ]


def _typed(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@component
class Sweep:
    """Everything that one `python sweep.py` command says; the root of `conf/sweep.yaml`."""

    study: Study | None = None
    """Which study; without one, the studies are listed."""

    outputs: Annotated[str, Incidental]
    """Root of everything that is written."""

    jobs: Annotated[PositiveInt, Incidental]
    """Cells that run at a time."""

    threads: Annotated[PositiveInt, Incidental]
    """CPU threads of each."""
