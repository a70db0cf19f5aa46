"""In which numbers a device computes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

HALVES = (torch.bfloat16, torch.float16)
"""Formats of half the width."""


def computing(model: Any, precision: str, *, keep: bool = True) -> AbstractContextManager[Any]:
    """A `with` inside which a model multiplies as a precision asks.

    Args:
        model: A transformers model, where it is to compute.
        precision: In Lightning's words. `bf16-mixed` casts what is multiplied to bfloat16; any
            other leaves the weights' own format.
        keep: Whether weights that were cast are kept to the end of the block: memory for time.
    """
    kind, mixed = model.device.type, precision == "bf16-mixed"
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=mixed, cache_enabled=keep)


def compute_type(x: Tensor) -> torch.dtype:
    """In which format matrices are multiplied here: autocast's, or the tensor's own."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def half_precision(x: Tensor) -> bool:
    """Whether products of a floating tensor are computed in half precision here."""
    return compute_type(x) in HALVES


def widest(device: torch.device) -> torch.dtype:
    """The widest floating format that a device has: Apple's know no float64."""
    return torch.float32 if device.type == "mps" else torch.float64
