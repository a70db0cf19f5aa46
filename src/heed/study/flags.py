"""Flags: what a reader of a verdict must know beside it; none of them changes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heed.analysis.deltas import signed

Flag = dict[str, str]
"""`kind` (controls, degenerate, prompting, short, dropped, warm-up, debug, preflight; with
`@<prompting>` what a second prompting raises) and `text`."""

FEW_STEPS, FEW_EXAMPLES = 20, 100
"""A training of fewer optimiser steps, or on fewer examples, is flagged as short: `debug=fast` is,
and no recipe of the papers that heed follows comes near."""

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


def training_flags(warmup: int, fit: Mapping[str, Any]) -> list[Flag]:
    """Flags of a training that is too short to say much, or whose rate never came to its peak.

    Args:
        warmup: Steps of the learning rate's rise.
        fit: What the fit recorded: `optimiser_steps` and `examples`.
    """
    found, steps, examples = [], fit["optimiser_steps"], fit["examples"]
    if steps < FEW_STEPS or examples < FEW_EXAMPLES:
        text = (
            f"A short training: {steps} optimiser steps on {examples} examples. It shows that a "
            f"command works; what tuning does to this student may be something else."
        )
        found.append({"kind": "short", "text": text})
    if warmup and warmup >= steps:
        reached = "reached its peak in the last step only"
        text = (
            f"The learning rate {'never reached its peak' if warmup > steps else reached}: "
            f"lr.warmup_steps is {warmup}, and there were {steps} optimiser steps."
        )
        found.append({"kind": "warm-up", "text": text})
    return found


def dropped_flags(events: Mapping[str, int]) -> list[Flag]:
    """A flag of a training that most rows of its teacher had no part in.

    Args:
        events: Of its data, as the fit recorded them.
    """
    lost = {name: times for name, times in events.items() if name.startswith("dropped: ")}
    if not 2 * sum(lost.values()) > events.get("rows read", 0) > 0:
        return []
    why = ", ".join(f"{n} {name.removeprefix('dropped: ')}" for name, n in lost.items())
    text = (
        f"Most rows of the teacher were dropped ({why}; {events['rows read']} were read): what was "
        f"learned is of the rest, which may be unlike them."
    )
    return [{"kind": "dropped", "text": text}]


def debug_flags(debugging: str | None) -> list[Flag]:
    """A flag of a run that was made to look for mistakes.

    Args:
        debugging: `Cell.debugging`.
    """
    if debugging != "fast":  # overfit and profile record no result, pdb changes none
        return []
    text = (
        f"Made with debug={debugging}: it shows whether the command works, and nothing about "
        f"tuning. Its verdicts are all written as cannot tell."
    )
    return [{"kind": "debug", "text": text}]


def preflight_flags(fit: Mapping[str, Any]) -> list[Flag]:
    """A flag of a training that went on although a proof before it had failed.

    Args:
        fit: What the fit recorded; an older record names no failures.
    """
    failed = fit["preflight"].get("failed", ())
    if not failed:
        return []
    text = f"Trained although preflight failed (preflight=warn): {'; '.join(failed)}."
    return [{"kind": "preflight", "text": text}]


def prompting_flags(also: Mapping[str, Any] | None, primary: Mapping[str, Any]) -> list[Flag]:
    """Flags of what another prompting says: another sign, or a tuned student that beats nothing.

    Args:
        also: `heed.study.also.scored_beside`; None if it was not done. An older record has neither
            controls nor form.
        primary: The declared prompting's primary delta as it is recorded.
    """
    if not also:
        return []
    own = control_flags(also.get("controls"), "after") + form_flags(also.get("form"), "after")
    name = also["prompting"]
    beside = [
        {"kind": f"{flag['kind']}@{name}", "text": f"Asked with prompting={name}: {flag['text']}"}
        for flag in own
    ]
    return [*_sign_flags(also, primary), *beside]


def _sign_flags(also: Mapping[str, Any], primary: Mapping[str, Any]) -> list[Flag]:
    """A flag if the primary delta has another sign."""
    if not also["differs"]:
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
