"""Training curves as pictures: one for each training data and tokenizer, never two in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from heed.analysis.cells import Cells
from heed.analysis.deltas import Row
from heed.analysis.figures import LINES, SERIES, Drawing, drawing_style, of_runs, rendered
from heed.analysis.markup import Markup, join, tag
from heed.analysis.script import FILTERED, while_filtered

POINTS = 60
"""Points of a curve at most: of a longer one, each is the mean of neighbouring steps."""

NAMED = 8
"""Curves up to so many are named one by one; of more, those that differ in their seed alone are
one name, of one look: dashes are the rate, colour is the rest."""

DASHES = (*LINES, (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (9, 3)), (0, (4, 1, 4, 3)))
"""Looks of lines, so many as rates can be told apart."""

RATE = ("lr", "lr.peak", "lr.name")
"""The axes that are the learning rate."""


def thinned(points: Sequence[Sequence[float]], most: int = POINTS) -> list[tuple[float, float]]:
    """Means of neighbouring points, so that no more than `most` are left.

    Example:
        >>> thinned([(1, 4.0), (2, 2.0), (3, 1.0)], most=2)
        [(1.5, 3.0), (3.0, 1.0)]
    """
    size = -(-len(points) // most) or 1
    parts = [points[at : at + size] for at in range(0, len(points), size)]
    return [(sum(p[0] for p in q) / len(q), sum(p[1] for p in q) / len(q)) for q in parts]


def loss_drawings(cells: Cells, losses: Sequence[Mapping[str, Any]]) -> list[Drawing]:
    """Draw the training curves, a figure for each group of data and tokenizer."""
    return [_drawing(cells, group, i) for i, group in enumerate(losses) if _known(cells, group)]


def losses_section(losses: Sequence[Mapping[str, Any]], drawings: Sequence[Drawing]) -> Markup:
    """The figures, and what may not be read from them; nothing where no curve is known."""
    if not drawings:
        return join()
    longest = max(len(run) for group in losses for run in group["runs"].values())
    note = (
        "Losses of different data or tokenizers are not comparable: each group has a figure and a "
        "scale of its own, and nothing here is ranked. A low loss is no good answer either. "
        "Dotted with circles: the loss on examples kept apart, where it was measured."
    )
    if longest > POINTS:
        note += " Of a long training, each point is the mean of neighbouring steps."
    file = tag("a", "losses.csv", href="losses.csv")
    title = tag("h2", "Training curves")
    shown = tag("div", *(d.shown(d.words) for d in drawings), class_="multiples")
    return join(title, tag("p", note, " ", file), while_filtered(FILTERED), shown)


def _known(cells: Cells, group: Mapping[str, Any]) -> list[Row]:
    return [row for row in cells.rows if group["runs"].get(row.run)]


def _drawing(cells: Cells, group: Mapping[str, Any], i: int) -> Drawing:
    rows = _known(cells, group)
    words = f"Trained on {group['data']}: {group['tokens']}."
    looks = _looks(cells, rows)
    names = list(dict.fromkeys(label for label, _, _ in looks))
    if len({look[1:] for look in looks}) < len(names):
        words += " Some curves share a look: the file has each apart."
    columns = 1 if max(map(len, names)) > 30 else 2
    with drawing_style():
        height = 3.3 + 0.18 * -(-len(names) // columns)
        figure = Figure(figsize=(4.9, max(4.0, height)), layout="constrained")
        axes: Any = figure.subplots()
        seen: set[str] = set()
        for row, (label, colour, line) in zip(rows, looks, strict=True):
            x, y = zip(*thinned(group["runs"][row.run]), strict=True)
            shown = {} if label in seen else {"label": label}
            seen.add(label)
            drawn = axes.plot(
                x, y, linestyle=line, color=colour, linewidth=1.1, alpha=0.85, **shown
            )
            if apart := group.get("validation", {}).get(row.run):
                x, y = zip(*apart, strict=True)
                drawn += axes.plot(x, y, ":o", color=colour, linewidth=1, markersize=3, alpha=0.85)
            of_runs(drawn, [row.run])
        axes.set_xlabel("optimiser step")
        axes.set_ylabel("loss (nats per token)")
        axes.grid(axis="y", linewidth=0.7)
        axes.set_axisbelow(True)
        figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=8.5)
        return rendered(figure, f"losses_{i}", words)


def _looks(cells: Cells, rows: Sequence[Row]) -> list[tuple[str, str, Any]]:
    """Name, colour and dashes of each curve."""
    rates = sorted({(row.lr_peak, row.lr) for row in rows})
    lines = [DASHES[rates.index((row.lr_peak, row.lr)) % len(DASHES)] for row in rows]
    if len(rows) <= NAMED:
        names = list(map(cells.label, rows))
        return list(zip(names, map(_colour, range(len(rows))), lines, strict=True))
    names = [cells.label(row, without=("seed",)) for row in rows]
    rest = [cells.label(row, without=("seed", *RATE)) for row in rows]
    places = list(dict.fromkeys(rest))
    return list(zip(names, (_colour(places.index(one)) for one in rest), lines, strict=True))


def _colour(place: int) -> str:
    return SERIES[place % len(SERIES)]


def losses_csv(cells: Cells, losses: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Head and lines of the file with every step of every curve."""
    head = ["data", "tokens", "run", "cell", "kind", "step", "nats_per_token"]
    lines: list[list[Any]] = [head]
    for group in losses:
        for row in _known(cells, group):
            what = [group["data"], group["tokens"], row.run, cells.label(row)]
            for kind, key in (("training", "runs"), ("validation", "validation")):
                points = group.get(key, {}).get(row.run, ())
                lines += [[*what, kind, step, loss] for step, loss in points]
    return lines
