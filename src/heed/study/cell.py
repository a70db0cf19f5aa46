"""A cell: one run with the suite that scores it before and after; the root of `conf/train.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from heed.core.component import component
from heed.core.errors import ConfigError, Mistake
from heed.core.identity import Incidental, short_hash
from heed.core.types import RowSource
from heed.data.teacher import TextCorpus
from heed.evaluation.heldout import HeldOut
from heed.evaluation.suite import Suite
from heed.models.student import Scratch, Student
from heed.study.command import ScoringCommand
from heed.tracking.tracker import Tracker
from heed.training.run import Recipe, Run


def heldout_leaks(
    student: Student, suite: Suite, teachers: Mapping[str, RowSource]
) -> list[Mistake]:
    """Texts that a student is trained on and weighed on.

    Args:
        student: Its pre-training may hold a corpus.
        suite: Its tasks may weigh the held-out part of the same file.
        teachers: Config key -> source, of whatever else it is trained on.
    """
    named = {"model.pretraining.teacher": getattr(student.pretraining, "teacher", None), **teachers}
    trained = {key: made for key, made in named.items() if isinstance(made, TextCorpus)}
    weighed = [task.corpus for task in suite.tasks.values() if isinstance(task, HeldOut)]
    return [
        Mistake(
            key,
            f"{one.part}, heldout_share={one.heldout_share:g}",
            f"the suite weighs the student on {other.part} of the same file with "
            f"heldout_share={other.heldout_share:g}, so it would be weighed on what it was taught.",
            "Give both the same separator and heldout_share, and train on part=train.",
        )
        for key, one in trained.items()
        for other in weighed
        if isinstance(other, TextCorpus) and one.path == other.path and one.overlaps(other)
    ]


@component
class Cell(Recipe, ScoringCommand):
    """Everything that one `python train.py` command says: a recipe, and what it is applied to."""

    model: Student
    """The student, scored by the suite before and after."""

    logger: Annotated[Tracker, Incidental]
    """The mirror."""

    def __post_init__(self) -> None:
        found = heldout_leaks(self.model, self.suite, {"teacher": self.teacher})
        if isinstance(self.model, Scratch) and self.model.pretraining is None:
            why = "a student of random weights has nothing to be tuned."
            action = "Choose a model with a pretraining recipe, or write one."
            found.append(Mistake("model.pretraining", "null", why, action))
        if found:
            raise ConfigError(found)

    @property
    def run(self) -> Run:
        """The run that this cell asks for."""
        recipe = {f.name: getattr(self, f.name) for f in fields(Recipe)}
        return Run(student=self.model, recipe=Recipe(**recipe))

    @property
    def names(self) -> dict[str, Any]:
        """How the ledger calls this cell."""
        return {
            "run": self.run.id,
            "suite": short_hash(self.suite),
            "suite_name": self.suite.name,
            "student": self.model.name,
            "teacher": self.teacher.name,
            "method": self.method.name,
            "lr": self.lr.name,
            "lr_peak": self.lr.peak,
            "seed": self.seed,
        }

    @property
    def directory(self) -> Path:
        """Directory of the run."""
        return self.root / "runs" / self.run.directory
