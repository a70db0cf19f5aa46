"""The students before tuning, and every metric of every cell: what a page shows below the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heed.analysis.beside import recorded_interval
from heed.analysis.cells import Cells
from heed.analysis.deltas import Row, metrics_of, shared
from heed.analysis.markup import Markup, join, table, tag, value
from heed.analysis.sections import controls_section
from heed.analysis.words import interval, pill


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
        [metric, *(value(v[place]) for v in columns), *map(value, beside.get(metric, ("", "")))]
        for place, metric in enumerate(metrics)
    ]
    lines.append(["cells", *map(value, befores.values()), "", ""])
    head = tag("h2", "Before tuning")
    places = [next(r.before for r in rows if r.student == student) for student in students]
    students = [
        tag("a", name, href=f"../../{place}/report.html") if place else name
        for name, place in zip(students, places, strict=True)
    ]
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


def all_metrics_table(cells: Cells) -> Markup:
    """Every metric of every cell, folded away at first."""
    lines = [
        cells.line(
            row,
            [
                d.metric,
                value(f"{d.before:.3f}", d.before),
                value(f"{d.after:.3f}", d.after),
                value(interval(d), d.delta),
                *(value(d.items, d.items), pill(d.verdict), _best_on(row, d.metric)),
            ],
        )
        for row in cells.rows
        for d in row.deltas
    ]
    columns = [*cells.heads, "metric", "before", "after", "delta [interval]", "items", "verdict"]
    columns += ["after - best control", "run"]
    summary = tag("summary", "Every metric of every cell")
    return tag("details", summary, table(columns, lines, id="metrics")) if lines else join()


def _best_on(row: Row, metric: str) -> Markup:
    """The tuned student minus the best control on one metric; empty where none is recorded."""
    metrics = (row.beside.get("controls") or {}).get("metrics", ())
    one = next((m for m in metrics if m["metric"] == metric), None)
    if one is None:
        return value("")
    delta = one["deltas"]["after"]
    return value(f"{one['best']}: {recorded_interval(delta)}", delta["delta"])
