"""Deltas by learning rate as pictures: one figure a student, one line a teacher."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from heed.analysis.deltas import Row, less_is_better, peak_text, shared

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, which people with any colour vision can tell apart."""

MARKERS = "osD^vPX"
LINES = ("-", "--", "-.", ":")

STYLE = {
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "svg.hashsalt": "heed",
}


def delta_by_rate(
    rows: Sequence[Row], student: str, metrics: Sequence[str], dpi: int = 144
) -> bytes:
    """Draw after - before against the learning rate, with paired intervals as bars.

    Args:
        rows: Cells of a study; those of other students only set the common scale.
        student: Whose cells are drawn.
        metrics: One panel each, `<task>/<metric>`.
        dpi: Dots per inch of the picture.

    Returns:
        A PNG; the same rows give the same bytes.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2 * len(metrics), 3.9), layout="constrained")
        panels = figure.subplots(1, len(metrics), squeeze=False)[0]
        for axes, metric in zip(panels, metrics, strict=True):
            _panel(axes, rows, student, metric)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
        figure.supxlabel(_caption(rows, student, metrics), fontsize=9, color="#444444")
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=dpi, metadata={"Software": None})
    return out.getvalue()


def _caption(rows: Sequence[Row], student: str, metrics: Sequence[str]) -> str:
    counts = []
    for metric in metrics:
        deltas = [row.delta(metric) for row in rows if row.student == student]
        items = sorted({delta.items for delta in deltas if delta})
        counts.append(f"{metric.partition('/')[0]}: n = {'/'.join(map(str, items))} items")
    level = shared(f"{row.level:.0%}" for row in rows)
    return f"Bars: {level} paired interval over items. {'; '.join(counts)}."


def _panel(axes: Any, rows: Sequence[Row], student: str, metric: str) -> None:
    series = sorted({(row.teacher, row.method) for row in rows})
    several = len({method for _, method in series}) > 1
    rates = [row.lr_peak for row in rows]
    step = max(1.05, (max(rates) / min(rates)) ** 0.02)
    axes.axhline(0, color="#555555", linewidth=1)
    for i, (teacher, method) in enumerate(series):
        cells = [r for r in rows if (r.student, r.teacher, r.method) == (student, teacher, method)]
        shift = step ** (i - (len(series) - 1) / 2)  # so that bars of two teachers do not overlap
        _line(axes, cells, metric, i, shift, f"{teacher}, {method}" if several else teacher)
    _rate_axis(axes, rows)
    axes.set_title(f"{student}: {metric}")
    better = "less is better" if less_is_better(rows, metric) else "more is better"
    axes.set_ylabel(f"after - before ({_unit(metric)})\n{better}")
    axes.set_ylim(*_limits(rows, metric))
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)


def _line(axes: Any, cells: Sequence[Row], metric: str, i: int, shift: float, label: str) -> None:
    """One series; the line goes through the mean over seeds, the bars are each seed's own."""
    points = [(row.lr_peak * shift, d) for row in cells if (d := row.delta(metric)) is not None]
    colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
    for x, delta in points:
        axes.plot([x, x], [delta.low, delta.high], color=colour, linewidth=1.6, alpha=0.75)
        axes.plot(x, delta.delta, marker=marker, color=colour, markersize=6, linestyle="none")
    rates = sorted({x for x, _ in points})
    means = [_mean([d.delta for at, d in points if at == x]) for x in rates]
    line = LINES[i % len(LINES)]
    axes.plot(rates, means, color=colour, linestyle=line, linewidth=1.2)
    axes.plot([], [], color=colour, linestyle=line, marker=marker, label=label)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _rate_axis(axes: Any, rows: Sequence[Row]) -> None:
    names: dict[float, list[str]] = {}
    for row in rows:
        if row.lr not in names.setdefault(row.lr_peak, []):
            names[row.lr_peak].append(row.lr)
    rates = sorted(names)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(rates))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    labels = [f"{peak_text(rate)}\n{' / '.join(names[rate])}" for rate in rates]
    axes.set_xticks(rates, labels)
    axes.set_xlim(rates[0] / 1.6, rates[-1] * 1.6)
    axes.set_xlabel("peak learning rate (dimensionless, log scale)")


def _limits(rows: Sequence[Row], metric: str) -> tuple[float, float]:
    """One scale for all students, so that their figures can be compared."""
    ends = [e for row in rows if (d := row.delta(metric)) for e in (d.low, d.high)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    pad = 0.06 * (high - low) or 0.01
    return low - pad, high + pad


def _unit(metric: str) -> str:
    return "share of items" if metric.endswith("acc") else "in the metric's unit"
