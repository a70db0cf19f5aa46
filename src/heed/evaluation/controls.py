"""Controls: "models" that read nothing of what is asked, or only repeat it; what is a score worth?

A student that scores below them may have changed the form of its answers and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from heed.core.types import ItemScore
from heed.evaluation.deltas import primary_delta
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
    """A model beside the controls on the suite's primary metric, as plain JSON data.

    Args:
        suite: Answered in text throughout (`Suite.in_text`).
        controls: Name -> the control's scores by this suite; at least one is input-blind.
        who: What the model is called in the record.
        scores: The model's; those of other tasks are left out.

    Returns:
        `metric`; `best`, the input-blind control of the best value; `beaten`, who -> whether the
        paired interval of model - best control lies above zero, by the verdict's own rule; `note`;
        and `rows`, one per control: `control`, `what`, `input_blind`, `value`, `form` (of its
        responses), and `deltas`, who -> the model minus the control, as a recorded delta.
    """
    own = [score for score in scores if score.task in suite.tasks]
    rows = [_row(CONTROLS[name], suite, found, who, own) for name, found in controls.items()]
    blind = [row for row in rows if row["input_blind"]]
    falling = blind[0]["deltas"][who]["lower_is_better"]
    best = min(blind, key=lambda row: row["value"] if falling else -row["value"])
    return {
        "metric": suite.primary,
        "best": best["control"],
        "beaten": {who: best["deltas"][who]["verdict"] == "helped"},
        "note": NOTE.format(count=len(blind)),
        "rows": rows,
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
        records: Who -> `beside_controls` by the same suite, each of one model of any name.
    """
    given = {who: record for who, record in records.items() if record is not None}
    if len(given) < len(records):
        return None
    first = next(iter(given.values()))
    beaten = {who: _only(record["beaten"]) for who, record in given.items()}
    rows = [
        row | {"deltas": {who: _only(r["rows"][i]["deltas"]) for who, r in given.items()}}
        for i, row in enumerate(first["rows"])
    ]
    return {**first, "beaten": beaten, "rows": rows}


def _only(found: Mapping[str, Any]) -> Any:
    (value,) = found.values()
    return value
