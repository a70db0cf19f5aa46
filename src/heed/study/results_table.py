"""The table that ends a sweep: what each finished cell scored, beside the controls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from heed.analysis.best_control import NOT_RECORDED, best_control, lacking, reached_lines
from heed.analysis.cells import Cells, table_axes
from heed.analysis.confounds import OTHER_CODE, other_code_line
from heed.analysis.deltas import Row, beside_line, holm_line, row_of, signed
from heed.core.manifest import code_state, same_code

NUMBERS = ("before\nafter", "delta", "after - best\ncontrol", "verdict\nflags")
"""Columns after the names that tell cells apart; names are folded where these need the width."""


def result_table(results: Sequence[Mapping[str, Any]], keys: Iterable[str] = ()) -> Table:
    """A line per finished cell with the verdict on the primary metric, and what it differs in.

    Below it, how many verdicts are left if their number is allowed for, what each control reaches,
    the echo apart, and which cells were made by another state of heed's code.

    Args:
        results: `result.json` of each, in the order in which they are shown.
        keys: Config groups and keys in which they may differ by intent.
    """
    rows = [row_of(result) for result in results]
    cells = Cells(tuple(rows), tuple(table_axes(keys)), {})
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.title, table.title_justify = "results on the primary metric", "left"
    for name in (*cells.heads, *NUMBERS):
        table.add_column(name, no_wrap=name in NUMBERS, overflow="fold")
    lines = [
        holm_line(rows),
        beside_line(rows),
        *reached_lines(row.beside for row in rows),
        other_code_line(rows),
    ]
    table.caption = Text("\n".join(filter(None, lines)))
    table.caption_justify = "left"
    for row in rows:
        table.add_row(*(Text(text) for text in _line(row, cells)))
    return table


def _line(row: Row, cells: Cells) -> list[str]:
    delta = row.decisive
    flags = (
        [f"flags {NOT_RECORDED}"] if row.flags is None else [f"⚑ {f['kind']}" for f in row.flags]
    )
    if not same_code(row.code, code_state()):
        flags.append(OTHER_CODE)
    kinds = dict.fromkeys(flags)
    return [
        *(cells.value(row, name) for name in cells.names),
        f"{delta.before:.3f}\n{delta.after:.3f}",
        _two_lines(signed(delta.delta), delta.low, delta.high),
        _over_control(row),
        "\n".join((delta.verdict, *kinds)),
    ]


def _two_lines(first: str, low: float, high: float) -> str:
    return f"{first}\n[{signed(low)}, {signed(high)}]"


def _over_control(row: Row) -> str:
    """The tuned student minus the best control, by name; below, its metric if it is another."""
    best = best_control(row.beside.get("controls"))
    if best is None:
        return lacking(row.beside)
    delta: Mapping[str, Any] = best.deltas["after"]
    other = "" if best.metric == row.primary else f"\non {best.metric}"
    first = f"{signed(delta['delta'])} {best.control}"
    return _two_lines(first, delta["low"], delta["high"]) + other
