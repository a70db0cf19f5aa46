"""The tables that end a scoring: metrics with intervals, groups and types, what happened."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from heed.analysis.panel import show_beside, show_flags
from heed.analysis.scores import Sheet, short_metric
from heed.core.console import visible
from heed.core.types import Interval, Stratum


def show_scores(console: Console, sheet: Sheet) -> None:
    """Print a scoring: readable on 80 columns."""
    console.print(metrics_table(sheet))
    console.print()
    if sheet.flags:
        show_flags(console, sheet.flags)
    show_beside(console, sheet.controls, sheet.form)
    for task, strata in sheet.strata.items():
        console.print(strata_table(task, strata, sheet.level))
    if sheet.events:
        console.print(events_table(sheet))
    for note in sheet.notes:
        console.print(visible(note), markup=False)


def metrics_table(sheet: Sheet) -> Table:
    """A line per metric, the primary one first."""
    table = _table(sheet.title)
    table.add_column("metric", no_wrap=True)
    for name in ("value", f"{sheet.level:.0%} interval", "items"):
        table.add_column(name, justify="right", no_wrap=True)
    for metric, found in sheet.rows:
        star = " *" if metric == sheet.primary else ""
        ends = f"{found.low:.4f} to {found.high:.4f}"
        title = Text(metric + star, "bold" if star else "")
        table.add_row(title, f"{found.value:.4f}", ends, str(found.items))
    table.caption = "* the metric that decides a verdict"
    table.caption_justify = "left"
    return table


def strata_table(task: str, strata: Sequence[Stratum], level: float) -> Table:
    """A line per group, followed by its types without the group's name."""
    told = "instructions followed" if "inst_level_strict_acc" in strata[0].metrics else "its parts"
    table = _table(f"{task}: {told}, {level:.0%} interval over prompts")
    table.add_column("group, type", no_wrap=True)
    for name in ("prompts", "asked", *map(short_metric, strata[0].metrics)):
        table.add_column(name, justify="right", no_wrap=True)
    for stratum in strata:
        short = visible(stratum.name.removeprefix(f"{stratum.group}:"))
        title = Text(f"  {short}") if stratum.name else Text(visible(stratum.group), "bold")
        counts = (str(stratum.items), str(stratum.asked))
        table.add_row(title, *counts, *map(_share, stratum.metrics.values()))
    return table


def events_table(sheet: Sheet) -> Table:
    """Everything out of the ordinary, counted."""
    table = _table("what happened")
    table.add_column("what", overflow="fold")
    table.add_column("times", justify="right", no_wrap=True)
    for what, count in sheet.events.items():
        table.add_row(Text(visible(what)), str(count))
    return table


def _table(title: str) -> Table:
    return Table(
        title=Text(visible(title)),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        collapse_padding=True,
        pad_edge=False,
        show_edge=False,
    )


def _share(found: Interval) -> str:
    return f"{found.value:.3f} {found.low:.2f}-{found.high:.2f}"
