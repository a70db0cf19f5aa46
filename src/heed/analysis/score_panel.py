"""The tables that end a scoring: metrics with intervals, groups and types, what happened."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from heed.analysis.beside import stratum_columns, stratum_values
from heed.analysis.panel import show_beside, show_flags
from heed.analysis.scores import Sheet, short_metric
from heed.core.console import visible
from heed.core.types import Interval


def show_scores(console: Console, sheet: Sheet) -> None:
    """Print a scoring: readable on 80 columns."""
    console.print(metrics_table(sheet))
    console.print()
    if sheet.flags:
        show_flags(console, sheet.flags)
    show_beside(console, sheet.controls, sheet.form)
    for task in sheet.strata:
        console.print(strata_table(task, sheet))
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


def strata_table(task: str, sheet: Sheet) -> Table:
    """A line per group, followed by its types without the group's name.

    The last columns are what the controls reach on the first metric. Beside them only that metric
    has its interval here, so that a line fits into 80 columns; the page has all.
    """
    strata = sheet.strata[task]
    first = next(iter(strata[0].metrics))
    told = "instructions followed" if "inst_level_strict_acc" in strata[0].metrics else "its parts"
    table = _table(f"{task}: {told}, {sheet.level:.0%} interval over prompts")
    table.add_column("group, type", no_wrap=True)
    controls = stratum_columns(sheet.controls, task, first)
    heads = ("n" if controls else "prompts", "asked", *map(short_metric, strata[0].metrics))
    for name in (*heads, *controls):
        table.add_column(name, justify="right", no_wrap=True)
    for stratum in strata:
        short = visible(stratum.name.removeprefix(f"{stratum.group}:"))
        indent = " " if controls else "  "
        title = Text(indent + short) if stratum.name else Text(visible(stratum.group), "bold")
        counts = (str(stratum.items), str(stratum.asked))
        beside = stratum_values(sheet.controls, task, (stratum.group, stratum.name), first)
        one, *others = stratum.metrics.values()
        rest = [f"{found.value:.3f}" if controls else _share(found) for found in others]
        table.add_row(title, *counts, _share(one), *rest, *beside)
    if controls:
        table.caption = f"n: prompts; {', '.join(controls)}: what these controls reach on {first}"
        table.caption_justify = "left"
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
