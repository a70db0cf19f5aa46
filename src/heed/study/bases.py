"""Base students and their scores: made on first use, once, and shared by every run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from heed.core.component import plain
from heed.core.console import progress_console
from heed.core.files import lock, whole_directory, write_json, write_text, write_yaml
from heed.core.identity import short_hash, slug, versions
from heed.core.manifest import manifest
from heed.evaluation.record import read_scores, write_scores
from heed.evaluation.suite import Suite
from heed.models.student import Student
from heed.tracking.tracker import LocalOnly
from heed.training.run import base_run

if TYPE_CHECKING:
    from heed.core.types import ItemScore
    from heed.models.student import Loaded
    from heed.training.fit import Surroundings

SAY = progress_console()


def load_base(student: Student, around: Surroundings, root: Path) -> Loaded:
    """The untuned student in memory; pre-trained first if this is its first use.

    Args:
        student: Which.
        around: Devices and watchers of a pre-training.
        root: Of the outputs.
    """
    from heed.training.checkpoint import load_student
    from heed.training.fit import fit

    run = base_run(student)
    if run is None:
        return student.fresh()
    directory = root / "runs" / run.directory
    with lock(root / "locks" / run.id, say_waiting):
        if not (directory / "DONE").is_file():
            SAY.print(f"Pre-training [bold]{student.name}[/bold] (first use; kept in {directory})")
            write_yaml(directory / "config.yaml", plain(run))
            (directory / "metrics.jsonl").unlink(missing_ok=True)
            alone = replace(around, tracker=LocalOnly())  # the mirror shows the tuning
            record = fit(run.recipe, run.student.fresh(), alone, directory)
            write_json(directory / "manifest.json", manifest() | {"run": run.id, "fit": record})
            write_text(directory / "DONE", f"{run.id}\n")
    return load_student(directory / "model", student.loading)


def baseline_directory(student: Student, suite: Suite, root: Path) -> Path:
    """Where the scores of an untuned student are kept."""
    name = short_hash({"student": student, "suite": suite, "versions": versions()})
    return root / "baselines" / f"{slug(student.name)}--{suite.name}--{name}"


def before_scores(
    student: Student, suite: Suite, around: Surroundings, root: Path
) -> tuple[list[ItemScore], dict[str, Any], Path]:
    """Scores and fingerprint of the untuned student, made on first use, and where they are."""
    directory = baseline_directory(student, suite, root)
    with lock(root / "locks" / directory.name, say_waiting):
        if not (directory / "summary.json").is_file():
            loaded = load_base(student, around, root).to(around.trainer.device)
            SAY.print(f"Scoring [bold]{student.name}[/bold] before tuning on suite {suite.name}")
            scores = suite.score(loaded, progress_line(SAY))
            references = _references(student, suite, loaded)
            with whole_directory(directory) as beside:
                write_scores(beside, suite, scores, suite.fingerprint(loaded))
                write_json(beside / "references.json", references)
    scores, fingerprint = read_scores(directory)
    return scores, fingerprint, directory


def _references(student: Student, suite: Suite, loaded: Loaded) -> dict[str, dict[str, float]]:
    """What trivial models reach on the suite's tasks, where a task knows such a model."""
    if student.pretraining is None:
        return {}
    text = student.pretraining.teacher
    found = {name: task.references(text, loaded.tokenizer) for name, task in suite.tasks.items()}
    return {name: values for name, values in found.items() if values}


def say_waiting() -> None:
    """Tell why nothing happens."""
    SAY.print("Another process is at work on this; waiting for it.")


def progress_line(console: Console) -> Any:
    """A callback (done, total) that prints about ten lines."""
    shown: set[tuple[str, int]] = set()

    def show(task: str, done: int, total: int) -> None:
        tenth = (task, 10 * done // max(total, 1))
        if tenth not in shown:
            shown.add(tenth)
            console.print(f"  {task}: {done}/{total}")

    return show
