"""Teachers ranked for an untuned student, once; nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heed.analysis.ranking import CAR
from heed.core.errors import Mistake
from heed.core.files import whole_directory, write_json
from heed.core.identity import canonical, short_hash, slug, versions
from heed.core.locks import lock
from heed.core.manifest import manifest
from heed.data.align import TeacherSet
from heed.models.student import Student
from heed.study.ranking import Around, Found, further_columns, identity, make, measure
from heed.study.recorded import recorded_lines
from heed.study.scores import SAY, say_waiting


@dataclass(frozen=True)
class Asked:
    """One ranking.

    Attributes:
        analysis: How.
        student: For whom.
        teachers: Of whom.
        bootstrap: `level`, `resamples` and `seed`.
        around: Devices and watchers.
        root: Of the outputs.
    """

    analysis: CAR
    student: Student
    teachers: TeacherSet
    bootstrap: Mapping[str, Any]
    around: Around
    root: Path


def ranking_mistakes(analysis: Any, model: Any, teachers: Any) -> Iterator[Mistake]:
    """What is wrong with a command that ranks teachers, or says one half of that."""
    if not isinstance(analysis, CAR):
        if teachers is not None:
            why = "teachers are compared by analysis=car, and by nothing else."
            action = "Give analysis=car, or leave teachers out."
            yield Mistake("teachers", teachers.name, why, action)
        return
    if model is None:
        why = "teachers are ranked for an untuned student, and none is given."
        yield Mistake("analysis", analysis.name, why, "Give model=<student>, and no run.")
    if teachers is None:
        why = "there is nobody to be ranked."
        action = "Give teachers=<set>, an option of conf/teachers, such as teachers=play."
        yield Mistake("teachers", "nothing", why, action)


def rank_teachers(asked: Asked) -> tuple[Path, list[str]]:
    """Rank the teachers if that has not been done, and keep it whole.

    Returns:
        The directory, and the lines for the terminal.

    Raises:
        HeedError: the teachers share no instructions, a student or a reward cannot be read, or what
            was chosen to be refused is there.
    """
    analysis, root = asked.analysis, asked.root
    bases = [asked.student, *([analysis.reference] if analysis.reference else [])]
    for student in bases:
        make(student, asked.around, root)
    decides = {
        "analysis": analysis,
        "models": [identity(student, root) for student in bases],
        "teachers": {one.name: one.digest() for one in asked.teachers.teachers.values()},
        "columns": further_columns(analysis, asked.teachers.by_name),
        "bootstrap": asked.bootstrap,
        "versions": versions(),
    }
    name = f"{slug(asked.student.name)}-{asked.teachers.name}--{short_hash(decides)}"
    directory = root / "rankings" / name
    with lock(root / "locks" / f"ranking-{name}", say_waiting):
        if (directory / "manifest.json").is_file():
            return directory, recorded_lines(directory, "ranking")
        SAY.print(f"Ranking {asked.teachers.name} for {asked.student.name}", markup=False)
        found = measure(analysis, asked.student, asked.teachers.by_name, asked.around, root)
        with whole_directory(directory) as beside:
            said, facts = _written(beside, asked, found)
            about = {"said": said, "facts": facts}
            write_json(beside / "manifest.json", manifest() | canonical(decides) | about)
    return directory, said


def _written(directory: Path, asked: Asked, found: Found) -> tuple[list[str], dict[str, str]]:
    """Numbers, figure and page; the lines for the terminal and the facts."""
    from heed.analysis.car_page import write_ranking  # it draws, which takes a second to import

    facts = _facts(asked, found)
    named = asked.teachers.by_name.items()
    about = {
        "student": asked.student.name,
        "set": asked.teachers.name,
        "teachers": {name: {"family": t.family, "size_b": t.size_b} for name, t in named},
        "bootstrap": asked.bootstrap,
        "events": found.events,
        "counts": found.counts,
        "facts": facts,
    }
    return write_ranking(directory, found.measured, asked.analysis, about), facts


def _facts(asked: Asked, found: Found) -> dict[str, str]:
    """Label -> text, for the page and the manifest."""
    numbers = ", ".join(f"{name} {number}" for name, number in versions().items())
    models = [asked.student, *([asked.analysis.reference] if asked.analysis.reference else [])]
    texts = [f"{one.name} ({identity(one, asked.root)})" for one in models]
    return {
        "student": texts[0],
        "reference": texts[1] if len(texts) > 1 else "none",
        "teachers": f"{asked.teachers.name}, {len(found.measured.teachers)}",
        "bootstrap": str(dict(asked.bootstrap)),
        "versions": numbers,
    }
