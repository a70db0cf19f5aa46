"""Checkpoints on disk: points from which a training that was broken off goes on.

A checkpoint is `<run>/checkpoints/<step>/`, whole or absent; where weights are divided among ranks,
each rank writes its piece. The weights of a step that may become the tuned student are
`<run>/candidates/<step>/`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from heed.core.errors import RunError
from heed.core.files import read_json, write_json
from heed.core.identity import first_difference
from heed.core.ranks import leads
from heed.training.pieces import Pieces, common_directory, write_pieces

FORMAT = 2
"""Of what is written; another one is refused."""

CHECKPOINTS, CANDIDATES = "checkpoints", "candidates"
WEIGHTS, OPTIMIZER, STATE = "weights.safetensors", "optimizer.safetensors", "state.json"

ROWS = ("metrics.jsonl", "samples.jsonl", "*.rows.jsonl")
"""What a training appends to in the directory of its run; a watcher of your own names its file so.

All else that lies there is neither cut nor removed. (A CSV mirror mends itself.)"""

DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, SafetensorError)
"""What reading a damaged checkpoint raises."""


@dataclass(frozen=True)
class Point:
    """A checkpoint on disk.

    Attributes:
        directory: Where it is.
        state: All of it that is no tensor.
    """

    directory: Path
    state: Mapping[str, Any]

    @property
    def step(self) -> int:
        """Optimiser steps that are done."""
        return int(self.state["step"])

    def tensors(self, name: str) -> Mapping[str, Tensor]:
        """The tensors of `WEIGHTS` or `OPTIMIZER`, whole and on the CPU.

        Raises:
            RunError: the file is damaged or missing.
        """
        with readable(self.directory):
            return Pieces(self.directory, name, self.state["files"])


def steps_in(folder: Path) -> list[int]:
    """Steps of which a folder holds something whole, in order."""
    found = [path.name for path in folder.glob("*") if path.is_dir()]
    return sorted(int(name) for name in found if re.fullmatch("[0-9]+", name))


def newest(run: Path) -> Point | None:
    """The last checkpoint of a training, if there is any.

    Raises:
        RunError: it is damaged.
    """
    folder = run / CHECKPOINTS
    steps = steps_in(folder)
    return read_point(folder / str(steps[-1])) if steps else None


def read_point(directory: Path) -> Point:
    """Read what says of a checkpoint what it is.

    Raises:
        RunError: it is damaged, or of another version of heed.
    """
    with readable(directory):
        state = read_json(directory / STATE)
        if state["format"] != FORMAT:
            raise ValueError(f"it has format {state['format']}, and this heed reads {FORMAT}")
        if state["step"] != int(directory.name):
            raise ValueError(f"it is of step {state['step']}")
        return Point(directory, state)


@contextmanager
def readable(directory: Path) -> Iterator[None]:
    """Turn what a damaged checkpoint raises into one clear screen.

    Raises:
        RunError: instead of what was raised.
    """
    try:
        yield
    except DAMAGE as error:
        others = [step for step in steps_in(directory.parent) if str(step) != directory.name]
        then = f"goes on after step {others[-1]}" if others else "trains from the first step on"
        raise RunError(
            f"The checkpoint {directory} cannot be read ({type(error).__name__}: {error!s:.300}). "
            f"The training was broken off and would go on from it; from what is damaged it would "
            f"end with another student. Restore it; or remove it (rm -r {directory}), and the same "
            f"command {then}."
        ) from error


def refuse_other(point: Point, about: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another training than the one that is to go on.

    Args:
        point: The checkpoint.
        about: What must be equal: recipe, base, versions, plan.

    Raises:
        RunError: something differs; with the first that does.
    """
    then = {key: point.state["about"].get(key) for key in about}
    if then == dict(about):
        return
    where, one, two = first_difference(then, dict(about))
    folder = point.directory.parent
    raise RunError(
        f"The checkpoint {point.directory} is of another training than this one: its {where} is "
        f"{one}, and here it is {two}. What it would end with is neither of the two. Put back what "
        f"has changed; or remove the checkpoints (rm -r {folder}), and the same command trains "
        f"from the first step on."
    )


def write_point(
    run: Path, state: dict[str, Any], weights: dict[str, Tensor], optimizer: dict[str, Tensor]
) -> Path:
    """Write a checkpoint, whole or not at all; all ranks call.

    Args:
        run: Its directory.
        state: What is no tensor, as the leader sees it; what is needed to read it is added.
        weights: What has moved.
        optimizer: Tensors of the optimiser.

    Raises:
        RunError: the disk is full, or may not be written to.
    """
    path = run / CHECKPOINTS / str(state["step"])
    with writable(path), common_directory(path) as beside:
        files = write_pieces(beside, WEIGHTS, weights) | write_pieces(beside, OPTIMIZER, optimizer)
        if leads():
            write_json(beside / STATE, {"format": FORMAT, "files": files} | state)
    return path


def write_candidate(run: Path, step: int, weights: dict[str, Tensor]) -> None:
    """Keep the weights of a step that may become the tuned student; all ranks call.

    Raises:
        RunError: the disk is full, or may not be written to.
    """
    path = run / CANDIDATES / str(step)
    with writable(path), common_directory(path) as beside:
        files = write_pieces(beside, WEIGHTS, weights)
        if leads():
            write_json(beside / STATE, {"format": FORMAT, "step": step, "files": files})


def read_candidate(run: Path, step: int) -> Mapping[str, Tensor]:
    """The weights that `write_candidate` kept.

    Raises:
        RunError: they are damaged or gone.
    """
    return read_point(run / CANDIDATES / str(step)).tensors(WEIGHTS)


def keep_only(folder: Path, steps: set[int]) -> None:
    """Remove what a folder holds of other steps."""
    for step in set(steps_in(folder)) - steps:
        shutil.rmtree(folder / str(step))


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turn what a full or closed disk raises into one clear screen.

    Raises:
        RunError: instead of what was raised.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        there = path.parent
        while not there.is_dir():
            there = there.parent
        free = shutil.disk_usage(there).free / 2**30
        raise RunError(
            f"{path} cannot be written ({type(error).__name__}: {error!s:.300}); {free:.1f} GiB "
            f"are free there. The training ends here, because its student could not be written "
            f"either. Make room (or give outputs=<folder> on another disk); the same command goes "
            f"on from the last checkpoint."
        ) from error


def row_sizes(run: Path) -> dict[str, int]:
    """How long every file is that the training appends to; all of it is on the disk after this."""
    found = {}
    for path in rows_of(run):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            found[path.name] = os.fstat(file.fileno()).st_size
    return found


def rows_of(run: Path) -> list[Path]:
    """The files that a training appends to."""
    return sorted(path for pattern in ROWS for path in run.glob(pattern))


def cut_rows(run: Path, sizes: Mapping[str, int]) -> None:
    """Take away what was appended after a checkpoint, so that it is not there twice.

    Args:
        run: Its directory.
        sizes: What `row_sizes` said then.

    Raises:
        RunError: a file is shorter than it was.
    """
    for name, size in sizes.items():
        path = run / name
        now = path.stat().st_size if path.is_file() else 0
        if now < size:
            raise RunError(
                f"{path} had {size} bytes when the last checkpoint was written, and has {now} now: "
                f"rows of the training are lost. Put the file back; or remove the checkpoints (rm "
                f"-r {run / CHECKPOINTS}), and the same command trains from the first step on."
            )
    for path in rows_of(run):
        if path.name in sizes:
            os.truncate(path, sizes[path.name])
        else:
            path.unlink()


def clear(run: Path) -> None:
    """Remove what only a training that is under way needs."""
    for name in (CHECKPOINTS, CANDIDATES):
        shutil.rmtree(run / name, ignore_errors=True)
