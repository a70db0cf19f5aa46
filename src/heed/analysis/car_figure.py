"""Reward against loss, a point a teacher, with lines along which CAR is the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from heed.analysis.car import car
from heed.analysis.figures import INK, PAPER, QUIET, SERIES, Drawing, drawing_style, rendered

LINES = 6
"""Lines of equal CAR."""

AROUND = [(dx, dy) for r in (1.0, 1.7, 2.6, 3.8, 5.2) for dx, dy in (
    (1, 0), (-1, 0), (0, 1), (0, -1), (0.8, 0.8), (-0.8, 0.8), (0.8, -0.8), (-0.8, -0.8)
) for dx, dy in ((dx * r, dy * r),)]  # fmt: skip
"""Where a name may stand beside its point, in steps, the nearest first."""

STEP = 9.0
"""Points of a step."""


def car_figure(
    teachers: Sequence[Mapping[str, Any]], beta: float, labels: Mapping[str, str]
) -> Drawing:
    """Draw teachers by loss and reward, with intervals, names and lines of equal CAR.

    Args:
        teachers: As `heed.analysis.car_summary.summary_of` gives them; those without a reward are
            left out.
        beta: Weight of the loss.
        labels: What stands at the axes: `loss` and `reward`.
    """
    with drawing_style():
        figure, _ = _drawn(teachers, beta, labels)
        words = (
            f"Mean reward against loss on the untuned student of each teacher; lines join points "
            f"of equal CAR at beta {beta:g}."
        )
        return rendered(figure, "reward_by_loss", words)


def places(
    teachers: Sequence[Mapping[str, Any]], beta: float, labels: Mapping[str, str]
) -> list[Bbox]:
    """Where the names stand in the figure, in dots; arguments of `car_figure`."""
    with drawing_style():
        return _drawn(teachers, beta, labels)[1]


def _drawn(
    teachers: Sequence[Mapping[str, Any]], beta: float, labels: Mapping[str, str]
) -> tuple[Figure, list[Bbox]]:
    drawn = [one for one in teachers if one["metrics"]["car"] is not None]
    figure = Figure(figsize=(9.6, 7.4), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    for place, one in enumerate(drawn):
        _point(axes, one, SERIES[0] if place else SERIES[1])
    axes.set_xlabel(labels["loss"])
    axes.set_ylabel(labels["reward"])
    axes.margins(0.16, 0.1)
    _same_car(axes, [one["metrics"]["car"]["value"] for one in drawn], beta)
    axes.grid(linewidth=0.6)
    axes.set_axisbelow(True)
    canvas.draw()
    figure.set_layout_engine("none")  # names are placed in a frame that stays as it is
    return figure, _names(axes, canvas.get_renderer(), drawn)


def point_of(one: Mapping[str, Any]) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Loss and reward of a teacher, each `value low high`: the reward as CAR takes it."""
    metrics = one["metrics"]
    return metrics["loss"], metrics.get("reward_taken", metrics["reward"])


def _point(axes: Any, one: Mapping[str, Any], colour: str) -> None:
    loss, reward = point_of(one)
    x, y = loss["value"], reward["value"]
    axes.plot([loss["low"], loss["high"]], [y, y], color=colour, linewidth=1, alpha=0.45)
    axes.plot([x, x], [reward["low"], reward["high"]], color=colour, linewidth=1, alpha=0.45)
    axes.plot(x, y, marker="o", color=colour, markersize=5)


def reward_at(value: float, loss: Any, beta: float) -> Any:
    """The reward that makes a CAR of such a value at a loss: value (1 + beta loss).

    Example:
        >>> round(reward_at(0.2, 2.0, 1.0), 3)
        0.6
    """
    return value / car(1.0, loss, beta)


def _same_car(axes: Any, values: Sequence[float], beta: float) -> None:
    """Lines r = CAR (1 + beta L) through the range of what was found, each with its value."""
    low, high = axes.get_xlim()
    bottom, top = axes.get_ylim()
    x = np.array([low, high])
    spread = max(values) - min(values)
    at = np.linspace(min(values), max(values), LINES) if spread > 0 else np.array([values[0]])
    side: dict[str, Any]
    for level in at:
        y = reward_at(level, x, beta)
        axes.plot(x, y, color=QUIET, linewidth=0.8, linestyle="--", alpha=0.7)
        if bottom < y[1] < top:
            place, side = (high, y[1]), {"xytext": (3, 0), "va": "center"}
        elif y[0] < top <= y[1]:  # it leaves the axes above
            across = low + (high - low) * (top - y[0]) / (y[1] - y[0])
            place, side = (across, top), {"xytext": (0, 3), "ha": "center", "rotation": 30}
        else:
            continue
        axes.annotate(
            f"CAR {level:.3g}", place, textcoords="offset points", fontsize=8.5, color=QUIET,
            annotation_clip=False, **side,
        )  # fmt: skip
    axes.set_xlim(low, high)
    axes.set_ylim(bottom, top)


def _names(axes: Any, renderer: Any, drawn: Sequence[Mapping[str, Any]]) -> list[Bbox]:
    """Names beside their points, each where it covers the least of what is there already."""
    scale = axes.figure.dpi / 72
    values = [tuple(side["value"] for side in point_of(one)) for one in drawn]
    points = axes.transData.transform(values)
    taken = [
        Bbox.from_bounds(x - 4 * scale, y - 4 * scale, 8 * scale, 8 * scale) for x, y in points
    ]
    dots = len(taken)
    frame, data = axes.get_window_extent(renderer), axes.transData.inverted()
    for one, (x, y) in zip(drawn, points, strict=True):
        text = axes.text(0, 0, one["name"], fontsize=8.5)
        size = text.get_window_extent(renderer)
        text.remove()
        steps, best = min(
            ((place, _box(x, y, place, (size.width, size.height), scale)) for place in AROUND),
            key=lambda found: _covered(found[1], taken, frame),
        )
        middle = ((best.x0 + best.x1) / 2, (best.y0 + best.y1) / 2)
        arrow = {"arrowstyle": "-", "color": QUIET, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 2}
        axes.annotate(
            one["name"], data.transform((x, y)), xytext=data.transform(middle), fontsize=8.5,
            color=INK, ha="center", va="center", textcoords="data",
            arrowprops=arrow if max(map(abs, steps)) > 1 else None,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.4, "alpha": 0.75},
        )  # fmt: skip
        taken.append(best)
    return taken[dots:]


def _box(
    x: float, y: float, place: tuple[float, float], size: tuple[float, float], scale: float
) -> Bbox:
    """The frame of a name that stands so many steps beside its point."""
    dx, dy = place
    width, height = size
    middle_x = x + dx * STEP * scale + np.sign(dx) * width / 2
    middle_y = y + dy * STEP * scale + np.sign(dy) * height / 4
    return Bbox.from_bounds(middle_x - width / 2, middle_y - height / 2, width, height)


def _covered(box: Bbox, taken: Sequence[Bbox], frame: Bbox) -> float:
    """How much of what is there a frame would cover, and how far it leaves the axes."""
    covered = sum(_shared(box, other) for other in taken)
    return covered + 4 * (box.width * box.height - _shared(box, frame))


def _shared(one: Bbox, two: Bbox) -> float:
    """Area that two frames share; matplotlib's own way takes a hundred times as long."""
    width = min(one.x1, two.x1) - max(one.x0, two.x0)
    height = min(one.y1, two.y1) - max(one.y0, two.y0)
    return float(max(0.0, width) * max(0.0, height))
