"""Causal attention of one document on a processor, a block of queries at a time.

Torch's own computes no faster in half precision there, unless the processor has matrix units, and
half of what stands above the diagonal; its backward pass takes longer still. Here scores, weights
and sums are in float32. The weights are made again for the gradient, so that memory grows with the
tokens alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 128
"""Queries that look back together. Fewer waste less above the diagonal, and multiply slower."""

UNIT = 64
"""Documents are filled up to a multiple: each new size of a product costs a kernel to be made."""


def attend_in_blocks(
    q: Tensor, k: Tensor, v: Tensor, scaling: float | None, *, halves: bool
) -> Tensor:
    """Causal attention of one document.

    Args:
        q: [1, Hq, L, Dh].
        k: [1, Hk, L, Dh], with Hk dividing Hq.
        v: [1, Hk, L, Dv].
        scaling: Factor of the scores; 1/sqrt(Dh) if None.
        halves: Whether factors of a product may be rounded to bfloat16, which a processor with
            matrix units then does; others multiply float32 as they are. Sums are in float32.

    Returns:
        f32[1, Hq, L, Dv].
    """
    tokens = q.shape[2]
    q = q.float() * (q.shape[-1] ** -0.5 if scaling is None else scaling)
    fill = (0, 0, 0, -tokens % UNIT)  # seen by nobody: it lies behind the last query
    rows = [torch.nn.functional.pad(x[0].float(), fill).contiguous() for x in (q, k, v)]
    # query heads of one key stand together: [Hk, Hq / Hk, L, Dh]
    seen = _Blocks.apply(rows[0].unflatten(0, (k.shape[1], -1)), *rows[1:], halves)
    assert isinstance(seen, Tensor)
    return seen.flatten(0, 1)[None, :, :tokens]


class _Blocks(torch.autograd.Function):
    """[Hk, G, L, Dh], [Hk, L, Dh] and [Hk, L, Dv] to [Hk, G, L, Dv]."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, halves: bool) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.halves = halves
        seen = q.new_empty(*q.shape[:3], v.shape[-1])
        with _multiplying(halves):
            for here, weights in _weights(q, k):
                _put(seen, here, weights @ v[:, : here.stop])
        return seen

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v = ctx.saved_tensors
        (wanted,) = gradients
        of_q, of_k, of_v = (torch.zeros_like(x) for x in (q, k, v))
        with _multiplying(ctx.halves):
            for here, weights in _weights(q, k):
                before, towards = slice(here.stop), _take(wanted, here)
                of_weights = towards @ v[:, before].mT
                of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
                _put(of_q, here, of_scores @ k[:, before])
                of_k[:, before] += of_scores.mT @ _take(q, here)
                of_v[:, before] += weights.mT @ towards
        return of_q, of_k, of_v, None


@contextmanager
def _multiplying(halves: bool) -> Iterator[None]:
    """Inside the block oneDNN multiplies, if halves are allowed, and torch's default otherwise.

    The default, MKL, takes twice as long on processors that are not its maker's. Autocast, which
    may be on around the backward pass, would round whatever is allowed.
    """
    backend: Any = torch.backends.mkldnn
    settings = backend.matmul
    before = settings.fp32_precision
    settings.fp32_precision = "bf16" if halves and backend.is_available() else before
    try:
        with torch.autocast("cpu", enabled=False):
            yield
    finally:
        settings.fp32_precision = before


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
