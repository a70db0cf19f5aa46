"""Where the W&B library keeps its files below the outputs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from heed.core.files import read_json, write_json
from heed.core.locks import lock

FOLDER = "wandb"
"""Where the library keeps its files, below the outputs."""

TAGS = "heed-tags"
"""Where it is kept by which words a run is found, below that."""

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


def all_tags(root: Path, run_id: str, own: Sequence[str]) -> list[str]:
    """The words of a run and those of before: studies that share it each find it by their own."""
    file = root / FOLDER / TAGS / f"{run_id}.json"
    with lock(file.with_suffix(".lock")):
        before = read_json(file) if file.is_file() else []
        found = [*dict.fromkeys((*before, *own))]
        write_json(file, found)
    return found


def forget(root: Path, run_id: str) -> None:
    """Remove earlier offline folders of a run: the one that is made now has all that they have."""
    for folder in (root / FOLDER).glob(f"offline-run-*-{run_id}"):
        shutil.rmtree(folder)
    shutil.rmtree(root / FOLDER / DATA / run_id, ignore_errors=True)
