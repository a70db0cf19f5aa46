"""A run: everything that determines a tuned student, and the id made of it."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Annotated

from pydantic import Field

from heed.core.component import component
from heed.core.errors import ConfigError
from heed.core.identity import short_hash, slug, versions
from heed.core.types import RowSource
from heed.data.treatment import Treatment
from heed.methods.method import Method
from heed.models.student import Precision, Student
from heed.training.optim import LearningRate, Optimizer
from heed.training.rule import CheckpointRule

Seed = Annotated[int, Field(ge=0, lt=2**32)]


@component
class Recipe:
    """How a student is trained; pre-training is a recipe with a text teacher and method `full`."""

    teacher: RowSource
    """What it is trained on."""

    method: Method
    """What moves."""

    lr: LearningRate
    """How fast."""

    data: Treatment
    """How rows become steps."""

    optim: Optimizer
    """By which rule."""

    checkpoint: CheckpointRule
    """Which step of the training is the tuned student."""

    precision: Precision
    """Number format of the training step, as Lightning names it."""

    seed: Seed
    """Of data order, adapter weights and dropout."""

    def __post_init__(self) -> None:
        if found := self.checkpoint.mistakes(self.data):
            raise ConfigError(found)


@component
class Run:
    """A student and the recipe that tunes it."""

    student: Student
    """What it starts from."""

    recipe: Recipe
    """What is done to it."""

    prompts: str | None = None
    """Digest of the evaluation's prompts, if the examples that they contaminate are dropped: what
    is trained on depends on them then. Null otherwise."""

    @cached_property
    def id(self) -> str:
        """12 hex digits that change with whatever decides the result, and with nothing else."""
        return short_hash({"run": self, "versions": versions()})

    @property
    def name(self) -> str:
        """Readable, not unique."""
        recipe = self.recipe
        names = (self.student.name, recipe.teacher.name, recipe.method.label, recipe.lr.name)
        return "-".join(map(slug, names))

    @property
    def directory(self) -> str:
        """Directory below `outputs/runs`."""
        return f"{self.name}--{self.id}"


def base_run(student: Student) -> Run | None:
    """The run that pre-trains a student, or None if it comes trained (or stays random)."""
    if student.pretraining is None:
        return None
    return Run(student=replace(student, pretraining=None), recipe=student.pretraining)  # type: ignore[type-var]
