"""The tables of a study's page: every cell, and the scores before tuning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from heed.analysis.beside import (
    SURE_COLUMNS,
    SURE_NOTE,
    p_text,
    recorded_interval,
    sure_line,
)
from heed.analysis.best_control import NOT_RECORDED, best_control, lacking, reached_lines
from heed.analysis.confounds import OTHER_CODE
from heed.analysis.deltas import (
    AXES,
    Row,
    adjusted_of,
    forgetting_of,
    metrics_of,
    peak_text,
    shared,
    signed,
)
from heed.analysis.markup import Markup, join, table, tag
from heed.analysis.panel import SYMBOLS
from heed.analysis.sections import controls_section
from heed.core.manifest import code_state, same_code
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
    columns = [
        *heads,
        "before → after",
        f"delta [{level} paired interval]",
        "verdict",
        "after - best control",
        "flags",
    ]
    columns += [metric] if metric else []
    lines = [_cell_line(row, names, metric, scale) for row in rows]
    primary = " and ".join(dict.fromkeys(row.primary for row in rows))
    note = tag("p", f"Primary metric: {primary}. ", constant)
    cells = table([*columns, "run"], lines, id="cells")
    reached = [tag("p", line) for line in reached_lines(row.beside for row in rows)]
    return join(tag("h2", "Every cell"), note, cells, *reached)


def _varying(rows: Sequence[Row], axes: Sequence[str]) -> tuple[list[str], str]:
    """The columns that tell these cells apart, and a sentence with what they have in common."""
    every = list(dict.fromkeys([*AXES, *axes]))
    names = [a for a in every if a == "student" or len({str(r.value(a)) for r in rows}) > 1]
    common = [f"{name} {rows[0].value(name)}" for name in every if name not in names]
    return names, f"The same in all cells: {', '.join(common)}." if common else ""


def _cell_line(row: Row, names: Sequence[str], metric: str | None, scale: float) -> list[Any]:
    delta = row.decisive
    line: list[Any] = [_rate(row) if name == "lr" else row.value(name) for name in names]
    line.append(_number(join(f"{delta.before:.3f}", tag("div", f"→ {delta.after:.3f}"))))
    line.append(_number(_two_lines(signed(delta.delta), delta.low, delta.high)))
    line.append(join(pill(delta.verdict), _bar(delta, scale)))
    line += [_number(_over_control(row)), _flags(row)]
    if metric:
        other = row.delta(metric)
        found = other and join(pill(other.verdict), tag("div", signed(other.delta)))
        line.append(found or "not run")
    link = f"../../{row.directory}/"
    return [*line, tag("a", tag("code", row.run), href=link, title=row.name)]


def _two_lines(first: str, low: float, high: float) -> Markup:
    """A number, and its interval in small type below it."""
    return join(first, " ", tag("small", f"[{signed(low)}, {signed(high)}]"))


def _rate(row: Row) -> Markup:
    """A learning rate by name, and its peak in small type below it."""
    return join(row.lr, " ", tag("small", f"({peak_text(row.lr_peak)})"))


def _over_control(row: Row) -> str:
    """The tuned student minus the best control, which is named; its metric too if it is another."""
    best = best_control(row.beside.get("controls"))
    if best is None:
        return lacking(row.beside)
    delta = best.deltas["after"]
    named = best.control if best.metric == row.primary else f"{best.control}, {best.metric}"
    return _two_lines(f"{signed(delta['delta'])} {named}", delta["low"], delta["high"])


def _flags(row: Row) -> Markup:
    """The kinds of a cell's flags, with their sign, below each other; and whose code made it."""
    kinds = dict.fromkeys(f"⚑ {flag['kind']}" for flag in row.flags or ())
    if row.flags is None:
        kinds = {NOT_RECORDED: None}
    other = [] if same_code(row.code, code_state()) else [OTHER_CODE]
    return tag("td", *(tag("div", kind) for kind in (*kinds, *other)))


def flags_list(rows: Sequence[Row]) -> Markup:
    """How many cells carry a flag, and each flag in full; nothing where there are none."""
    flagged = [row for row in rows if row.flags]
    if not flagged:
        return join()
    kinds = Counter(kind for row in flagged for kind in {f["kind"] for f in row.flags or ()})
    said = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    lines = [
        tag("li", tag("strong", f"{label(row)}: "), flag["text"])
        for row in flagged
        for flag in row.flags or ()
    ]
    title = tag("strong", f"⚑ {len(flagged)} of {len(rows)} cells carry a flag: {said}.")
    text = " A flag changes no verdict; it says what a verdict does not."
    summary = tag("summary", "Each flag in full")
    return tag("div", title, text, tag("details", summary, tag("ul", *lines)), class_="warning")


def label(row: Row) -> str:
    """A cell in a few words."""
    return f"{row.student}, {row.teacher}, {row.method}, {row.lr}, seed {row.seed}"


def beside_table(rows: Sequence[Row], axes: Sequence[str]) -> Markup:
    """A line per cell: how sure its verdict is, and what stands beside it."""
    if not rows:
        return join()
    names, _ = _varying(rows, axes)
    heads = ["learning rate" if name == "lr" else name for name in names]
    flipped = any(row.decisive.flips for row in rows)
    columns = [*heads, "p", "p (Holm)", "MDE", *SURE_COLUMNS[-2:][: 2 * flipped]]
    columns += ["other prompting", "degenerate", "median words"]
    lines = []
    for row, adjusted in zip(rows, adjusted_of(rows), strict=True):
        line = [rate(row) if name == "lr" else row.value(name) for name in names]
        _, p, mde, flips, mcnemar = sure_line(row.decisive)
        line += map(_number, (p, p_text(adjusted), mde, *(flips, mcnemar)[: 2 * flipped]))
        line += map(_number, (_also(row), *_form(row)))
        lines.append(line)
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


def seeds_table(found: Sequence[Mapping[str, Any]]) -> Markup:
    """A line per group of cells that differ in their seed alone."""
    if not found:
        return join()
    lines = [
        [
            *(one["cell"], ", ".join(map(str, one["seeds"])), one["metric"]),
            *([one["reason"], "not known"] if "reason" in one else _over_seeds(one)),
            _seeds_over_control(one),
        ]
        for one in found
    ]
    note = (
        "What to expect of another student trained alike: an interval over training seeds and "
        "items together, by Student's t. Two or three seeds tell little of their own spread: the "
        "interval is mostly very wide, and too narrow where they happen to agree. What each "
        "control reaches, the echo apart, stands below the cells."
    )
    columns = ["cell", "seeds", "metric", "mean delta (interval)", "verdict"]
    columns.append("mean after - best control")
    return join(tag("h2", "Over seeds"), tag("p", note), table(columns, lines, id="seeds"))


def _over_seeds(one: Mapping[str, Any]) -> list[Markup]:
    return [_number(recorded_interval(one)), pill(one["verdict"])]


def _seeds_over_control(one: Mapping[str, Any]) -> Markup:
    """The mean over seeds of after minus the best control, or why there is none."""
    found = one.get("over_control")
    if found is None:
        why = {"title": one["control_reason"]} if "control_reason" in one else {}
        return tag("td", one.get("control", NOT_RECORDED), **why)
    first = f"{signed(found['delta'])} {one['control']}"
    return _number(_two_lines(first, found["low"], found["high"]))


def bases_table(rows: Sequence[Row]) -> Markup:
    """Scores before tuning; all cells of a student share them."""
    metrics = metrics_of(rows)
    befores: dict[tuple[str, tuple[str, ...]], int] = {}
    for row in rows:
        values = tuple(f"{d.before:.3f}" if (d := row.delta(m)) else "not run" for m in metrics)
        befores[row.student, values] = befores.get((row.student, values), 0) + 1
    students = [student for student, _ in befores]
    columns = [values for _, values in befores]
    beside = _best_of_metrics(rows)
    lines = [
        [metric, *(_number(v[place]) for v in columns), *map(_number, beside.get(metric, ("", "")))]
        for place, metric in enumerate(metrics)
    ]
    lines.append(["cells", *map(_number, befores.values()), "", ""])
    head = tag("h2", "Before tuning")
    heads = ["metric", *students, "best control that reads nothing", "echo"]
    return join(head, table(heads, lines)) if rows else join()


def _best_of_metrics(rows: Sequence[Row]) -> dict[str, tuple[str, str]]:
    """What controls reach on each metric that is answered in text, the echo apart.

    The same for all students of a suite; cells of several suites show what each of them has.
    """
    found: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for row in rows:
        for one in (row.beside.get("controls") or {}).get("metrics", ()):
            best, echo = found.setdefault(one["metric"], ({}, {}))
            best[f"{one['best']} {one['values'][one['best']]:.3f}"] = None
            echo[f"{one['values']['echo']:.3f}"] = None
    return {metric: (shared(best), shared(echo)) for metric, (best, echo) in found.items()}


def controls_of_bases(rows: Sequence[Row]) -> Markup:
    """The untuned students beside the controls; nothing where none is recorded."""
    found: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        if controls := row.beside.get("controls"):
            found.setdefault(f"{row.student} untuned", controls)
    first = next(iter(found.values()), None)
    if first is None or any(record["metric"] != first["metric"] for record in found.values()):
        return join()
    every = all("metrics" in record for record in found.values())
    tables = {
        key: [
            line | {"deltas": {who: r[key][i]["deltas"]["before"] for who, r in found.items()}}
            for i, line in enumerate(first[key])
        ]
        for key in ("rows", *(["metrics"] if every else []))
    }
    beaten = {who: record["beaten"]["before"] for who, record in found.items()}
    return controls_section({**first, "metrics": (), "beaten": beaten, **tables})


def all_metrics_table(rows: Sequence[Row]) -> Markup:
    """Every metric of every cell, folded away at first."""
    lines = [
        [
            *(row.student, row.teacher, row.method, rate(row), _number(row.seed), d.metric),
            *(_number(f"{d.before:.3f}"), _number(f"{d.after:.3f}"), _number(interval(d))),
            *(_number(d.items), pill(d.verdict), _number(_best_on(row, d.metric))),
        ]
        for row in rows
        for d in row.deltas
    ]
    columns = ["student", "teacher", "method", "learning rate", "seed", "metric"]
    columns += ["before", "after", "delta [interval]", "items", "verdict", "after - best control"]
    summary = tag("summary", "Every metric of every cell")
    return tag("details", summary, table(list(columns), lines)) if rows else join()


def _best_on(row: Row, metric: str) -> str:
    """The tuned student minus the best control on one metric; empty where none is recorded."""
    metrics = (row.beside.get("controls") or {}).get("metrics", ())
    one = next((m for m in metrics if m["metric"] == metric), None)
    return f"{one['best']}: {recorded_interval(one['deltas']['after'])}" if one else ""


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
