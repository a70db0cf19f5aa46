"""What is said and kept of a training that goes on: where, by which code, device and ranks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heed.core.console import progress_console
from heed.core.files import append_jsonl
from heed.core.manifest import code_state, same_code
from heed.core.ranks import leads, world
from heed.training.points import Point

RESUMED = "resumed.jsonl"
"""Beside the checkpoints: a row for each time that the training went on."""

NAMED = 3
"""Of how many of the next examples the ids are told."""


def going_on(point: Point, steps: int, data: Any) -> str:
    """One line about where a training goes on, with the next examples by id."""
    step = data.planned[point.step]
    ids = [data.examples[i].id for i in step.indices[:NAMED]]
    more = f" and {len(step.indices) - NAMED} more" if len(step.indices) > NAMED else ""
    return (
        f"  Going on after step {point.step} of {steps} (checkpoint of {point.state['time']}); "
        f"the next examples are {', '.join(ids)}{more}"
    )


def said(point: Point, device: str, line: str) -> None:
    """Say that a training goes on, and what is otherwise than before; it is kept beside it."""
    if not leads():
        return
    console, code = progress_console(), code_state()
    console.print(line, markup=False, soft_wrap=True)
    before: Mapping[str, Any] = point.state
    if (then := len(before["random"])) != world():
        console.print(
            f"  They were done by {then} ranks, the next by {world()}: the same examples, and "
            f"where dropout or noise is drawn, other random numbers.", markup=False, soft_wrap=True
        )  # fmt: skip
    row = {"step": point.step, "code": code, "before": before["code"], "device": device}
    row |= {"ranks": world(), "ranks_before": then}
    append_jsonl(point.directory.parent / RESUMED, row)
    if not same_code(code, before["code"]):
        console.print(
            f"  The steps before were done by heed's code {before['code']}, the next by {code}; "
            f"the manifest names both.", markup=False, soft_wrap=True
        )  # fmt: skip
    if device != before["device"]:
        console.print(
            f"  They were done on {before['device']}, the next are on {device}: the student will "
            f"not be the same to the last bit.", markup=False, soft_wrap=True
        )  # fmt: skip
