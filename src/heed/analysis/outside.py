"""What stands beside a study's cells: those that failed, and what others have published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heed.analysis.best_control import best_control, lacking
from heed.analysis.cells import Cells, home
from heed.analysis.confounds import other_code_line
from heed.analysis.deltas import Row, signed
from heed.analysis.markup import Markup, join, table, tag
from heed.analysis.words import pill

PARTS = ("before → after", "delta")
OVER = "after - best control"
NO_CELL = "no finished cell of this study"


def other_code_box(rows: Sequence[Row]) -> Markup:
    """Which cells were made by another state of heed's code; nothing where none were."""
    line = other_code_line(rows)
    return tag("div", tag("strong", "Other code. "), line, class_="warning") if line else join()


def missing_table(failed: Sequence[Mapping[str, Any]]) -> Markup:
    """The cells that failed, with reason, the end of the log and command."""
    if not failed:
        return join()
    columns = ["student", "teacher", "method", "lr", "seed"]
    lines = [[*(cell.get(name, "") for name in columns), _why(cell)] for cell in failed]
    title = tag("h2", "Cells without a result")
    return join(title, table([*columns, "what happened"], lines, id="missing"))


def _why(cell: Mapping[str, Any]) -> Markup:
    """The reason of a failure; below it the end of the log, folded, and the command."""
    said: list[Any] = [tag("div", cell["reason"])]
    if cell.get("log"):
        log = tag("pre", "\n".join(map(str, cell["log"])))
        said.append(tag("details", tag("summary", "The end of its log"), log))
    if cell.get("command"):
        said.append(tag("div", tag("code", cell["command"])))
    return tag("td", *said)


def published_table(published: Sequence[Mapping[str, Any]], cells: Cells) -> Markup:
    """What others have published, each beside the cells that it is about.

    Args:
        published: `where`, `metric`, `source`, some of `before`, `after`, `delta` and `note`, and
            `runs`: the ids of the cells that it is about; `said_of` where a scale has put stand-ins
            into `where`: what the source said it of.
        cells: Of the study.
    """
    if not published:
        return join()
    columns = ["published for", "metric", *PARTS, "source", "here", *PARTS, OVER, "verdict"]
    lines: list[Markup] = []
    for one in published:
        about = [row for row in cells.rows if row.run in one["runs"]]
        said: list[Any] = [_where(one), one["metric"], *_numbers(one), _source(one)]
        ours = [_ours(cells, row, one["metric"]) for row in about]
        if len(about) != 1:  # a line of its own, which is hidden with the last of its cells
            here = ["" if about else NO_CELL, "", "", "", ""]
            lines.append(cells.several([*said, *here], [row.run for row in about]))
            said = [""] * len(said)
        lines += [
            cells.several([*said, *own], [row.run]) for row, own in zip(about, ours, strict=True)
        ]
    note = (
        "As others published them, left; what was measured here, right. Models, data, prompts and "
        "scoring of theirs are not these: equal words are no equal conditions."
    )
    title = tag("h2", "Published values")
    return join(title, tag("p", note), table(columns, lines, id="published"))


def _where(one: Mapping[str, Any]) -> str:
    """What the source says it of, never what stands for that here."""
    where = one.get("said_of", one["where"])
    return ", ".join(f"{key}: {value}" for key, value in where.items()) or "all cells"


def _numbers(one: Mapping[str, Any]) -> list[Markup]:
    """Their values as they were written; nothing where the source says nothing."""
    ends = ["not given" if one.get(k) is None else f"{one[k]:g}" for k in ("before", "after")]
    delta = one.get("delta")
    texts = [" → ".join(ends) if set(ends) != {"not given"} else ""]
    texts.append("" if delta is None else f"{delta:+g}")
    return [tag("td", text, class_="number") for text in texts]


def _source(one: Mapping[str, Any]) -> Markup:
    note = [tag("small", one["note"])] if one.get("note") else []
    return tag("td", one["source"], *note, class_="wrap")


def _ours(cells: Cells, row: Row, metric: str) -> list[Any]:
    """A cell's values on the same metric, else on its primary one, which is said."""
    found = row.delta(metric)
    delta = found or row.decisive
    name = join(
        tag("a", cells.label(row), href=home(row)),
        "" if found else tag("small", f"on {delta.metric}"),
    )
    change = tag("small", f"[{signed(delta.low)}, {signed(delta.high)}]")
    numbers = (f"{delta.before:.3f} → {delta.after:.3f}", join(signed(delta.delta), change))
    shown = (*numbers, _over_control(row, delta.metric))
    return [name, *(tag("td", text, class_="number") for text in shown), pill(delta.verdict)]


def _over_control(row: Row, metric: str) -> Any:
    """The tuned student minus the best control that reads nothing, on the same metric."""
    best = best_control(row.beside.get("controls"), metric)
    if best is None:
        return lacking(row.beside)
    delta = best.deltas["after"]
    change = tag("small", f"[{signed(delta['low'])}, {signed(delta['high'])}]")
    return join(f"{signed(delta['delta'])} {best.control}", change)
