"""Attention within each document of a packed row, never across.

Documents of similar length are laid side by side, right-padded, and attended causally: a real
query never sees the padding, which lies after it, so no mask is needed and the result is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from heed.core.errors import RunError

NAME = "heed_documents"


class Group(NamedTuple):
    """Documents whose lengths differ by less than a factor of two.

    Attributes:
        gather: i64[D * L], the flat position of each padded place (0 where there is none).
        scatter: i64[S], the padded place of each of the group's flat positions.
        flat: i64[S], the group's flat positions.
        documents: D.
        longest: L, in tokens.
    """

    gather: Tensor
    scatter: Tensor
    flat: Tensor
    documents: int
    longest: int


def group_documents(lengths: Tensor) -> list[Group]:
    """Group the documents of a flat row by power of two of their length.

    Args:
        lengths: i64[D], tokens of each document.
    """
    ends = torch.cumsum(lengths, 0)
    starts = ends - lengths
    power = torch.ceil(torch.log2(lengths.double())).long()
    groups = []
    for level in power.unique():
        chosen = (power == level).nonzero(as_tuple=True)[0]
        size = lengths[chosen]
        longest = int(size.max())
        place = torch.arange(longest, device=lengths.device)
        real = place[None, :] < size[:, None]
        flat = starts[chosen][:, None] + place[None, :]
        groups.append(
            Group(
                gather=torch.where(real, flat, 0).flatten(),
                scatter=real.flatten().nonzero(as_tuple=True)[0],
                flat=flat[real],
                documents=len(chosen),
                longest=longest,
            )
        )
    return groups


def attend(  # noqa: PLR0913 (the signature is transformers')
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    documents: list[Group],
    scaling: float | None = None,
    dropout: float = 0.0,
    **other: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each document.

    Args:
        module: The attention layer (unused).
        query: [1, Hq, T, Dh].
        key: [1, Hk, T, Dh], with Hk dividing Hq.
        value: [1, Hk, T, Dh].
        attention_mask: Must be None: the documents say who sees whom.
        documents: From `group_documents`.
        scaling: Factor of the scores; 1/sqrt(Dh) if None.
        dropout: Chance of dropping an attention weight.
        **other: What else the model hands to its attention; refused if it changes the result.

    Returns:
        [1, T, Hq, Dh], and None for the weights.
    """
    assert attention_mask is None, "a mask beside packed documents lets them see each other"
    _refuse_special(other, max(group.longest for group in documents))
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # [T, H, Dh]
    out = torch.zeros_like(q)
    for group in documents:
        shape = (group.documents, group.longest)
        rows = (x[group.gather].unflatten(0, shape).transpose(1, 2) for x in (q, k, v))
        padded_q, padded_k, padded_v = rows
        seen = torch.nn.functional.scaled_dot_product_attention(
            padded_q,
            padded_k,
            padded_v,
            is_causal=True,
            scale=scaling,
            dropout_p=dropout,
            enable_gqa=q.shape[1] != k.shape[1],
        )
        real = seen.transpose(1, 2).reshape(-1, *q.shape[1:])[group.scatter]
        out = out.index_copy(0, group.flat, real.to(out.dtype))
    return out[None], None


def _refuse_special(other: Mapping[str, Any], longest: int) -> None:
    """Refuse kinds of attention that are not computed here, before they train wrongly.

    Raises:
        RunError: a window shorter than the longest document, capped scores, or attention sinks.
    """
    window = other.get("sliding_window")
    special = [name for name in ("softcap", "s_aux") if other.get(name) is not None]
    if window is not None and window < longest:
        special.append(f"sliding_window={window} (the longest document has {longest} tokens)")
    if special:
        raise RunError(
            f"this model's attention uses {', '.join(special)}, which packed training does not "
            f"compute: it would be trained with another attention than it has. Choose another "
            f"model, or for a sliding window give data.max_tokens at most its size."
        )


def _no_mask(*_: Any, **__: Any) -> None:
    """No mask at all: documents attend by themselves."""


@contextmanager
def document_attention(model: Any) -> Iterator[None]:
    """Let a transformers model attend within documents inside the block, and as before after it."""
    from transformers import AttentionInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    AttentionInterface.register(NAME, attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, _no_mask)
    before = model.config._attn_implementation
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before
