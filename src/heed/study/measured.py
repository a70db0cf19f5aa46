"""What the items of a study's finished cells say, read once for all that is made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from heed.analysis.confounds import code_groups, varying_settings
from heed.analysis.contrasts import SEED, Change, change_of
from heed.analysis.deltas import row_of
from heed.core.errors import DataError, RunError
from heed.core.identity import first_difference
from heed.core.types import ItemScore
from heed.core.unscored import scored_on_all
from heed.evaluation.deltas import in_order_of, item_by_item, sums_of
from heed.evaluation.record import read_scores
from heed.study.plan import PlannedCell

CODE = "heed's code"
"""What a cell's code is called beside axes."""

OF_THE_STUDENT = ("template", "stops", "prompts")
"""What of a scoring belongs to the student that is scored: it may differ between students."""


IN_METHOD = ("noise", "weights")
"""Config groups that write their settings into the method."""


def called(axis: str) -> str:
    """What tables call an axis of a study.

    Example:
        >>> called("model"), called("lr")
        ('student', 'lr')
    """
    return "student" if axis == "model" else axis


def place_of(
    planned: PlannedCell, axes: Sequence[str], beside: Mapping[str, str]
) -> dict[str, str]:
    """Where a cell is among the others: its value on each axis, its seed, and what is beside."""
    place = {called(axis): planned.settings.get(axis, "as in conf") for axis in axes}
    return place | {SEED: str(planned.cell.seed), **beside}


@dataclass(frozen=True)
class MeasuredCell:
    """A finished cell with the scores of all its items.

    Attributes:
        planned: The cell.
        axes: The studied ones.
        metric: `<task>/<metric>` of the changes.
        beside: What else tells cells apart: heed's code, settings that differ.
        before: Scores of the metric's task before tuning.
        after: The same after, item by item.
    """

    planned: PlannedCell
    axes: tuple[str, ...]
    metric: str
    beside: Mapping[str, str]
    before: Sequence[ItemScore]
    after: Sequence[ItemScore]

    @cached_property
    def change(self) -> Change:
        """What tuning did to each item, on the metric.

        Raises:
            DataError: an item was asked for another amount before than after.
        """
        task, _, metric = self.metric.partition("/")
        sides = [sums_of(scores, task, metric) for scores in (self.before, self.after)]
        place = place_of(self.planned, self.axes, self.beside)
        return change_of(place, sides[0], sides[1], self.planned.key[0])

    @property
    def keys(self) -> list[str]:
        """Of the items, in order."""
        return [score.key for score in self.before]


@dataclass(frozen=True)
class Measured:
    """The cells of a study that can be set against each other.

    Attributes:
        cells: All scored in one way, on the same items in one order.
        left_out: A line for each finished cell that is none of them.
        unscored: What was left out of all cells, as some had no score of it -> how often.
    """

    cells: tuple[MeasuredCell, ...]
    left_out: tuple[str, ...]
    unscored: Mapping[str, int] = field(default_factory=dict)


def measured(
    cells: Sequence[PlannedCell],
    done: Mapping[tuple[str, str], Mapping[str, Any]],
    axes: Sequence[str],
    root: Path,
    metric: str | None = None,
) -> Measured:
    """Read the items of all finished cells; one that is lost or unlike the others is left out.

    Args:
        cells: Of a study.
        done: (run id, suite hash) -> result of the finished ones.
        axes: The studied ones.
        root: Of the outputs.
        metric: `<task>/<metric>`; None: each cell's primary one.
    """
    found: list[MeasuredCell] = []
    left_out: list[str] = []
    ended = [cell for cell in cells if cell.key in done]
    beside = facts_beside([done[cell.key] for cell in ended], axes)
    reader = _Reader(root, metric)
    for planned, facts in zip(ended, beside, strict=True):
        try:
            found.append(reader.cell(planned, done[planned.key], tuple(axes), facts))
        except (RunError, DataError) as error:
            left_out.append(f"{planned.directory}: {error}")
    sides, unscored = scored_on_all(*(side for one in found for side in (one.before, one.after)))
    alike = [
        replace(one, before=before, after=after)
        for one, before, after in zip(found, sides[::2], sides[1::2], strict=True)
    ]
    return Measured(tuple(alike), tuple(left_out), unscored)


def facts_beside(results: Sequence[Mapping[str, Any]], axes: Sequence[str]) -> list[dict[str, str]]:
    """In what cells differ beside the studied axes: heed's code and settings, of each result.

    Args:
        results: Of the finished cells.
        axes: The studied ones.
    """
    rows = [row_of(result) for result in results]
    studied = [*map(called, axes), *(f"method.{axis}" for axis in axes if axis in IN_METHOD), SEED]
    names = varying_settings(rows, studied)
    found = [{name: str(row.settings.get(name, "not set")) for name in names} for row in rows]
    groups = code_groups(rows)
    if len(groups) > 1:
        codes = {id(row): group[0].code for group in groups for row in group}
        for row, facts in zip(rows, found, strict=True):
            facts[CODE] = codes[id(row)]
    return found


class _Reader:
    """Reads scores; the first cell says in which way, and in which order, all have to be."""

    def __init__(self, root: Path, metric: str | None):
        self.root, self.metric = root, metric
        self.befores: dict[str, tuple[list[ItemScore], dict[str, Any]]] = {}
        self.first: dict[str, Any] = {}
        self.order: Sequence[ItemScore] = ()

    def cell(
        self,
        planned: PlannedCell,
        result: Mapping[str, Any],
        axes: tuple[str, ...],
        beside: Mapping[str, str],
    ) -> MeasuredCell:
        """One cell.

        Raises:
            RunError: scores are lost, lack the metric, or were made in another way than the first
                cell's.
            DataError: its items are asked for other amounts before than after.
        """
        metric = self.metric or planned.cell.suite.primary
        where = str(result["before"])
        if where not in self.befores:
            self.befores[where] = self._read(self.root / where, metric)
        folder = self.root / result["directory"] / "scores" / planned.cell.suite.name
        sides = [self.befores[where], self._read(folder, metric)]
        for _, fingerprint in sides:
            self._refuse_other(fingerprint)
        order = self.order or sides[0][0]
        before, after = (in_order_of(order, scores) for scores, _ in sides)
        found = MeasuredCell(planned, axes, metric, beside, *item_by_item(before, after))
        _ = found.change  # refused here, where it can be said of this cell
        self.order = order
        return found

    def _read(self, directory: Path, which: str) -> tuple[list[ItemScore], dict[str, Any]]:
        task, _, metric = which.partition("/")
        every, fingerprint = read_scores(directory)
        scores = [score for score in every if score.task == task]
        known = sum(metric in score.metrics for score in scores)
        if not scores or known < len(scores):
            raise RunError(
                f"the scores in {directory} lack {which} ({known} of {len(scores)} items of that "
                f"task have it): they were made before the task had it, or by another suite. "
                f"Remove that folder and give the command again."
            )
        return scores, fingerprint

    def _refuse_other(self, fingerprint: Mapping[str, Any]) -> None:
        shared = {key: fingerprint[key] for key in fingerprint if key not in OF_THE_STUDENT}
        self.first = self.first or shared
        if shared != self.first:
            where, one, two = first_difference(self.first, shared)
            raise RunError(
                f"it was scored in another way than the study's first cell ({where} is {two!r} and "
                f"there {one!r}), so it is set against no other."
            )
