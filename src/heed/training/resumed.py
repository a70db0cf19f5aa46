"""What is said and kept of a training that goes on: where, by which code, device and ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heed.core.console import progress_console
from heed.core.files import append_jsonl
from heed.core.manifest import code_state, same_code
from heed.core.ranks import leads, world
from heed.training.points import Point

RESUMED = "resumed.jsonl"
"""Beside the checkpoints: a row for each time that the training went on."""

PLACE = ("device", "threads")
"""What a checkpoint keeps of the place where its steps were done."""

OTHERWISE = {
    "ranks": "They were done by {} ranks, the next by {}: the same examples, and where dropout or "
    "noise is drawn, other random numbers.",
    "device": "They were done on {}, the next are on {}: the student will not be the same to the "
    "last bit.",
    "threads": "They were done by {} threads of the CPU, the next by {}: the student will not be "
    "the same to the last bit.",
}
"""What is said where the next steps are done otherwise than those before."""

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


def place(device: str) -> dict[str, Any]:
    """What computes the steps and decides their last digits, as a checkpoint keeps it."""
    import torch

    return {"device": device, "threads": torch.get_num_threads()}


def said(point: Point, line: str, here: Mapping[str, Any] | None) -> None:
    """Say that a training goes on, and what is otherwise than before; it is kept beside it.

    Args:
        point: Where it goes on.
        line: What is said of that.
        here: The `place` of the next steps; None: no step is left.
    """
    if not leads():
        return
    console, code, state = progress_console(), code_state(), point.state
    before = {"ranks": len(state["random"]), **{key: state.get(key) for key in PLACE}}
    now = before if here is None else {"ranks": world(), **here}
    row = {"step": point.step, "code": code, "before": state["code"], **now}
    row |= {f"{key}_before": value for key, value in before.items()}
    append_jsonl(point.directory.parent / RESUMED, row)
    console.print(line, markup=False, soft_wrap=True)
    if not same_code(code, state["code"]):
        console.print(
            f"  The steps before were done by heed's code {state['code']}, the next by {code}; "
            f"the manifest names both.", markup=False, soft_wrap=True
        )  # fmt: skip
    for key, (then, next_) in parts_of([row]).items():
        console.print(f"  {OTHERWISE[key].format(then, next_)}", markup=False, soft_wrap=True)


def parts_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """In what the parts of a training differ: `ranks`, `device` or `threads` -> each, in order.

    Args:
        rows: Of `RESUMED`; those of an older heed lack some. Threads count on the CPU alone.
    """
    found: dict[str, dict[Any, None]] = {key: {} for key in OTHERWISE}
    for row in rows:
        pairs = {key: (row.get(f"{key}_before"), row.get(key)) for key in OTHERWISE}
        if pairs["device"] != ("cpu", "cpu"):
            del pairs["threads"]
        for key, pair in pairs.items():
            found[key] |= dict.fromkeys(pair if None not in pair else ())
    return {key: list(values) for key, values in found.items() if len(values) > 1}
