"""How a process uses the processor and its memory: nothing here decides a result."""

from __future__ import annotations

import ctypes
import os

KEPT = 2**30
"""Bytes: smaller tensors are made of memory that the process keeps when one of them ends."""

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""Names of mallopt(3)."""


def use_processor(threads: int | None, device: str) -> None:
    """Use as many threads as asked; where the processor computes, keep memory for its tensors.

    Args:
        threads: Of torch; None leaves torch's choice.
        device: Where a student computes, in torch's words.
    """
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    if device == "cpu":
        keep_memory()


def keep_memory(size: int = KEPT) -> bool:
    """Keep what was freed, where glibc would give it back and ask for it again at each tensor.

    Each page that is asked for again is a fault and is cleared: a student that reads long rows can
    spend half of its time there. Whoever set the allocator by its environment keeps what they set.

    Args:
        size: Bytes: a single piece of memory up to here is kept.

    Returns:
        Whether it is so: False with another C library, or where the allocator was set already.
    """
    own = any(name.startswith("MALLOC_") for name in os.environ) or "GLIBC_TUNABLES" in os.environ
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if own or mallopt is None:
        return False
    # An older glibc refuses the first of this size (0); the second alone would freeze what glibc
    # learns by itself of the sizes in use.
    return bool(mallopt(MMAP_THRESHOLD, size) and mallopt(TRIM_THRESHOLD, size))
