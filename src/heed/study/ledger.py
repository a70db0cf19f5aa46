"""The ledger: an append-only local record of what ran and what it scored; the truth."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heed.core.console import progress_console
from heed.core.files import append_jsonl

FILE = "ledger.jsonl"
SAY = progress_console()


def record(root: Path, event: str, entry: Mapping[str, Any]) -> None:
    """Append one event: `done` with a whole result, or `failed` with a reason."""
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    append_jsonl(root / FILE, {"event": event, "time": now, **entry})


def latest(root: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The last entry of every (run id, suite hash)."""
    path = root / FILE
    found: dict[tuple[str, str], dict[str, Any]] = {}
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    for number, line in enumerate(filter(None, lines), start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            SAY.print(f"{path}, line {number} is torn (its writer died) and is passed over.")
            continue
        found[row["run"], row["suite"]] = row
    return found
