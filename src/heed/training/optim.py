"""Learning rate and optimiser."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from heed.core.component import component
from heed.core.identity import Incidental
from heed.methods import bits
from heed.methods.adapters import Group

Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
OnNonFinite = Literal["stop", "skip"]

FUSED = ("cpu", "cuda")
"""Kinds of device on which a step of AdamW is one kernel: the same step up to rounding, and a
quarter of its time on a CPU."""


@component
class WarmupStableDecay:
    """The peak is held, and the last part of the training brings the learning rate down.

    Source: Hu et al. 2024, https://arxiv.org/abs/2404.06395; shapes of the decay are compared by
    Hägele et al. 2024, https://arxiv.org/abs/2405.18392.
    """

    decay_share: Annotated[float, Field(gt=0, le=1)]
    """Share of all optimiser steps in which it falls, at least one step; what lies between the
    warm-up and these is held at the peak. Where the two overlap, it falls after the warm-up."""

    shape: Literal["linear", "cosine", "sqrt"]
    """How it falls; `sqrt` is 1 - sqrt(done), steep at first."""

    def left(self, step: int, warmup: int, steps: int) -> float:
        """Share of the fall that is still to come at a step behind the warm-up."""
        begin = max(warmup, steps - max(1, round(self.decay_share * steps)))
        if step < begin:
            return 1.0
        return fallen((step - begin) / max(1, steps - begin), self.shape)


def fallen(done: float, shape: str) -> float:
    """What is left of 1 when a share of the fall is done."""
    done = min(1.0, done)
    if shape == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * done))
    return 1.0 - (math.sqrt(done) if shape == "sqrt" else done)


@component
class LearningRate:
    """Peak, warm-up and schedule."""

    name: Annotated[str, Incidental]
    """How it is called in tables."""

    peak: PositiveFloat
    """Highest learning rate."""

    schedule: Literal["cosine", "linear", "constant"] | WarmupStableDecay
    """How it falls after the warm-up."""

    warmup_steps: NonNegativeInt
    """Optimiser steps of linear rise from peak / warmup_steps. A training that is shorter never
    reaches the peak."""

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
        if self.schedule == "constant":
            return 1.0
        if isinstance(self.schedule, WarmupStableDecay):
            left = self.schedule.left(step, self.warmup_steps, steps)
        else:
            done = (step - self.warmup_steps) / max(1, steps - self.warmup_steps)
            left = fallen(done, self.schedule)
        return self.final + (1 - self.final) * left


class Optimizer(ABC):
    """The rule by which weights move, and what is done to a gradient before."""

    clip_norm: float | None
    on_non_finite: OnNonFinite

    @abstractmethod
    def build(self, groups: Sequence[Group], lr: LearningRate) -> Any:
        """A torch optimiser; each of its groups has a `scale` for its learning rate."""

    def events(self, moving: Sequence[Any]) -> dict[str, int]:
        """What of its work on these parameters a reader must know, counted."""
        return {}


@component
class AdamW(Optimizer):
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

    on_non_finite: OnNonFinite
    """What a loss or gradient that is not finite does: it ends the run, or its step is left out and
    counted."""

    def build(self, groups: Sequence[Group], lr: LearningRate) -> Any:
        """torch's, as one fused kernel where the device has it."""
        import torch

        made = decayed(groups, self.weight_decay)
        fused = all(p.device.type in FUSED for group in made for p in group["params"])
        return torch.optim.AdamW(
            made, lr=lr.peak, betas=(self.beta1, self.beta2), eps=self.eps, fused=fused or None
        )


@component
class AdamW8bit(Optimizer):
    """AdamW whose moments are held in 8 bits, quantised in blocks; by bitsandbytes.

    Source: Dettmers et al. 2022, https://arxiv.org/abs/2110.02861; pages: Dettmers et al. 2023,
    https://arxiv.org/abs/2305.14314.
    """

    beta1: Decay
    """Decay of the first moment."""

    beta2: Decay
    """Decay of the second moment."""

    eps: PositiveFloat
    """Added to the root of the second moment."""

    weight_decay: NonNegativeFloat
    """Decoupled decay; applied to matrices, not to norms and biases."""

    min_8bit_size: PositiveInt
    """Tensors of fewer weights keep moments of 32 bits; their weights are counted."""

    paged: Annotated[bool, Incidental]
    """Whether moments may be paged out to the memory of the host when the device's is full. The
    numbers are the same; on a CPU there is nothing to page."""

    clip_norm: PositiveFloat | None
    """Largest gradient norm of a whole optimiser step; null for no clipping."""

    on_non_finite: OnNonFinite
    """What a loss or gradient that is not finite does: it ends the run, or its step is left out and
    counted."""

    def digest(self) -> str:
        """The library that rounds is a part of the identity."""
        return f"bitsandbytes {version('bitsandbytes')}"

    def build(self, groups: Sequence[Group], lr: LearningRate) -> Any:
        """That of bitsandbytes."""
        bitsandbytes = bits.bitsandbytes()
        made = decayed(groups, self.weight_decay)
        on_device = any(p.device.type == "cuda" for group in made for p in group["params"])
        return bitsandbytes.optim.AdamW8bit(
            made,
            lr=lr.peak,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            min_8bit_size=self.min_8bit_size,
            is_paged=self.paged and on_device,
        )

    def events(self, moving: Sequence[Any]) -> dict[str, int]:
        """Weights that are too few in their tensor, and those that are not paged though asked."""
        small = sum(p.numel() for p in moving if p.numel() < self.min_8bit_size)
        host = sum(p.numel() for p in moving if self.paged and p.device.type != "cuda")
        found = {"weights with moments of 32 bits (optim.min_8bit_size)": small,
                 "weights with moments that are not paged (no CUDA device)": host}  # fmt: skip
        return {event: count for event, count in found.items() if count}


@component
class Adafactor(Optimizer):
    """Second moments of a matrix as the product of a row and a column; no more memory than that.

    The learning rate is the schedule's, never its own relative one; the one of transformers is
    used because it can leave out the scale of each weight, which torch's cannot.

    Source: Shazeer and Stern 2018, https://arxiv.org/abs/1804.04235.
    """

    beta1: Decay | None
    """Decay of a first moment; null keeps none, which is what saves the memory."""

    decay_rate: Annotated[float, Field(lt=0)]
    """The second moment decays by 1 - step^decay_rate."""

    eps: PositiveFloat
    """Added to the square of the gradient."""

    scale_by_weight: bool
    """Whether a step is also multiplied by the root mean square of the weight that it moves.
    Updates that begin as zero, as LoRA's do, would hardly move then."""

    smallest_scale: PositiveFloat
    """Smallest such factor (not used without `scale_by_weight`)."""

    clip_update: PositiveFloat
    """Largest root mean square of a tensor's update, before the learning rate."""

    weight_decay: NonNegativeFloat
    """Decoupled decay; applied to matrices, not to norms and biases."""

    clip_norm: PositiveFloat | None
    """Largest gradient norm of a whole optimiser step; null for no clipping."""

    on_non_finite: OnNonFinite
    """What a loss or gradient that is not finite does: it ends the run, or its step is left out and
    counted."""

    def build(self, groups: Sequence[Group], lr: LearningRate) -> Any:
        """That of transformers."""
        import transformers

        return transformers.Adafactor(
            decayed(groups, self.weight_decay),
            lr=lr.peak,
            eps=(self.eps, self.smallest_scale),
            clip_threshold=self.clip_update,
            decay_rate=self.decay_rate,
            beta1=self.beta1,
            scale_parameter=self.scale_by_weight,
            relative_step=False,
        )


def decayed(groups: Sequence[Group], weight_decay: float) -> list[dict[str, Any]]:
    """Groups as torch wants them: matrices decay, norms and biases do not; none is empty."""
    found = [
        {"params": [p for p in group.parameters if (p.ndim >= 2) == matrices],
         "weight_decay": weight_decay if matrices else 0.0, "scale": group.lr_scale}
        for group in groups
        for matrices in (True, False)
    ]  # fmt: skip
    return [group for group in found if group["params"]]
