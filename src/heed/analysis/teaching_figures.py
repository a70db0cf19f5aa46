"""Delta against what was known before: a small figure for each student and metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from heed.analysis.deltas import signed
from heed.analysis.figures import (
    MARKERS,
    QUIET,
    SERIES,
    Drawing,
    drawing_style,
    file_name,
    rendered,
)
from heed.analysis.teaching_page import word

DRAWN = ("car", "reward", "loss")
"""Metrics that are drawn."""

NAMED = 6
"""Teachers up to so many are named in the figure; more are numbered, as in the table of all."""


def teaching_drawings(teaching: Mapping[str, Any] | None) -> list[Drawing]:
    """Draw the deltas of every teacher against its CAR, reward and loss.

    Args:
        teaching: As `heed.analysis.teaching_page.teaching_section` takes it.
    """
    if not teaching or "reason" in teaching:
        return []
    metrics = [name for name in DRAWN if name in teaching["mean"]]
    return [
        _drawing(one, metrics, i, teaching.get("outcome", "delta"))
        for i, one in enumerate(teaching["students"])
        if metrics
    ]


def _drawing(student: Mapping[str, Any], metrics: Sequence[str], i: int, outcome: str) -> Drawing:
    rows = student["teachers"]
    words = f"Delta of {outcome} by {', '.join(map(word, metrics))}: student {student['name']}."
    with drawing_style():
        figure = Figure(figsize=(3.2 * len(metrics) + 0.6, 3.5), layout="constrained")
        every: Any = figure.subplots(1, len(metrics), sharey=True, squeeze=False)
        for place, (metric, axes) in enumerate(zip(metrics, every[0], strict=True)):
            colour, marker = SERIES[place], MARKERS[place]
            x = [row["metrics"][metric] for row in rows]
            lows, highs = [row["low"] for row in rows], [row["high"] for row in rows]
            axes.vlines(x, lows, highs, color=colour, linewidth=1.2, alpha=0.5)
            axes.plot(x, [row["delta"] for row in rows], marker, color=colour, markersize=4.5)
            axes.set_xlabel(word(metric) + (" (nats)" if metric == "loss" else ""))
            rho = student["rhos"][metric]["teachers"]
            axes.set_title("no order" if rho is None else f"rho {signed(rho['value'])}")
            axes.grid(linewidth=0.6)
            axes.set_axisbelow(True)
            axes.margins(x=0.12)
            for number, row in enumerate(rows, start=1):
                axes.annotate(
                    row["teacher"] if len(rows) <= NAMED else number,
                    (row["metrics"][metric], row["delta"]), xytext=(3, 3),
                    textcoords="offset points", fontsize=6.5, color=QUIET,
                )  # fmt: skip
        every[0][0].set_ylabel(f"{student['name']}: delta of\n{outcome}", fontsize=9)
        return rendered(figure, f"teaching_{file_name(student['name'])}_{i}", words)
