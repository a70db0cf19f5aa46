"""The best control that reads nothing, as it is recorded beside scores, and models minus it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

NOT_RECORDED = "not recorded"
"""Stands where an older result lacks what is shown today."""

NO_TEXT = "none"
"""Stands where nothing is answered in text, so that no control can answer either."""

ECHO = "echo"
"""The control that repeats the prompt: it is no bar, and stands apart."""


class BestControl(NamedTuple):
    """On one metric, the best of the controls that read nothing.

    Attributes:
        control: Its name.
        metric: `<task>/<metric>`.
        value: What it reaches.
        echo: What the echo reaches; None: not recorded.
        deltas: Who -> that model minus this control, as a recorded delta.
    """

    control: str
    metric: str
    value: float
    echo: float | None
    deltas: Mapping[str, Mapping[str, Any]]


def best_control(
    controls: Mapping[str, Any] | None, metric: str | None = None
) -> BestControl | None:
    """The best control of a record of controls on one metric.

    Args:
        controls: The record (`heed.evaluation.controls.beside_controls`), if there is one.
        metric: `<task>/<metric>`; None: the record's own, the first that is answered in text.

    Returns:
        None where there is no record, or it has nothing on this metric.
    """
    if controls is None:
        return None
    name = metric or controls["metric"]
    if name == controls["metric"]:
        rows = {row["control"]: row for row in controls["rows"]}
        best = rows[controls["best"]]
        echo = rows[ECHO]["value"] if ECHO in rows else None
        return BestControl(best["control"], name, best["value"], echo, best["deltas"])
    one = next((row for row in controls.get("metrics", ()) if row["metric"] == name), None)
    if one is None:
        return None
    values = one["values"]
    return BestControl(one["best"], name, values[one["best"]], values.get(ECHO), one["deltas"])


def lacking(beside: Mapping[str, Any]) -> str:
    """Why a result has no controls: it is older than they are, or nothing is answered in text.

    Example:
        >>> lacking({}), lacking({"controls": None})
        ('not recorded', 'none')
    """
    return NO_TEXT if "controls" in beside else NOT_RECORDED


def control_entries(found: BestControl | None, who: str, without: str) -> list[Any]:
    """What a file of numbers says of the best control, six entries.

    Args:
        found: The control; None where there is none.
        who: The model.
        without: What stands for the control's name where there is none; the rest is empty then.

    Returns:
        The control's name and value; the model minus it, with the ends of the paired interval;
        what the echo reaches.
    """
    if found is None:
        return [without, *[""] * 5]
    delta = found.deltas[who]
    ends = [delta[part] for part in ("delta", "low", "high")]
    return [found.control, found.value, *ends, "" if found.echo is None else found.echo]


def reached_lines(besides: Iterable[Mapping[str, Any]]) -> list[str]:
    """What every control reaches where they decide a flag, the echo apart; a line for each suite.

    Args:
        besides: What each result records beside its deltas.
    """
    given = list(besides)
    lines = dict.fromkeys(_reached(one["controls"]) for one in given if one.get("controls"))
    absent = Counter(lacking(one) for one in given if not one.get("controls"))
    return [*lines, *(_absent(word, count, len(given)) for word, count in absent.items())]


def _reached(controls: Mapping[str, Any]) -> str:
    blind, reading = (
        ", ".join(
            f"{row['control']} {row['value']:.3f}"
            for row in controls["rows"]
            if row["input_blind"] is kind
        )
        for kind in (True, False)
    )
    apart = f" Apart, as it repeats the prompt: {reading}." if reading else ""
    return f"Controls that read nothing, on {controls['metric']}: {blind}.{apart}"


def _absent(word: str, count: int, of: int) -> str:
    cells = "" if count == of else f" of {count} of {of} cells"
    why = ", as nothing is answered in text" if word == NO_TEXT else ""
    return f"Controls{cells}: {word}{why}."
