"""Which finished cells of a study of teachers are set against each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


State = tuple[tuple[str, str], ...]
"""In what cells differ beside the axes: name and value each."""

ByTeacher = Mapping[str, Sequence[MeasuredCell]]
"""Teacher's name -> its cells."""


def of_one_state(
    groups: Sequence[Group], ended: Callable[[MeasuredCell], str]
) -> tuple[list[Group], list[str]]:
    """The same with cells of one state of heed's code and settings each, as contrasts compare.

    Else what a change of code does would be told as what a teacher does. Those states are kept that
    leave most teachers to all groups: one that all groups have, if such a one does. Of several ways
    the one in which the first group has most teachers, then most cells, then the newest ones.

    Args:
        groups: All of them.
        ended: When a cell ended, as text that can be sorted.

    Returns:
        The groups, and a sentence for each in which something was dropped.
    """
    every = [_states(group, ended) for group in groups]
    found, told = [], []
    for group, states, kept in zip(groups, every, _chosen(every), strict=True):
        found.append(Group(group.name, states[kept]))
        if len(states) > 1:
            told.append(_dropped(group.name, states, kept))
    return found, told


def _states(group: Group, ended: Callable[[MeasuredCell], str]) -> dict[State, ByTeacher]:
    """State -> teacher -> cells; the fullest state first, of equal ones the newest."""
    found: dict[State, dict[str, list[MeasuredCell]]] = {}
    for teacher, cells in group.by_teacher.items():
        for one in cells:
            own = found.setdefault(tuple(sorted(one.beside.items())), {})
            own.setdefault(teacher, []).append(one)

    def rank(state: State) -> tuple[int, int, str]:
        cells = [one for own in found[state].values() for one in own]
        return len(found[state]), len(cells), max(map(ended, cells))

    return {state: found[state] for state in sorted(found, key=rank, reverse=True)}


def _chosen(every: Sequence[Mapping[State, ByTeacher]]) -> tuple[State, ...]:
    """A state for each group: of all ways the first that leaves most teachers to all groups."""
    everyone = frozenset(name for states in every for own in states.values() for name in own)
    ways: dict[frozenset[str], tuple[State, ...]] = {everyone: ()}  # who is left by which way
    for states in every:
        grown: dict[frozenset[str], tuple[State, ...]] = {}
        for left, way in ways.items():
            for state, own in states.items():
                grown.setdefault(left.intersection(own), (*way, state))
        ways = grown
    most = max(map(len, ways))
    for state in every[0] if every else ():
        if not all(state in states for states in every):
            continue
        if len(everyone.intersection(*(states[state] for states in every))) == most:
            return (state,) * len(every)
    return ways[max(ways, key=len)]


def _dropped(
    name: str, states: Mapping[State, Mapping[str, Sequence[MeasuredCell]]], kept: State
) -> str:
    """In what the cells of a group differ, and how many are ranked and left out."""
    facts = {state: dict(state) for state in states}
    names = dict.fromkeys(key for state in states for key, _ in state)
    differ = [key for key in names if len({fact.get(key) for fact in facts.values()}) > 1]

    def counted(state: State) -> str:
        teachers, cells = len(states[state]), sum(map(len, states[state].values()))
        place = said(differ, [facts[state].get(key, "not set") for key in differ])
        return f"{_number(teachers, 'teacher')} ({_number(cells, 'cell')}) with {place}"

    others = "; ".join(counted(state) for state in states if state != kept)
    return (
        f"{name}: cells that differ in {', '.join(differ)} are not ranked together. Ranked: "
        f"{counted(kept)}. Left out: {others}. All are ranked where one state of code and settings "
        f"has made them: outputs=<another folder> makes all anew."
    )


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def left_out(groups: Sequence[Group], names: Sequence[str], *, in_one_state: bool) -> list[str]:
    """Teachers that some student has not finished.

    Args:
        groups: All of them.
        names: Of the teachers that are kept.
        in_one_state: Whether cells of other states were left out before.
    """
    found = {name for group in groups for name in group.by_teacher} - set(names)
    if not found:
        return []
    which = ", in the state that is ranked," if in_one_state else ","
    return [f"Not finished for every student{which} and left out here: {', '.join(sorted(found))}."]
