"""What a study took, cell by cell and in all, and with what it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heed.analysis.cells import Cells
from heed.analysis.markup import Markup, join, table, tag, value

PARTS = ("seconds", "fit_seconds", "supervised_tokens")


def duration(seconds: float) -> str:
    """A time as it is read.

    Example:
        >>> duration(8.25), duration(95), duration(5000)
        ('8.2 s', '1 min 35 s', '1 h 23 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def cost_table(cells: Cells, results: Sequence[Mapping[str, Any]]) -> Markup:
    """A line per cell, and all of them together; nothing where no cost is recorded.

    Args:
        cells: Of the study.
        results: `result.json` of each cell.
    """
    costs = {str(result["run"]): result["cost"] for result in results if result.get("cost")}
    known = [row for row in cells.rows if row.run in costs]
    if not known:
        return join()
    lines = []
    for row in known:
        cost = costs[row.run]
        times = [_time(cost[part]) for part in PARTS[:2]]
        tokens = cost["supervised_tokens"]
        lines.append(cells.line(row, [*times, value(f"{tokens:,}", tokens)]))
    sums = {part: sum(costs[row.run][part] or 0 for row in known) for part in PARTS}
    broken = sum(costs[row.run]["seconds"] is None for row in known)
    note = (
        f"In all: {duration(sums['seconds'])} for {len(known) - broken} of {len(cells.rows)} "
        f"cells; training took {duration(sums['fit_seconds'])} of {len(known)} cells, on "
        f"{sums['supervised_tokens']:,} supervised tokens."
    )
    if broken:
        note += f" {broken} cells were not made in one go: their time in all is not known."
    columns = [*cells.heads, "time in all", "training", "supervised tokens", "run"]
    summary = tag("summary", "Time and tokens of each cell")
    shown = tag("details", summary, table(columns, lines, id="costs"))
    return join(tag("h2", "Cost"), tag("p", note), shown)


def _time(seconds: float | None) -> Markup:
    return value("not in one go") if seconds is None else value(duration(seconds), seconds)


def commands_section(
    cells: Cells, commands: Mapping[str, str], environment: Mapping[str, Any]
) -> Markup:
    """How each cell is made again, and with which versions; nothing where neither is known.

    Args:
        cells: Of the study.
        commands: Run id -> its command line.
        environment: `versions` (library -> version), `machines` and `devices`.
    """
    told = [
        join(
            tag("p", cells.page_link(row, cells.label(row)), " ", tag("code", row.run)),
            tag("pre", tag("code", commands[row.run])),
        )
        for row in cells.rows
        if row.run in commands
    ]
    parts = []
    if told:
        summary = tag("summary", f"The command of each of {len(told)} cells")
        parts.append(tag("details", summary, *told, id="commands"))
    lines = [[name, tag("code", found)] for name, found in _environment(environment).items()]
    if lines:
        summary = tag("summary", "Versions and machines")
        shown = table(["what", "which"], lines, id="versions")
        parts.append(tag("details", summary, shown))
    return join(tag("h2", "Commands and versions"), *parts) if parts else join()


def _environment(environment: Mapping[str, Any]) -> dict[str, str]:
    lists = {key: environment.get(key) or () for key in ("machines", "devices")}
    told = {key: ", ".join(map(str, found)) for key, found in lists.items() if found}
    return told | {name: str(found) for name, found in environment.get("versions", {}).items()}
