"""Causal attention of one document on a processor in half precision, a block of queries at a time.

Torch's own multiplies in float32 there, whatever it is given, unless the processor has matrix
units; its backward pass takes longer still. Products of matrices in bfloat16 are two to four times
as fast, and what stands above the diagonal blocks is never computed. The weights are made again for
the gradient, so that memory grows with the tokens alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 128
"""Queries that look back together. Fewer waste less above the diagonal, and multiply slower."""

UNIT = 64
"""Documents are filled up to a multiple: each new size of a product costs a kernel to be made."""


def attend_in_blocks(q: Tensor, k: Tensor, v: Tensor, scaling: float | None) -> Tensor:
    """Causal attention with products in bfloat16; gradients are summed in float32.

    Scores are rounded to bfloat16 before the softmax, as by transformers' `eager` attention under
    autocast.

    Args:
        q: [1, Hq, L, Dh].
        k: [1, Hk, L, Dh], with Hk dividing Hq.
        v: [1, Hk, L, Dv].
        scaling: Factor of the scores; 1/sqrt(Dh) if None.

    Returns:
        bf16[1, Hq, L, Dv].
    """
    tokens = q.shape[2]
    q = q * (q.shape[-1] ** -0.5 if scaling is None else scaling)
    fill = (0, 0, 0, -tokens % UNIT)  # seen by nobody: it lies behind the last query
    rows = [torch.nn.functional.pad(x[0].bfloat16(), fill).contiguous() for x in (q, k, v)]
    # query heads of one key stand together: [Hk, Hq / Hk, L, Dh]
    seen = _Blocks.apply(rows[0].unflatten(0, (k.shape[1], -1)), *rows[1:])
    assert isinstance(seen, Tensor)
    return seen.flatten(0, 1)[None, :, :tokens]


class _Blocks(torch.autograd.Function):
    """[Hk, G, L, Dh], [Hk, L, Dh] and [Hk, L, Dv] to [Hk, G, L, Dv]."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(q, k, v)
        seen = q.new_empty(*q.shape[:3], v.shape[-1])
        for here, weights in _weights(q, k):
            _put(seen, here, weights @ v[:, : here.stop])
        return seen

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = ctx.saved_tensors
        (wanted,) = gradients
        of_q, of_k, of_v = (torch.zeros_like(x, dtype=torch.float32) for x in (q, k, v))
        for here, weights in _weights(q, k):
            before, towards = slice(here.stop), _take(wanted, here)
            of_weights = towards @ v[:, before].mT
            of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            _put(of_q, here, of_scores @ k[:, before])
            of_k[:, before] += of_scores.mT @ _take(q, here)
            of_v[:, before] += weights.mT @ towards
        return of_q, of_k, of_v


def _weights(q: Tensor, k: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of queries, and how much [Hk, G * B, stop] each looks at what stands before it."""
    later = q.new_full((BLOCK, BLOCK), -math.inf).triu(1)
    for start in range(0, q.shape[2], BLOCK):
        here = slice(start, min(start + BLOCK, q.shape[2]))
        size = here.stop - start
        scores = (_take(q, here) @ k[:, : here.stop].mT).unflatten(1, (-1, size))
        scores[..., start:] += later[:size, :size]
        yield here, scores.softmax(-1).flatten(1, 2)


def _take(x: Tensor, here: slice) -> Tensor:
    """A block of [Hk, G, L, D] as matrices [Hk, G * B, D]."""
    return x[:, :, here].flatten(1, 2)


def _put(x: Tensor, here: slice, block: Tensor) -> None:
    x[:, :, here] = block.unflatten(1, (x.shape[1], -1))
