"""Sizes at which a CPU has its kernels ready.

In half precision it builds a kernel for every shape of a matrix product that it has not seen: 2 to
10 ms each, as much as ten products of a small model. Rows are filled up to a few sizes instead.
"""

from __future__ import annotations

from torch import Tensor

from heed.models.precision import half_precision

STEP = 64
"""Rows are filled up to a multiple of it."""


def whole_number(rows: int, x: Tensor) -> int:
    """Rows to fill up to before a product, no fewer than there are.

    Args:
        rows: How many there are.
        x: The tensor they are of: only on a CPU, and in half precision, more are asked for.

    Example:
        >>> import torch
        >>> rows = torch.zeros(5, 2)
        >>> whole_number(5, rows), whole_number(5, rows.bfloat16()), whole_number(64, rows.half())
        (5, 64, 64)
    """
    built = x.device.type == "cpu" and half_precision(x)
    return -(-rows // STEP) * STEP if built else rows
