"""The table that ends a run: each metric before and after, its interval and its verdict."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from heed.analysis.deltas import signed
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
