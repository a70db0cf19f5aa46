"""The LightningModule: one training step is one whole optimiser step, exact however it is cut."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from itertools import compress
from typing import Any, NamedTuple

import lightning
import torch
from torch import Tensor

from heed.core.console import progress_console
from heed.core.errors import RunError
from heed.data.pack import Batch
from heed.models.likelihood import StudentLoss
from heed.training.masters import ROUNDED, WHOLE, refuse_formats
from heed.training.run import Recipe
from heed.training.strategy import divide, plain_tensor
from heed.training.suspects import called, suspects

SKIPPED = "optimiser steps left out (loss or gradient not finite)"
"""What is counted of the steps that moved nothing."""

MOST_IN_A_ROW = 10
"""Steps in a row that may be left out: a training that goes on like this is lost."""


class Step(NamedTuple):
    """One optimiser step of one rank.

    Attributes:
        micro: Its micro-batches.
        tokens: Supervised tokens of the whole step, over all micro-batches and ranks.
        seen: Tokens of the whole step, supervised or not.
        ids: Of the examples of each micro-batch, in the order of its documents.
    """

    micro: list[Batch]
    tokens: int
    seen: int
    ids: list[list[str]]


class Tuning(lightning.LightningModule):
    """Minimise the mean negative log-likelihood of each step's supervised tokens.

    The mean is over the tokens of the *step*: every micro-batch's sum of nats is divided by the
    step's token count, so its gradient is that of the whole batch. Optimisation is manual because
    Lightning's own accumulation weighs micro-batches equally, whatever they hold.

    Attributes:
        done: Optimiser steps that the plan is ahead, left out or not; the schedule goes by it.
        skipped: Those of them that were left out, counted from 1. These two are all that a resumed
            training needs of it beside weights and optimiser.
        row: What is written of the last step; a loss or norm that is not finite is None.
        last_loss: That of the last step whose loss was finite, in nats per token.
        wishes: What a rank may wish at any time, by name; asked once a step.
        wished: The names of what any rank wished at the last step: the same on every rank.
    """

    def __init__(self, student: StudentLoss, recipe: Recipe, *, steps: int):
        """Take a student whose adapter is attached.

        Raises:
            RunError: weights that train are held in a format that was not asked for.
        """
        super().__init__()
        dtype = str(student.model.dtype).removeprefix("torch.")
        refuse_formats(student.named_parameters(), dtype, recipe.precision)
        self.automatic_optimization = False
        self.student = student
        self.recipe = recipe
        self.steps = steps
        self.done = 0
        self.skipped: list[int] = []
        self.row: dict[str, Any] = {}
        self.last_loss: float | None = None
        self.wishes: dict[str, Callable[[], bool]] = {}
        self.wished: frozenset[str] = frozenset()
        self.mesh: Any = None

    def configure_model(self) -> None:
        """Divide the student, where Lightning's strategy has the ranks divide it; once."""
        if self.device_mesh is not None and self.mesh is None:
            self.mesh = self.device_mesh["data_parallel"]
            divide(self.student, self.mesh)

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser over what its method lets move."""
        groups = self.recipe.method.adapter.groups(self.named_parameters())
        return self.recipe.optim.build(groups, self.recipe.lr)

    @property
    def events(self) -> dict[str, int]:
        """What a reader of the result must know of the training, counted."""
        moving = [p for p in self.parameters() if p.requires_grad]
        rounded = sum(p.numel() for p in moving) if self.recipe.precision == WHOLE else 0
        found = {SKIPPED: len(self.skipped), ROUNDED: rounded}
        own = self.recipe.optim.events(moving)
        return {event: count for event, count in found.items() if count} | own

    def training_step(self, step: Step, index: int) -> None:
        """Run every micro-batch, then move the weights once, or not at all.

        Raises:
            RunError: the loss or its gradient is not finite, and such steps are not to be left out.
        """
        started = time.perf_counter()
        optimizer: Any = self.optimizers()
        rate = self.recipe.lr.peak * self.recipe.lr.factor(self.done, self.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        loss, norm = self._backward(step, optimizer)
        if math.isfinite(loss) and math.isfinite(norm):
            optimizer.step()
        else:
            self._leave_out(step, optimizer, loss, norm, rate)
        self._forget(optimizer)
        self.done += 1
        self.last_loss = loss if math.isfinite(loss) else self.last_loss
        self.row = {
            "step": self.done,
            "loss": loss if math.isfinite(loss) else None,
            "lr": rate,
            "grad_norm": norm if math.isfinite(norm) else None,
            "supervised_tokens": step.tokens,
            "tokens": step.seen,
            "skipped": len(self.skipped),
            "seconds": time.perf_counter() - started,
        }

    def _backward(self, step: Step, optimizer: Any) -> tuple[float, float]:
        """Accumulate the gradient of the step's mean, and clip it.

        Both strategies average gradients over the ranks; the step's mean needs their sum. What is
        not finite on one rank is not finite on all, and what one wishes is wished by all, so that
        all do the same. DDP has the ranks talk once a step; FSDP2 once a micro-batch, because what
        they keep of a gradient is divided.

        Returns:
            That mean in nats per token, and the gradient's norm before clipping.
        """
        strategy: Any = self.trainer.strategy
        ranks = self.trainer.world_size
        total = torch.zeros((), device=self.device, dtype=torch.float32)
        alone = getattr(strategy, "block_backward_sync", nullcontext)
        for number, batch in enumerate(step.micro, 1):
            with nullcontext() if number == len(step.micro) else alone():
                nats, _ = self.student(batch)
                self.manual_backward(nats * ranks / step.tokens)
            total += nats.detach() / step.tokens
        norm = self._clip(optimizer)
        broken = (~norm.isfinite()).to(total)
        wishes = torch.tensor([float(wish()) for wish in self.wishes.values()]).to(total)
        told = torch.cat([torch.stack([total, broken]), wishes])
        loss, found, *wished = strategy.reduce(told, reduce_op="sum").tolist()
        self.wished = frozenset(compress(self.wishes, wished))
        return loss, math.nan if found and norm.isfinite() else norm.item()

    def _clip(self, optimizer: Any) -> Tensor:
        """Norm of the whole step's gradient, over all groups, before clipping."""
        moving = [p for group in optimizer.param_groups for p in group["params"]]
        limit = self.recipe.optim.clip_norm
        norm: Tensor = torch.nn.utils.clip_grad_norm_(
            moving, float("inf") if limit is None else limit
        )
        return plain_tensor(norm)

    def _forget(self, optimizer: Any) -> None:
        """Let go of a step's gradients, but for those that are a part of DDP's buckets.

        The next rows are added to these; made anew, they would stand beside the buckets.
        """
        kept = self.trainer.world_size > 1 and self.mesh is None
        optimizer.zero_grad(set_to_none=not kept)

    def _leave_out(self, step: Step, optimizer: Any, loss: float, norm: float, rate: float) -> None:
        """Count a step that must not move the weights.

        Raises:
            RunError: it ends the training: the recipe says so, or too many were left out.
        """
        self.skipped.append(self.done + 1)
        row = self.skipped[-MOST_IN_A_ROW:]
        last = list(range(self.done + 2 - MOST_IN_A_ROW, self.done + 2))
        lost = row == last or len(self.skipped) == self.steps
        self._forget(optimizer)
        found = suspects(self.student, step.micro, step.ids)
        which = called(*found, divided=self.mesh is not None)
        said = (
            f"the loss of optimiser step {self.done + 1} is {loss} nats per token and its gradient "
            f"has norm {norm}"
        )
        if self.recipe.optim.on_non_finite == "skip" and not lost:
            if self.trainer.is_global_zero:
                told = f"  left out: {said}. {which}"
                progress_console().print(told, markup=False, soft_wrap=True)
            return
        before = f" ({len(self.skipped)} steps were left out, the last {len(row)} in a row)"
        raise RunError(
            f"{said}, so the weights would be lost{before if len(self.skipped) > 1 else ''}. "
            f"{which} The learning rate ({rate:.3g} at this step) is probably too high: lower "
            f"lr.peak, lengthen lr.warmup_steps or set optim.clip_norm; or look at these examples. "
            f"optim.on_non_finite=skip leaves out and counts such steps, up to {MOST_IN_A_ROW} in "
            f"a row."
        )
