"""The summed loss of many positions, a chunk at a time: no pass holds all logits.

The gradient of a chunk is made as soon as its loss is, so logits are neither kept nor computed
again for the backward pass, which only scales what is there. Source of the idea: Hsu et al. 2024,
"Liger Kernel", https://arxiv.org/abs/2410.10989, section 3.2. Unlike there, the logits come from
the model's own forward, so bounded or scaled logits, tied heads and adapters need nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from heed.models.shapes import whole_number

IN_CACHE = 2**20
"""Logits of which a CPU makes the gradient at a time: 4 MiB in float32 stay in its cache."""


class SummedNats(torch.autograd.Function):
    """Sum over positions of the nats of their targets, with its gradient made on the way."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Callable[[Tensor], Tensor],
        targets: Tensor,
        at_once: int,
        rows: Tensor,
        *moving: Tensor,
    ) -> Tensor:
        """Go through the chunks.

        Args:
            ctx: Keeps the gradients.
            logits: From rows of hidden states [n, H] to logits [n, V].
            targets: i64[N].
            at_once: Most rows of a chunk.
            rows: Hidden states, [N, H].
            *moving: Every parameter that trains and on which the logits may depend.

        Returns:
            f32 scalar.
        """
        whole = torch.empty_like(rows)
        sums: list[Tensor | None] = [None] * len(moving)
        nats = []
        for start in range(0, len(rows), at_once):
            here = slice(start, start + at_once)
            said, of_rows, more = one_chunk(logits, rows[here], targets[here], moving, at_once)
            nats.append(said)
            whole[here] = of_rows
            sums = [_add(before, now) for before, now in zip(sums, more, strict=True)]
        ctx.found = [whole, *sums]
        return torch.cat(nats).sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients, in place: they are as large as the head."""
        found, ctx.found = ctx.found, None
        assert found is not None, "the gradient of a summed loss is there only once"
        return (None, None, None, *(g if g is None else g.mul_(given[0]) for g in found))


def one_chunk(
    logits: Callable[[Tensor], Tensor],
    rows: Tensor,
    targets: Tensor,
    moving: Sequence[Tensor],
    most: int,
) -> tuple[Tensor, Tensor, Sequence[Tensor | None]]:
    """Nats of each target, and the gradient of their sum for the rows and for what moves.

    Args:
        logits: From rows of hidden states [n, H] to logits [n, V].
        rows: Hidden states, [n, H].
        targets: i64[n].
        moving: As in `SummedNats.forward`.
        most: Most rows that may go through the head together, filled up or not.

    Returns:
        f32[n]; the gradient for the rows, [n, H]; one for each of `moving`, None if without effect.
    """
    count = len(targets)
    full = min(most, whole_number(count, rows))
    with torch.enable_grad():
        own = torch.nn.functional.pad(rows.detach(), (0, 0, 0, full - count)).requires_grad_()
        made = logits(own)
    nats, given = nats_and_gradient(made.detach(), targets)
    of_rows, *more = torch.autograd.grad(made, [own, *moving], given, allow_unused=True)
    return nats, of_rows[:count], more


def nats_and_gradient(made: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Nats of each target, and the gradient of their sum: softmax(logits) - onehot(target).

    On a CPU it is made of a few rows at a time, so that what is in between stays in the cache.

    Args:
        made: Logits, [n, V]; rows beyond the targets get the gradient zero.
        targets: i64[N], N at most n.

    Returns:
        f32[N], and the gradient [n, V] in the type of the logits.
    """
    given, nats = torch.empty_like(made), made.new_empty(len(targets), dtype=torch.float32)
    given[len(targets) :] = 0
    few = max(1, IN_CACHE // made.shape[-1]) if made.device.type == "cpu" else len(targets)
    for start in range(0, len(targets), few):
        here = slice(start, min(start + few, len(targets)))
        place = targets[here, None]
        logs = log_probabilities(made[here], torch.float32)
        of_target = logs.gather(-1, place)
        nats[here] = -of_target[:, 0]
        softmax = logs.exp_()
        given[here] = softmax.scatter_(-1, place, of_target.exp_() - 1)
    return nats, given


def log_probabilities(logits: Tensor, dtype: torch.dtype) -> Tensor:
    """Logits [N, V] normalised over the vocabulary in a type of choice, in nats."""
    return logits.to(dtype).log_softmax(-1)


def _add(before: Tensor | None, now: Tensor | None) -> Tensor | None:
    if before is None or now is None:
        return now if before is None else before
    return before.add_(now)
