"""What kernels of a GPU compute and ask for, in plain operations, for `pretend`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.attention.varlen  # registers the kernel
from torch import Tensor

aten = torch.ops.aten


def varlen_forward(
    q: Tensor, k: Tensor, v: Tensor, edges: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """What the kernel for documents computes, and what it asks for.

    Source: torch 2.13, `aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp`,
    `mha_varlen_fwd`. Rows that no document has are left as they lie in memory: here, not a number.
    """
    other, longest, _, causal, scale, window = rest[:6]
    assert {q.dtype, k.dtype, v.dtype} in ({torch.bfloat16}, {torch.float16})
    assert edges.dtype == other.dtype == torch.int32
    assert edges[0] == 0
    assert all(x.is_contiguous() and x.shape[-1] % 8 == 0 for x in (q, k, v))
    assert q.shape[-1] == k.shape[-1] == v.shape[-1] <= 256
    assert longest == edges.diff().max()
    assert causal == (window == [-1, 0])
    scale, copies = q.shape[-1] ** -0.5 if scale is None else scale, q.shape[1] // k.shape[1]
    out = torch.full_like(q, torch.nan)
    for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        qs, ks, vs = (x[begin:end].transpose(0, 1).float() for x in (q, k, v))
        ks, vs = (x.repeat_interleave(copies, 0) for x in (ks, vs))
        out[begin:end] = (_weights(qs, ks, scale, window[0]) @ vs).transpose(0, 1).to(q.dtype)
    return out, q.new_zeros(q.shape[1], len(q)).float(), torch.zeros(2, dtype=torch.uint64)


def _weights(q: Tensor, k: Tensor, scale: float, left: int) -> Tensor:
    """f32[H, L, L] of one document, whose queries see so many tokens to the left; -1: all."""
    far = torch.arange(q.shape[1])[:, None] - torch.arange(q.shape[1])
    hidden = (far < 0) | (far > (left if left >= 0 else q.shape[1]))
    return (q @ k.mT * scale).masked_fill(hidden, -torch.inf).softmax(-1)


def varlen_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Any:
    """Its gradient."""
    _, _, edges, _, _, _, _, _, scale, window = rest
    scale, copies = q.shape[-1] ** -0.5 if scale is None else scale, q.shape[1] // k.shape[1]
    grads = [torch.full_like(x, torch.nan) for x in (q, k, v)]
    for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        g, qs, ks, vs = (x[begin:end].transpose(0, 1).float() for x in (grad, q, k, v))
        ks, vs = (x.repeat_interleave(copies, 0) for x in (ks, vs))
        weights = _weights(qs, ks, scale, window[0])
        by_weight = g @ vs.mT
        by_product = weights * (by_weight - (by_weight * weights).sum(-1, keepdim=True)) * scale
        of_heads = [by_product.mT @ qs, weights.mT @ g]
        found = [by_product @ ks, *(x.unflatten(0, (-1, copies)).sum(1) for x in of_heads)]
        for whole, part in zip(grads, found, strict=True):
            whole[begin:end] = part.transpose(0, 1).to(whole.dtype)
    return tuple(grads)


VARLEN = torch.ops.torch_attn._varlen_attn.default
VARLEN_BACKWARD = torch.ops.torch_attn._varlen_attn_backward.default
KERNELS: dict[Any, Callable[..., Any]] = {
    VARLEN: varlen_forward,
    VARLEN_BACKWARD: varlen_backward,
    aten.histc.default: lambda x, *args: aten.histc.default(x.float(), *args).to(x.dtype),
}
