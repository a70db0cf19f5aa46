"""One run as a page: the verdict first, then all that stands beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from heed.analysis.beside import (
    NOT_RECORDED,
    SURE_COLUMNS,
    SURE_NOTE,
    also_line,
    sound_line,
    sure_line,
)
from heed.analysis.deltas import Row, flat, row_of, signed
from heed.analysis.markup import Markup, join, table, tag
from heed.analysis.page import page
from heed.analysis.sections import controls_section, flags_box, form_section, number
from heed.analysis.words import interval, pill, rate

PLACE = "verdict.html"
"""The page's name, beside `result.json` in the scores of a run."""


def verdict_page(result: Mapping[str, Any]) -> str:
    """The whole page as text.

    Args:
        result: `result.json`; of an older one, what it lacks is said not to be recorded.
    """
    row = row_of(result)
    lines = [line for line in (sound_line(result.get("form") or {}), also_line(result)) if line]
    sections = [
        tag("h1", row.name),
        tag("p", f"Run {row.run} on suite {row.suite}, made by heed.", class_="quiet"),
        _answer(row),
        _flags(row),
        _metrics(row),
        *(tag("p", line) for line in lines),
        controls_section(result.get("controls")),
        form_section(result.get("form")),
        _notes(row.notes),
        _pages(row, result),
        _settings(result.get("settings", {})),
    ]
    return page(f"{row.name}: {row.decisive.verdict}", *sections)


def _answer(row: Row) -> Markup:
    """What tuning did, in one sentence."""
    delta = row.decisive
    what = f"{row.student} taught by {row.teacher}, {row.method}, {rate(row)}, seed {row.seed}: "
    values = f" on {delta.metric}, from {delta.before:.4f} to {delta.after:.4f}, "
    ends = f" ({row.level:.0%} paired interval, {delta.items} items)."
    change = tag("strong", interval(delta))
    return tag("p", what, pill(delta.verdict), values, change, ends, class_="answer")


def _flags(row: Row) -> Markup:
    if row.flags is None:
        return tag("p", f"Flags: {NOT_RECORDED}.")
    found = flags_box([flag["text"] for flag in row.flags])
    return found or tag("p", "No flags.")


def _metrics(row: Row) -> Markup:
    """Every metric, the deciding one first."""
    lines = []
    for delta in row.deltas:
        values = (f"{delta.before:.4f}", f"{delta.after:.4f}", signed(delta.delta))
        ends = f"{signed(delta.low)} to {signed(delta.high)}"
        sure = sure_line(delta)[1:]
        cells = map(number, (*values, ends, delta.items, *sure))
        better = " (less is better)" if delta.lower_is_better else ""
        lines.append([f"{delta.metric}{better}", *cells, pill(delta.verdict)])
    level = f"{row.level:.0%} paired interval"
    columns = ["metric", "before", "after", "delta", level, "items", *SURE_COLUMNS[1:], "verdict"]
    note = (
        f"The first metric decides: helped or hurt if the whole interval lies on one side of zero, "
        f"unchanged if it holds zero and lies within +/- {row.margin:g}, cannot tell otherwise. "
        f"It speaks of this very student; another seed would give another. {SURE_NOTE}"
    )
    rows = table(columns, lines, id="metrics")
    return join(tag("h2", "Before and after"), rows, tag("p", note, class_="quiet"))


def _notes(notes: Sequence[str]) -> Markup:
    items = [tag("li", note) for note in notes]
    return join(tag("h2", "Notes"), tag("ul", *items)) if items else join()


def _pages(row: Row, result: Mapping[str, Any]) -> Markup:
    """Where every single item stands."""
    up = "../" * (len(PurePosixPath(row.directory).parts) + 2)
    links = [tag("li", tag("a", "after tuning", href="report.html"))]
    if "before" in result:
        where = f"{up}{result['before']}/report.html"
        links.insert(0, tag("li", tag("a", "before tuning", href=where)))
    return join(tag("h2", "Every item"), tag("ul", *links))


def _settings(settings: Mapping[str, Any]) -> Markup:
    lines = [[key, tag("code", str(value))] for key, value in flat(settings)]
    if not lines:
        return join()
    summary = tag("summary", "Settings")
    return tag("details", summary, table(["setting", "value"], lines, id="settings"))
