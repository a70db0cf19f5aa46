"""The ledger: an append-only local record of what ran and what it scored; the truth."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heed.core.files import append_jsonl, read_jsonl

FILE = "ledger.jsonl"


def record(root: Path, event: str, entry: Mapping[str, Any]) -> None:
    """Append one event: `done` with a whole result, or `failed` with a reason."""
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    append_jsonl(root / FILE, {"event": event, "time": now, **entry})


def latest(root: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The last entry of every (run id, suite hash)."""
    path = root / FILE
    rows = read_jsonl(path) if path.is_file() else []
    return {(row["run"], row["suite"]): row for row in rows}
