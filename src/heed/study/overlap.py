"""Whether what a run was trained on has been looked through for the prompts it is scored on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heed.data.contamination import Prompts
from heed.evaluation.suite import Suite


def prompts_of(suite: Suite) -> Prompts:
    """What a suite asks, to be looked for in what a student is trained on.

    Raises:
        DataError: the items of a task are missing.
    """
    items = [item for task in suite.tasks.values() for item in task.items()]
    requests = [request for item in items for request in item.requests]
    parts = [(r.context, "\n" if r.asked else "", r.continuation) for r in requests]
    weighed = {"".join(part) for part in parts}
    asked = {item.prompt for item in items if not item.requests}
    return Prompts(tuple(sorted(weighed | asked)))


def overlap_notes(fit: Mapping[str, Any], suite: Suite) -> list[str]:
    """A line if the training text of a finished run was not looked through for a suite's prompts.

    Args:
        fit: What the run's manifest records of its training.
        suite: What scores the run now.
    """
    counted = fit.get("data", {}).get("overlap")
    if counted is not None and counted["prompts"] == prompts_of(suite).digest:
        return []
    which = "no prompts" if counted is None else "the prompts of another suite"
    return [
        f"what this run was trained on has been searched for {which}, not for those of suite "
        f"{suite.name}: whether they stand in it is not known. To count them, give the command of "
        f"the run with suite={suite.name} and debug=data."
    ]
