"""Texts of others without the keys that this process holds, fit for a screen, a file or a log."""

from __future__ import annotations

import os
import re

NAMED = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)$", re.IGNORECASE)
"""Names of the environment's variables whose values are keys."""

LEAST = 8
"""Characters of the shortest value that is taken for a key: `1` or `true` is none."""

LOOKS_LIKE_ONE = re.compile(r"\b(hf_|wandb_v1_|sk-)[A-Za-z0-9_-]{16,}")
"""Keys that tell by their beginning what they are, wherever they are kept."""


def without_secrets(text: str) -> str:
    """A text with `***` in place of each key.

    Example:
        >>> without_secrets("401 for hf_abcdefghijklmnopqrstuvwxyz")
        '401 for ***'
    """
    held = {v for k, v in os.environ.items() if NAMED.search(k) and len(v) >= LEAST}
    for value in sorted(held, key=len, reverse=True):
        text = text.replace(value, "***")
    return LOOKS_LIKE_ONE.sub("***", text)
