"""Attention of one new token per row, over the columns of that row and no others.

In a step of generation all rows end in the same column, and a row sees an unbroken run of columns
up to there. With one mask for all of them, as in the library, every row is charged for as many
columns as the longest has, and on a CPU that is most of the work.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

NAME = "heed_rows"
SPECIAL = ("softcap", "s_aux", "position_bias")
"""What changes attention beyond a scale; the library computes it."""


class RowAttention:
    """The library's `sdpa`, but for steps on a CPU."""

    def __init__(self) -> None:
        self.mask: Tensor | None = None
        self.starts: list[int] = []

    def __call__(
        self,
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **given: Any,
    ) -> tuple[Tensor, None]:
        """Attention of the newest tokens.

        Args:
            module: The attention layer.
            query: [rows, Hq, 1, Dk]; longer queries are the library's.
            key: [rows, Hk, columns, Dk], with Hk dividing Hq.
            value: [rows, Hk, columns, Dv].
            attention_mask: bool[rows, 1, 1, columns]: what each row sees, an unbroken run to the
                end.
            **given: `scaling`, and what else the model hands to its attention.

        Returns:
            [rows, 1, Hq, Dv], and None for the weights.
        """
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        special = any(given.get(name) is not None for name in SPECIAL)
        if query.shape[2] > 1 or attention_mask is None or special or query.device.type != "cpu":
            found = sdpa_attention_forward(module, query, key, value, attention_mask, **given)
            return found[0], None
        rows, heads = query.shape[:2]
        shared = query.reshape(rows, key.shape[1], heads // key.shape[1], query.shape[3])
        out = query.new_empty(*shared.shape[:3], value.shape[3])
        for row, start in enumerate(self._starts(attention_mask)):
            own = slice(row, row + 1)
            out[row] = scaled_dot_product_attention(
                shared[own], key[own, :, start:], value[own, :, start:], scale=given.get("scaling")
            )[0]
        return out.reshape(rows, 1, heads, value.shape[3]), None

    def _starts(self, mask: Tensor) -> list[int]:
        """The first column that each row sees; layers of one kind share a mask."""
        if self.mask is not mask:
            self.mask, self.starts = mask, mask[:, 0, 0].int().argmax(-1).tolist()
        return self.starts


@contextmanager
def row_attention(model: Any) -> Iterator[None]:
    """Let a model that uses `sdpa` attend row by row inside the block, and as before after it."""
    from transformers import AttentionInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask

    before = model.config._attn_implementation
    if before != "sdpa" or not model._supports_attention_backend:
        yield
        return
    AttentionInterface.register(NAME, RowAttention())
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, sdpa_mask)
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before
