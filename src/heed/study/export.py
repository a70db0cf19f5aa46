"""What is made of a finished run for others; a failure is recorded, and the run stands."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from heed.core.errors import HeedError
from heed.core.files import append_jsonl
from heed.core.identity import digest_model
from heed.core.secrets import without_secrets
from heed.study.cell import Cell
from heed.study.runs import read_run
from heed.study.scores import SAY
from heed.study.subjects import load_run
from heed.training.card import ADAPTER_FILE
from heed.training.export import Export, merge, push, refuse_unpushable

FILE = "exports.jsonl"
"""What was begun, made and uploaded of a run, and what failed, a line each."""

MERGES = ("merging", "merged")
"""From the first on `merged/` may be another than before; the second says which it is."""

UNTOLD = "nothing is recorded of it"


def export_run(cell: Cell) -> None:
    """Merge and upload, as far as the cell says so and it has not been done; nothing is trained.

    Raises:
        HeedError: something failed; the run and what was made before are untouched.
    """
    if not cell.export.wanted:
        return
    directory = cell.directory
    try:
        refuse_unpushable(cell.export)
        folder = _merged(cell) if cell.export.merge else directory / "model"
        if cell.export.push_to_hub is not None:
            _pushed(cell, folder)
    except Exception as error:
        foreseen = isinstance(error, HeedError)
        with suppress(OSError):  # the disk may be full
            reason = str(error) if foreseen else f"{type(error).__name__}: {error}"
            _note(directory, "failed", reason=without_secrets(reason))
        raise


def lacks_export(directory: Path, export: Export) -> str | None:
    """Why a finished run lacks what is to be made of it for others; None: it lacks nothing.

    Args:
        directory: Of the run; weights that have changed since are not looked for.
        export: What is wanted.
    """
    if not export.wanted:
        return None
    folder = "merged" if export.merge and not _is_whole(directory, export.dtype) else "model"
    merged, reason = None, UNTOLD
    uploaded: set[tuple[Any, Any]] = set()
    for row in _notes(directory):
        reason = row.get("reason", UNTOLD)
        if row["event"] in MERGES:
            merged = row.get("asked") if row["event"] == "merged" else None
            uploaded = {one for one in uploaded if one[0] == "model"}  # the others: other weights
        elif row["event"] == "pushed":
            uploaded.add((row.get("folder"), row.get("to")))
    is_there = folder == "model" or (merged == export.dtype and (directory / "merged").is_dir())
    is_sent = export.push_to_hub is None or (folder, export.push_to_hub) in uploaded
    return None if is_there and is_sent else reason


def _is_whole(directory: Path, dtype: str) -> bool:
    """Whether `model/` is what a merge would give."""
    return dtype == "as_scored" and not (directory / "model" / ADAPTER_FILE).is_file()


def _merged(cell: Cell) -> Path:
    """The directory with whole weights; the caller holds the lock of the run."""
    directory, dtype = cell.directory, cell.export.dtype
    for left in directory.glob(".merged.*"):  # half of one: its writer was killed
        shutil.rmtree(left)
    model, target = directory / "model", directory / "merged"
    if _is_whole(directory, dtype):
        SAY.print(f"{model} holds whole weights already: nothing is to be merged.", soft_wrap=True)
        return model
    what = {"model": digest_model(str(model), None), "asked": dtype}
    if target.is_dir():
        made = {"event": "merged", **what, "merged": digest_model(str(target), None)}
        known = [row for row in _notes(directory) if row["event"] in MERGES]
        same = [row for row in known if made.items() <= row.items()]
        if same:
            if same[-1] != known[-1]:  # what was asked for since gave the same
                _note(directory, **{key: same[-1][key] for key in same[-1] if key != "time"})
            SAY.print(f"merged before: {target}", markup=False, soft_wrap=True)
            return target
    _note(directory, "merging", **what)
    found = merge(directory, load_run(read_run(directory), "cpu"), dtype)
    _note(directory, "merged", **what, **found, merged=digest_model(str(target), None))
    SAY.print(
        f"merged: {target} ({found['dtype']}; logits as those of the adapter to "
        f"{found['difference']:.0e} of the largest)",
        markup=False,
        soft_wrap=True,
    )
    return target


def _pushed(cell: Cell, folder: Path) -> None:
    """Upload a directory; the hub makes no commit of one that it has already."""
    message = f"heed run {cell.run.id}: {cell.run.name}, seed {cell.seed}"
    what = {"folder": folder.name, "to": cell.export.push_to_hub}
    _note(cell.directory, "pushing", **what)
    address = push(folder, cell.export, message)
    _note(cell.directory, "pushed", **what, address=address)
    SAY.print(f"uploaded: {address}", markup=False, soft_wrap=True)


def _notes(directory: Path) -> list[dict[str, Any]]:
    """What is recorded; a line that was torn, by a full disk, say, tells nothing."""
    path, found = directory / FILE, []
    for line in path.read_bytes().split(b"\n") if path.is_file() else []:
        with suppress(ValueError):
            row = json.loads(line)
            found += [row] if isinstance(row, dict) and "event" in row else []
    return found


def _note(directory: Path, event: str, **entries: Any) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    append_jsonl(directory / FILE, {"event": event, "time": now, **entries})
