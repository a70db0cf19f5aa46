"""Flags: what a reader of a verdict must know beside it; none of them changes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heed.analysis.deltas import signed

Flag = dict[str, str]
"""`kind` (controls, degenerate or prompting) and `text`."""

CALLED = {"this": "This model", "before": "The untuned student", "after": "The tuned student"}
"""What a model of a record is called in a sentence."""


def control_flags(controls: Mapping[str, Any] | None, who: str) -> list[Flag]:
    """A flag unless a model surely beats the best input-blind control.

    Args:
        controls: `beside_controls`, or None.
        who: Which of its models.
    """
    if controls is None or controls["beaten"][who]:
        return []
    best = next(row for row in controls["rows"] if row["control"] == controls["best"])
    delta = best["deltas"][who]
    text = (
        f"{CALLED[who]} does not surely beat the control {best['control']} ({best['what']}): "
        f"{controls['metric']} {delta['after']:.3f} against {delta['before']:.3f}, "
        f"{_interval(delta)}."
    )
    return [{"kind": "controls", "text": text}]


def form_flags(form: Mapping[str, Any] | None, who: str) -> list[Flag]:
    """A flag for each task of which too many answers are degenerate.

    Args:
        form: `form_record`, or None.
        who: Which of its models.
    """
    found = []
    for task, models in (form["tasks"] if form else {}).items():
        if who not in models or form is None:
            continue
        counts, items = models[who]["counts"], models[who]["items"]
        if counts["degenerate"] > form["limit"] * items:
            kinds = ", ".join(f"{counts[kind]} {kind}" for kind in ("empty", "loop", "echo"))
            text = (
                f"{CALLED[who]} is degenerate on {task}: {counts['degenerate']} of {items} answers "
                f"({counts['degenerate'] / items:.0%}, limit {form['limit']:.0%}): {kinds}."
            )
            found.append({"kind": "degenerate", "text": text})
    return found


def prompting_flags(also: Mapping[str, Any] | None, primary: Mapping[str, Any]) -> list[Flag]:
    """A flag if another prompting gives the primary delta the other sign.

    Args:
        also: `result["also"]`: `prompting`, `deltas` and `differs`; None if it was not done.
        primary: The declared prompting's primary delta as it is recorded.
    """
    if not also or not also["differs"]:
        return []
    other = next(d for d in also["deltas"] if d["metric"] == primary["metric"])
    text = (
        f"Asked with prompting={also['prompting']}, the delta of {primary['metric']} has another "
        f"sign: {_interval(other)}, and {_interval(primary)} as declared."
    )
    return [{"kind": "prompting", "text": text}]


def _interval(delta: Mapping[str, Any]) -> str:
    ends = " to ".join(signed(delta[end]) for end in ("low", "high"))
    return f"delta {signed(delta['delta'])} ({ends})"
