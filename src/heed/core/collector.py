"""Python's search for garbage in cycles, kept away from what stays until the process ends."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


@contextmanager
def loading() -> Iterator[None]:
    """Import inside the block: nothing is searched for garbage there, nor what it imported later.

    The libraries are half a million objects that stay. To search them again and again while they
    are imported takes a quarter of that time, and to search them at the end of the process as much
    as importing torch. A block that imports nothing, because all is there already, is as any other.
    """
    before, searching = len(sys.modules), gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > before:
            gc.freeze()
            _end_without_search()
        if searching:
            gc.enable()


def release() -> None:
    """Give back what nobody holds any more, on a GPU too: a training ends as one large cycle."""
    gc.collect()
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


@cache
def _end_without_search() -> None:
    """Leave what is there at the end of the process to the system, which takes it as a whole."""
    atexit.register(gc.freeze)
