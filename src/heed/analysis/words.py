"""A rate, a delta and a verdict as they are written on every page."""

from __future__ import annotations

from heed.analysis.deltas import Row, peak_text, signed
from heed.analysis.markup import Markup, tag
from heed.analysis.panel import SYMBOLS
from heed.core.types import Delta, Verdict


def rate(row: Row) -> str:
    """A learning rate by name and peak."""
    return f"{row.lr} ({peak_text(row.lr_peak)})"


def interval(delta: Delta) -> str:
    """A delta with its interval."""
    return f"{signed(delta.delta)} [{signed(delta.low)}, {signed(delta.high)}]"


def pill(verdict: Verdict) -> Markup:
    """A verdict as word, sign and colour."""
    kind = verdict.replace(" ", "-")
    return tag("span", f"{SYMBOLS[verdict]} {verdict}", class_=f"verdict {kind}")


def bar(delta: Delta, scale: float, width: int = 96) -> Markup:
    """The interval as a small picture; zero is in the middle, the scale the same in all rows."""

    def x(value: float) -> str:
        return f"{width / 2 * (1 + 0.94 * value / scale):.1f}"

    middle = width / 2
    zero = tag("line", x1=middle, x2=middle, y1=1, y2=15, class_="zero")
    span = tag("line", x1=x(delta.low), x2=x(delta.high), y1=8, y2=8, class_="span")
    dot = tag("circle", cx=x(delta.delta), cy=8, r=3)
    kind = delta.verdict.replace(" ", "-")
    words = tag("title", interval(delta))
    return tag("svg", words, zero, span, dot, width=width, height=16, class_=f"bar {kind}")
