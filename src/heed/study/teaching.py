"""What a study of teachers says beside its cells: which metric predicts the measured delta."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heed.analysis.agreement import Sample
from heed.analysis.contrasts import SEED, said
from heed.analysis.families import Taught, larger_in_family, own_family, size_in_family
from heed.analysis.spearman import FEWEST
from heed.analysis.teaching import Tried, teaching_numbers
from heed.core.errors import DataError, HeedError
from heed.core.files import read_json, write_json
from heed.core.identity import canonical, short_hash, versions
from heed.core.locks import lock
from heed.core.manifest import code_state
from heed.core.resample import Floats, chunks
from heed.data.teacher import Teacher
from heed.study.cell import Cell
from heed.study.measured import MeasuredCell, measured
from heed.study.plan import PlannedCell
from heed.study.ranking import Found, measure
from heed.study.scores import SAY, say_waiting
from heed.study.study import Study

TEACHER, STUDENT = "teacher", "model"
"""The axes that a study of teachers has; others are told apart in the name of a student."""

Done = Mapping[tuple[str, str], Mapping[str, Any]]
"""(run id, suite hash) -> result of a finished cell."""


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
    def cell(self) -> Cell:
        """One of them: student, suite and surroundings are those of all."""
        return next(iter(self.by_teacher.values()))[0].planned.cell

    def teachers(self, names: Sequence[str]) -> dict[str, Teacher]:
        """The teachers themselves."""
        found = {name: self.by_teacher[name][0].planned.cell.teacher for name in names}
        return {name: one for name, one in found.items() if isinstance(one, Teacher)}


def teaching_of(
    study: Study, cells: Sequence[PlannedCell], done: Done, root: Path
) -> dict[str, Any] | None:
    """What `heed.analysis.teaching_page.teaching_section` shows; made once and kept.

    Args:
        study: Which.
        cells: All of them.
        done: The finished ones.
        root: Of the outputs; below `studies/<study>/teaching` stands what was made before, by a
            hash of all that decides it.

    Returns:
        None where the study does not ask. Where there is none yet, or it cannot be made, `reason`.
    """
    if study.teaching is None:
        return None
    axes = [axis for axis in study.varied if axis != SEED]
    groups = groups_of(measured(cells, done, axes, root).cells, axes)
    names = shared_teachers(groups)
    if len(names) < FEWEST:
        return {
            "reason": f"{len(names)} teachers are finished for every student, and {FEWEST} are "
            f"needed to rank them. The same command goes on with what is missing."
        }
    place = root / "studies" / study.name / "teaching" / f"{_key(study, groups, names, done)}.json"
    try:
        with lock(root / "locks" / f"teaching-{study.name}", say_waiting):
            if not place.is_file():
                write_json(place, _made(study, groups, names, root))
            found: dict[str, Any] = read_json(place)
            return found
    except HeedError as error:  # the page of what was trained is whole without it, and says why
        SAY.print(f"What predicts the deltas cannot be said: {error}", markup=False)
        return {"reason": f"What predicts the deltas cannot be said: {error}"}


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


def _key(study: Study, groups: Sequence[Group], names: Sequence[str], done: Done) -> str:
    """A hash of all that decides the numbers."""
    results = {
        group.name: {
            name: [done[one.planned.key]["deltas"] for one in group.by_teacher[name]]
            for name in names
        }
        for group in groups
    }
    teachers = groups[0].teachers(names)
    about = {name: [one.digest(), one.family, one.size_b] for name, one in teachers.items()}
    asked = canonical(study.teaching), study.own_families, groups[0].cell.suite.bootstrap()
    return short_hash([asked, results, about, versions(), code_state()])


def _made(
    study: Study, groups: Sequence[Group], names: Sequence[str], root: Path
) -> dict[str, Any]:
    """All numbers, made now."""
    assert study.teaching is not None, "asked for where the study asks"
    found = [_measure(study, group, names, root) for group in groups]
    bootstrap = groups[0].cell.suite.bootstrap()
    sign = -1 if _less(groups[0].cell) else 1
    students = [
        Tried(group.name, one.measured, deltas(group, names, bootstrap, sign))
        for group, one in zip(groups, found, strict=True)
    ]
    asked, left_out = study.teaching, _left_out(groups, names)
    reads = "after its instruction" if asked.conditioned else "without its instruction"
    counts = found[0].counts
    return {
        **teaching_numbers(students, asked.formula, asked.grid, bootstrap),
        "outcome": groups[0].cell.suite.primary + (", less is better" if sign < 0 else ""),
        "formula": f"beta {asked.beta:g}, loss per {asked.per} {reads}, rewards below zero: "
        f"{asked.negative}",
        "reward": next(iter(asked.rewards)),
        "instructions": counts["kept"],
        "items": len(groups[0].by_teacher[names[0]][0].keys),
        "level": bootstrap["level"],
        "about": {
            name: {"family": one.family, "size_b": one.size_b}
            for name, one in groups[0].teachers(names).items()
        },
        "events": {group.name: one.events for group, one in zip(groups, found, strict=True)},
        "notes": left_out,
        **_families(study, groups, names, students, float(bootstrap["level"])),
    }


def _measure(study: Study, group: Group, names: Sequence[str], root: Path) -> Found:
    """What was known of the teachers before the group's student was tuned."""
    from heed.study.run_cell import surroundings

    assert study.teaching is not None, "asked for where the study asks"
    cell = group.cell
    return measure(
        study.teaching, cell.model, group.teachers(names), lambda: surroundings(cell), root
    )


def deltas(
    group: Group, names: Sequence[str], bootstrap: Mapping[str, Any], sign: int = 1
) -> Sample:
    """The delta of each teacher, the mean over seeds, with draws of the suite's items.

    Items are drawn once for all teachers.

    Args:
        group: The cells.
        names: Of the teachers.
        bootstrap: `resamples` and `seed` are taken.
        sign: -1 where less is better.

    Raises:
        DataError: cells of other items.
    """
    changes = [[one.change for one in group.by_teacher[name]] for name in names]
    dens = changes[0][0].den
    if any(not np.array_equal(dens, change.den) for own in changes for change in own):
        raise DataError(
            f"Cells of {group.name} were scored on other items, so their deltas cannot be ranked. "
            f"Score all with one suite."
        )
    nums = np.stack([np.mean([change.num for change in own], axis=0) for own in changes])
    generator = np.random.default_rng(int(bootstrap["seed"]))
    draws: list[Floats] = []
    for size in chunks(int(bootstrap["resamples"]), len(dens)):
        items = generator.multinomial(len(dens), np.full(len(dens), 1 / len(dens)), size=size)
        draws.append(sign * (items @ nums.T) / (items @ dens)[:, None])
    return Sample(sign * nums.sum(axis=1) / dens.sum(), np.concatenate(draws))


def _less(cell: Cell) -> bool:
    """Whether the primary metric is better when it falls."""
    name, _, metric = cell.suite.primary.partition("/")
    return metric in cell.suite.tasks[name].lower_is_better


def _left_out(groups: Sequence[Group], names: Sequence[str]) -> list[str]:
    """Teachers that some student has not finished."""
    found = {name for group in groups for name in group.by_teacher} - set(names)
    if not found:
        return []
    return [f"Not finished for every student, and left out here: {', '.join(sorted(found))}."]


def _families(
    study: Study,
    groups: Sequence[Group],
    names: Sequence[str],
    students: Sequence[Tried],
    level: float,
) -> dict[str, Any]:
    """What families and sizes say, where teachers have some."""
    teachers = groups[0].teachers(names).values()
    taught = Taught(
        tuple(group.name for group in groups),
        tuple(names),
        np.stack([one.deltas.values for one in students]),
        tuple(one.family for one in teachers),
        tuple(one.size_b for one in teachers),
    )
    models = {group.name: group.cell.model.name for group in groups}
    own = {
        name: study.own_families[model]
        for name, model in models.items()
        if model in study.own_families
    }
    return {
        "families": own_family(taught, own, level=level),
        "larger": larger_in_family(taught, level=level),
        "sizes": size_in_family(taught, level=level),
    }
