"""A study as one page: the question, the answer, every cell with its interval and verdict."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from heed.analysis.analyses_page import analyses_csv, analyses_section
from heed.analysis.answer import answer, how_to_read, scale_box, stopping_line
from heed.analysis.base_tables import all_metrics_table, bases_table, controls_of_bases
from heed.analysis.cells import Cells, cells_of, table_axes
from heed.analysis.confounds import confounds_of
from heed.analysis.contrast_tables import contrasts_csv, contrasts_table
from heed.analysis.cost import commands_section, cost_table
from heed.analysis.deltas import Row, forgetting_of, metrics_of, rows_of, shared, to_csv
from heed.analysis.figures import Drawing
from heed.analysis.forest import forest
from heed.analysis.form_table import form_table
from heed.analysis.heat_map import heat_drawing, heat_map, types_csv
from heed.analysis.loss_figures import loss_drawings, losses_csv, losses_section
from heed.analysis.markup import Markup, join, spaced, table, tag
from heed.analysis.outside import missing_table, other_code_box, published_table
from heed.analysis.page import page
from heed.analysis.rate_figures import beside_of, rate_figures, rate_note
from heed.analysis.rate_tables import edge_warnings, rates_csv, rates_table
from heed.analysis.script import FILTERED, filter_bar, script, while_filtered
from heed.analysis.tables import beside_table, cells_table, flags_list, seeds_table
from heed.analysis.teaching_figures import teaching_drawings
from heed.analysis.teaching_page import teaching_csv, teaching_section
from heed.core.files import write_bytes, write_text

BESIDE = ("contrasts", "rates", "types", "losses", "teaching", "analyses")
"""Files of numbers that are beside the page where there is something in them."""


class Drawings(NamedTuple):
    """The figures of a study.

    Attributes:
        rates: Metric -> its figures by learning rate, one a student.
        forest: All cells; None where there are none.
        types: By type of instruction; None where nothing is known by type.
        losses: The training curves.
        teaching: Deltas against what was known of the teachers, one a student.
    """

    rates: Mapping[str, list[Drawing]]
    forest: Drawing | None
    types: Drawing | None
    losses: list[Drawing]
    teaching: list[Drawing]

    def every(self) -> list[Drawing]:
        """All of them."""
        rates = [drawing for drawings in self.rates.values() for drawing in drawings]
        others = [self.forest, self.types, *self.losses, *self.teaching]
        return [d for d in (*rates, *others) if d is not None]


def write_report(
    directory: Path,
    study: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    failed: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write the page of a study, and beside it its numbers (CSV) and figures (PNG, SVG).

    Args:
        directory: `outputs/studies/<study>`, so that runs are found at `../../<directory>/`.
        study: `name`, `question`, `axes` (config group or key -> values in order), `cells` (their
            number in all), and, if there is more to say: `settings` (label -> text); `seeds` and
            `over_seeds` (of cells that differ in their seed alone: `cell`, `seeds`, `metric`,
            `delta`, `low`, `high`, `verdict`, `control` and `over_control`, or the `reason` why
            these are not known); `published` (`where`, `metric`, `source`, some of `before`,
            `after`, `delta` and `note`, and `runs`: the ids of the cells that it is about);
            `stopping` and `scale` (`heed.analysis.answer`); `contrasts` or `contrasts_reason`
            (`heed.analysis.contrast_tables`); `left_out` (cells that no comparison of items holds,
            a line each); `rates` (`heed.analysis.rate_tables`); `types` (`heed.analysis.heat_map`);
            `losses` (`heed.analysis.loss_figures`); `analyses` (`heed.analysis.analysed.Analysed`,
            one for each analysis of the study); `commands` and `environment`
            (`heed.analysis.cost`).
        results: `result.json` of each finished cell.
        failed: The cells that failed: `student teacher method lr seed`, `reason`, `log` (the last
            lines of it) and `command`.

    Returns:
        The page.
    """
    axes = _axes(study)
    rows = rows_of(results, axes)
    seeds = ["seed"] if len(study.get("seeds", ())) > 1 else []
    cells = cells_of(rows, [*axes, *seeds], directory)
    drawings = _drawings(cells, study)
    for drawing in drawings.every():
        write_bytes(directory / "figures" / f"{drawing.name}.png", drawing.png)
        write_text(directory / "figures" / f"{drawing.name}.svg", drawing.svg)
    write_text(directory / "table.csv", to_csv(rows))
    numbers = _numbers(cells, study)
    for name, lines in numbers.items():
        write_text(directory / f"{name}.csv", _csv(lines))
    path = directory / "report.html"
    write_text(path, study_page(study, cells, drawings, results, failed))
    _remove_old(directory, drawings, numbers)
    return path


def draw_teaching(teaching: Mapping[str, Any] | None) -> None:
    """Draw all that a page says of teachers, and keep nothing: raises what is wrong with it.

    Args:
        teaching: As `heed.analysis.teaching_page.teaching_section` takes it.
    """
    teaching_section(teaching, teaching_drawings(teaching))
    _csv(teaching_csv(teaching))


def _remove_old(directory: Path, drawings: Drawings, numbers: Collection[str]) -> None:
    """Remove files of an earlier report that this one, which is written, does not hold."""
    drawn = {drawing.name for drawing in drawings.every()}
    old = [directory / f"{name}.csv" for name in BESIDE if name not in numbers]
    figures = (directory / "figures").glob("*")
    old += [f for f in figures if f.suffix in (".png", ".svg") and f.stem not in drawn]
    for file in old:
        file.unlink(missing_ok=True)  # the page no longer names it


def _axes(study: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The study's axes in the words of the table, with their values."""
    axes: dict[str, list[Any]] = {}
    for key, values in study["axes"].items():
        (name,) = table_axes([key])
        axes.setdefault(name, []).extend(values)
    return axes


def _drawings(cells: Cells, study: Mapping[str, Any]) -> Drawings:
    rows = cells.rows
    shown = [m for m in (*metrics_of(rows)[:1], forgetting_of(rows)) if m]
    told, beside = study.get("rates", ()), beside_of(cells)
    rates = {metric: rate_figures(rows, metric, told, beside) for metric in shown}
    return Drawings(
        rates,
        forest(cells) if rows else None,
        heat_drawing(cells, study.get("types") or {}),
        loss_drawings(cells, study.get("losses", ())),
        teaching_drawings(study.get("teaching")),
    )


def _numbers(cells: Cells, study: Mapping[str, Any]) -> dict[str, list[list[Any]]]:
    """Name of a file -> its head and lines; only of what is known."""
    found = (
        contrasts_csv(study.get("contrasts", ())),
        rates_csv(study.get("rates", ())),
        types_csv(cells, study.get("types") or {}),
        losses_csv(cells, study.get("losses", ())),
        teaching_csv(study.get("teaching")),
        analyses_csv(study.get("analyses", ()), cells),
    )
    return {name: lines for name, lines in zip(BESIDE, found, strict=True) if len(lines) > 1}


def _csv(lines: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def study_page(
    study: Mapping[str, Any],
    cells: Cells,
    drawings: Drawings,
    results: Sequence[Mapping[str, Any]],
    failed: Sequence[Mapping[str, Any]],
) -> str:
    """The whole page as text."""
    rows = cells.rows
    return page(
        f"{study['name']}: {study['question']}",
        tag("h1", study["question"]),
        tag("p", f"Study '{study['name']}', made by heed.", class_="quiet"),
        answer(study, rows, failed),
        how_to_read(rows),
        stopping_line(study, rows),
        scale_box(study.get("scale")),
        other_code_box(rows),
        flags_list(cells),
        _caveats(cells),
        _left_out(study.get("left_out", ())),
        filter_bar(cells),
        cells_table(cells),
        teaching_section(study.get("teaching"), drawings.teaching),
        contrasts_table(study.get("contrasts", ()), cells, study.get("contrasts_reason", "")),
        analyses_section(study.get("analyses", ()), cells),
        seeds_table(study.get("over_seeds", ()), cells),
        _by_rate(study, cells, drawings),
        _forest(drawings),
        heat_map(cells, study.get("types") or {}, drawings.types),
        losses_section(study.get("losses", ()), drawings.losses),
        form_table(cells),
        beside_table(cells),
        published_table(study.get("published", ()), cells),
        missing_table(failed),
        cost_table(cells, results),
        bases_table(rows),
        controls_of_bases(rows),
        all_metrics_table(cells),
        _notes(rows),
        commands_section(cells, study.get("commands", {}), study.get("environment") or {}),
        _settings(study, cells),
        script(),
    )


def _caveats(cells: Cells) -> Markup:
    notes = confounds_of(cells.rows, cells.axes) if cells.rows else []
    if not notes:
        return join()
    items = [tag("li", note) for note in notes]
    title = tag("strong", "Confounded comparisons. ")
    text = "Between these cells a difference cannot be put down to one cause:"
    return tag("div", title, text, tag("ul", *items), class_="warning")


def _left_out(lines: Sequence[str]) -> Markup:
    """Cells that stand in the tables, but in no comparison of items."""
    if not lines:
        return join()
    title = tag("strong", "Left out of comparisons item by item.")
    items = tag("ul", *(tag("li", line) for line in lines))
    return tag("div", title, items, class_="warning")


def _by_rate(study: Mapping[str, Any], cells: Cells, drawings: Drawings) -> Markup:
    """The response to the learning rate: figures for each metric, then the choice of a rate."""
    rates = study.get("rates", ())
    edges = [tag("li", line) for line in edge_warnings(rates)]
    title = tag("strong", "The best rate may lie outside. ")
    warned = tag("div", title, tag("ul", *edges), class_="warning") if edges else join()
    shown = [
        join(
            tag("p", rate_note(cells.rows, metric), class_="quiet"),
            tag("div", *(d.shown("") for d in drawn), class_="multiples"),
        )
        for metric, drawn in drawings.rates.items()
        if drawn
    ]
    if not shown and not rates:
        return join()
    title = tag("h2", "Delta by learning rate")
    said = while_filtered(FILTERED)
    return join(title, warned, said, *shown, rates_table(rates, cells))


def _forest(drawings: Drawings) -> Markup:
    if drawings.forest is None:
        return join()
    note = f"{drawings.forest.words} Each label leads to its run."
    shown = drawings.forest.shown(note, wide=True)
    return join(tag("h2", "Every delta"), while_filtered(FILTERED), shown)


def _notes(rows: Sequence[Row]) -> Markup:
    notes = dict.fromkeys(note for row in rows for note in row.notes)
    items = [tag("li", note) for note in notes]
    return join(tag("h2", "Notes on the scores"), tag("ul", *items)) if items else join()


def _settings(study: Mapping[str, Any], cells: Cells) -> Markup:
    rows = cells.rows
    said = {
        "suite": shared(row.suite for row in rows),
        "seeds": shared(sorted({row.seed for row in rows})),
        "interval": shared(f"{row.level:.0%}" for row in rows),
        "margin of no change": shared(f"{row.margin:g}" for row in rows),
        "heed's code": shared(row.code for row in rows),
    } | dict(study.get("settings", {}))
    lines = [[key, tag("code", value)] for key, value in said.items()]
    names = ["table", *_numbers(cells, study)]
    files = [tag("a", f"{name}.csv", href=f"{name}.csv") for name in names]
    note = tag("p", "The same numbers as files: ", *spaced(files))
    return join(tag("h2", "Settings"), table(["setting", "value"], lines), note)
