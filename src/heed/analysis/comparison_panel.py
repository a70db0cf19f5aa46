"""The tables that end a comparison in the terminal, and the same as plain rows for a file."""

from __future__ import annotations

import csv
import io

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from heed.analysis.comparison import WORDS, Comparison, interval_text, p_text
from heed.analysis.deltas import signed
from heed.analysis.panel import show_beside
from heed.core.console import visible

COLUMNS = (
    *("metric", "items", "a", "b", "delta", "low", "high", "p", "mde"),
    *("both", "lost", "gained", "neither", "mcnemar", "verdict"),
)
"""Of `table.csv`; what a metric does not have is left empty."""


def show_comparison(console: Console, comparison: Comparison) -> None:
    """Print a comparison: readable on 80 columns."""
    for name, side in (("A", comparison.first), ("B", comparison.second)):
        console.print(f"{name}: {visible(side.title)}", markup=False)
    console.print(metrics_table(comparison))
    for text in comparison.flags:
        console.print(Text(f"⚑ {visible(text)}", "yellow"))
    show_beside(console, comparison.controls, None)
    for metric, flips in comparison.flips.items():
        said = f"{metric}: {flips.gained} items better, {flips.lost} worse"
        console.print(f"{said}, {flips.both + flips.neither} as before", markup=False)
    for key, (one, two) in comparison.unlike.items():
        console.print(visible(f"not alike: {key}: A {one}, B {two}"), markup=False)
    for what, times in comparison.left_out.items():
        console.print(f"left out: {what}: {times}", markup=False)


def metrics_table(comparison: Comparison) -> Table:
    """A line per metric, the primary one first."""
    table = Table(
        title=Text(f"B minus A on suite {comparison.suite}"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        collapse_padding=True,
        pad_edge=False,
        show_edge=False,
    )
    table.add_column("metric", overflow="fold")
    for name in ("A", "B", "B - A", f"{comparison.level:.0%} interval", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for place, delta in enumerate(comparison.deltas):
        title = Text(delta.metric + ("" if place else " *"), "" if place else "bold")
        values = (f"{delta.before:.4f}", f"{delta.after:.4f}", signed(delta.delta))
        told = (interval_text(delta), p_text(delta.p), WORDS[delta.verdict])
        table.add_row(title, *values, *told)
    table.caption = "* the metric that decides"
    table.caption_justify = "left"
    return table


def metrics_csv(comparison: Comparison) -> str:
    """Every metric with all its numbers in full, as comma-separated values."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for delta in comparison.deltas:
        flips = comparison.flips.get(delta.metric)
        cells = (flips.both, flips.lost, flips.gained, flips.neither) if flips else (None,) * 4
        ends = (delta.before, delta.after, delta.delta, delta.low, delta.high)
        row = (delta.metric, delta.items, *ends, delta.p, delta.mde, *cells)
        writer.writerow([*row, delta.mcnemar, delta.verdict])
    return file.getvalue()
