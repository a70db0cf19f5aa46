"""The LightningModule: one training step is one whole optimiser step, exact however it is cut."""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

import lightning
import torch
from torch import Tensor

from heed.core.errors import RunError
from heed.data.pack import Batch
from heed.models.likelihood import StudentLoss
from heed.training.run import Recipe


class Step(NamedTuple):
    """One optimiser step of one rank.

    Attributes:
        micro: Its micro-batches.
        tokens: Supervised tokens of the whole step, over all micro-batches and ranks.
        seen: Tokens of the whole step, supervised or not.
    """

    micro: list[Batch]
    tokens: int
    seen: int


class Tuning(lightning.LightningModule):
    """Minimise the mean negative log-likelihood of each step's supervised tokens.

    The mean is over the tokens of the *step*: every micro-batch's sum of nats is divided by the
    step's token count, so its gradient is that of the whole batch. Optimisation is manual because
    Lightning's own accumulation weighs micro-batches equally, whatever they hold.
    """

    def __init__(self, student: StudentLoss, recipe: Recipe, *, steps: int):
        super().__init__()
        self.automatic_optimization = False
        self.student = student
        self.recipe = recipe
        self.steps = steps
        self.done = 0
        self.row: dict[str, float] = {}

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser over what its method lets move."""
        return self.recipe.optim.build(self.parameters(), self.recipe.lr)

    def training_step(self, step: Step, index: int) -> None:
        """Run every micro-batch, then move the weights once.

        Raises:
            RunError: the loss or its gradient is not finite.
        """
        started = time.perf_counter()
        optimizer: Any = self.optimizers()
        rate = self.recipe.lr.peak * self.recipe.lr.factor(self.done, self.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = self._backward(step)
        norm = self._clip(optimizer)
        if not (math.isfinite(loss.item()) and math.isfinite(norm)):
            raise RunError(
                f"the loss of optimiser step {self.done + 1} is {loss.item()} nats per token and "
                f"its gradient has norm {norm}, so the weights would be lost. The learning rate "
                f"({rate:.3g} at this step) is probably too high: lower lr.peak, lengthen "
                f"lr.warmup_steps or set optim.clip_norm."
            )
        optimizer.step()
        optimizer.zero_grad()
        self.done += 1
        self.row = {
            "step": self.done,
            "loss": loss.item(),
            "lr": rate,
            "grad_norm": norm,
            "supervised_tokens": step.tokens,
            "tokens": step.seen,
            "seconds": time.perf_counter() - started,
        }

    def _backward(self, step: Step) -> Tensor:
        """Accumulate the gradient of the step's mean; returns that mean in nats per token.

        DDP averages gradients over the ranks; the step's mean needs their sum.
        """
        ranks = self.trainer.world_size
        total = torch.zeros((), device=self.device)
        for batch in step.micro:
            nats, _ = self.student(batch)
            self.manual_backward(nats * ranks / step.tokens)
            total += nats.detach() / step.tokens
        whole: Any = self.trainer.strategy.reduce(total, reduce_op="sum")
        return whole

    def _clip(self, optimizer: Any) -> float:
        """Norm of the whole step's gradient before clipping."""
        moving = [p for group in optimizer.param_groups for p in group["params"]]
        limit = self.recipe.optim.clip_norm
        norm = torch.nn.utils.clip_grad_norm_(moving, float("inf") if limit is None else limit)
        return norm.item()
