"""The tables that end a run: each metric with its verdict, and what stands beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from heed.analysis.beside import (
    NOT_RECORDED,
    SURE_COLUMNS,
    SURE_NOTE,
    also_line,
    control_columns,
    control_lines,
    flag_texts,
    form_lines,
    metric_columns,
    metric_lines,
    sound_line,
    sure_line,
)
from heed.analysis.deltas import delta_of, signed
from heed.core.console import visible
from heed.core.types import Delta, Verdict

SYMBOLS: dict[Verdict, str] = {"helped": "▲", "hurt": "▼", "unchanged": "=", "cannot tell": "?"}
"""A sign for each verdict, so that colour is never its only carrier."""

_STYLES: dict[Verdict, str] = {
    "helped": "bold blue",
    "hurt": "bold red",
    "unchanged": "bold",
    "cannot tell": "yellow",
}


def console_table(deltas: Sequence[Delta], primary: str, level: float, title: str = "") -> Table:
    """Show deltas for the console.

    Args:
        deltas: One per metric; shown in this order.
        primary: The metric that decides the verdict; marked with a star.
        level: Coverage of the intervals, 0.95.
        title: Put above the table, if given.
    """
    table = Table(title=Text(title) if title else None, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("metric", no_wrap=True)
    for name in ("before", "after", "delta", f"{level:.0%} paired interval", "items"):
        table.add_column(name, justify="right")
    table.add_column("verdict", no_wrap=True)
    for delta in deltas:
        star = " *" if delta.metric == primary else ""
        table.add_row(
            Text(f"{delta.metric}{star}", "bold" if star else ""),
            f"{delta.before:.3f}",
            f"{delta.after:.3f}",
            signed(delta.delta),
            f"{signed(delta.low)} to {signed(delta.high)}",
            str(delta.items),
            Text(f"{SYMBOLS[delta.verdict]} {delta.verdict}", _STYLES[delta.verdict]),
        )
    table.caption = "* the metric that decides the verdict"
    table.caption_justify = "left"
    return table


def show_deltas(console: Console, result: Mapping[str, Any]) -> None:
    """Print a run's result: verdicts, how sure they are, flags, controls, form, prompting.

    Args:
        console: Where.
        result: `result.json`; of an older one, what it lacks is said not to be recorded.
    """
    deltas = [delta_of(entry) for entry in result["deltas"]]
    console.print(console_table(deltas, result["primary"], result["level"]))
    task = result["primary"].partition("/")[0]
    show_flags(console, result.get("flags"))
    console.print(sure_table([d for d in deltas if d.metric.partition("/")[0] == task]))
    console.print(SURE_NOTE)
    console.print()
    show_beside(console, result.get("controls"), result.get("form"))
    for line in (sound_line(result.get("form") or {}), also_line(result)):
        if line:
            console.print(visible(line), markup=False)


def show_flags(console: Console, flags: Sequence[Mapping[str, str]] | None) -> None:
    """Print what a reader must know beside the verdict, each with a sign."""
    if flags is None:
        console.print(f"Flags: {NOT_RECORDED}.")
    elif not flags:
        console.print("No flags.")
    for text in flag_texts(flags or ()):
        console.print(Text(f"⚑ {visible(text)}", "yellow"))
    console.print()


def show_beside(
    console: Console, controls: Mapping[str, Any] | None, form: Mapping[str, Any] | None
) -> None:
    """Print the controls and the form of the answers, where they are recorded."""
    if controls is not None:
        console.print(controls_table(controls))
        console.print(f"* the best of those that read nothing. {controls['note']}")
        console.print()
        if metric_lines(controls):
            console.print(every_metric_table(controls))
            console.print()
    for table in form_tables(form):
        console.print(table)
        console.print()


def sure_table(deltas: Sequence[Delta]) -> Table:
    """What else than an interval says how sure each delta is."""
    table = _small("how sure")
    table.add_column(SURE_COLUMNS[0], no_wrap=True)
    for name in SURE_COLUMNS[1:]:
        table.add_column(name, justify="right")
    for delta in deltas:
        table.add_row(*map(Text, sure_line(delta)))
    return table


def controls_table(controls: Mapping[str, Any]) -> Table:
    """Each control's value, and the models minus it with paired intervals; echo stands apart."""
    table = _small(f"beside the controls, on {controls['metric']}")
    for place, name in enumerate(control_columns(controls)):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    lines = control_lines(controls)
    for place, (kind, entries) in enumerate(lines):
        ends = place + 1 < len(lines) and lines[place + 1][0] != kind
        table.add_row(*map(Text, entries), end_section=ends)
    return table


def every_metric_table(controls: Mapping[str, Any]) -> Table:
    """Every metric beside the best control of its own; of two models the last one's difference.

    The page has the others: two intervals a line do not fit into 80 columns.
    """
    table = _small("every metric, beside the best control that reads nothing, and the echo")
    *columns, last = metric_columns(controls)
    kept = len(columns) - len(controls["beaten"]) + 1
    for place, name in enumerate((*columns[:kept], last)):
        table.add_column(name, justify="right" if place else "left", overflow="fold")
    for line in metric_lines(controls):
        table.add_row(*map(Text, (*line[:kept], line[-1])))
    return table


def form_tables(form: Mapping[str, Any] | None) -> Iterator[Table]:
    """For each task, the form of the answers of each model."""
    for task, models in (form["tasks"] if form else {}).items():
        table = _small(visible(f"form of the answers to {task}"))
        for name in ("", *("this model" if who == "this" else who for who in models)):
            table.add_column(name, justify="right" if name else "left", no_wrap=True)
        for line in form_lines(models):
            table.add_row(*map(Text, line))
        yield table


def _small(title: str) -> Table:
    """A table that fits 80 columns, with its note below."""
    return Table(
        title=Text(title),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        collapse_padding=True,
        pad_edge=False,
        show_edge=False,
    )
