"""Learning rate and optimiser."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from heed.core.component import component
from heed.core.identity import Incidental

Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]


@component
class LearningRate:
    """Peak, warm-up and schedule."""

    name: Annotated[str, Incidental]
    """How it is called in tables."""

    peak: PositiveFloat
    """Highest learning rate."""

    schedule: Literal["cosine", "linear", "constant"]
    """How it falls after the warm-up."""

    warmup_steps: NonNegativeInt
    """Optimiser steps of linear rise from peak / warmup_steps."""

    final: Share
    """Share of the peak that a step after the last would have (not used by `constant`)."""

    def factor(self, step: int, steps: int) -> float:
        """Share of the peak at an optimiser step.

        Args:
            step: From 0.
            steps: Optimiser steps of the whole training.

        Example:
            >>> lr = LearningRate(
            ...     name="toy", peak=1e-3, schedule="linear", warmup_steps=2, final=0.0
            ... )
            >>> [round(lr.factor(s, 6), 2) for s in range(6)]
            [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
        """
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, steps - self.warmup_steps)
        left = {
            "constant": 1.0,
            "linear": 1.0 - done,
            "cosine": 0.5 * (1.0 + math.cos(math.pi * min(1.0, done))),
        }[self.schedule]
        return left if self.schedule == "constant" else self.final + (1 - self.final) * left


@component
class AdamW:
    """AdamW. Source: Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101."""

    beta1: Decay
    """Decay of the first moment."""

    beta2: Decay
    """Decay of the second moment."""

    eps: PositiveFloat
    """Added to the root of the second moment."""

    weight_decay: NonNegativeFloat
    """Decoupled decay; applied to matrices, not to norms and biases."""

    clip_norm: PositiveFloat | None
    """Largest gradient norm of a whole optimiser step; null for no clipping."""

    def build(self, parameters: Iterable[Any], lr: LearningRate) -> Any:
        """A torch optimiser over the parameters that train."""
        import torch

        moving = [p for p in parameters if p.requires_grad]
        groups = [
            {"params": [p for p in moving if p.ndim >= 2], "weight_decay": self.weight_decay},
            {"params": [p for p in moving if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=lr.peak,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
        )
