"""Which finished cells of a study of teachers are set against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from heed.analysis.contrasts import said
from heed.core.errors import DataError
from heed.data.teacher import Teacher
from heed.study.cell import Cell
from heed.study.measured import MeasuredCell

TEACHER, STUDENT = "teacher", "model"
"""The axes that a study of teachers has; others are told apart in the name of a student."""


@dataclass(frozen=True)
class Group:
    """The finished cells that differ in teacher and seed alone.

    Attributes:
        name: The student, and what else tells the group from others.
        by_teacher: Teacher's name -> its cells, one a seed.
    """

    name: str
    by_teacher: Mapping[str, Sequence[MeasuredCell]]

    @property
    def model(self) -> str:
        """The student's own name: groups of one student differ in other axes."""
        return self.cell.model.name

    @property
    def cell(self) -> Cell:
        """One of them: student, suite and surroundings are those of all."""
        return next(iter(self.by_teacher.values()))[0].planned.cell

    def teachers(self, names: Sequence[str]) -> dict[str, Teacher]:
        """The teachers themselves."""
        found = {name: self.by_teacher[name][0].planned.cell.teacher for name in names}
        return {name: one for name, one in found.items() if isinstance(one, Teacher)}


def groups_of(cells: Sequence[MeasuredCell], axes: Sequence[str]) -> list[Group]:
    """Finished cells by all studied axes but teacher and seed.

    Args:
        cells: All on the same items in one order.
        axes: The studied ones.
    """
    others = [axis for axis in axes if axis not in (TEACHER, STUDENT)]
    found: dict[str, dict[str, list[MeasuredCell]]] = {}
    for one in cells:
        values = [one.change.place[axis] for axis in others]
        parts = [one.planned.cell.model.name, *([said(others, values)] if others else [])]
        teachers = found.setdefault(", ".join(parts), {})
        teachers.setdefault(one.planned.cell.teacher.name, []).append(one)
    return [Group(name, by_teacher) for name, by_teacher in found.items()]


def shared_teachers(groups: Sequence[Group]) -> list[str]:
    """Teachers that every group has finished, in the order of the first."""
    if not groups:
        return []
    return [name for name in groups[0].by_teacher if all(name in g.by_teacher for g in groups)]


def with_shared_seeds(
    groups: Sequence[Group], names: Sequence[str]
) -> tuple[list[Group], list[str]]:
    """The same with those seeds only that all teachers of a group have finished.

    Another seed of one teacher alone would make the effect of a seed one of that teacher.

    Args:
        groups: All of them.
        names: Of the teachers that are kept.

    Returns:
        The groups, and a sentence for each in which something was dropped.

    Raises:
        DataError: the teachers of a group share no seed.
    """
    found, told = [], []
    for group in groups:
        own = {name: group.by_teacher[name] for name in names}
        seeds = [{one.planned.cell.seed for one in cells} for cells in own.values()]
        shared = set[int].intersection(*seeds)
        if not shared:
            raise DataError(
                f"no seed of {group.name} is finished for all of its teachers, so the effect of a "
                f"seed would be told as that of a teacher. The same command trains what is missing."
            )
        kept = {
            name: [one for one in cells if one.planned.cell.seed in shared]
            for name, cells in own.items()
        }
        found.append(Group(group.name, kept))
        if lost := sum(map(len, own.values())) - sum(map(len, kept.values())):
            others = ", ".join(map(str, sorted(set[int].union(*seeds) - shared)))
            told.append(
                f"{group.name}: {lost} cells of seeds that not every teacher has finished are left "
                f"out (seeds {others}); deltas are means over seeds "
                f"{', '.join(map(str, sorted(shared)))}."
            )
    return found, told


def pooled(groups: Sequence[Group]) -> list[str]:
    """A sentence for each group whose cells differ beside the studied axes, and in what."""
    told = []
    for group in groups:
        cells = [one for own in group.by_teacher.values() for one in own]
        names = dict.fromkeys(name for one in cells for name in one.beside)
        differ = [n for n in names if len({one.beside.get(n) for one in cells}) > 1]
        if differ:
            told.append(
                f"{group.name}: cells differ in {', '.join(differ)} beside the axes, and are "
                f"ranked together all the same."
            )
    return told


def left_out(groups: Sequence[Group], names: Sequence[str]) -> list[str]:
    """Teachers that some student has not finished."""
    found = {name for group in groups for name in group.by_teacher} - set(names)
    if not found:
        return []
    return [f"Not finished for every student, and left out here: {', '.join(sorted(found))}."]
