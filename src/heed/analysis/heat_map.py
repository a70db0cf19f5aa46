"""Which types of instructions changed in which cells: a table of shades, and the same as a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from heed.analysis.cells import Cells
from heed.analysis.deltas import Row
from heed.analysis.figures import PAPER, Drawing, drawing_style, rendered
from heed.analysis.markup import Markup, join, spaced, table, tag
from heed.analysis.style import LIGHT, SHADES

FULL = 0.5
"""The change that has the full shade."""

FEW = 20
"""A type with fewer prompts is said to have few."""

INCHES = 0.07
"""Of a letter of the picture's small type, at most on average."""


def heat_map(cells: Cells, types: Mapping[str, Any], drawing: Drawing | None) -> Markup:
    """The change of each instruction type in each cell; nothing where none is known.

    Args:
        cells: Of the study.
        types: `metric`, `names` (the types) and `rows`: run id -> type -> before, after, items.
        drawing: The same as a picture, for its files.
    """
    rows = _known(cells, types)
    if not rows:
        return join()
    names = list(types["names"])
    lines = [
        cells.titled(row, [_shade(types["rows"][row.run].get(name)) for name in names])
        for row in rows
    ]
    metric = types["metric"]
    missing = len(cells.rows) - len(rows)
    note = (
        f"{metric}: after - before for each type of instruction, in hundredths. Point at a number "
        f"for its values and the count of prompts. {parts_line(rows, types)}"
    )
    note = f"{note.rstrip()} {_few(rows, types)}No interval is given for a single type."
    if missing:
        note += f" {missing} of {len(cells.rows)} cells have no values by type."
    files = [tag("a", "types.csv", href="types.csv")]
    if drawing is not None:
        names_ = ("png", "svg")
        files += [tag("a", k.upper(), href=f"figures/{drawing.name}.{k}") for k in names_]
    shown = table(["cell", *names], lines, id="types", class_="heat fixed")
    title = tag("h2", "Change by type of instruction")
    return join(title, tag("p", note, " ", *spaced(files)), shown)


def parts_line(rows: Sequence[Row], types: Mapping[str, Any]) -> str:
    """Which type of instruction makes the most of the change; empty where nothing changed.

    Args:
        rows: Of the study's cells.
        types: As `heat_map` has it. A type's part is its change times its prompts.
    """
    known = [found for row in rows if (found := types.get("rows", {}).get(row.run))]
    each = [{n: (after - before) * items for n, (before, after, items) in f.items()} for f in known]
    sizes = {name: sum(abs(one.get(name, 0.0)) for one in each) for name in types.get("names", ())}
    largest = max(sizes, key=lambda name: sizes[name], default="")
    if not sizes.get(largest):
        return ""
    own = sum(one.get(largest, 0.0) for one in each) / len(each)
    others = sum(sum(one.values()) for one in each) / len(each) - own
    first = sum(max(one, key=lambda n: abs(one[n])) == largest for one in each)
    return (
        f"By type of instruction, {largest} makes the largest part of the change: {own:+.1f} "
        f"prompts a cell on average, all other types together {others:+.1f}; it is "
        f"the largest in {first} of {len(each)} cells."
    )


def _few(rows: Sequence[Row], types: Mapping[str, Any]) -> str:
    """How many types were asked for by few prompts, as a sentence with a space behind it."""
    found = [types["rows"][row.run] for row in rows]
    few = sum(min((f[n][2] for f in found if n in f), default=FEW) < FEW for n in types["names"])
    said = f"{few} of {len(types['names'])} types have fewer than {FEW} prompts. "
    return said if few else ""


def _known(cells: Cells, types: Mapping[str, Any]) -> list[Row]:
    return [row for row in cells.rows if types.get("rows", {}).get(row.run)]


def _shade(found: Sequence[float] | None) -> Markup:
    """One number with its shade; a type that a cell was not asked for is empty."""
    if found is None:
        return tag("td", "")
    before, after, items = found
    change = after - before
    step = min(SHADES, round(SHADES * abs(change) / FULL))
    kind = {"class_": f"{'g' if change > 0 else 'l'}{step}"} if step else {}
    words = f"{before:.3f} → {after:.3f}, {items:g} prompts"
    shown = f"{round(100 * change):+d}" if round(100 * change) else "0"
    return tag("td", shown, title=words, data_value=f"{change:.4f}", **kind)


def heat_drawing(cells: Cells, types: Mapping[str, Any]) -> Drawing | None:
    """The same as a picture; None where nothing is known."""
    rows = _known(cells, types)
    if not rows:
        return None
    names = list(types["names"])
    found = [[types["rows"][row.run].get(name) for name in names] for row in rows]
    values = [[float("nan") if f is None else f[1] - f[0] for f in line] for line in found]
    below = 0.3 + INCHES * max(map(len, names))
    height = 0.3 + below + 0.2 * len(rows)
    with drawing_style():
        figure = Figure(figsize=(4.4 + 0.3 * len(names), height))
        width = figure.get_size_inches()[0]
        place = (3.6 / width, below / height, 1 - 4.4 / width, 0.2 * len(rows) / height)
        axes: Any = figure.add_axes(place)
        ends = [LIGHT["loss"], PAPER, LIGHT["gain"]]
        shades = LinearSegmentedColormap.from_list("change", ends)
        image = axes.imshow(values, cmap=shades, vmin=-FULL, vmax=FULL, aspect="auto")
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
        axes.set_yticks(range(len(rows)), [cells.label(row)[:52] for row in rows], fontsize=8)
        beyond = any(abs(value) > FULL for line in values for value in line)
        ends_ = "both" if beyond else "neither"
        bar = figure.colorbar(image, ax=axes, pad=0.01, fraction=0.03, extend=ends_)
        bar.set_label(f"{types['metric']}: after - before", fontsize=8)
        return rendered(figure, "types", "Change by type of instruction in every cell.", dpi=110)


def types_csv(cells: Cells, types: Mapping[str, Any]) -> list[list[Any]]:
    """Head and lines of the file with the same numbers: one a cell and type."""
    lines: list[list[Any]] = [["run", "cell", "metric", "type", "before", "after", "items"]]
    for row in _known(cells, types):
        for name in types["names"]:
            if (found := types["rows"][row.run].get(name)) is not None:
                lines.append([row.run, cells.label(row), types["metric"], name, *found])
    return lines
