"""The result of a cell: what is recorded, shown and reported of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heed.analysis.panel import show_deltas
from heed.analysis.verdict_page import PLACE
from heed.core.console import result_console
from heed.core.files import read_json
from heed.core.identity import canonical, deciding
from heed.core.manifest import code_state, same_code
from heed.core.types import Delta
from heed.core.unscored import scored_on_all
from heed.study.cell import Cell
from heed.study.controls import controls_of, form_of_both
from heed.study.flags import (
    control_flags,
    debug_flags,
    dropped_flags,
    form_flags,
    preflight_flags,
    prompting_flags,
    training_flags,
)
from heed.study.overlap import overlap_notes
from heed.study.scores import Kept

OTHERWISE = {
    "ranks": "by other numbers of ranks",
    "device": "on another device",
    "threads": "by other numbers of CPU threads",
}
"""How parts of a training can differ, beside heed's code."""


def result_of(
    cell: Cell,
    deltas: Sequence[Delta],
    before: Kept,
    after: Kept,
    also: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything that is recorded of a finished cell, as plain JSON data.

    Args:
        cell: Its run is on disk, with a manifest.
        deltas: After minus before, the primary metric first.
        before: The scores before tuning, with controls.
        after: The scores after, with controls.
        also: The deltas under another prompting, if it was scored.
    """
    fit = read_json(cell.directory / "manifest.json")["fit"]
    controls = controls_of(before, after)
    form = form_of_both(cell.suite, before, after)
    flags = control_flags(controls, "after") + form_flags(form, "after")
    flags += prompting_flags(also, asdict(deltas[0]))
    flags += training_flags(cell.lr.warmup_steps, fit) + dropped_flags(fit["events"])
    flags += debug_flags(cell.debugging) + preflight_flags(fit)
    return cell.names | {
        "suite_identity": canonical(cell.suite),
        "name": cell.run.name,
        "directory": str(cell.directory.relative_to(cell.root)),
        "before": str(before.directory.relative_to(cell.root)),
        "primary": cell.suite.primary,
        "level": cell.suite.level,
        "margin": cell.suite.margin[cell.suite.primary.split("/")[0]],
        "deltas": judged([asdict(delta) for delta in deltas], cell.debugging),
        "flags": flags,
        "controls": controls,
        "form": form,
        "also": also and dict(also) | {"deltas": judged(also["deltas"], cell.debugging)},
        "notes": [
            *reference_notes(deltas, read_json(before.directory / "references.json")),
            *unscored_notes(before, after),
            data_note(cell.teacher.name, fit),
            *overlap_notes(fit, cell.suite),
            *life_notes(fit),
            *code_notes(before.directory, after.directory),
            *trained_notes(cell.directory, after.directory),
        ],
        "fit": fit,
        "code": code_of(cell.directory, after.directory, before.directory),
        "settings": deciding(cell),
    }


def judged(deltas: Sequence[Mapping[str, Any]], debugging: str | None) -> list[dict[str, Any]]:
    """Deltas as they are recorded; those of `debug=fast` have no verdict but `cannot tell`."""
    found = [dict(delta) for delta in deltas]
    return [d | {"verdict": "cannot tell"} for d in found] if debugging == "fast" else found


def show_result(result: dict[str, Any], directory: Path) -> None:
    """Print the table of a finished run."""
    console = result_console()
    show_deltas(console, result)
    for line in result["notes"]:
        console.print(line, markup=False)
    console.print(f"run {result['run']}  {directory}", soft_wrap=True)
    scores = directory / "scores" / result["suite_name"]
    console.print(f"the verdict as a page: {scores / PLACE}", soft_wrap=True, markup=False)
    page = scores / "report.html"
    console.print(f"after tuning, every item: {page}", soft_wrap=True, markup=False)


def reference_notes(deltas: Sequence[Delta], references: Mapping[str, Any]) -> list[str]:
    """Lines that set a task's values beside those of trivial models."""
    return [
        f"{delta.metric}: before {delta.before:.3f}, after {delta.after:.3f}; "
        + ", ".join(f"{name} {value:.3f}" for name, value in references[task].items())
        for delta in deltas
        if (task := delta.metric.split("/")[0]) in references
    ]


def unscored_notes(before: Kept, after: Kept) -> list[str]:
    """A line on the items that count on neither side, since one side has no score of them."""
    _, left_out = scored_on_all(before.sheet.items, after.sheet.items)
    return [f"{times} items {what}" for what, times in left_out.items()]


def data_note(teacher: str, fit: Mapping[str, Any]) -> str:
    """A line on what was trained on, with every drop and cut."""
    events = ", ".join(f"{count} {event}" for event, count in fit["events"].items())
    steps = fit["optimiser_steps"]
    return f"{teacher}: {fit['examples']} examples in {steps} optimiser steps ({events})"


def life_notes(fit: Mapping[str, Any]) -> list[str]:
    """Lines on which step the student is, and on how often the training went on.

    Args:
        fit: What the training recorded; that of an older heed says neither.
    """
    taken, found = fit.get("taken"), []
    if taken and taken["step"] != taken["steps_planned"]:
        loss = taken["validation_loss"]
        at = "" if loss is None else f", {loss:.3f} nats/token on the examples kept apart"
        found.append(
            f"the student is that of step {taken['step']} ({taken['why']}{at}); "
            f"{taken['steps_done']} of {taken['steps_planned']} planned steps were done"
        )
    if resumed := fit.get("resumed"):
        found.append(f"broken off, and gone on after step {', '.join(map(str, resumed))}")
    if len(codes := fit.get("resumed_by_code", [])) > 1:
        found.append(f"parts of the training were done by heed's code {', '.join(codes)}")
    for key, values in fit.get("resumed_on", {}).items():
        found.append(
            f"parts of the training were done {OTHERWISE[key]} ({', '.join(map(str, values))}): "
            f"the student is not to the last bit what it would be in one go"
        )
    return found


def code_notes(before: Path, after: Path) -> list[str]:
    """A line if base and tuned student were scored by two states of this code.

    Args:
        before: Directory of the scores before tuning, which earlier runs may have made.
        after: That of the scores after.
    """
    one, two = (read_json(scores / "manifest.json")["code"] for scores in (before, after))
    if same_code(one, two):
        return []
    return [
        f"before was scored by heed's code {one} and after by {two}: if scoring changed between "
        f"the two, the delta holds that too. To score both again, move {before.name} and "
        f"{after.name} out of the way and give this command again"
    ]


def code_of(*made: Path) -> str:
    """Whose code a cell is: this one only where every part was made by it.

    Args:
        made: Directories of its parts, each with a manifest.

    Returns:
        The state of the code of the first part that another one made, or the present state.
    """
    now = code_state()
    codes = [str(read_json(part / "manifest.json")["code"]) for part in made]
    return next((code for code in codes if not same_code(code, now)), now)


def trained_notes(run: Path, after: Path) -> list[str]:
    """A line if a student was trained and scored by two states of this code.

    Args:
        run: Its directory.
        after: That of its scores.
    """
    one, two = (read_json(made / "manifest.json")["code"] for made in (run, after))
    return [] if same_code(one, two) else [f"trained by heed's code {one} and scored by {two}"]
