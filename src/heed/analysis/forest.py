"""Every cell's delta as one picture, a line each: what lies on which side of zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from heed.analysis.cells import Cells, home
from heed.analysis.deltas import Row, less_is_better, shared
from heed.analysis.figures import INK, QUIET, Drawing, drawing_style, of_runs, rendered, unit
from heed.analysis.style import LIGHT
from heed.core.types import Verdict

LOOKS: dict[Verdict, tuple[str, str]] = {
    "helped": (LIGHT["gain"], "^"),
    "hurt": (LIGHT["loss"], "v"),
    "unchanged": (LIGHT["quiet"], "s"),
    "cannot tell": (LIGHT["edge"], "o"),
}
"""Verdict -> colour and marker: colour is never the only carrier."""

LINE, EDGES = 0.2, 0.95
"""Height of a line, and of what stands above and below all, in inches."""

WIDEST = 58
"""Letters of a label at most."""


def forest(cells: Cells) -> Drawing:
    """Draw the primary delta of each cell with its interval, grouped by the first axis.

    Args:
        cells: At least one. Cells of another primary metric are left out and counted in the words.
    """
    metric = cells.rows[0].primary
    rows = [row for row in cells.rows if row.primary == metric]
    places = _places(cells, rows)
    height = EDGES + LINE * (max(places) + 1)
    labels = [_short(cells.label(row)) for row in rows]
    left = 0.25 + 0.072 * max(map(len, labels))
    width = left + 5.6
    with drawing_style():
        figure = Figure(figsize=(width, height))
        place = (left / width, 0.55 / height, 5.4 / width, 1 - EDGES / height)
        axes: Any = figure.add_axes(place)
        axes.axvline(0, color=INK, linewidth=1)
        for verdict, (colour, marker) in LOOKS.items():
            own = [
                (y, r) for y, r in zip(places, rows, strict=True) if r.decisive.verdict == verdict
            ]
            _points(axes, own, colour, marker, verdict)
        for y, label, row in zip(places, labels, rows, strict=True):
            _label(axes, y, label, row.run, cells.pages.get(row.run, home(row)))
        axes.set_yticks(places, [""] * len(places))
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_ylim(max(places) + 0.7, -0.7)
        better = "less is better" if less_is_better(rows, metric) else "more is better"
        axes.set_xlabel(f"{metric}: after - before ({unit(metric)}; {better})")
        axes.grid(axis="x", linewidth=0.7)
        axes.set_axisbelow(True)
        figure.legend(loc="upper right", ncols=4, frameon=False, fontsize=9)
        level = shared(f"{row.level:.0%}" for row in rows)
        words = f"Delta of {metric} of {len(rows)} cells with {level} intervals."
        if others := len(cells.rows) - len(rows):
            words += f" {others} cells with another primary metric are left out."
        return rendered(figure, "forest", words, dpi=110)


def _places(cells: Cells, rows: Sequence[Row]) -> list[float]:
    """Heights of the lines, with a gap wherever the first name changes."""
    first, places, y = cells.names[0], [], 0.0
    for i, row in enumerate(rows):
        if i and row.value(first) != rows[i - 1].value(first):
            y += 0.8
        places.append(y)
        y += 1
    return places


def _points(
    axes: Any, found: Sequence[tuple[float, Row]], colour: str, marker: str, label: str
) -> None:
    if not found:
        return
    filled = "none" if label == "cannot tell" else colour
    look = {"color": colour, "markerfacecolor": filled, "markersize": 5, "linestyle": "none"}
    for y, row in found:
        delta = row.decisive
        of_runs(axes.hlines(y, delta.low, delta.high, color=colour, linewidth=1.8), [row.run])
        of_runs(axes.plot(delta.delta, y, marker, **look), [row.run])
    axes.plot([], [], marker, **look, label=label)


def _short(label: str) -> str:
    return label if len(label) <= WIDEST else label[: WIDEST - 1] + "…"


def _label(axes: Any, y: float, label: str, run: str, link: str) -> None:
    """A cell beside its line, leading to its page, else to its run's folder."""
    text = axes.text(
        -0.015, y, label, transform=axes.get_yaxis_transform(),
        ha="right", va="center", fontsize=9, color=QUIET,
    )  # fmt: skip
    text.set_url(link)
    of_runs(text, [run])
