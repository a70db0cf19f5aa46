"""Base and tuned student under a second prompting: does the verdict hang on how they are asked?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from heed.core.types import Delta
from heed.evaluation.deltas import refuse_unequal
from heed.evaluation.suite import Suite
from heed.study.controls import controls_of, form_of_both
from heed.study.scores import Kept


def suite_beside(suite: Suite) -> Suite | None:
    """The suite under its second prompting; None if it has none, or nothing is asked in text.

    Raises:
        DataError: a task's data is missing.
    """
    if suite.also is None or suite.also == suite.prompting:
        return None
    return suite.asked_as(suite.also)


def why_not_beside(suite: Suite) -> str:
    """A line on why nothing was scored under a second prompting."""
    alone = f"scored under the prompting {suite.prompting.name!r} alone: "
    if suite.also is None:
        return f"{alone}no other was asked for (also=plain adds one)"
    if suite.also == suite.prompting:
        return f"{alone}suite.also is the same one (also=template adds the declared one)"
    paid = any(task.paid for task in suite.tasks.values())
    judged = ", but for those whose judge is paid for each answer" * paid
    return f"{alone}no task of this suite is answered in text{judged}"


def holds_beside(suite: Suite, result: Mapping[str, Any]) -> bool:
    """Whether a recorded result has what the suite's second prompting would add to it.

    One that was recorded with a second prompting holds it for a suite that wants none, too.
    """
    return holds_settings(settings_beside(suite), result)


def settings_beside(suite: Suite) -> dict[str, Any] | None:
    """What tells the suite's second prompting from any other; None if it has none.

    Raises:
        DataError: a task's data is missing.
    """
    beside = suite_beside(suite)
    return None if beside is None else dict(beside.prompting.settings())


def holds_settings(wanted: Mapping[str, Any] | None, result: Mapping[str, Any]) -> bool:
    """Whether a recorded result has a second prompting.

    Args:
        wanted: From `settings_beside`; None: none is wanted.
        result: A result, or its line in the ledger.
    """
    found = result.get("also") or {}
    return wanted is None or bool(found.get("settings") == wanted)


def scored_beside(
    beside: Suite, before: Kept, after: Kept, declared: Sequence[Delta]
) -> dict[str, Any]:
    """The record of a second prompting: its deltas, and whether they agree with the declared one.

    Args:
        beside: From `suite_beside`.
        before: Scores of the untuned student by it, with controls.
        after: Those of the tuned one, with controls.
        declared: Those under the declared prompting, the one that gave the verdict first.

    Returns:
        `prompting` and its `settings`, `suite`: its name, `deltas`, its primary metric first,
        `differs`: whether the delta that gave the verdict has another sign (+, 0 or -) here, and
        `controls` and `form`, as in the result. A metric that is not answered in text has no
        second value, and never differs.

    Raises:
        RunError: before and after were scored in different ways.
    """
    refuse_unequal(before.fingerprint, after.fingerprint)
    deltas = beside.deltas(before.sheet.items, after.sheet.items)
    signs = [
        _sign(found[0].delta)
        for found in (declared, [d for d in deltas if d.metric == declared[0].metric])
        if found
    ]
    return {
        "prompting": beside.prompting.name,
        "settings": beside.prompting.settings(),
        "suite": beside.name,
        "deltas": [asdict(delta) for delta in deltas],
        "differs": len(set(signs)) > 1,
        "controls": controls_of(before, after),
        "form": form_of_both(beside, before, after),
    }


def _sign(number: float) -> int:
    return 0 if number == 0 else int(math.copysign(1, number))
