"""How the cells of a study ended, and the study's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from heed.analysis.analysis import Analysis
from heed.analysis.deltas import row_of
from heed.core.errors import RunError
from heed.study.analysed import analysed
from heed.study.ledger import Key, latest, whole_result
from heed.study.numbers import study_numbers
from heed.study.plan import PlannedCell
from heed.study.seeds import over_seeds
from heed.study.study import Published, Study
from heed.study.teaching import failed_section, teaching_of
from heed.study.values import typed


class Outcomes(NamedTuple):
    """The cells that ended, each with the `command` that runs it.

    Attributes:
        done: Whole results, in the order of the cells, each with what is `typed` for it.
        failed: Entries of the ledger with a `reason`; of lost results too.
    """

    done: list[dict[str, Any]]
    failed: list[dict[str, Any]]


def outcomes(cells: Sequence[PlannedCell], root: Path) -> Outcomes:
    """How cells ended; a result that is lost or was changed counts as failed, with that reason.

    Args:
        cells: Which.
        root: Of the outputs, where the ledger is.
    """
    known = latest(root)
    found = Outcomes([], failed_of(cells, known))
    for cell in cells:
        entry = known.get(cell.key)
        if entry is None or entry["event"] != "done":
            continue
        try:
            named = cell.names | {"typed": cell.settings}  # as this study calls them
            found.done.append(_whole(root, entry) | named)
        except RunError as error:
            names = cell.names
            found.failed.append({**names, **entry, "reason": str(error), "command": cell.command})
    return found


def failed_of(
    cells: Sequence[PlannedCell], known: Mapping[Key, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The ledger's entries of cells that failed, with the command of each.

    Args:
        cells: Which.
        known: The ledger, from `latest`.
    """
    entries = ((cell, known.get(cell.key)) for cell in cells)
    return [
        {**cell.names, **entry, "command": cell.command}
        for cell, entry in entries
        if entry is not None and entry["event"] == "failed"
    ]


def _whole(root: Path, entry: Mapping[str, Any]) -> dict[str, Any]:
    """The whole result of an entry, which can be shown.

    Raises:
        RunError: it is lost, was changed, or is of a heed so old that it lacks something.
    """
    found = whole_result(root, entry)
    try:
        row_of(found)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"The result of run {entry['run']} cannot be shown ({type(error).__name__}: {error}): "
            f"it was recorded by an older heed, or by hand. Run it again in another outputs."
        ) from error
    return found


def report(
    study: Study,
    cells: Sequence[PlannedCell],
    found: Outcomes,
    root: Path,
    analyses: Sequence[Analysis] = (),
) -> tuple[Path, list[str]]:
    """Write table, figures and page of a study.

    Args:
        study: Which.
        cells: All of them.
        found: How they ended.
        root: Of the outputs.
        analyses: Those of the study.

    Returns:
        The page, and a line for each part of it that the study asks for and that failed.
    """
    done = {(entry["run"], entry["suite"]): entry for entry in found.done}
    about = {
        "name": study.name,
        "question": study.question,
        "axes": study.varied,
        "seeds": list(study.seeds),
        "cells": len(cells),
        "stopping": study.stopping,
        "scale": study.scale,
        "over_seeds": over_seeds(cells, done, root),
        "published": [
            {**one, "runs": [c.key[0] for c in cells if _is_about(one, c)]}
            for one in study.published
        ],
        "analyses": analysed(analyses, study, cells, done, root),
        **study_numbers(study, cells, done, root),
    }
    teaching = teaching_of(study, cells, done, root)
    return _written(root / "studies" / study.name, about, teaching, found)


def _written(
    directory: Path, about: Mapping[str, Any], teaching: dict[str, Any] | None, found: Outcomes
) -> tuple[Path, list[str]]:
    """The page; a section on teachers that cannot be drawn is left out of it, with the reason."""
    from heed.analysis.report import draw_teaching, write_report

    def write() -> Path:
        return write_report(directory, {**about, "teaching": teaching}, found.done, found.failed)

    try:
        page = write()
    except Exception:
        try:
            draw_teaching(teaching)
        except Exception as error:
            teaching = failed_section(error, directory)
        else:
            raise  # not due to teachers
        page = write()
    failed = (teaching or {}).get("failed")
    return page, [failed] if failed else []


def _is_about(published: Published, cell: PlannedCell) -> bool:
    """Whether a published value is about a cell: by its settings, else by its names."""
    said = {**cell.names, "model": cell.names["student"]}
    known = {key: typed(value) for key, value in said.items()} | cell.settings
    return all(known.get(key) == typed(value) for key, value in published["where"].items())
