"""The response to the learning rate as pictures: one small figure a student, all to one scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from heed.analysis.cells import Cells
from heed.analysis.deltas import Row, less_is_better, peak_text, shared
from heed.analysis.figures import (
    INK,
    LINES,
    MARKERS,
    QUIET,
    SERIES,
    Drawing,
    drawing_style,
    file_name,
    of_runs,
    rendered,
    unit,
)

KNOWN = ("student", "teacher", "method", "lr", "lr.peak", "lr.name", "seed")
"""Axes that a figure shows by itself."""

TICKS = 5
"""Rates up to so many are named on the axis; of more, only some are, by their peaks."""

CURVE = "parabola, best and neighbours"
"""What the curve is called."""

SHORT = 22
"""Letters up to which two entries of a legend stand side by side."""


def rate_figures(
    rows: Sequence[Row],
    metric: str,
    rates: Sequence[Mapping[str, Any]] = (),
    beside: Sequence[str] = (),
) -> list[Drawing]:
    """Draw after - before of one metric against the learning rate, a figure for each student.

    Args:
        rows: Cells of a study.
        metric: `<task>/<metric>`.
        rates: What is known of the best rate for each student, teacher and method (`fit` with
            `curve`, `best`, `low` and `high`), drawn where its `metric` is this one.
        beside: Further axes, as `beside_of` gives them: cells that differ there are other lines.

    Returns:
        One drawing per student. All have the same scale, and a line joins the means over seeds.
    """
    drawn = [row for row in rows if row.delta(metric) is not None]
    students = list(dict.fromkeys(row.student for row in drawn))
    fits = [one for one in rates if one.get("fit") and one["metric"] == metric]
    prefix = "delta_by_rate" if any(row.primary == metric for row in rows) else "other_by_rate"
    return [
        _rate_figure(drawn, student, metric, (fits, beside), f"{prefix}_{file_name(student)}_{i}")
        for i, student in enumerate(students)
    ]


def beside_of(cells: Cells) -> list[str]:
    """The axes in which cells of one student, teacher, method and rate differ, but for the seed."""
    return [name for name in cells.varied if name not in KNOWN]


def _key(row: Row, beside: Sequence[str]) -> tuple[str, ...]:
    return (row.teacher, row.method, *(str(row.value(name)) for name in beside))


def _fits(
    rows: Sequence[Row], beside: Sequence[str], rates: Sequence[Mapping[str, Any]]
) -> dict[tuple[str, ...], Mapping[str, Any]]:
    """Line -> its fit: by the runs that were fitted to; where these are not told, by its names."""
    found = {}
    for one in rates:
        runs = (one.get("chosen") or {}).get("runs", ())
        names = (one["student"], one["teacher"], one["method"])
        for row in rows:
            if row.run in runs if runs else (row.student, row.teacher, row.method) == names:
                found[_key(row, beside)] = one["fit"]
    return found


def _rate_figure(
    rows: Sequence[Row],
    student: str,
    metric: str,
    told: tuple[Sequence[Mapping[str, Any]], Sequence[str]],
    name: str,
) -> Drawing:
    """Of one student; `told` are the rates with a fit, and the further axes."""
    rates, beside = told
    series: dict[tuple[str, ...], list[Row]] = {key: [] for key in _keys(rows, beside)}
    own = [row for row in rows if row.student == student]
    for row in own:
        series[_key(row, beside)].append(row)
    fits = _fits(own, beside, rates)
    with drawing_style():
        figure = Figure(layout="constrained")
        axes: Any = figure.subplots()
        axes.axhline(0, color=QUIET, linewidth=1)
        _series(axes, metric, series, fits, beside)
        _frame(axes, rows, metric, rates)
        axes.set_title(f"{student}: {metric}", fontsize=9.5)
        handles = axes.get_legend_handles_labels()[0] if len(series) > 1 or fits else []
        lines = _legend(figure, [*handles, *_proxies(list(fits.values()))])
        figure.set_size_inches(3.9, 2.9 + 0.2 * lines)
        return rendered(figure, name, f"Delta of {metric} by learning rate, student {student}.")


def _legend(figure: Any, handles: Sequence[Any]) -> int:
    """What lines and bands are, below the figure: side by side where the words are short.

    Returns:
        How many lines that takes.
    """
    if not handles:
        return 0
    columns = 2 if max(len(str(h.get_label())) for h in handles) <= SHORT else 1
    place = "outside lower center"
    figure.legend(handles=handles, loc=place, ncols=columns, frameon=False, fontsize=9)
    return -(-len(handles) // columns)


def _proxies(fits: Sequence[Mapping[str, Any]]) -> list[Any]:
    """What says of every fit, in no series' colour, what it is."""
    curve = Line2D([], [], color=QUIET, linewidth=2.6, alpha=0.6, label=CURVE)
    where = [
        Patch(color=QUIET, alpha=0.25, linewidth=0, label="where the top may be"),
        Line2D([], [], color=INK, linewidth=1, linestyle=":", label="top, a guess"),
    ]
    return [*([curve] if any(fit["curve"] for fit in fits) else ()), *(where if fits else ())]


def _keys(rows: Sequence[Row], beside: Sequence[str]) -> list[tuple[str, ...]]:
    return sorted({_key(row, beside) for row in rows})


def _series(
    axes: Any,
    metric: str,
    series: Mapping[tuple[str, ...], Sequence[Row]],
    fits: Mapping[tuple[str, ...], Mapping[str, Any]],
    beside: Sequence[str],
) -> None:
    several = len({key[1] for key in series}) > 1
    peaks = [row.lr_peak for own in series.values() for row in own]
    step = max(1.05, (max(peaks) / min(peaks)) ** 0.02)
    for i, (key, own) in enumerate(series.items()):
        if not own:
            continue
        shift = step ** (i - (len(series) - 1) / 2)  # so that bars of two teachers do not overlap
        further = [f"{n.rpartition('.')[2]} {v}" for n, v in zip(beside, key[2:], strict=True)]
        name = ", ".join([*key[: 1 + several], *further])
        _line(axes, own, metric, i, shift, name)
        if fit := fits.get(key):
            of_runs(_fit(axes, fit, i), [row.run for row in own])


def _line(axes: Any, cells: Sequence[Row], metric: str, i: int, shift: float, label: str) -> None:
    """One series; the line goes through the mean over seeds, the bars are each seed's own."""
    colour, marker = SERIES[i % len(SERIES)], MARKERS[i % len(MARKERS)]
    found: dict[float, list[tuple[str, Any]]] = {}
    for row in cells:
        found.setdefault(row.lr_peak, []).append((row.run, row.delta(metric)))
    for peak, deltas in found.items():
        for j, (run, delta) in enumerate(deltas):
            x = peak * shift * 1.05 ** (j - (len(deltas) - 1) / 2)  # seeds beside each other
            bar = axes.vlines(x, delta.low, delta.high, color=colour, linewidth=1.5, alpha=0.6)
            dot = axes.plot(x, delta.delta, marker, color=colour, markersize=4.5, alpha=0.8)
            of_runs([bar, *dot], [run])
    peaks = sorted(found)
    means = [sum(d.delta for _, d in found[peak]) / len(found[peak]) for peak in peaks]
    line, places = LINES[i % len(LINES)], [peak * shift for peak in peaks]
    mean = axes.plot(places, means, color=colour, linestyle=line, linewidth=1.6, label=label)
    of_runs(mean, [row.run for row in cells])


def _fit(axes: Any, fit: Mapping[str, Any], i: int) -> list[Any]:
    """The curve between the rates around the best one, and where its top may lie."""
    colour = SERIES[i % len(SERIES)]
    drawn: list[Any] = []
    if fit["curve"]:
        drawn += axes.plot(
            *zip(*fit["curve"], strict=True), color=colour, linewidth=2.6, alpha=0.45
        )
    if fit.get("low") is not None and fit.get("high") is not None:
        drawn += [axes.axvspan(fit["low"], fit["high"], color=colour, alpha=0.12, linewidth=0)]
    if fit.get("best") is not None:
        drawn += [axes.axvline(fit["best"], color=INK, linewidth=1, linestyle=":")]
    return drawn


def _frame(axes: Any, rows: Sequence[Row], metric: str, rates: Sequence[Mapping[str, Any]]) -> None:
    _rate_axis(axes, rows)
    better = "less is better" if less_is_better(rows, metric) else "more is better"
    axes.set_ylabel(f"after - before ({unit(metric)})\n{better}")
    axes.set_ylim(*_limits(rows, metric, rates))
    axes.grid(axis="y", linewidth=0.7)
    axes.set_axisbelow(True)


def _rate_axis(axes: Any, rows: Sequence[Row]) -> None:
    names: dict[float, list[str]] = {}
    for row in rows:
        if row.lr not in names.setdefault(row.lr_peak, []):
            names[row.lr_peak].append(row.lr)
    peaks = sorted(names)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(peaks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    every = -(-len(peaks) // TICKS)
    one_name = len({name for told in names.values() for name in told}) == 1 < len(peaks)
    told = {peak: [] if one_name else names[peak] for peak in peaks}
    labels = [_tick(peak, told[peak], place, every) for place, peak in enumerate(peaks)]
    axes.set_xticks(peaks, labels, fontsize=9)
    axes.set_xlim(peaks[0] / 1.6, peaks[-1] * 1.6)
    axes.set_xlabel("peak learning rate (log scale)")


def _tick(peak: float, names: Sequence[str], place: int, every: int) -> str:
    """A rate and its names, every other one lower, so that neighbours do not run together."""
    if every > 1:
        return peak_text(peak) if place % every == 0 else ""
    if not names:
        return peak_text(peak)
    return f"{peak_text(peak)}\n{chr(10) * (place % 2)}{' / '.join(names)}"


def _limits(
    rows: Sequence[Row], metric: str, rates: Sequence[Mapping[str, Any]]
) -> tuple[float, float]:
    """One scale for all students, so that their figures can be compared; fits are within it."""
    ends = [e for row in rows if (d := row.delta(metric)) for e in (d.low, d.high)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    fitted = [
        y for one in rates if one.get("fit") and one["metric"] == metric
        for _, y in one["fit"]["curve"]
    ]  # fmt: skip
    low, high = min([low, *fitted]), max([high, *fitted])
    pad = 0.06 * (high - low) or 0.01
    return low - pad, high + pad


def rate_note(rows: Sequence[Row], metric: str) -> str:
    """What bars and lines of these figures are."""
    items = sorted({d.items for row in rows if (d := row.delta(metric))})
    level = shared(f"{row.level:.0%}" for row in rows)
    seeds = shared(sorted({row.seed for row in rows}))
    return (
        f"Bars: each seed's {level} paired interval over {shared(items)} items (seed {seeds}); "
        f"lines: the mean of what was run at a rate. All students are drawn to the same scale."
    )
