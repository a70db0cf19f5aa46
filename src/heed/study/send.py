"""A study's runs sent to a mirror from the local files: nothing is run, and nothing told twice."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from heed.core.console import progress_console
from heed.study.ledger import Key
from heed.study.mirror import (
    REFUSED,
    Parcel,
    axis_tags,
    base_parcel,
    delivered,
    done_ending,
    failed_ending,
    made_ending,
    mirrored_cell,
    mirrored_pretraining,
)
from heed.study.outcome import Outcomes
from heed.study.plan import PlannedCell
from heed.study.study import Study
from heed.tracking.tracker import Ending, Mirrored, Rows, Tracker
from heed.training.run import base_run

SAY = progress_console()

NAMES = ("run", "suite", "student", "teacher", "method", "lr", "lr_peak", "seed")
NUMBERS = ("before", "after", "delta", "low", "high", "verdict")
COLUMNS = (*NAMES, "ended", "metric", *NUMBERS, "flags", "reason")
"""Of the table of cells."""


def send_study(
    study: Study,
    cells: Sequence[PlannedCell],
    found: Outcomes,
    page: Path,
    *,
    everything: bool,
    earlier: Collection[Key] = (),
) -> list[str]:
    """Send a study's bases, failed cells, table and page.

    Finished cells have sent themselves when they were made, unless their mirror was off or out of
    reach then.

    Args:
        study: Which.
        cells: All of them.
        found: How they ended.
        page: Of the study, with its figures beside it.
        everything: Whether finished cells and the makings of bases are sent as well: sending is
            what was asked for then.
        earlier: Cells that were done before this command.

    Returns:
        A line for each run that has not arrived, where sending was asked for; elsewhere it is told
        and is no failure.
    """
    if not cells or not cells[0].cell.logger.afar:
        return []
    tracker, root = cells[0].cell.logger.within(study.name), cells[0].cell.root
    parcels = [*_bases(cells, tracker)]
    if everything:
        parcels = [*_pretrainings(cells, tracker), *parcels, *_done(study, cells, found.done)]
    parcels += [*_failed(study, cells, found.failed), _report(study, cells, found, page)]
    lines = send(parcels)
    arrived = len(parcels) - len(lines)
    what = "runs" if everything else "bases, failed cells and the report"
    said = [f"{arrived} of {len(parcels)} {what} of study {study.name} are mirrored."]
    said += [tracker.where(root)] if arrived else []
    old = sum((result["run"], result["suite"]) in earlier for result in found.done)
    if old and not everything:
        said.append(
            f"Not sent by it: {old} cells that were done before, by this study or another; "
            f"sync=true sends them."
        )
    SAY.print(" ".join(filter(None, said)), markup=False, soft_wrap=True)
    return lines if everything else []


def send_failed(cells: Sequence[PlannedCell], found: Outcomes) -> None:
    """Send the failed ones of cells without a study."""
    if cells and cells[0].cell.logger.afar:
        send([*_failed(None, cells, found.failed)])


def send(parcels: Sequence[Parcel]) -> list[str]:
    """Send runs one after another; a line for each that has not arrived, which is said as well.

    A mirror that does not take the first is offered no other.
    """
    lines = []
    for number, parcel in enumerate(parcels):
        why = delivered(parcel)
        if why is not None:
            lines.append(f"{parcel.run.kind} {parcel.run.name} is not sent: {why}")
        if why == REFUSED and number == 0:
            lines += [f"{other.run.kind} {other.run.name}: not tried." for other in parcels[1:]]
            break
    for line in lines:
        SAY.print(line, markup=False, soft_wrap=True)
    return lines


def _pretrainings(cells: Sequence[PlannedCell], tracker: Tracker) -> Iterator[Parcel]:
    runs = {run.id: (run, one.cell.root) for one in cells if (run := base_run(one.cell.model))}
    for run, root in runs.values():
        if (root / "runs" / run.directory / "DONE").is_file():
            made = mirrored_pretraining(run, root, live=False)
            yield Parcel(made, made_ending, tracker)


def _bases(cells: Sequence[PlannedCell], tracker: Tracker) -> Iterator[Parcel]:
    for scores, one in {one.baseline: one for one in cells if one.ready}.items():
        yield base_parcel(tracker, one.cell, scores)


def _done(
    study: Study, cells: Sequence[PlannedCell], results: Sequence[Mapping[str, Any]]
) -> Iterator[Parcel]:
    known = {(result["run"], result["suite"]): result for result in results}
    for one in (one for one in cells if one.key in known):
        ending = done_ending(known[one.key], one.cell.root)
        run = mirrored_cell(one.cell, one.key, live=False)
        yield Parcel(run, lambda ending=ending: ending, _tracker(study, one))  # type: ignore[misc]


def _failed(
    study: Study | None, cells: Sequence[PlannedCell], entries: Sequence[Mapping[str, Any]]
) -> Iterator[Parcel]:
    known: dict[Key, str] = {(e["run"], e["suite"]): str(e["reason"]) for e in entries}
    for one in (one for one in cells if one.key in known):
        ending = failed_ending("failed", known[one.key])
        run = mirrored_cell(one.cell, one.key, live=False)
        yield Parcel(run, lambda ending=ending: ending, _tracker(study, one))  # type: ignore[misc]


def _tracker(study: Study | None, one: PlannedCell) -> Tracker:
    """The mirror of one cell, with its tags."""
    if study is None:
        return one.cell.logger
    return one.cell.logger.within(study.name, axis_tags([*study.varied], one.overrides))


def _report(study: Study, cells: Sequence[PlannedCell], found: Outcomes, page: Path) -> Parcel:
    """The study as a run: its table, its figures and its page."""
    ended = {"done": len(found.done), "failed": len(found.failed)}
    ended["missing"] = len(cells) - sum(ended.values())
    about = {"study": study.name, "question": study.question, "seeds": list(study.seeds)}
    axes = {f"axes.{key}": list(values) for key, values in study.varied.items()}
    root, figures = cells[0].cell.root, sorted((page.parent / "figures").glob("*.png"))
    run = Mirrored(
        id=f"report-{study.name}",
        name=f"{study.name}, the study",
        kind="report",
        config=about | axes | {"suite": study.suite, "primary": study.primary},
        directory=page.parent,
        root=root,
        tags=[f"study:{study.name}"],
        live=False,
    )
    ending = Ending(
        {f"cells/{state}": count for state, count in ended.items()} | {"ended": "done"},
        tables=lambda: {"cells": cells_table(found)},
        figures={f"figures/{path.stem}": path for path in figures},
        pages={"report": page},
    )
    return Parcel(run, lambda: ending, cells[0].cell.logger.within(study.name))


def cells_table(found: Outcomes) -> Rows:
    """A row for each cell that has ended: its names, its primary metric, how it ended."""
    rows = [_cell_row(result, "done") for result in found.done]
    return Rows(COLUMNS, rows + [_cell_row(entry, "failed") for entry in found.failed])


def _cell_row(entry: Mapping[str, Any], ended: str) -> list[Any]:
    deltas = entry.get("deltas", ()) if ended == "done" else ()
    delta: Mapping[str, Any] = next((d for d in deltas if d["metric"] == entry["primary"]), {})
    kinds = dict.fromkeys(flag["kind"] for flag in entry.get("flags", ()) if ended == "done")
    own = [delta.get("metric"), *(delta.get(number) for number in NUMBERS)]
    return [*(entry.get(n) for n in NAMES), ended, *own, ", ".join(kinds), entry.get("reason")]
