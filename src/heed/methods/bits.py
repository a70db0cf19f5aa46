"""The one way in which bitsandbytes is imported: without code from the network, and if needed."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any


def bitsandbytes() -> Any:
    """The library; on some processors its import would fetch and run a kernel from the hub.

    It looks for a package `kernels`, which fetches; where that is hidden, it takes its own kernels
    and says so in a line of the log, which is left out. What is computed here uses neither.
    """
    if "bitsandbytes" not in sys.modules:
        log = logging.getLogger("bitsandbytes.backends.cpu.ops")
        level = log.level
        log.setLevel(logging.ERROR)
        try:
            with _hidden("kernels"):
                import bitsandbytes  # noqa: F401
        finally:
            log.setLevel(level)
    return sys.modules["bitsandbytes"]


def peft() -> Any:
    """peft, to be asked for anew before each use: it sees bitsandbytes only if that is imported.

    Left alone it imports it for any adapter, in its own way, and remembers what it found. No layer
    is one of bitsandbytes' before that is imported, so peft misses nothing; and its import takes
    half a second of a core.
    """
    with nullcontext() if "bitsandbytes" in sys.modules else _hidden("bitsandbytes"):
        import peft
        from peft import import_utils

        for answer in (import_utils.is_bnb_available, import_utils.is_bnb_4bit_available):
            answer.cache_clear()
            answer()
    return peft


@contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Let a package look as if it were not installed inside the block."""
    before, nothing = sys.modules.get(name), None
    sys.modules[name] = nothing  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
