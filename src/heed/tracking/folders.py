"""Where the W&B library keeps its files below the outputs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

FOLDER = "wandb"
"""Where the library keeps its files, below the outputs."""

DATA = "heed-data"
"""Where files that are to be sent lie, below that."""


def sync_line(root: Path) -> str:
    """The command that sends what was written offline."""
    return f"wandb sync {root / FOLDER}/offline-run-*"


def stay_below(root: Path, run_id: str) -> None:
    """Have the library keep the files of a run's tables below the outputs, unless told where."""
    own, told = (root / FOLDER / DATA).absolute(), os.environ.get("WANDB_DATA_DIR")
    if told is None or Path(told).parent.name == DATA:
        os.environ["WANDB_DATA_DIR"] = str(own / run_id)


def forget(root: Path, run_id: str) -> None:
    """Remove earlier offline folders of a run: the one that is made now has all that they have."""
    for folder in (root / FOLDER).glob(f"offline-run-*-{run_id}"):
        shutil.rmtree(folder)
    shutil.rmtree(root / FOLDER / DATA / run_id, ignore_errors=True)
