"""What the analyses of a study found of its finished cells, read from what they wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from heed.analysis.analysed import Analysed, AnalysedCell
from heed.analysis.analysis import Analysis
from heed.analysis.confounds import code_groups
from heed.analysis.contrasts import SEED
from heed.core.errors import HeedError, RunError
from heed.core.files import read_json
from heed.study.analyses import analysis_place, is_done
from heed.study.measured import called, facts_beside, place_of
from heed.study.plan import PlannedCell
from heed.study.study import Study

DAMAGES = (OSError, KeyError, TypeError, ValueError, AttributeError, IndexError)
"""What reading a damaged summary may raise."""

PAGE, SUMMARY, MANIFEST = "report.html", "summary.json", "manifest.json"

CODE = "code of the analysis"
"""What the code that did an analysis is called beside axes."""


def analysed(
    analyses: Sequence[Analysis],
    study: Study,
    cells: Sequence[PlannedCell],
    done: Mapping[tuple[str, str], Mapping[str, Any]],
    root: Path,
) -> list[Analysed]:
    """What each analysis found of each finished cell, and of which cells it is not there.

    Args:
        analyses: Those of the study.
        study: Which.
        cells: All of them.
        done: (run id, suite hash) -> result of the finished ones.
        root: Of the outputs.
    """
    axes = [axis for axis in study.varied if axis != SEED]
    ended = [cell for cell in cells if cell.key in done]
    beside = facts_beside([done[cell.key] for cell in ended], axes)
    places = [place_of(one, axes, more) for one, more in zip(ended, beside, strict=True)]
    finished = [
        (cell, root / done[cell.key]["directory"], place)
        for cell, place in zip(ended, places, strict=True)
    ]
    names = tuple(beside[0]) if beside else ()
    return [_over(one, finished, tuple(map(called, axes)), names) for one in analyses]


def _over(
    analysis: Analysis,
    finished: Sequence[tuple[PlannedCell, Path, Mapping[str, str]]],
    axes: tuple[str, ...],
    beside: tuple[str, ...],
) -> Analysed:
    """One analysis over all finished cells."""
    found: list[AnalysedCell] = []
    missing, otherwise, damaged = [], [], {}
    for cell, directory, place in finished:
        run = cell.key[0]
        try:
            kept = analysis_place(analysis, cell.cell.suite, directory)
            if is_done(kept):
                found.append(_read(analysis, cell, kept, place))
                continue
            missing.append(run)
            if any(map(is_done, kept.parent.glob(f"{analysis.name}--*"))):
                otherwise.append(run)
        except HeedError as error:
            damaged[run] = str(error)
        except OSError as error:
            damaged[run] = (
                f"{directory} cannot be read ({type(error).__name__}: {error}), so it is not known "
                f"what analysis {analysis.name} found. Put that right and give the command again."
            )
    cells, codes = _apart_by_code(found)
    told = (cells, tuple(missing), tuple(otherwise), damaged)
    return Analysed(analysis.name, analysis.about, axes, (*beside, *codes), *told)


def _apart_by_code(
    found: Sequence[AnalysedCell],
) -> tuple[tuple[AnalysedCell, ...], tuple[str, ...]]:
    """The cells with what tells analyses of several states of code apart, and its name."""
    groups = code_groups(found)
    if len(groups) < 2:
        return tuple(found), ()
    states = {cell.run: group[0].code for group in groups for cell in group}
    told = (replace(cell, place={**cell.place, CODE: states[cell.run]}) for cell in found)
    return tuple(told), (CODE,)


def _read(
    analysis: Analysis, cell: PlannedCell, kept: Path, place: Mapping[str, str]
) -> AnalysedCell:
    """What an analysis found of a cell.

    Raises:
        RunError: its summary or its manifest is damaged.
    """
    file = kept / SUMMARY
    try:
        numbers = analysis.numbers(read_json(file), cell.cell.suite.primary)
        file = kept / MANIFEST
        code = read_json(file)["code"]
        if not isinstance(code, str):
            raise TypeError(f"code is {code!r:.60}")
    except DAMAGES as error:
        raise RunError(
            f"{file} cannot be read ({type(error).__name__}: {error}), so its numbers are none of "
            f"the table's. Remove {kept} and give the command again."
        ) from error
    page = f"{kept.parent.name}/{kept.name}/{PAGE}" if (kept / PAGE).is_file() else None
    return AnalysedCell(cell.key[0], place, page, numbers, code)
