"""The tables of a study's page: every cell, and the scores before tuning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heed.analysis.beside import (
    SURE_COLUMNS,
    SURE_NOTE,
    p_text,
    recorded_interval,
    sure_line,
)
from heed.analysis.best_control import NOT_RECORDED, best_control, lacking, reached_lines
from heed.analysis.cells import Cells, two_lines
from heed.analysis.comparable import ALONE, alone_in
from heed.analysis.confounds import OTHER_CODE
from heed.analysis.deltas import Row, adjusted_of, forgetting_of, less_is_better, shared, signed
from heed.analysis.figures import unit
from heed.analysis.markup import Markup, breakable, join, spaced, table, tag, value
from heed.analysis.script import pair_box
from heed.analysis.words import bar, pill
from heed.core.manifest import code_state, same_code


def cells_table(cells: Cells) -> Markup:
    """One line per cell: the primary delta with its interval, the verdict, what it cost."""
    rows = cells.rows
    if not rows:
        return join()
    metric = forgetting_of(rows)
    scale = max(abs(end) for row in rows for end in (row.decisive.low, row.decisive.high)) or 1.0
    level = shared(f"{row.level:.0%}" for row in rows)
    columns = [
        *cells.heads,
        "before → after",
        f"delta [{level} paired interval]",
        "verdict",
        "after - best control",
        "flags",
    ]
    columns += [join("delta of ", breakable(metric))] if metric else []
    alone = alone_in(cells)
    columns += ["comparable in"] if alone else []
    look = _Look(metric, scale, alone, code_state())
    lines = [_cell_line(cells, row, look) for row in rows]
    primary = " and ".join(dict.fromkeys(row.primary for row in rows))
    better = "less is better" if less_is_better(rows, rows[0].primary) else "more is better"
    counted = f"{unit(rows[0].primary)}; {better}"
    note = tag("p", f"Primary metric: {primary} ({counted}). ", cells.common)
    shown = table([*columns, "run"], lines, id="cells")
    reached = [tag("p", line) for line in reached_lines(row.beside for row in rows)]
    if alone:
        reached.insert(0, tag("p", ALONE, class_="quiet"))
    return join(tag("h2", "Every cell"), note, pair_box(), shown, *reached)


@dataclass(frozen=True)
class _Look:
    """What all lines of the table of cells share.

    Attributes:
        metric: The second one that is shown, if any.
        scale: Of the bars.
        alone: Which cells are comparable in what (`alone_in`).
        now: The state of heed's code.
    """

    metric: str | None
    scale: float
    alone: Mapping[str, tuple[list[str], list[str]]]
    now: str


def _cell_line(cells: Cells, row: Row, look: _Look) -> Markup:
    delta = row.decisive
    values = join(f"{delta.before:.3f}", tag("div", f"→ {delta.after:.3f}"))
    change = cells.page_link(row, signed(delta.delta))
    entries: list[Any] = [
        value(values, delta.after),
        value(two_lines(change, delta.low, delta.high), delta.delta),
        join(pill(delta.verdict), bar(delta, look.scale)),
        _over_control(row),
        _flags(row, look.now),
    ]
    if look.metric:
        other = row.delta(look.metric)
        shown = other and join(pill(other.verdict), tag("div", signed(other.delta)))
        entries.append(tag("td", shown, data_value=f"{other.delta:.6g}") if other else "not run")
    if look.alone:
        equal, without = look.alone[row.run]
        said = tag("div", f"⚑ not {', '.join(without)}") if without else ""
        entries.append(join(", ".join(equal) or "nothing", said))
    return cells.line(row, entries)


def _over_control(row: Row) -> Markup:
    """The tuned student minus the best control, which is named; its metric too if it is another."""
    best = best_control(row.beside.get("controls"))
    if best is None:
        return value(lacking(row.beside))
    delta = best.deltas["after"]
    named = best.control if best.metric == row.primary else f"{best.control}, {best.metric}"
    shown = two_lines(f"{signed(delta['delta'])} {named}", delta["low"], delta["high"])
    return value(shown, delta["delta"])


def _flags(row: Row, now: str) -> Markup:
    """The kinds of a cell's flags, with their sign, below each other; and whose code made it."""
    kinds = dict.fromkeys(f"⚑ {flag['kind']}" for flag in row.flags or ())
    if row.flags is None:
        kinds = {NOT_RECORDED: None}
    other = [] if same_code(row.code, now) else [OTHER_CODE]
    return tag("td", *spaced([tag("div", kind) for kind in (*kinds, *other)]), class_="flags")


def flags_list(cells: Cells) -> Markup:
    """How many cells carry a flag, and each flag in full; nothing where there are none."""
    rows = cells.rows
    flagged = [row for row in rows if row.flags]
    if not flagged:
        return join()
    kinds = Counter(kind for row in flagged for kind in {f["kind"] for f in row.flags or ()})
    said = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    lines = [
        tag("li", tag("strong", f"{cells.label(row)}: "), flag["text"])
        for row in flagged
        for flag in row.flags or ()
    ]
    title = tag("strong", f"⚑ {len(flagged)} of {len(rows)} cells carry a flag: {said}.")
    text = " A flag changes no verdict; it says what a verdict does not."
    summary = tag("summary", "Each flag in full")
    return tag("div", title, text, tag("details", summary, tag("ul", *lines)), class_="warning")


def beside_table(cells: Cells) -> Markup:
    """A line per cell: how sure its verdict is, and what stands beside it."""
    rows = cells.rows
    if not rows:
        return join()
    flipped = any(row.decisive.flips for row in rows)
    columns = [*cells.heads, "p", "p (Holm)", "MDE", *SURE_COLUMNS[-2:][: 2 * flipped]]
    columns += ["other prompting", "degenerate", "median words", "run"]
    lines = []
    for row, adjusted in zip(rows, adjusted_of(rows), strict=True):
        _, p, mde, flips, mcnemar = sure_line(row.decisive)
        line = [value(p, row.decisive.p), value(p_text(adjusted), adjusted)]
        line += map(_number, (mde, *(flips, mcnemar)[: 2 * flipped], _also(row), *_form(row)))
        lines.append(cells.line(row, line))
    note = (
        f"p (Holm) is corrected for the {len(rows)} cells of this study. {SURE_NOTE} Degenerate "
        f"(empty, a loop, or an echo) and median words: before, then after."
    )
    title = tag("h2", "How sure, and beside what")
    return join(title, tag("p", note), table(columns, lines, id="beside"))


def _also(row: Row) -> str:
    also = row.beside.get("also")
    if also is None:
        return "none" if "also" in row.beside else NOT_RECORDED
    delta = next((d for d in also["deltas"] if d["metric"] == row.primary), also["deltas"][0])
    other = "" if delta["metric"] == row.primary else f", {delta['metric']}"
    best = best_control(also.get("controls"))
    beside = f"controls {NOT_RECORDED}"
    if best is not None:
        beside = f"after - {best.control} {recorded_interval(best.deltas['after'])}"
    said = f"{also['prompting']}{other}: {recorded_interval(delta)}; "
    return join(said, tag("small", beside))


def _form(row: Row) -> tuple[str, str]:
    """Share of degenerate answers and median length, before and after."""
    form = row.beside.get("form")
    if form is None:
        return (NOT_RECORDED, NOT_RECORDED)
    models = form["tasks"].get(row.primary.partition("/")[0])
    if models is None:
        return ("none", "none")
    both = [models[who] for who in ("before", "after")]
    shares = (f"{m['counts']['degenerate'] / m['items']:.1%}" for m in both)
    return " → ".join(shares), " → ".join(f"{m['median_words']:g}" for m in both)


def seeds_table(found: Sequence[Mapping[str, Any]], cells: Cells) -> Markup:
    """A line per group of cells that differ in their seed alone."""
    if not found:
        return join()
    lines = [_seeds_line(one, cells) for one in found]
    note = (
        "What to expect of another student trained alike: an interval over training seeds and "
        "items together, by Student's t. Two or three seeds tell little of their own spread: the "
        "interval is mostly very wide, and too narrow where they happen to agree. Not corrected "
        "for the number of lines. What each control reaches, the echo apart, stands below the "
        "cells."
    )
    columns = ["cell", "seeds", "metric", "mean delta (interval)", "verdict"]
    columns.append("mean after - best control")
    return join(tag("h2", "Over seeds"), tag("p", note), table(columns, lines, id="seeds"))


def _seeds_line(one: Mapping[str, Any], cells: Cells) -> Markup:
    ids = one.get("runs", ())
    known = next((row for row in cells.rows if row.run in ids), None)
    entries = [
        cells.label(known, without=("seed",)) if known else one["cell"],
        cells.runs(", ".join(map(str, one["seeds"])), ids),
        one["metric"],
        *([one["reason"], "not known"] if "reason" in one else _over_seeds(one)),
        _seeds_over_control(one),
    ]
    return cells.several(entries, ids)


def _over_seeds(one: Mapping[str, Any]) -> list[Markup]:
    return [value(recorded_interval(one), one["delta"]), pill(one["verdict"])]


def _seeds_over_control(one: Mapping[str, Any]) -> Markup:
    """The mean over seeds of after minus the best control, or why there is none."""
    found = one.get("over_control")
    if found is None:
        why = {"title": one["control_reason"]} if "control_reason" in one else {}
        return tag("td", one.get("control", NOT_RECORDED), **why)
    first = f"{signed(found['delta'])} {one['control']}"
    return value(two_lines(first, found["low"], found["high"]), found["delta"])


def _number(shown: Any) -> Markup:
    return value(shown)
