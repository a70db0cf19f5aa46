"""The DataModule: a planned training, one optimiser step an item."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import lightning
from torch.utils.data import DataLoader, IterableDataset

from heed.data.encode import Encoded
from heed.data.pack import flat_row
from heed.data.plan import number_of_steps, plan
from heed.training.module import Step
from heed.training.run import Recipe


class Steps(IterableDataset[Step]):
    """The steps of a training, as one rank sees them."""

    def __init__(
        self,
        examples: Sequence[Encoded],
        recipe: Recipe,
        *,
        pad: int,
        ranks: int = 1,
        rank: int = 0,
    ):
        self.examples = examples
        self.recipe = recipe
        self.pad = pad
        self.ranks = ranks
        self.rank = rank

    def __len__(self) -> int:
        return number_of_steps(len(self.examples), self.recipe.data)

    def __iter__(self) -> Iterator[Step]:
        recipe = self.recipe
        for step in plan(self.examples, recipe.data, ranks=self.ranks, seed=recipe.seed):
            chosen = [[self.examples[i] for i in row] for row in step.micro[self.rank]]
            yield Step(
                micro=[flat_row(examples, pad=self.pad) for examples in chosen],
                tokens=step.tokens,
                seen=sum(len(self.examples[i].ids) for i in step.indices),
            )


class PlannedData(lightning.LightningDataModule):
    """Feeds the planned steps to Lightning."""

    def __init__(self, examples: Sequence[Encoded], recipe: Recipe, *, pad: int):
        super().__init__()
        self.examples = examples
        self.recipe = recipe
        self.pad = pad

    def train_dataloader(self) -> DataLoader[Step]:
        """One item is one optimiser step, already packed."""
        assert self.trainer is not None
        steps = Steps(
            self.examples,
            self.recipe,
            pad=self.pad,
            ranks=self.trainer.world_size,
            rank=self.trainer.global_rank,
        )
        return DataLoader(steps, batch_size=None, num_workers=0)
