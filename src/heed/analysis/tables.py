"""The tables of a study's page: every cell, what is missing, and the scores before tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heed.analysis.deltas import AXES, Row, forgetting_of, metrics_of, peak_text, shared, signed
from heed.analysis.markup import Markup, join, table, tag
from heed.analysis.panel import SYMBOLS
from heed.core.types import Delta, Verdict


def cells_table(rows: Sequence[Row], axes: Sequence[str]) -> Markup:
    """One line per cell: the primary delta with its interval, the verdict, what it cost."""
    if not rows:
        return join()
    metric = forgetting_of(rows)
    scale = max(abs(end) for row in rows for end in (row.decisive.low, row.decisive.high)) or 1.0
    names, constant = _varying(rows, axes)
    level = shared(f"{row.level:.0%}" for row in rows)
    heads = ["learning rate" if name == "lr" else name for name in names]
    columns = [*heads, "before", "after", f"delta [{level} paired interval]", "", "verdict"]
    columns += [metric] if metric else []
    lines = [_cell_line(row, names, metric, scale) for row in rows]
    primary = " and ".join(dict.fromkeys(row.primary for row in rows))
    note = tag("p", f"Primary metric: {primary}. ", constant)
    return join(tag("h2", "Every cell"), note, table([*columns, "run"], lines, id="cells"))


def _varying(rows: Sequence[Row], axes: Sequence[str]) -> tuple[list[str], str]:
    """The columns that tell these cells apart, and a sentence with what they have in common."""
    every = list(dict.fromkeys([*AXES, *axes]))
    names = [a for a in every if a == "student" or len({str(r.value(a)) for r in rows}) > 1]
    common = [f"{name} {rows[0].value(name)}" for name in every if name not in names]
    return names, f"The same in all cells: {', '.join(common)}." if common else ""


def _cell_line(row: Row, names: Sequence[str], metric: str | None, scale: float) -> list[Any]:
    delta = row.decisive
    line: list[Any] = [rate(row) if name == "lr" else row.value(name) for name in names]
    line += [_number(f"{delta.before:.3f}"), _number(f"{delta.after:.3f}")]
    line += [_number(interval(delta)), _bar(delta, scale), pill(delta.verdict)]
    if metric:
        other = row.delta(metric)
        line.append(join(pill(other.verdict), " ", signed(other.delta)) if other else "not run")
    link = f"../../{row.directory}/"
    return [*line, tag("a", tag("code", row.run), href=link, title=row.name)]


def missing_table(failed: Sequence[Mapping[str, Any]]) -> Markup:
    """The cells that failed, with reason and command."""
    if not failed:
        return join()
    columns = ["student", "teacher", "method", "lr", "seed", "reason", "command"]
    lines = [[cell.get(name, "") for name in columns] for cell in failed]
    return join(tag("h2", "Cells without a result"), table(list(columns), lines, id="missing"))


def bases_table(rows: Sequence[Row]) -> Markup:
    """Scores before tuning; all cells of a student share them."""
    metrics = metrics_of(rows)
    befores: dict[tuple[str, tuple[str, ...]], int] = {}
    for row in rows:
        values = tuple(f"{d.before:.3f}" if (d := row.delta(m)) else "not run" for m in metrics)
        befores[row.student, values] = befores.get((row.student, values), 0) + 1
    students = [student for student, _ in befores]
    columns = [values for _, values in befores]
    lines = [
        [metric, *(_number(values[place]) for values in columns)]
        for place, metric in enumerate(metrics)
    ]
    lines.append(["cells", *map(_number, befores.values())])
    head = tag("h2", "Before tuning")
    return join(head, table(["metric", *students], lines)) if rows else join()


def all_metrics_table(rows: Sequence[Row]) -> Markup:
    """Every metric of every cell, folded away at first."""
    lines = [
        [
            *(row.student, row.teacher, row.method, rate(row), _number(row.seed), d.metric),
            *(_number(f"{d.before:.3f}"), _number(f"{d.after:.3f}"), _number(interval(d))),
            *(_number(d.items), pill(d.verdict)),
        ]
        for row in rows
        for d in row.deltas
    ]
    columns = ["student", "teacher", "method", "learning rate", "seed", "metric"]
    columns += ["before", "after", "delta [interval]", "items", "verdict"]
    summary = tag("summary", "Every metric of every cell")
    return tag("details", summary, table(list(columns), lines)) if rows else join()


def rate(row: Row) -> str:
    """A learning rate by name and peak."""
    return f"{row.lr} ({peak_text(row.lr_peak)})"


def interval(delta: Delta) -> str:
    """A delta with its interval."""
    return f"{signed(delta.delta)} [{signed(delta.low)}, {signed(delta.high)}]"


def _number(value: Any) -> Markup:
    return tag("td", value, class_="number")


def pill(verdict: Verdict) -> Markup:
    """A verdict as word, sign and colour."""
    kind = verdict.replace(" ", "-")
    return tag("span", f"{SYMBOLS[verdict]} {verdict}", class_=f"verdict {kind}")


def _bar(delta: Delta, scale: float, width: int = 96) -> Markup:
    """The interval as a small picture; zero is in the middle, the scale the same in all rows."""

    def x(value: float) -> str:
        return f"{width / 2 * (1 + 0.94 * value / scale):.1f}"

    middle = width / 2
    zero = tag("line", x1=middle, x2=middle, y1=1, y2=15, class_="zero")
    span = tag("line", x1=x(delta.low), x2=x(delta.high), y1=8, y2=8, class_="span")
    dot = tag("circle", cx=x(delta.delta), cy=8, r=3)
    kind = delta.verdict.replace(" ", "-")
    words = tag("title", interval(delta))
    return tag("svg", words, zero, span, dot, width=width, height=16, class_=f"bar {kind}")
