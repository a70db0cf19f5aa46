"""What stands beside scores: the form of the answers, and the controls' on the same prompts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from heed.analysis.scores import write_scores_page
from heed.core.errors import RunError
from heed.core.files import read_json, write_json
from heed.core.types import ItemScore
from heed.evaluation.controls import CONTROLS, beside_controls, merged
from heed.evaluation.deltas import primary_delta, refuse_unequal, sums_of
from heed.evaluation.form import MEANINGS, form_record, forms_of, plain_forms, sound_items
from heed.evaluation.prompting import Declared
from heed.evaluation.suite import Suite
from heed.study.flags import Flag, control_flags, form_flags
from heed.study.scores import SAY, Kept, Subject, scores_of
from heed.study.subjects import Controlled

ALONE = "this"
"""What the only model of a record is called."""

FILES = ("form.json", "controls.json")
"""What is recorded beside scores; the last one is there when all of it is."""


NO_CONTROLS: Flag = {
    "kind": "controls",
    "text": "The controls beside these scores are not recorded, so it is not known whether they "
    "are beaten: score it with evaluate.py to have them.",
}
"""The flag of scores that were never set beside the controls."""


class Beside(NamedTuple):
    """What stands beside recorded scores.

    Attributes:
        form: The form of the answers, task -> summary.
        flags: What a reader of the scores must know.
        controls: The record of `beside_controls`; None: not recorded, or nothing is in text.
    """

    form: dict[str, Any]
    flags: list[Flag]
    controls: dict[str, Any] | None


def with_controls(subject: Subject, kept: Kept, suite: Suite, root: Path) -> Kept:
    """Scores with the form of their answers and the controls beside them, also on their page.

    Both are recorded beside the scores, in `form.json` and `controls.json`, when they are first
    asked for, after the page that shows them: where that was interrupted, the kinds of form have
    got other meanings since, or an older record has controls on the primary metric only, they are
    made again. A control is set beside no control, and is scored once whatever the prompting: it
    answers the instruction, however that is put.

    Args:
        subject: What was scored.
        kept: Its scores.
        suite: What scored it.
        root: Of the outputs; the controls' scores are kept below.

    Raises:
        RunError: the controls were scored in another way, or what is recorded is damaged.
    """
    known = _recorded(kept.directory)
    if known is None or (known[1] is not None and "metrics" not in known[1]):
        beside = None if isinstance(subject, Controlled) else _beside(kept, suite, root)
        tasks = plain_forms(forms_of(suite, kept.sheet.items))
        form = {"meanings": dict(MEANINGS), "tasks": tasks}
        found = _shown(kept, form, json.loads(json.dumps(beside)))
        write_scores_page(kept.directory / "report.html", found.sheet)
        for name, value in zip(FILES, (form, beside), strict=True):
            write_json(kept.directory / name, value)
        return found
    return _shown(kept, *known)


def beside_of(directory: Path, suite: Suite, scores: Sequence[ItemScore]) -> Beside:
    """What stands beside recorded scores; nothing is written.

    Where the form is not recorded it is found in the scores; controls that are not recorded are
    flagged as such.

    Args:
        directory: Of the scores.
        suite: What made them.
        scores: What it holds.

    Raises:
        RunError: what is recorded is damaged.
    """
    known = _recorded(directory)
    if known is None:
        tasks = plain_forms(forms_of(suite, scores))
        flags = [] if suite.in_text() is None else [dict(NO_CONTROLS)]
        return Beside(tasks, [*flags, *form_flags(form_record({ALONE: tasks}), ALONE)], None)
    form, controls = known
    try:
        record = form_record({ALONE: form["tasks"]})
        flags = [*control_flags(controls, ALONE), *form_flags(record, ALONE)]
        return Beside(form["tasks"], flags, controls)
    except (KeyError, TypeError, AttributeError, StopIteration) as error:
        raise RunError(
            f"{directory}: {' or '.join(FILES)} does not read as what is recorded beside scores "
            f"({type(error).__name__}: {error}). Remove both, and score it again with evaluate.py."
        ) from error


def _recorded(directory: Path) -> tuple[dict[str, Any], dict[str, Any] | None] | None:
    """The form of the answers and the controls beside them; None if they have to be made (again).

    Raises:
        RunError: a file is damaged.
    """
    found = []
    for path in (directory / name for name in FILES):
        if not path.is_file():
            return None
        try:
            found.append(read_json(path))
        except ValueError as error:
            raise RunError(
                f"{path} is no whole JSON file ({error}). It is made from the scores beside it: "
                f"remove it, and run this command again."
            ) from error
    form, controls = found
    return (form, controls) if form.get("meanings") == MEANINGS else None


def _shown(kept: Kept, form: Mapping[str, Any], controls: Mapping[str, Any] | None) -> Kept:
    """The scores with their form and the controls on their sheet."""
    record = form_record({ALONE: form["tasks"]} | _form_of_best(controls))
    flags = [*control_flags(controls, ALONE), *form_flags(record, ALONE)]
    return replace(kept, sheet=replace(kept.sheet, form=record, controls=controls, flags=flags))


def _beside(kept: Kept, suite: Suite, root: Path) -> dict[str, Any] | None:
    """The record of `beside_controls`; None if the suite has nothing that is answered in text."""
    text = suite.asked_as(Declared())
    if text is None:
        return None
    found = {}
    for name, control in CONTROLS.items():
        answered = Controlled(control, root)
        if not answered.directory(text).is_dir():
            SAY.print(f"Scoring the control {name} on suite {text.name}, once for all models")
        scored = scores_of(answered, text)
        refuse_unequal(common(scored.fingerprint, text), common(kept.fingerprint, text))
        found[name] = scored.sheet.items
    return beside_controls(text, found, ALONE, kept.sheet.items)


def common(fingerprint: Mapping[str, Any], suite: Suite) -> dict[str, Any]:
    """What a control's fingerprint and a model's must have in common.

    Args:
        fingerprint: Of either.
        suite: Its tasks that are answered in text.
    """
    recorded = fingerprint.get("tasks", {})
    tasks = {name: recorded.get(name) for name in suite.tasks}
    return {"tasks": tasks, "versions": fingerprint.get("versions")}


def _form_of_best(controls: Mapping[str, Any] | None) -> dict[str, Any]:
    """The form of the best input-blind control's answers, under its name."""
    if controls is None:
        return {}
    best = controls["best"]
    return {f"control {best}": r["form"] for r in controls["rows"] if r["control"] == best}


def controls_of(before: Kept, after: Kept) -> dict[str, Any] | None:
    """Both models of a run beside the controls; None where nothing is answered in text."""
    return merged({"before": before.sheet.controls, "after": after.sheet.controls})


def form_of_both(suite: Suite, before: Kept, after: Kept) -> dict[str, Any] | None:
    """The form of the answers before and after, and the delta of those that are sound.

    Returns:
        `form_record` with `sound`: `items` of which neither answer is degenerate, `of` all, and
        `delta` on the primary metric among them, or None for fewer than two. It only describes:
        which items these are is itself an outcome of the tuning. None where nothing is recorded.
    """
    sheets = {"before": before.sheet, "after": after.sheet}
    if any(sheet.form is None for sheet in sheets.values()):
        return None
    models = {who: _alone(sheet.form) for who, sheet in sheets.items()}
    record = form_record(models | _form_of_best(after.sheet.controls))
    text = suite.in_text()
    return record | {"sound": None if text is None else _sound(text, before, after)}


def _alone(record: Mapping[str, Any] | None) -> dict[str, Any]:
    tasks = record["tasks"] if record else {}
    return {task: models[ALONE] for task, models in tasks.items()}


def _sound(suite: Suite, before: Kept, after: Kept) -> dict[str, Any]:
    task, _, metric = suite.primary.partition("/")
    own = [[s for s in k.sheet.items if s.task == task] for k in (before, after)]
    sound = sound_items(*own)
    kept: list[list[ItemScore]] = [[s for s in o if (s.task, s.key) in sound] for o in own]
    asked = sum(den > 0 for den in sums_of(kept[0], task, metric)[1])
    delta = asdict(primary_delta(suite, *kept)) if asked > 1 else None
    return {"items": len(sound), "of": len(own[0]), "delta": delta}
