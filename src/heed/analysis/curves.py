"""Metrics over the steps of a training as one picture: a panel a metric, intervals as bars."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

from heed.analysis.figures import COLOURS, STYLE

if TYPE_CHECKING:
    from heed.analysis.forgetting import Curve

ACROSS = 3
"""Panels side by side."""


def curves(found: Sequence[Curve], level: float, dpi: int = 144) -> bytes:
    """Draw every metric against the optimiser step, beside its value before any step.

    Args:
        found: One panel each.
        level: Coverage of the intervals.
        dpi: Dots per inch of the picture.

    Returns:
        A PNG; the same curves give the same bytes.
    """
    columns = min(ACROSS, len(found))
    rows = -(-len(found) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.3 * columns, 3.1 * rows + 0.3), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes, curve in zip(panels, found, strict=False):
            _panel(axes, curve)
        for axes in panels[len(found) :]:
            axes.set_axis_off()
        note = (
            f"Dashed: the untuned student (step 0). Bars: where the dashed line and the paired "
            f"{level:.0%} interval of the change put the value."
        )
        figure.supxlabel(note, fontsize=9, color="#444444")
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=dpi, metadata={"Software": None})
    return out.getvalue()


def _panel(axes: Any, curve: Curve) -> None:
    base = curve.base.value
    values = [base, *(point.here.value for point in curve.points)]
    steps = [0, *(point.step for point in curve.points)]
    axes.axhline(base, color="#555555", linewidth=1, linestyle="--")
    for point in curve.points:
        ends = [base + point.change.low, base + point.change.high]
        axes.plot([point.step, point.step], ends, color=COLOURS[0], linewidth=1.6)
    axes.plot(steps, values, color=COLOURS[0], marker="o", markersize=5)
    axes.set_title(curve.metric)
    better = "less is better" if curve.less_is_better else "more is better"
    axes.set_ylabel(better)
    axes.set_xlabel("optimiser step")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
