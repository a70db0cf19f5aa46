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
            said, of_rows, more = one_chunk(logits, rows[here], targets[here], moving)
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
    logits: Callable[[Tensor], Tensor], rows: Tensor, targets: Tensor, moving: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Sequence[Tensor | None]]:
    """Nats of each target, and the gradient of their sum for the rows and for what moves.

    The gradient for the logits is softmax(logits) - onehot(target). It is written over the
    log-probabilities, so that two arrays of [n, V] are held and not four.

    Returns:
        f32[n]; the gradient for the rows, [n, H]; one for each of `moving`, None if without effect.
    """
    with torch.enable_grad():
        own = rows.detach().requires_grad_()
        made = logits(own)
    logs = log_probabilities(made.detach(), torch.float32)
    nats = -logs.gather(-1, targets[:, None])[:, 0]
    softmax = logs.exp_()
    softmax[torch.arange(len(targets), device=targets.device), targets] -= 1
    given = softmax.to(made.dtype)
    of_rows, *more = torch.autograd.grad(made, [own, *moving], given, allow_unused=True)
    return nats, of_rows, more


def log_probabilities(logits: Tensor, dtype: torch.dtype) -> Tensor:
    """Logits [N, V] normalised over the vocabulary in a type of choice, in nats."""
    return logits.to(dtype).log_softmax(-1)


def _add(before: Tensor | None, now: Tensor | None) -> Tensor | None:
    if before is None or now is None:
        return now if before is None else before
    return before.add_(now)
