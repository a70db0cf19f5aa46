"""What a study of teachers says beside its cells: which metric predicts the measured delta."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heed.analysis.agreement import Sample
from heed.analysis.contrasts import SEED
from heed.analysis.families import (
    Taught,
    larger_in_family,
    of_one_size,
    own_family,
    size_in_family,
)
from heed.analysis.ranking import CAR
from heed.analysis.spearman import FEWEST
from heed.analysis.teaching import Tried, teaching_numbers
from heed.core.console import visible
from heed.core.errors import DataError, HeedError, StoppedError
from heed.core.files import read_json, write_json, write_text
from heed.core.identity import canonical, short_hash, versions
from heed.core.locks import lock
from heed.core.manifest import code_state
from heed.core.resample import Floats, chunks
from heed.core.secrets import without_secrets
from heed.study.cell import Cell
from heed.study.ledger import latest
from heed.study.measured import measured
from heed.study.plan import PlannedCell
from heed.study.ranking import Found, further_columns, measure
from heed.study.scores import SAY, say_waiting
from heed.study.study import Study
from heed.study.teaching_groups import (
    Group,
    groups_of,
    left_out,
    of_one_state,
    shared_teachers,
    with_shared_seeds,
)

CHOICES = (
    "limit", "max_tokens", "over_long", "on_bad_row", "unrewarded", "rewarded", "weighed",
    "precision",
)  # fmt: skip
"""What of `teaching` says which responses count, and how they are read."""

LOG = "teaching.log"
"""Beside the page: the traceback of an error that nobody foresaw."""

WHERE = "study.teaching"
"""Key of the choices, as it is typed."""

Done = Mapping[tuple[str, str], Mapping[str, Any]]
"""(run id, suite hash) -> result of a finished cell."""


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
        None where the study does not ask. Where there is none yet, `reason`; where it cannot be
        made, as `failed_section` says.

    Raises:
        StoppedError: a signal asked us to end.
    """
    if study.teaching is None:
        return None
    directory = root / "studies" / study.name
    (directory / LOG).unlink(missing_ok=True)
    try:
        return _told(study, cells, done, root)
    except StoppedError:
        raise
    except Exception as error:  # the page of what was trained is whole without it, and says why
        return failed_section(error, directory)


def failed_section(error: Exception, directory: Path) -> dict[str, Any]:
    """The section in place of one that cannot be made; it is said on the terminal too.

    Args:
        error: Why not. Of one that nobody foresaw, the traceback is kept.
        directory: Of the page.

    Returns:
        `reason`, and `failed`: a line for the end of the command.
    """
    said = str(error)
    if not isinstance(error, HeedError):
        log = directory / LOG
        write_text(log, without_secrets("".join(traceback.format_exception(error))))
        said = f"{type(error).__name__}: {said} The traceback is in {log}."
    said = without_secrets(f"What predicts the deltas cannot be said: {said}")
    SAY.print(visible(said), markup=False, soft_wrap=True)
    return {"reason": said, "failed": f"{said} The same command tries again."}


def _told(study: Study, cells: Sequence[PlannedCell], done: Done, root: Path) -> dict[str, Any]:
    """What was made before, or is made now; where it is too early, the reason alone."""
    axes = [axis for axis in study.varied if axis != SEED]
    read = measured(cells, done, axes, root)
    known = latest(root)
    groups, split = of_one_state(
        groups_of(read.cells, axes),
        lambda one: str(known.get(one.planned.key, {}).get("time", "")),
    )
    names = shared_teachers(groups)
    notes = [f"A finished cell is left out: {line}" for line in read.left_out]
    notes += [f"{times} items {what}" for what, times in read.unscored.items()]
    notes += split
    if len(names) < FEWEST:
        few = (
            f"{len(names)} teachers are finished for every student, and {FEWEST} are needed to "
            f"rank them. The same command goes on with what is missing."
        )
        return {"reason": " ".join([few, *notes])}
    notes += left_out(groups, names, in_one_state=bool(split))
    try:
        groups, dropped = with_shared_seeds(groups, names)
    except DataError as error:
        return {"reason": " ".join([f"What predicts the deltas cannot be said: {error}", *notes])}
    notes += dropped
    key = _key(study, groups, notes, done)
    place = root / "studies" / study.name / "teaching" / f"{key}.json"
    with lock(root / "locks" / f"teaching-{study.name}", say_waiting):
        if not place.is_file():
            write_json(place, _made(study, groups, notes, root))
        found: dict[str, Any] = read_json(place)
    return found


def _key(study: Study, groups: Sequence[Group], notes: Sequence[str], done: Done) -> str:
    """A hash of all that decides what is told."""
    names = list(groups[0].by_teacher)
    results = {
        group.name: {
            name: [done[one.planned.key]["deltas"] for one in group.by_teacher[name]]
            for name in names
        }
        for group in groups
    }
    teachers = groups[0].teachers(names)
    about = {name: [one.digest(), one.family, one.size_b] for name, one in teachers.items()}
    assert study.teaching is not None, "asked for where the study asks"
    columns = further_columns(study.teaching, teachers)
    asked = canonical(study.teaching), columns, study.own_families, groups[0].cell.suite.bootstrap()
    return short_hash([asked, results, about, list(notes), versions(), code_state()])


def _made(
    study: Study, groups: Sequence[Group], notes: Sequence[str], root: Path
) -> dict[str, Any]:
    """All numbers, made now."""
    assert study.teaching is not None, "asked for where the study asks"
    names = list(groups[0].by_teacher)
    found = [_measure(study, group, names, root) for group in groups]
    bootstrap = groups[0].cell.suite.bootstrap()
    sign = -1 if _less(groups[0].cell) else 1
    students = [
        Tried(group.name, one.measured, deltas(group, names, bootstrap, sign), group.model)
        for group, one in zip(groups, found, strict=True)
    ]
    asked, taught = study.teaching, _taught(groups, students)
    reads = "after its instruction" if asked.conditioned else "without its instruction"
    return {
        **teaching_numbers(students, asked.formula, asked.grid, bootstrap),
        "outcome": groups[0].cell.suite.primary + (", less is better" if sign < 0 else ""),
        "formula": f"beta {asked.beta:g}, loss per {asked.per} {reads}, rewards below zero: "
        f"{asked.negative}",
        "reward": next(iter(asked.rewards)),
        "counts": {group.name: one.counts for group, one in zip(groups, found, strict=True)},
        "choices": [f"{name} {_choice(asked, name)}" for name in CHOICES],
        "items": len(groups[0].by_teacher[names[0]][0].keys),
        "level": bootstrap["level"],
        "about": {
            name: {"family": one.family, "size_b": one.size_b}
            for name, one in groups[0].teachers(names).items()
        },
        "events": {group.name: one.events for group, one in zip(groups, found, strict=True)},
        "notes": [*notes, *_without(study, taught)],
        **_families(study, taught, float(bootstrap["level"])),
    }


def _measure(study: Study, group: Group, names: Sequence[str], root: Path) -> Found:
    """What was known of the teachers before the group's student was tuned."""
    from heed.study.run_cell import surroundings

    assert study.teaching is not None, "asked for where the study asks"
    cell, teachers = group.cell, group.teachers(names)
    return measure(study.teaching, cell.model, teachers, lambda: surroundings(cell), root, WHERE)


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


def _choice(asked: CAR, name: str) -> str:
    value = getattr(asked, name)
    return "none" if value is None else str(value)


def _taught(groups: Sequence[Group], students: Sequence[Tried]) -> Taught:
    """Outcomes of each student once, the mean over its groups where it has several."""
    teachers = groups[0].teachers(list(groups[0].by_teacher)).values()
    models = list(dict.fromkeys(one.owner for one in students))
    outcomes = [
        np.mean([one.deltas.values for one in students if one.owner == model], axis=0)
        for model in models
    ]
    return Taught(
        tuple(models),
        tuple(groups[0].by_teacher),
        np.stack(outcomes),
        tuple(one.family for one in teachers),
        tuple(one.size_b for one in teachers),
    )


def _without(study: Study, taught: Taught) -> list[str]:
    """What was asked of families, or could be, and is not told; each with why."""
    said = []
    for student, families in study.own_families.items():
        if student not in taught.students:
            said.append(f"own_families: student {student}: no finished cell has it.")
            continue
        said += [
            f"own_families: family {family} of {student}: no finished teacher has it."
            for family in families
            if family not in taught.families
        ]
    if same := of_one_size(taught):
        named = "; ".join(", ".join(names) for names in same)
        said.append(
            f"Teachers of one family and of one size, and not set against each other: {named}."
        )
    return said


def _families(study: Study, taught: Taught, level: float) -> dict[str, Any]:
    """What families and sizes say, where teachers have some."""
    own = {name: study.own_families[name] for name in taught.students if name in study.own_families}
    return {
        "families": own_family(taught, own, level=level),
        "larger": larger_in_family(taught, level=level),
        "sizes": size_in_family(taught, level=level),
    }
