"""What stands beside scores, as words: how sure a delta is, the controls, the form of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heed.analysis.best_control import NOT_RECORDED
from heed.analysis.deltas import signed
from heed.core.types import Delta

UNKNOWN = {
    "no_stop": "not known",
    "cut": "not known",
    "other_language": "not judged",
    "echo": "not judged",
}
"""What is told of a kind of form if it is told of no answer."""

SURE_COLUMNS = ("metric", "p", "MDE", "better / worse", "McNemar p")

SURE_NOTE = (
    "MDE, the minimum detectable effect: the smallest true change that items of this kind and "
    "number show four times out of five. Better / worse: items whose outcome changed."
)

BLIND, READING = "reads nothing", "repeats the prompt"
"""The two kinds of controls."""

FORM_NAMES = {
    "empty": "empty",
    "loop": "loop",
    "echo": "echo",
    "no_stop": "no stop token",
    "cut": "cut (no stop, no loop)",
    "other_language": "other language",
    "degenerate": "degenerate",
}
"""Kinds of form as they are shown, in the order of a table."""


def p_text(p: float | None) -> str:
    """A p value to two digits.

    Example:
        >>> p_text(0.0321), p_text(1.0), p_text(0.00012), p_text(None)
        ('0.032', '1', '0.00012', 'not recorded')
    """
    return NOT_RECORDED if p is None else f"{p:.2g}"


def sure_line(delta: Delta) -> list[str]:
    """What else than its interval says how sure a delta is: an entry for each `SURE_COLUMNS`."""
    mde = NOT_RECORDED if delta.mde is None else f"{delta.mde:.3f}"
    flips = "" if delta.flips is None else " / ".join(map(str, delta.flips))
    mcnemar = "" if delta.mcnemar is None else p_text(delta.mcnemar)
    return [delta.metric, p_text(delta.p), mde, flips, mcnemar]


def recorded_interval(delta: Mapping[str, Any]) -> str:
    """A recorded delta with its interval.

    Example:
        >>> recorded_interval({"delta": 0.1, "low": -0.02, "high": 0.22})
        '+0.100 (-0.020 to +0.220)'
    """
    return f"{signed(delta['delta'])} ({signed(delta['low'])} to {signed(delta['high'])})"


def control_columns(controls: Mapping[str, Any]) -> list[str]:
    """The heads of a table of controls."""
    who = [
        "this - control" if name == "this" else f"{name} - control" for name in controls["beaten"]
    ]
    return ["control", "value", *who]


def control_lines(controls: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Kind and entries of each control, the input-blind ones first; the best has a star."""
    rows = sorted(controls["rows"], key=lambda row: not row["input_blind"])
    return [
        (
            BLIND if row["input_blind"] else READING,
            [
                row["control"] + (" *" if row["control"] == controls["best"] else ""),
                f"{row['value']:.3f}",
                *(recorded_interval(row["deltas"][who]) for who in controls["beaten"]),
            ],
        )
        for row in rows
    ]


def metric_columns(controls: Mapping[str, Any]) -> list[str]:
    """The heads of the table of every metric beside the controls; `metric_lines` fills it."""
    reading = [row["control"] for row in controls["rows"] if not row["input_blind"]]
    who = ["this - best" if name == "this" else f"{name} - best" for name in controls["beaten"]]
    return ["metric", "best", *reading, *who]


def metric_lines(controls: Mapping[str, Any]) -> list[list[str]]:
    """For each metric: the best control that reads nothing, the echo, the models minus the best.

    Empty for older records, which have the primary metric only.
    """
    reading = [row["control"] for row in controls["rows"] if not row["input_blind"]]
    return [
        [
            row["metric"],
            f"{row['best']} {row['values'][row['best']]:.3f}",
            *(f"{row['values'][name]:.3f}" for name in reading),
            *(recorded_interval(row["deltas"][who]) for who in controls["beaten"]),
        ]
        for row in controls.get("metrics", ())
    ]


def stratum_columns(controls: Mapping[str, Any] | None, task: str, metric: str) -> list[str]:
    """The controls that stand beside a task's groups and types; those whose values are recorded."""
    strata = controls.get("strata", {}).get(task) if controls else None
    if not strata:
        return []
    return [name for name, found in strata[0]["values"].items() if metric in found]


def stratum_values(
    controls: Mapping[str, Any] | None, task: str, name: tuple[str, str], metric: str
) -> list[str]:
    """What the controls of `stratum_columns` reach on one group or type.

    Args:
        controls: The record, if there is one.
        task: Whose strata are shown.
        name: Group and type.
        metric: Of the task.
    """
    columns = stratum_columns(controls, task, metric)
    if not controls or not columns:
        return []
    strata = {(s["group"], s["name"]): s["values"] for s in controls["strata"][task]}
    found = strata.get(name)
    return [NOT_RECORDED if found is None else f"{found[c][metric]:.3f}" for c in columns]


def form_lines(models: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """A line per kind of form: its name, and its count and share for each model of a task."""
    length = ["median words", *(f"{summary['median_words']:g}" for summary in models.values())]
    kinds = [
        [name, *(_share(summary, kind) for summary in models.values())]
        for kind, name in FORM_NAMES.items()
    ]
    return [length, *kinds]


def _share(summary: Mapping[str, Any], kind: str) -> str:
    count, judged, items = summary["counts"][kind], summary["judged"][kind], summary["items"]
    if not judged:
        return UNKNOWN.get(kind, "none")
    of = "" if judged == items else f" of {judged}"
    return f"{count}{of} ({count / judged:.1%})"


def sound_line(form: Mapping[str, Any]) -> str:
    """The delta among items of which neither answer is degenerate, as a sentence; may be empty."""
    sound = form.get("sound")
    if sound is None:
        return ""
    among = f"{sound['items']} of {sound['of']} items have no degenerate answer on either side"
    if sound["delta"] is None:
        return f"{among}: too few for a delta among them."
    return (
        f"{among}; among them the delta of {sound['delta']['metric']} is "
        f"{recorded_interval(sound['delta'])}. It only describes: which items these are is itself "
        f"an outcome of the tuning."
    )


def also_line(result: Mapping[str, Any]) -> str:
    """The primary delta under another prompting, as a sentence; may be empty."""
    if "also" not in result:
        return f"Another prompting: {NOT_RECORDED}."
    also = result["also"]
    if also is None:
        return ""  # the notes say why
    found = also["deltas"]
    delta = next((d for d in found if d["metric"] == result["primary"]), found[0])
    sign = "another sign than" if also["differs"] else "the same sign as"
    beside = f"{sign} the declared one"
    if delta["metric"] != result["primary"]:
        beside = f"no prompting changes {result['primary']}, which decides the verdict"
    return (
        f"Asked with prompting={also['prompting']}: delta of {delta['metric']} "
        f"{recorded_interval(delta)}, {delta['verdict']}; {beside}. {_also_controls(also)}"
    )


def _also_controls(also: Mapping[str, Any]) -> str:
    """How the tuned student stands to the best control under another prompting."""
    controls = also.get("controls")
    if controls is None:
        return f"Its controls: {NOT_RECORDED}."
    best = next(row for row in controls["rows"] if row["control"] == controls["best"])
    return (
        f"There, after minus the best control ({best['control']} {best['value']:.3f}): "
        f"{recorded_interval(best['deltas']['after'])}."
    )


def flag_texts(flags: Sequence[Mapping[str, str]]) -> list[str]:
    """The flags as sentences."""
    return [flag["text"] for flag in flags]
