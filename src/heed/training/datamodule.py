"""The DataModule: a planned training, one optimiser step an item."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import lightning
from torch.utils.data import DataLoader, IterableDataset

from heed.core.errors import RunError
from heed.core.ranks import everybody, world
from heed.data.dataset import Encoded
from heed.data.pack import flat_row
from heed.data.plan import StepPlan, plan, plan_record
from heed.training.module import Step
from heed.training.run import Recipe


class Steps(IterableDataset[Step]):
    """The steps of a training, as one rank sees them."""

    def __init__(
        self, examples: Sequence[Encoded], planned: Sequence[StepPlan], *, pad: int, rank: int = 0
    ):
        self.examples = examples
        self.planned = planned
        self.pad = pad
        self.rank = rank

    def __len__(self) -> int:
        return len(self.planned)

    def __iter__(self) -> Iterator[Step]:
        for step in self.planned:
            chosen = [[self.examples[i] for i in row] for row in step.micro[self.rank]]
            yield Step(
                micro=[flat_row(examples, pad=self.pad) for examples in chosen],
                tokens=step.tokens,
                seen=sum(step.loads),
                ids=[[example.id for example in examples] for examples in chosen],
            )


class PlannedData(lightning.LightningDataModule):
    """Plans the whole training, then feeds it to Lightning.

    Args:
        examples: What is trained on.
        recipe: How.
        pad: Token of a rank that has nothing to do in a micro-batch.
        alone: Whether each document has a row of its own, whatever the recipe says, because the
            model cannot keep documents of one row apart.
        start: Optimiser steps that are done already; they are planned, and not fed.
    """

    def __init__(
        self,
        examples: Sequence[Encoded],
        recipe: Recipe,
        *,
        pad: int,
        alone: bool = False,
        start: int = 0,
    ):
        super().__init__()
        self.examples = examples
        self.treatment = replace(recipe.data, packing="none") if alone else recipe.data
        self.seed = recipe.seed
        self.pad = pad
        self.start = start

    @cached_property
    def planned(self) -> list[StepPlan]:
        """Every step, made once and before the first."""
        ranks = self.trainer.world_size if self.trainer else world()
        return list(plan(self.examples, self.treatment, ranks=ranks, seed=self.seed))

    @cached_property
    def record(self) -> dict[str, Any]:
        """What the manifest says of the plan."""
        return plan_record(self.planned, self.treatment, self.examples)

    def train_dataloader(self) -> DataLoader[Step]:
        """One item is one optimiser step, already packed.

        Raises:
            RunError: the ranks have made different plans.
        """
        trainer: Any = self.trainer
        same_plan(self.record["digest"])
        left = self.planned[self.start :]
        steps = Steps(self.examples, left, pad=self.pad, rank=trainer.global_rank)
        return DataLoader(steps, batch_size=None, num_workers=0)


def same_plan(digest: str) -> None:
    """Compare the ranks' plans, before any of them takes a step.

    Args:
        digest: Of this rank's plan.

    Raises:
        RunError: they differ; every rank raises it, so that none waits for the others.
    """
    found = set(everybody(digest))
    if len(found) > 1:
        raise RunError(
            f"the ranks planned {len(found)} different trainings (digests "
            f"{', '.join(sorted(found))}): each would train on its own steps and none would be "
            f"the run that is recorded. They read different data or run different code: start all "
            f"ranks from one checkout and one data folder."
        )
