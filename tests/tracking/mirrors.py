"""Runs to be mirrored, and what of them a reader of W&B's files finds."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from heed.tracking.tracker import Mirrored
from heed.tracking.wandb import Wandb

SECRET = "0123456789abcdef" * 2 + "01234567"
"""Has the form of a key."""

WANDB = Path(sys.executable).with_name("wandb")


def mirrored(directory: Path, **changes: Any) -> Mirrored:
    """A tuned run in a folder; it need not be there."""
    own: dict[str, Any] = {"id": "0123456789ab-0123456789ab", "name": "a run", "kind": "tuned"}
    own |= {"config": {"lr": "gentle", "lr.peak": 1.0, "lr_peak": 1.0}, "directory": directory}
    return Mirrored(**(own | {"root": directory.parent, "tags": ["student:nano"]} | changes))


def wandb_mirror(mode: str | None = "offline", **changes: Any) -> Wandb:
    """The mirror as `conf/logger/wandb.yaml` makes it, but for its mode."""
    own: dict[str, Any] = {"project": "heed", "entity": None, "group": None, "mode": mode}
    own |= {"artifact": False, "table_rows": 100, "upload_timeout": 30.0}
    return Wandb(**(own | changes))


def kept(root: Path, run_id: str = "*") -> list[Path]:
    """The offline files of a run below its outputs."""
    return sorted((root / "wandb").glob(f"offline-run-*-{run_id}/*.wandb"))


def records(file: Path) -> list[dict[str, Any]]:
    """All that is in an offline file, by W&B's own reader."""
    return [json.loads(line) for line in _inspect("--json", str(file)).splitlines()]


def read_back(file: Path) -> dict[str, Any]:
    """Config, summary, tags, state and exit code of an offline file, by the same reader."""
    found: dict[str, Any] = json.loads(_inspect("--summary", "--json", str(file)))
    return found


def of_kind(rows: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The records of a kind: `run`, `metric`, `artifact`, `history` (its rows)."""
    found = [row[kind] for row in rows if row["type"] == kind]
    return [row["item"] for row in found] if kind == "history" else found


def table(file: Path, entry: dict[str, Any]) -> dict[str, Any]:
    """The table that a summary's entry names."""
    found: dict[str, Any] = json.loads((file.parent / "files" / entry["path"]).read_text())
    return found


def _inspect(*words: str) -> str:
    line = [str(WANDB), "leet", "inspect", *words]
    return subprocess.run(line, capture_output=True, text=True, check=True, timeout=60).stdout
