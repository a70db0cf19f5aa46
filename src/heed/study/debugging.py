"""Ways to look into a training that make no result: overfit, profile, post-mortem."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from heed.core.component import plain
from heed.core.console import result_console
from heed.core.errors import RunError
from heed.core.files import write_json, write_yaml
from heed.core.locks import lock
from heed.core.manifest import manifest
from heed.study.bases import load_base
from heed.study.cell import Cell
from heed.study.runs import run_lock
from heed.study.scores import SAY, say_waiting
from heed.tracking.tracker import LocalOnly

if TYPE_CHECKING:
    from heed.training.fit import Surroundings

NEAR_ZERO = 0.1
"""Nats per token that a handful of examples must come below to be known by heart."""


def train_alone(cell: Cell, around: Surroundings) -> dict[str, Any]:
    """Train as a cell says into `debug/`, and say what was seen; nothing is scored or recorded.

    Args:
        cell: With `debugging` overfit or profile.
        around: Its surroundings.

    Raises:
        RunError: a few examples could not be learned by heart.
    """
    from heed.training.fit import fit
    from heed.training.points import clear

    cell.trainer.need_device()
    directory = cell.root / "debug" / f"{cell.debugging}--{cell.run.directory}"
    with lock(run_lock(directory), say_waiting):
        shutil.rmtree(directory, ignore_errors=True)
        loaded = load_base(cell.model, around, cell.root)
        SAY.print(f"debug={cell.debugging}: nothing is scored, and no result is recorded")
        write_yaml(directory / "config.yaml", plain(cell))
        alone = replace(around, tracker=LocalOnly())
        found = fit(cell.run.recipe, loaded, alone, directory, cell.prompts())
        clear(directory)
        write_json(directory / "manifest.json", manifest() | {"run": cell.run.id, "fit": found})
    if cell.debugging == "overfit":
        say_overfit(found)
    result_console().print(f"{directory}", soft_wrap=True, markup=False)
    return found


def say_overfit(found: dict[str, Any]) -> None:
    """Say whether a few examples were learned by heart.

    Args:
        found: What the manifest says of the fit.

    Raises:
        RunError: they were not.
    """
    first, last = found["preflight"]["base_loss"], found["final_loss_nats_per_token"]
    told = (
        f"{found['examples']} examples, {found['optimiser_steps']} steps: the loss went "
        f"from {first:.3f} to {last:.4f} nats/token"
    )
    if not last < NEAR_ZERO:
        raise RunError(
            f"{told}, which is not near 0 (below {NEAR_ZERO:g}): what is trained cannot learn even "
            f"these by heart, so the method is too small, the learning rate too low or too high, "
            f"or the path is broken. Try lr.peak ten times as high, more data.steps, or "
            f"method=full."
        )
    line = f"{told}, near 0 (below {NEAR_ZERO:g}): gradients reach what trains."
    result_console().print(line, soft_wrap=True, markup=False)


@contextmanager
def post_mortem(cell: Cell) -> Iterator[None]:
    """With debug=pdb, open the debugger where an exception was raised, and then go on failing.

    Raises:
        RunError: there is no terminal to type at.
    """
    if cell.debugging != "pdb":
        yield
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise RunError(
            "debug=pdb opens a debugger, which needs a terminal for its input and its output; here "
            "they are a file or a pipe. Run the command in a terminal, or leave debug=pdb out."
        )
    try:
        yield
    except Exception:
        import pdb
        import traceback

        traceback.print_exc()
        pdb.post_mortem(sys.exc_info()[2])
        raise
