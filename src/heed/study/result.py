"""The result of a cell: what is recorded, shown and reported of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heed.analysis.panel import show_deltas
from heed.core.component import plain
from heed.core.console import result_console
from heed.core.files import read_json
from heed.core.identity import canonical
from heed.core.manifest import manifest
from heed.core.types import Delta
from heed.study.cell import Cell
from heed.study.controls import controls_of, form_of_both
from heed.study.flags import control_flags, form_flags, prompting_flags
from heed.study.overlap import overlap_notes
from heed.study.scores import Kept


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
    return cell.names | {
        "suite_identity": canonical(cell.suite),
        "name": cell.run.name,
        "directory": str(cell.directory.relative_to(cell.root)),
        "before": str(before.directory.relative_to(cell.root)),
        "primary": cell.suite.primary,
        "level": cell.suite.level,
        "margin": cell.suite.margin[cell.suite.primary.split("/")[0]],
        "deltas": [asdict(delta) for delta in deltas],
        "flags": flags,
        "controls": controls,
        "form": form,
        "also": None if also is None else dict(also),
        "notes": [
            *reference_notes(deltas, read_json(before.directory / "references.json")),
            data_note(cell.teacher.name, fit),
            *overlap_notes(fit, cell.suite),
            *rate_notes(cell, fit["optimiser_steps"]),
            *code_notes(before.directory, after.directory),
        ],
        "fit": fit,
        "code": manifest()["code"],
        "settings": plain(cell),
    }


def show_result(result: dict[str, Any], directory: Path) -> None:
    """Print the table of a finished run."""
    console = result_console()
    show_deltas(console, result)
    for line in result["notes"]:
        console.print(line, markup=False)
    console.print(f"run {result['run']}  {directory}", soft_wrap=True)
    page = directory / "scores" / result["suite_name"] / "report.html"
    console.print(f"after tuning, every item: {page}", soft_wrap=True, markup=False)


def reference_notes(deltas: Sequence[Delta], references: Mapping[str, Any]) -> list[str]:
    """Lines that set a task's values beside those of trivial models."""
    return [
        f"{delta.metric}: before {delta.before:.3f}, after {delta.after:.3f}; "
        + ", ".join(f"{name} {value:.3f}" for name, value in references[task].items())
        for delta in deltas
        if (task := delta.metric.split("/")[0]) in references
    ]


def data_note(teacher: str, fit: Mapping[str, Any]) -> str:
    """A line on what was trained on, with every drop and cut."""
    events = ", ".join(f"{count} {event}" for event, count in fit["events"].items())
    steps = fit["optimiser_steps"]
    return f"{teacher}: {fit['examples']} examples in {steps} optimiser steps ({events})"


def rate_notes(cell: Cell, steps: int) -> list[str]:
    """A line if the learning rate never reached its peak."""
    if cell.lr.warmup_steps <= steps:
        return []
    return [
        f"the learning rate never reached its peak: lr.warmup_steps is {cell.lr.warmup_steps}, and "
        f"there were {steps} optimiser steps"
    ]


def code_notes(before: Path, after: Path) -> list[str]:
    """A line if base and tuned student were scored by two states of this code.

    Args:
        before: Directory of the scores before tuning, which earlier runs may have made.
        after: That of the scores after.
    """
    one, two = (read_json(scores / "manifest.json")["code"] for scores in (before, after))
    if one == two:
        return []
    return [
        f"before was scored by heed's code {one} and after by {two}: if scoring changed between "
        f"the two, the delta holds that too. To score both again, move {before.name} and "
        f"{after.name} out of the way and give this command again"
    ]
