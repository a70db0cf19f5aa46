"""A study: a question, and the cells that answer it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import product
from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, PositiveFloat
from typing_extensions import TypedDict

from heed.analysis.ranking import CAR
from heed.core.component import component
from heed.core.errors import ConfigError, Mistake
from heed.core.identity import FileName, Incidental
from heed.study.cell import Cell
from heed.study.scale import Scale
from heed.study.values import Keyed, Value, said, typed

OWN = {
    "seed": "seeds",
    "suite": "suite",
    "suite.primary": "primary",
    "checkpoint": "checkpoint",
}
"""Keys of a cell that a study names by a field of its own."""


class Published(TypedDict):
    """A value that somebody has published, to stand beside a study's own."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[misc]

    where: dict[str, str | int | float | bool | None]
    """Which cells it is about: config group or key -> value."""

    metric: str
    """What was measured, in the source's words or as `<task>/<metric>`."""

    source: str
    """Where it is published."""

    before: NotRequired[float]
    after: NotRequired[float]
    delta: NotRequired[float]
    note: NotRequired[str]

    said_of: NotRequired[dict[str, str | int | float | bool | None]]
    """`where` in the source's words; `heed.study.scaling` writes it, and puts stand-ins there."""


class Scaled(TypedDict):
    """At which scale a study is run; written by `heed.study.scaling`."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[misc]

    name: str
    study: str
    """Name of the study as it is without the scale."""

    why: str
    rate_factor: float
    stands_for: tuple[tuple[str, str, str], ...]
    """Key, what the study says, and what is run instead; equal ones are left out."""

    sets: dict[str, str | int | float | bool | None]


@component
class Study:
    """One YAML in `conf/study/`.

    Its cells are the product of `axes` and `zipped`, and those named in `cells`, without those of
    `exclude`; each with every seed.
    """

    name: FileName
    """Directory below `outputs/studies`."""

    question: str
    """What the study is to answer, in a sentence."""

    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    """Every cell is run with each of them."""

    suite: str
    """The suite that scores all cells: an option of `conf/suite/`."""

    primary: str | None
    """`<task>/<metric>` that decides every verdict; null: the suite's own."""

    checkpoint: str
    """Which step of a training is taken, in all cells: an option of `conf/checkpoint/`."""

    axes: dict[str, tuple[Value, ...]] = Field(default_factory=dict)
    """Config group or key -> the options that are compared."""

    zipped: tuple[dict[str, tuple[Value, ...]], ...] = ()
    """Axes of several keys that move together: the first values of all, the second of all, ..."""

    cells: tuple[Keyed, ...] = ()
    """Cells beside the product, each by its keys and values."""

    exclude: tuple[Keyed, ...] = ()
    """Cells that are left out: those with all keys and values of one of these."""

    fixed: Keyed = Field(default_factory=dict)
    """Config group or key -> the one value that all cells share."""

    analyses: tuple[str, ...] = ()
    """Options of `conf/analysis/` that are made of every finished cell."""

    implied: dict[str, dict[str, Keyed]] = Field(default_factory=dict)
    """Key -> a value of it as a text -> settings that go with that value in every cell, unless
    the cell says them itself. They are no axes."""

    published: tuple[Published, ...] = ()
    """What others have measured, shown beside the study's own values."""

    stopping: str | None = None
    """When the study is at its end, decided before any result was seen."""

    teaching: CAR | None = None
    """How the page asks what known before predicts a teacher's delta; null: it does not ask."""

    own_families: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Student -> the families of teachers that are its own; for `teaching`."""

    scale: Scaled | None = None
    """At which scale it is run; not to be given: `scale=...` says it."""

    def __post_init__(self) -> None:
        found = [*_repeated(self), *_twice(self), *_unequal(self.zipped), *_unsaid(self.published)]
        if not (self.axes or self.zipped or self.cells):
            why = "a study without axes, zipped or cells has nothing to compare."
            found.append(Mistake("axes", "{}", why, "Give axes: {lr: [gentle, reference]}, say."))
        elif self.teaching is not None and "teacher" not in self.varied:
            why = "it compares teachers, and all cells have the same one."
            found.append(Mistake("teaching", "given", why, "Give axes: {teacher: [...]}."))
        if not found:
            found += _useless(self)
        if found:
            raise ConfigError(found)

    @property
    def varied(self) -> dict[str, list[Value]]:
        """Every key in which cells differ -> its values in order, the seed left out."""
        found: dict[str, dict[Value, None]] = {}
        for cell in (*self._product(), *self.cells):
            for key, value in cell.items():
                found.setdefault(key, {})[value] = None
        return {key: list(values) for key, values in found.items()}

    def lines(self) -> list[list[str]]:
        """Overrides of each cell, as they would be typed after `python train.py`."""
        own = [f"suite={self.suite}", f"checkpoint={self.checkpoint}"]
        own += [f"suite.primary={self.primary}"] if self.primary else []
        return [
            [*self._overrides(cell, cell), f"seed={seed}", *own, *self._overrides(self.fixed, cell)]
            for cell in (*self._product(), *self.cells)
            if not any(_matches(cell, left_out) for left_out in self.exclude)
            for seed in self.seeds
        ]

    def _overrides(self, settings: Keyed, cell: Keyed) -> Iterator[str]:
        """Settings as they are typed, each followed by what goes with it."""
        for key, value in settings.items():
            yield f"{key}={typed(value)}"
            beside = self.implied.get(key, {}).get(said(value), {})
            alone = [k for k in beside if k not in cell and k not in self.fixed]
            yield from (f"{k}={typed(beside[k])}" for k in alone)

    def _product(self) -> Iterator[Keyed]:
        if not (self.axes or self.zipped):
            return
        single = [[{key: value} for value in values] for key, values in self.axes.items()]
        together = [
            [dict(zip(block, values, strict=True)) for values in zip(*block.values(), strict=True)]
            for block in self.zipped
        ]
        for parts in product(*single, *together):
            yield {key: value for part in parts for key, value in part.items()}


def _matches(cell: Mapping[str, Value], left_out: Mapping[str, Value]) -> bool:
    """Whether a cell has all of these; `1` and `true` are two values."""
    return all(key in cell and typed(cell[key]) == typed(v) for key, v in left_out.items())


def _repeated(study: Study) -> list[Mistake]:
    """Keys that are set in two places, or that a field of the study sets."""
    groups: dict[str, Sequence[Mapping[str, Any]]] = {
        "axes": [study.axes],
        "zipped": study.zipped,
        "fixed": [study.fixed],
    }
    places = [(key, at) for at, maps in groups.items() for one in maps for key in one]
    found = []
    for number, (key, at) in enumerate(places):
        before = [other for same, other in places[:number] if same == key]
        if before:
            why = f"{before[0]} sets it already."
            found.append(Mistake(f"{at}.{key}", "given twice", why, "Name it in one of them."))
    for at, maps in {**groups, "cells": study.cells}.items():
        for key in dict.fromkeys(key for one in maps for key in one if key in OWN):
            action = f"Write {OWN[key]}: ... instead."
            found.append(Mistake(f"{at}.{key}", "given", "a study has a field for it.", action))
    return found


def _twice(study: Study) -> list[Mistake]:
    """Values, seeds, cells and exclusions that are given more than once, and axes without any."""
    blocks = [(f"zipped[{i}]", _steps(block)) for i, block in enumerate(study.zipped)]
    lists: dict[str, list[str]] = {
        "seeds": [str(seed) for seed in study.seeds],
        **{f"axes.{key}": [typed(value) for value in values] for key, values in study.axes.items()},
        **dict(blocks),
        "cells": [_said(cell) for cell in study.cells],
        "exclude": [_said(cell) for cell in study.exclude],
        "analyses": list(study.analyses),
    }
    why = "given more than once, and would be run once."
    found = [
        Mistake(at, value, why, "Name it once.")
        for at, values in lists.items()
        for value in dict.fromkeys(v for v in values if values.count(v) > 1)
    ]
    why = "an axis without values leaves the study without cells."
    return found + [
        Mistake(f"axes.{key}", "[]", why, "Give it values, or leave it out.")
        for key, values in study.axes.items()
        if not values
    ]


def _steps(block: Mapping[str, Sequence[Value]]) -> list[str]:
    """The steps of axes that move together; those of unequal lengths are told of elsewhere."""
    steps = zip(*block.values(), strict=False)
    return [_said(dict(zip(block, step, strict=True))) for step in steps]


def _said(cell: Mapping[str, Value]) -> str:
    return ", ".join(f"{key}={typed(value)}" for key, value in cell.items()) or "{}"


def _unsaid(published: Sequence[Published]) -> list[Mistake]:
    """Published values without a value."""
    why = "a published value needs before, after or delta."
    return [
        Mistake(f"published[{number}]", one["metric"], why, "Give what the source says.")
        for number, one in enumerate(published)
        if not {"before", "after", "delta"} & set(one)
    ]


def _unequal(zipped: Sequence[Mapping[str, Sequence[Value]]]) -> list[Mistake]:
    found = []
    for number, block in enumerate(zipped):
        lengths = {key: len(values) for key, values in block.items()}
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            given = ", ".join(f"{key}: {length}" for key, length in lengths.items())
            why = "values that move together must be as many for each key, and one at least."
            action = "Give each key a value for each step."
            found.append(Mistake(f"zipped[{number}]", given or "{}", why, action))
    return found


def _useless(study: Study) -> list[Mistake]:
    """Exclusions that leave nothing out, and a study of which nothing is left."""
    cells = [*study._product(), *study.cells]
    found = [
        Mistake(
            f"exclude[{number}]",
            _said(one),
            "no cell of the study has all of this, so nothing is left out.",
            f"Keys and values are those of the axes: {', '.join(study.varied) or 'none'}.",
        )
        for number, one in enumerate(study.exclude)
        if not one or not any(_matches(cell, one) for cell in cells)
    ]
    if not found and not study.lines():
        why = "every cell is left out."
        found.append(Mistake("exclude", f"{len(cells)} cells", why, "Leave fewer out."))
    return found


@component
class Sweep(Cell):
    """Everything that one `python sweep.py` command says; the root of `conf/sweep.yaml`.

    Beside the keys below it takes every setting of `train.py`; what is given there holds for all
    cells of the study.
    """

    study: Study | None = None
    """Which study; without one, studies and scales are listed."""

    scale: Scale | None = None
    """What stands for the study's students, data and suite; null: they are run themselves."""

    plan_only: Annotated[bool, Incidental]
    """Show the plan and the command of each cell, and run nothing."""

    status: Annotated[bool, Incidental]
    """Show how far the study is, and run nothing."""

    report_only: Annotated[bool, Incidental]
    """Write table and page of what is finished, and run nothing."""

    sync: Annotated[bool, Incidental]
    """Send all that is finished, failed and shared to the mirror, and run nothing."""

    retry: Annotated[Literal["failed"] | None, Incidental]
    """`failed`: cells that have failed are run again; null: they are listed with their reason."""

    on_fail: Annotated[Literal["continue", "stop"], Incidental]
    """Whether the other cells are begun after one has failed."""

    cell_timeout: Annotated[PositiveFloat | None, Incidental]
    """Seconds, those of waiting for others left out, after which a cell is ended as hung."""

    def __post_init__(self) -> None:
        """Leave the rules of a cell to its cells: a study replaces some of these settings."""
        every = ("plan_only", "status", "report_only", "sync")
        modes = [name for name in every if getattr(self, name)]
        found = []
        if len(modes) > 1:
            why = f"{modes[0]} is given as well, and each asks for something else to be shown."
            found.append(Mistake(modes[1], "true", why, "Give one of them."))
        if self.sync and not self.logger.afar:
            why = "sync=true sends what is on disk to W&B, and this logger sends nothing anywhere."
            name = self.study.name if self.study else "playground"
            action = f"Add logger=wandb: python sweep.py study={name} sync=true logger=wandb"
            found.append(Mistake("sync", "true", why, action))
        if self.scale is not None and self.study is None:
            why = "a scale says how a study is run, and no study is chosen."
            action = f"Add study=<name>: python sweep.py study=lr_rerun_2b scale={self.scale.name}"
            found.append(Mistake("scale", self.scale.name, why, action))
        if found:
            raise ConfigError(found)


SWEEP_KEYS = frozenset(f.name for f in fields(Sweep)) - {f.name for f in fields(Cell)}
"""Settings of a sweep that are none of a cell."""
