"""The one way in which bitsandbytes is imported: without code from the network."""

from __future__ import annotations

import logging
import sys
from typing import Any


def bitsandbytes() -> Any:
    """The library; on some processors its import would fetch and run a kernel from the hub.

    It looks for a package `kernels`, which fetches; where that is hidden, it takes its own kernels
    and says so in a line of the log, which is left out. What is computed here uses neither.
    """
    if "bitsandbytes" not in sys.modules:
        log = logging.getLogger("bitsandbytes.backends.cpu.ops")
        before, level = sys.modules.get("kernels"), log.level
        hidden: Any = None
        sys.modules["kernels"] = hidden
        log.setLevel(logging.ERROR)
        try:
            import bitsandbytes  # noqa: F401
        finally:
            log.setLevel(level)
            del sys.modules["kernels"]
            if before is not None:
                sys.modules["kernels"] = before
    return sys.modules["bitsandbytes"]
