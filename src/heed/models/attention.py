"""Attention within each document of a packed row, never across.

A CPU takes the documents one by one, CUDA has a kernel for them. Elsewhere documents of similar
length are laid side by side, right-padded, and attended causally: a real query never sees the
padding, which lies after it, so the result is exact without a mask for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache, partial
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from heed.core.errors import RunError
from heed.models.blocked import BLOCK, attend_in_blocks
from heed.models.documents import Documents
from heed.models.precision import compute_type, half_precision

NAME = "heed_documents"
SHORT = 512
"""Tokens up to which torch's own attends in float32 on a CPU: 60 take 0.2 ms, in bfloat16 0.7."""
ALONE = "Give data.packing=none: each document is then trained alone, with the model's own."
"""The way out where documents cannot share a row."""
UNKNOWN = ("s_aux", "position_bias")
"""What models hand to their attention that changes the result and is not computed here."""


class Scores(NamedTuple):
    """How a layer makes attention weights of its products of queries and keys.

    Attributes:
        scaling: Factor of the products; 1/sqrt(Dh) if None.
        softcap: Products s become softcap * tanh(s / softcap); None leaves them.
        window: A query sees so many tokens, itself included; None: all before it.
        dropout: Chance of dropping an attention weight.
    """

    scaling: float | None
    softcap: float | None
    window: int | None
    dropout: float


def attend(  # noqa: PLR0913 (the signature is transformers')
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    documents: Documents | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    blocks: bool = True,
    **other: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each document.

    Args:
        module: The attention layer.
        query: [1, Hq, T, Dh].
        key: [1, Hk, T, Dh], with Hk dividing Hq.
        value: [1, Hk, T, Dv].
        attention_mask: Must be None: the documents, which must be handed on, say who sees whom.
        documents: Of the row.
        scaling: Factor of the scores; 1/sqrt(Dh) if None.
        dropout: Chance of dropping an attention weight.
        sliding_window: A query sees so many tokens, itself included; None: all before it.
        softcap: Bound of the scores, before the softmax; None: unbounded.
        blocks: Whether a CPU takes long documents in blocks; torch's own keeps what CUDA's keeps.
        **other: What else the model hands to its attention; refused if it changes the result.

    Returns:
        [1, T, Hq, Dv], and None for the weights.

    Raises:
        RunError: the model's attention is of a kind that is not computed here.
    """
    if documents is None or attention_mask is not None:
        raise _unpacked(module, "is not told" if documents is None else "is handed a mask beside")
    _refuse_special(module, other)
    reaches = sliding_window is not None and sliding_window < documents.longest
    scores = Scores(scaling, softcap, sliding_window if reaches else None, dropout)
    q, k, v = (x.squeeze(0).transpose(0, 1) for x in (query, key, value))  # [T, H, Dh]
    if varlen_applies(q, v, scores):
        q, k, v = (x.to(compute_type(v)) for x in (q, k, v))
        return varlen(q, k, v, documents, scores)[None], None
    compute = partial(one_by_one, blocks=blocks) if q.device.type == "cpu" else by_groups
    return compute(q, k, v, documents, scores).unsqueeze(0), None


def _unpacked(module: Any, found: str) -> RunError:
    """What is raised where documents would see each other."""
    return RunError(
        f"the attention of this model ({type(module).__name__}) {found} where the documents of a "
        f"row begin and end, so they would see each other. {ALONE}"
    )


def _refuse_special(module: Any, other: dict[str, Any]) -> None:
    """Refuse kinds of attention that are not computed here, before they train wrongly.

    Raises:
        RunError: attention sinks, a bias by position, or attention that is not causal.
    """
    if other.get("is_causal") is False or getattr(module, "is_causal", True) is False:
        raise RunError(
            f"the attention of this model ({type(module).__name__}) is not causal: it sees the "
            f"tokens that it is to predict, and no way of packing mends this. Choose another model."
        )
    special = [name for name in UNKNOWN if other.get(name) is not None]
    if special:
        raise RunError(
            f"this model's attention uses {', '.join(special)}, which packed training does not "
            f"compute: it would be trained with another attention than it has. {ALONE}"
        )


def by_groups(q: Tensor, k: Tensor, v: Tensor, documents: Documents, scores: Scores) -> Tensor:
    """Attention group by group, each a padded batch of documents.

    Args:
        q: [T, Hq, Dh].
        k: [T, Hk, Dh].
        v: [T, Hk, Dv].
        documents: Of the row.
        scores: Of the layer.

    Returns:
        [T, Hq, Dv].
    """
    groups, places = documents.grouped
    padded = []
    for group in groups:
        shape = (group.documents, group.longest)
        rows = [
            x.index_select(0, group.gather).unflatten(0, shape).transpose(1, 2) for x in (q, k, v)
        ]
        if scores.softcap is None:
            seen = _sdpa(*rows, scores=scores)
        else:  # what is kept for the gradient would be four times D * H * L * L numbers
            seen = checkpoint(_capped, *rows, scores, use_reentrant=False)
        padded.append(seen.transpose(1, 2).flatten(0, 1))
    found = torch.cat(padded).index_select(0, places)
    return torch.nn.functional.pad(found, (0, 0, 0, 0, 0, len(q) - len(places)))


def one_by_one(
    q: Tensor, k: Tensor, v: Tensor, documents: Documents, scores: Scores, *, blocks: bool = True
) -> Tensor:
    """Attention document by document; arguments of `by_groups`, and `blocks` of `attend`.

    The row is split and joined, never indexed: on a CPU, gathering documents into batches and
    scattering their gradients costs more than the calls that it saves. What lies after the last
    document gets zeros.
    """
    lengths = [*documents.counts, len(q) - sum(documents.counts)]
    qs, ks, vs = (x.transpose(0, 1).unsqueeze(0).split(lengths, dim=2)[:-1] for x in (q, k, v))
    seen = [_one(*rows, scores=scores, blocks=blocks) for rows in zip(qs, ks, vs, strict=True)]
    rest = v.new_zeros(1, q.shape[1], lengths[-1], v.shape[-1], dtype=seen[0].dtype)
    return torch.cat([*seen, rest], dim=2).squeeze(0).transpose(0, 1)


def _one(q: Tensor, k: Tensor, v: Tensor, *, scores: Scores, blocks: bool) -> Tensor:
    """Attention of one document, [1, H, L, Dh], on a CPU.

    Torch's own is slow there in half precision, its backward pass above all: short documents are
    taken in float32, longer ones in blocks where nothing forbids and one thread computes: several
    share the heads of torch's own, and would wait for each other at every block.
    """
    kind = compute_type(v)
    if scores.softcap is not None:
        return checkpoint(_capped, q, k, v, scores, use_reentrant=False)
    plain = scores.window is None and not scores.dropout
    blocks = blocks and plain and torch.get_num_threads() == 1
    with torch.autocast("cpu", enabled=False):
        if blocks and kind in (torch.bfloat16, torch.float32) and q.shape[2] > BLOCK:
            halves = kind == torch.bfloat16
            return attend_in_blocks(q, k, v, scores.scaling, halves=halves).to(kind)
        whole = torch.float32 if q.shape[2] <= SHORT else kind
        return _sdpa(q.to(whole), k.to(whole), v.to(whole), scores=scores).to(kind)


def _sdpa(q: Tensor, k: Tensor, v: Tensor, *, scores: Scores) -> Tensor:
    """Torch's own attention over documents of one padded length, [D, H, L, Dh].

    CUDA's kernels for float32 and for masks know no grouped heads: torch would go over to plain
    products, and keep all scores for the gradient.
    """
    if q.is_cuda:
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    short = scores.window is not None and scores.window < q.shape[2]
    return torch.nn.functional.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=visible(q.shape[2], scores.window, q.device) if short else None,
        is_causal=not short,
        scale=scores.scaling,
        dropout_p=scores.dropout,
        enable_gqa=q.shape[1] != k.shape[1],
    )


def _capped(q: Tensor, k: Tensor, v: Tensor, scores: Scores) -> Tensor:
    """Attention with bounded scores, which torch's own does not offer.

    Source: Gemma Team 2024, "Gemma 2", https://arxiv.org/abs/2408.00118, section 2.
    """
    assert scores.softcap is not None
    copies = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(copies, dim=1) for x in (k, v))
    scaling = q.shape[-1] ** -0.5 if scores.scaling is None else scores.scaling
    products = (q @ k.mT) * scaling
    products = scores.softcap * torch.tanh(products / scores.softcap)
    hidden = ~visible(q.shape[2], scores.window, q.device)
    weights = products.masked_fill(hidden, -math.inf).softmax(-1, dtype=torch.float32).to(v.dtype)
    return torch.nn.functional.dropout(weights, scores.dropout) @ v


def visible(tokens: int, window: int | None, device: torch.device) -> Tensor:
    """bool[T, T]: whether the query of a row sees the key of a column.

    Example:
        >>> visible(3, 2, torch.device("cpu")).int().tolist()
        [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    """
    seen = torch.ones(tokens, tokens, dtype=torch.bool, device=device).tril()
    return seen if window is None else seen.triu(1 - window)


def varlen_applies(q: Tensor, v: Tensor, scores: Scores) -> bool:
    """Whether torch's kernel for documents of different lengths can compute this attention.

    It needs a CUDA device of compute capability 8 (Ampere) or later, half precision, and heads of
    a multiple of 8 of at most 256; it knows neither bounded scores nor dropout. Under autocast,
    queries and keys come in float32 from their rotation, values do not: what counts is in which
    type they are multiplied.
    """
    return (
        q.is_cuda
        and kernel_is_known()
        and torch.cuda.get_device_capability(q.device) >= (8, 0)
        and half_precision(v)
        and q.shape[-1] == v.shape[-1] <= 256
        and q.shape[-1] % 8 == 0
        and scores.softcap is None
        and not scores.dropout
    )


@cache
def kernel_is_known() -> bool:
    """Whether this torch's kernel takes what `varlen` gives it; others took less."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:  # a torch without it: the groups compute the same
        return False
    return {"scale", "window_size"} <= signature(varlen_attn).parameters.keys()


def varlen(q: Tensor, k: Tensor, v: Tensor, documents: Documents, scores: Scores) -> Tensor:
    """Attention by torch's kernel for documents of different lengths; arguments of `by_groups`.

    The kernel's window counts the tokens to the left of the query, ours counts the query too. It
    takes grouped heads as they are; from torch 2.12 on one has to say so.
    """
    from torch.nn.attention.varlen import varlen_attn

    told = "enable_gqa" in signature(varlen_attn).parameters
    grouped: dict[str, Any] = {"enable_gqa": q.shape[1] != k.shape[1]} if told else {}
    out = varlen_attn(
        q.contiguous(),
        k.contiguous(),
        v.contiguous(),
        documents.edges,
        documents.edges,
        documents.longest,
        documents.longest,
        scale=scores.scaling,
        window_size=(-1 if scores.window is None else scores.window - 1, 0),
        **grouped,
    )
    assert isinstance(out, Tensor)
    return out


def _no_mask(*_: Any, **__: Any) -> None:
    """No mask at all: documents attend by themselves."""


@lru_cache(maxsize=2)
def untraced(attention: Callable[..., Any]) -> Callable[..., Any]:
    """An attention that torch.compile leaves as it is: what it does depends on the documents."""
    left: Callable[..., Any] = torch.compiler.disable(attention)
    return left


@contextmanager
def document_attention(model: Any, attention: Callable[..., Any] = attend) -> Iterator[None]:
    """Let a transformers model attend within documents inside the block, and as before after it.

    Args:
        model: It.
        attention: What computes it, with the signature of `attend`.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    AttentionInterface.register(NAME, untraced(attention))
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, _no_mask)
    before = model.config._attn_implementation
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before
