"""Keys and values of many rows at once, in buffers where a finished row makes room for a new one.

All rows end in the same column, the newest token; a shorter row begins further right:

    columns   0 . . start . . . . . stop . . capacity
    row 0           a b c d e f g
    row 1                 p q r s
    row 2           (free)

A step writes one column in place; nothing is copied until the buffers are full. The library's own
cache concatenates every layer in every step, and keeps its rows until the last one has finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer

from heed.core.errors import RunError

GROWTH = 1.5
"""Size of new buffers over the columns in use: at most two columns are copied for one written."""


@dataclass
class Columns:
    """The part of the buffers that is in use: [start, stop), the same in all layers."""

    start: int = 0
    stop: int = 0

    @property
    def width(self) -> int:
        """Number of columns in use."""
        return self.stop - self.start


class SlotLayer(CacheLayerMixin):
    """Keys and values of one layer, each [rows, heads, capacity, head size].

    A layer with a sliding window keeps all columns, and its mask hides the old ones.
    """

    is_sliding = False
    is_croppable = False

    def __init__(self, columns: Columns):
        super().__init__()
        self.columns = columns

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Begin with buffers as large as the first states, which are written into them."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = key_states.contiguous(), value_states.contiguous()
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Write new columns behind those in use; returns all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            return self.keys, self.values
        start, stop = self.columns.start, self.columns.stop
        end = stop + key_states.shape[-2]
        self.keys[:, :, stop:end] = key_states
        self.values[:, :, stop:end] = value_states
        return self.keys[:, :, start:end], self.values[:, :, start:end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns that a query sees, and that the first of them is the first there is."""
        return self.columns.width + query_length, 0

    def get_seq_length(self) -> int:
        """Columns in use."""
        return self.columns.width

    def get_max_length(self) -> int:
        """No bound: buffers grow."""
        return -1

    get_max_cache_shape = get_max_length
    """What older releases of the library call it."""

    def move(self, capacity: int) -> None:
        """Take the columns in use to the front of new buffers."""
        used = slice(self.columns.start, self.columns.stop)
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_empty(*old.shape[:2], capacity, old.shape[3])
            new[:, :, : self.columns.width] = old[:, :, used]
            setattr(self, name, new)


class Slots(Cache):
    """A cache for `transformers` models whose rows come and go.

    Args:
        model: Decides the number and kind of layers.

    Raises:
        RunError: the model keeps something else than keys and values.
    """

    def __init__(self, model: Any):
        kinds = [type(layer) for layer in DynamicCache(config=model.config).layers]
        if odd := set(kinds) - {DynamicLayer, DynamicSlidingWindowLayer}:
            raise _unknown(model, ", ".join(sorted(kind.__name__ for kind in odd)))
        self.model, self.columns = model, Columns()
        super().__init__(layers=[SlotLayer(self.columns) for _ in kinds])

    @property
    def filled(self) -> list[SlotLayer]:
        """Layers that hold something: some models share keys and values between layers."""
        return [layer for layer in self.layers if layer.is_initialized]

    def check_filled(self) -> None:
        """Refuse a model that has read a prompt and put nothing here."""
        if not self.filled:
            raise _unknown(self.model, "something of its own")

    @property
    def capacity(self) -> int:
        """Columns of the buffers."""
        return int(self.filled[0].keys.shape[2])

    def reserve(self, start: int) -> int:
        """Make room for one more column, before a step.

        Args:
            start: First column that a living row still needs.

        Returns:
            How far all columns have moved to the left.
        """
        self.columns.start = start
        if self.columns.stop < self.capacity:
            return 0
        for layer in self.filled:
            layer.move(int(GROWTH * self.columns.width) + 1)
        self.columns.start, self.columns.stop = 0, self.columns.width
        return start

    def place(self, rows: Sequence[int], newcomers: Slots) -> None:
        """Copy rows of another cache into free ones, so that all end in the same column.

        The newcomers must not be wider than what stands left of `stop` here.
        """
        theirs, stop = newcomers.columns, self.columns.stop
        assert theirs.width <= stop, "there is no room to the left of the newest token"
        where = torch.tensor(rows, device=self.filled[0].device)
        for mine, other in zip(self.filled, newcomers.filled, strict=True):
            for name in ("keys", "values"):
                states = getattr(other, name)[:, :, theirs.start : theirs.stop]
                getattr(mine, name)[where, :, stop - theirs.width : stop] = states

    def select(self, rows: Tensor) -> None:
        """Keep these rows, i64[rows]; a row may be named again to stand for a free one."""
        for layer in self.filled:
            layer.keys, layer.values = layer.keys[rows], layer.values[rows]


def _unknown(model: Any, what: str) -> RunError:
    return RunError(
        f"{type(model).__name__} keeps {what} between tokens, where heed's engine knows keys and "
        f"values only, so its texts could not be trusted. Choose backend=vllm, or another student."
    )
