"""The loss on examples that are kept apart: an exact mean over all their supervised tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from heed.core.ranks import everybody, share, world
from heed.data.dataset import Encoded
from heed.data.pack import flat_row
from heed.data.plan import divide, sizes
from heed.data.treatment import Treatment
from heed.models.likelihood import StudentLoss
from heed.models.precision import computing
from heed.training.strategy import gathered


@dataclass(frozen=True)
class Validation:
    """Examples kept apart, and what a student's loss on them was.

    Attributes:
        examples: At least one.
        treatment: How examples share rows; of no effect on the loss, but for rounding.
        pad: A token of the student.
        precision: Of the training, in Lightning's words: the loss is measured as it is trained.
        losses: Optimiser steps done -> nats per supervised token.
    """

    examples: Sequence[Encoded]
    treatment: Treatment
    pad: int
    precision: str
    losses: dict[int, float] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """Supervised tokens."""
        return sum(sizes(self.examples)[1])

    def measure(self, student: StudentLoss, step: int) -> float:
        """Nats per supervised token, without dropout; the student is left as it was.

        The rows are shared among the ranks, all of which call; their sum is made in one order, so
        it does not depend on how many there are.

        Args:
            student: Which.
            step: Optimiser steps that it has taken.
        """
        device = next(student.parameters()).device
        before = student.training
        student.eval()
        rows, own = divide(sizes(self.examples)[0], self.treatment, ranks=1)[0], {}
        try:
            alike = computing(student.model, self.precision, keep=world() == 1)
            with torch.no_grad(), gathered(student), alike:
                for number in share(len(rows)):
                    batch = flat_row([self.examples[i] for i in rows[number]], pad=self.pad)
                    batch = type(batch)(*(part.to(device) for part in batch))
                    own[number] = float(student.token_nats(batch).sum())
        finally:
            student.train(before)
        found = {number: nats for one in everybody(own) for number, nats in one.items()}
        self.losses[step] = sum(found[number] for number in range(len(rows))) / self.tokens
        return self.losses[step]

    def record(self) -> dict[str, float]:
        """What the manifest says of it."""
        first, *_, last = sorted(self.losses)
        return {
            "examples": len(self.examples),
            "supervised_tokens": self.tokens,
            "loss_before": self.losses[first],
            "loss_after": self.losses[last],
        }
