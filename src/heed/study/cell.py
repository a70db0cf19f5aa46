"""A cell: one run with the suite that scores it before and after; the root of `conf/train.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from heed.core.component import component
from heed.core.errors import ConfigError, Mistake
from heed.core.identity import Incidental, short_hash
from heed.core.types import RowSource
from heed.data.contamination import Prompts
from heed.data.teacher import Teacher, TextCorpus
from heed.evaluation.heldout import HeldOut
from heed.evaluation.suite import Suite
from heed.evaluation.taught import ResponseLikelihood, same_rows
from heed.methods.freeze import Freeze
from heed.models.student import Scratch, Student
from heed.study.command import ScoringCommand
from heed.study.overlap import prompts_of
from heed.tracking.tracker import Tracker
from heed.training.divided import divided_mistakes
from heed.training.export import Export
from heed.training.masters import format_mistakes
from heed.training.run import Recipe, Run
from heed.training.trainer import TrainerSettings


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
    trained = {
        f"{key}.{part}".rstrip("."): one
        for key, made in named.items()
        if isinstance(made, Teacher)
        for part, one in made.parts().items()
        if isinstance(one, TextCorpus)
    }
    weighed = [task.corpus for task in suite.tasks.values() if isinstance(task, HeldOut)]
    return _taught_leaks(suite, named) + [
        Mistake(
            key,
            f"{one.part}, heldout_share={one.heldout_share:g}",
            f"the suite weighs the student on {other.part} of the same file with "
            f"heldout_share={other.heldout_share:g}, so it would be weighed on what it was taught.",
            "Give both the same separator and heldout_share, and train on part=train.",
        )
        for key, one in trained.items()
        for other in weighed
        if isinstance(other, TextCorpus) and one.overlaps(other)
    ]


def _taught_leaks(suite: Suite, trained: Mapping[str, Any]) -> list[Mistake]:
    """Responses that a student is trained on and weighed on."""
    weighed = {n: t.teacher for n, t in suite.tasks.items() if isinstance(t, ResponseLikelihood)}
    return [
        Mistake(
            f"{key}.{part}".rstrip("."),
            one.name,
            f"the suite's task {name} weighs the student on the same responses, so it would be "
            f"weighed on what it was taught.",
            f"Choose another teacher, or another for the task: suite.tasks.{name}.teacher.",
        )
        for key, made in trained.items()
        if isinstance(made, Teacher)
        for part, one in made.parts().items()
        for name, other in weighed.items()
        if same_rows(one, other)
    ]


def _format_mistakes(student: Student, recipe: Recipe) -> list[Mistake]:
    """Number formats in which small steps, or the comparison with the base, would be lost."""
    found = format_mistakes(
        getattr(student, "dtype", "float32"),
        recipe.precision,
        trains_weights=recipe.method.adapter.moves_base,
    )
    base = student.pretraining
    if base is not None:
        made = format_mistakes("float32", base.precision, trains_weights=True)
        found += [replace(one, where=f"model.pretraining.{one.where}") for one in made]
    return found


def _divided_mistakes(recipe: Cell, trainer: TrainerSettings) -> list[Mistake]:
    """What cannot be divided among ranks, of the tuning and of the base's own training."""
    found, base = divided_mistakes(recipe, trainer), recipe.model.pretraining
    for one in [] if base is None else divided_mistakes(base, trainer):
        action = one.action.replace("optim=", "optim@model.pretraining.optim=")
        found.append(replace(one, where=f"model.pretraining.{one.where}", action=action))
    return found


def _row_mistakes(student: Student, recipe: Recipe) -> list[Mistake]:
    """Tokens that must be learned, under a method that lets none of their numbers move."""
    frozen, tokens = recipe.method.adapter, student.template.special_tokens
    if not isinstance(frozen, Freeze) or frozen.embeddings or student.new_tokens == "refuse":
        return []
    if not tokens:
        return []
    why = (
        f"{student.name} learns {', '.join(tokens)} (model.new_tokens={student.new_tokens}), and "
        f"this method freezes the embedding, where their rows stand."
    )
    action = (
        "Add method.adapter.embeddings=true method.adapter.head=true, or take another method; "
        "model.new_tokens=refuse if the student was pre-trained with these tokens."
    )
    return [Mistake("method.adapter.embeddings", "False", why, action)]


@component
class Cell(Recipe, ScoringCommand):
    """Everything that one `python train.py` command says: a recipe, and what it is applied to."""

    model: Student
    """The student, scored by the suite before and after."""

    logger: Annotated[Tracker, Incidental]
    """The mirror."""

    export: Annotated[Export, Incidental]
    """What is made of the finished student for others."""

    preflight: Annotated[Literal["block", "warn"], Incidental]
    """What a proof that fails before the training does: it ends the run, or the result is flagged.
    """

    debugging: Annotated[Literal["fast", "overfit", "profile", "pdb"] | None, Incidental]
    """Which way of looking for mistakes is on; null for a run that is meant."""

    stop_after: Annotated[Literal["data"] | None, Incidental]
    """Where the command ends: after the data have been looked at, or, if null, at the result."""

    def __post_init__(self) -> None:
        found = heldout_leaks(self.model, self.suite, {"teacher": self.teacher})
        if isinstance(self.model, Scratch) and self.model.pretraining is None:
            why = "a student of random weights has nothing to be tuned."
            action = "Choose a model with a pretraining recipe, or write one."
            found.append(Mistake("model.pretraining", "null", why, action))
        found += [*self.rank_mistakes(), *_divided_mistakes(self, self.trainer)]
        found += _format_mistakes(self.model, self)
        found += _row_mistakes(self.model, self)
        found += self.checkpoint.mistakes(self.data)
        found += self.export.mistakes(
            adapter=not self.method.adapter.moves_base,
            on_the_hub=getattr(self.model, "revision", None) is not None,
        )
        made = getattr(self.model.pretraining, "data", None)
        if made is not None and made.drop_contaminated:
            why = "a base student is made for every suite: there are no prompts to keep it free of."
            key = "model.pretraining.data.drop_contaminated"
            found.append(Mistake(key, "true", why, "Give false, and drop them in data."))
        if found:
            raise ConfigError(found)

    def prompts(self) -> Prompts:
        """What the suite asks, to be looked for in what a student is trained on.

        Raises:
            DataError: the items of a task are missing.
        """
        return prompts_of(self.suite)

    @cached_property
    def run(self) -> Run:
        """The run that this cell asks for."""
        recipe = {f.name: getattr(self, f.name) for f in fields(Recipe)}
        apart = self.prompts().digest if self.data.drop_contaminated else None
        return Run(student=self.model, recipe=Recipe(**recipe), prompts=apart)

    @property
    def names(self) -> dict[str, Any]:
        """How the ledger calls this cell."""
        return self.named(self.run.id, short_hash(self.suite))

    def named(self, run: str, suite: str) -> dict[str, Any]:
        """How the ledger calls this cell, where its ids are known.

        Args:
            run: The run id.
            suite: The suite hash.
        """
        return {
            "run": run,
            "suite": suite,
            "suite_name": self.suite.name,
            "student": self.model.name,
            "teacher": self.teacher.name,
            "method": self.method.label,
            "lr": self.lr.name,
            "lr_peak": self.lr.peak,
            "seed": self.seed,
        }

    @property
    def directory(self) -> Path:
        """Directory of the run."""
        return self.root / "runs" / self.run.directory
