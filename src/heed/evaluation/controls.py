"""Controls: "models" that read nothing of what is asked, or only repeat it; what is a score worth?

A student that scores below them may have changed the form of its answers and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from heed.core.types import ItemScore
from heed.evaluation.deltas import metric_delta, primary_delta, sums_of
from heed.evaluation.form import forms_of, plain_forms

if TYPE_CHECKING:
    from heed.evaluation.suite import Suite

PROSE_20 = (
    "The small boat left the harbour at dawn and the old man watched it until it was out of sight."
)

PROSE_50 = (
    "On Monday the library opened late because the key had been lost. Two students waited outside, "
    "talked about the rain, and shared an apple. When the door was unlocked at last, they went in "
    "quietly, chose a table near the window, and worked there until the evening bell rang twice."
)


@dataclass(frozen=True)
class Control:
    """A rule that answers every prompt.

    Attributes:
        name: As it is typed: `control=<name>`.
        what: One line that says what it answers.
        input_blind: Whether the answer is the same for every prompt.
        respond: The response to a prompt.
    """

    name: str
    what: str
    input_blind: bool
    respond: Callable[[str], str]


def _always(text: str) -> Callable[[str], str]:
    return lambda prompt: text


CONTROLS: Mapping[str, Control] = {
    control.name: control
    for control in (
        Control("sure", 'the word "Sure", whatever is asked', True, _always("Sure")),
        Control("prose20", "one fixed sentence of 20 words", True, _always(PROSE_20)),
        Control("prose50", "a fixed paragraph of 50 words", True, _always(PROSE_50)),
        Control("empty", "an empty response", True, _always("")),
        Control("echo", "the prompt itself, word for word", False, lambda prompt: prompt),
    )
}
"""All controls by name."""


NOTE = (
    "The best input-blind control is chosen by its value on these very items: it is the largest of "
    "{count}, so the bar is a little higher than that of any one of them named beforehand."
)
"""Said below every table of controls."""


def beside_controls(
    suite: Suite, controls: Mapping[str, Sequence[ItemScore]], who: str, scores: Sequence[ItemScore]
) -> dict[str, Any]:
    """A model beside the controls on the primary metric, and beside the best on every metric.

    Args:
        suite: Answered in text throughout (`Suite.in_text`).
        controls: Name -> the control's scores by this suite; at least one is input-blind.
        who: What the model is called in the record.
        scores: The model's; those of other tasks are left out.

    Returns:
        As plain JSON data: `metric`; `best`, the input-blind control of the best value; `beaten`,
        who -> whether the paired interval of model - best control lies above zero, by the verdict's
        own rule; `note`;
        `rows`, one per control: `control`, `what`, `input_blind`, `value`, `form` (of its
        responses), and `deltas`, who -> the model minus the control, as a recorded delta;
        `metrics`, one per metric, the primary first: `metric`, `best` (input-blind, on this
        metric), `values` (control -> value), and `deltas`, who -> the model minus that best; and
        `strata`, task -> its groups and types: `group`, `name` and `values`, control -> metric ->
        value, of the best on the primary metric and of those that read the prompt.
    """
    own = [score for score in scores if score.task in suite.tasks]
    rows = [_row(CONTROLS[name], suite, found, who, own) for name, found in controls.items()]
    metrics = _metrics(suite, controls, who, own)
    best = metrics[0]["best"]
    (delta,) = (row["deltas"][who] for row in rows if row["control"] == best)
    return {
        "metric": suite.primary,
        "best": best,
        "beaten": {who: delta["verdict"] == "helped"},
        "note": NOTE.format(count=sum(row["input_blind"] for row in rows)),
        "rows": rows,
        "metrics": metrics,
        "strata": _strata(suite, controls, best),
    }


def _metrics(
    suite: Suite, controls: Mapping[str, Sequence[ItemScore]], who: str, own: Sequence[ItemScore]
) -> list[dict[str, Any]]:
    """The best input-blind control of each metric, and the model minus it."""
    found = []
    for name, task in suite.tasks.items():
        for metric in task.metrics:
            values = {c: _value(said, name, metric) for c, said in controls.items()}
            sign = 1 if metric in task.lower_is_better else -1
            blind = {c: sign * value for c, value in values.items() if CONTROLS[c].input_blind}
            best = min(blind, key=blind.__getitem__)
            delta = metric_delta(suite, f"{name}/{metric}", controls[best], own)
            row = {"metric": delta.metric, "best": best, "values": values}
            found.append(row | {"deltas": {who: asdict(delta)}})
    return sorted(found, key=lambda row: row["metric"] != suite.primary)


def _value(scores: Sequence[ItemScore], task: str, metric: str) -> float:
    nums, dens = sums_of(scores, task, metric)
    return sum(nums) / sum(dens)


def _strata(
    suite: Suite, controls: Mapping[str, Sequence[ItemScore]], best: str
) -> dict[str, list[dict[str, Any]]]:
    """What the best control and those that read the prompt reach on each part of the items."""
    shown = [name for name in controls if name == best or not CONTROLS[name].input_blind]
    parts = {name: suite.breakdown(controls[name]) for name in shown}
    return {
        task: [
            {
                "group": one.group,
                "name": one.name,
                "values": {
                    name: {m: found.value for m, found in parts[name][task][place].metrics.items()}
                    for name in shown
                },
            }
            for place, one in enumerate(strata)
        ]
        for task, strata in parts[best].items()
    }


def _row(
    control: Control,
    suite: Suite,
    said: Sequence[ItemScore],
    who: str,
    scores: Sequence[ItemScore],
) -> dict[str, Any]:
    delta = primary_delta(suite, said, scores)
    return {
        "control": control.name,
        "what": control.what,
        "input_blind": control.input_blind,
        "value": delta.before,
        "form": plain_forms(forms_of(suite, said)),
        "deltas": {who: asdict(delta)},
    }


def merged(records: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """Records of one model each as one record of all; None if one of them is None.

    Args:
        records: Who -> `beside_controls` by the same suite, each of one model of any name. One that
            lacks `metrics`, as older ones do, leaves the whole without them.
    """
    given = {who: record for who, record in records.items() if record is not None}
    if not given or len(given) < len(records):
        return None
    first = next(iter(given.values()))
    every = all("metrics" in record for record in given.values())
    beaten = {who: _only(record["beaten"]) for who, record in given.items()}
    rows = [
        row | {"deltas": {who: _only(r["rows"][i]["deltas"]) for who, r in given.items()}}
        for i, row in enumerate(first["rows"])
    ]
    metrics = [
        row | {"deltas": {who: _only(r["metrics"][i]["deltas"]) for who, r in given.items()}}
        for i, row in enumerate(first["metrics"] if every else ())
    ]
    rest = {key: value for key, value in first.items() if key != "metrics"}
    return rest | {"beaten": beaten, "rows": rows} | ({"metrics": metrics} if every else {})


def _only(found: Mapping[str, Any]) -> Any:
    (value,) = found.values()
    return value
