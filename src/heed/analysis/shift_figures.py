"""Token shift as pictures: shares of positions, and how the two students part along a response."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from heed.analysis.figures import COLOURS, STYLE
from heed.analysis.shift_numbers import CATEGORIES

FILLS = {"unshifted": "#B9C4CF", "marginal": "#E69F00", "shifted": "#D55E00"}
HATCHES = {"unshifted": "", "marginal": "//", "shifted": "xx"}
"""So that colour is never the only carrier."""

PANELS = {
    "KL (nats)": ("kl_base_tuned", "kl_tuned_base"),
    "base probability of the tuned choice": ("probability",),
    "base rank of the tuned choice": ("rank",),
}
LABELS = {"kl_base_tuned": "KL(base || tuned)", "kl_tuned_base": "KL(tuned || base)"}


def shares_figure(parts: Mapping[str, Any], labels: Mapping[str, str], dpi: int = 144) -> bytes:
    """Draw the shares of unshifted, marginal and shifted positions, a bar for each part.

    Args:
        parts: As `heed.analysis.shift_numbers.summary_of` gives them.
        labels: Part -> how it is called.
        dpi: Dots per inch.

    Returns:
        A PNG; the same numbers give the same bytes.
    """
    drawn = [name for name in labels if parts[name]["unshifted"] is not None]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 1.1 + 0.42 * len(drawn)), layout="constrained")
        axes: Any = figure.subplots()
        left = [0.0] * len(drawn)
        for kind in CATEGORIES:
            shares = [parts[name][kind]["value"] for name in drawn]
            axes.barh(
                range(len(drawn)), shares, left=left, height=0.62, label=kind,
                color=FILLS[kind], hatch=HATCHES[kind], edgecolor="#ffffff", linewidth=0.5,
            )  # fmt: skip
            for row, (start, share) in enumerate(zip(left, shares, strict=True)):
                if share > 0.045:
                    axes.text(
                        start + share / 2, row, f"{share:.1%}", ha="center", va="center",
                        fontsize=9, bbox={"facecolor": "#ffffff", "pad": 1.2, "edgecolor": "none"},
                    )  # fmt: skip
            left = [start + share for start, share in zip(left, shares, strict=True)]
        axes.set_yticks(range(len(drawn)), [labels[name] for name in drawn])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of positions")
        figure.legend(loc="outside upper center", ncols=3, frameon=False)
        return _png(figure, dpi)


def curves_figure(curves: Mapping[str, Sequence[Any]], dpi: int = 144) -> bytes:
    """Draw KL, base probability and base rank along the response, intervals as bands.

    Args:
        curves: Measure -> mean with interval in each piece of a response, None for empty ones.
        dpi: Dots per inch.

    Returns:
        A PNG; the same numbers give the same bytes.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12.6, 3.4), layout="constrained")
        panels = figure.subplots(1, len(PANELS))
        for axes, (title, names) in zip(panels, PANELS.items(), strict=True):
            for i, name in enumerate(names):
                _curve(axes, curves[name], COLOURS[i], "-" if i == 0 else "--", LABELS.get(name))
            axes.set_title(title)
            axes.set_xlim(0, 1)
            axes.set_ylim(0, 1 if names == ("probability",) else None)
            axes.set_xlabel("place in the response, 0 to 1")
            axes.grid(axis="y", color="#dddddd", linewidth=0.7)
            if len(names) > 1:
                axes.legend(frameon=False, fontsize=9)
        return _png(figure, dpi)


def _curve(axes: Any, curve: Sequence[Any], colour: str, line: str, label: str | None) -> None:
    pieces = [((i + 0.5) / len(curve), found) for i, found in enumerate(curve) if found is not None]
    x = [place for place, _ in pieces]
    low, value, high = ([found[k] for _, found in pieces] for k in ("low", "value", "high"))
    axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(x, value, line, color=colour, linewidth=1.6, marker="o", markersize=3, label=label)


def _png(figure: Figure, dpi: int) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=dpi, metadata={"Software": None})
    return out.getvalue()
