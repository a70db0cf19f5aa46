"""A number that an analysis found of one run, as a table of several runs holds it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from heed.analysis.car_summary import share_text
from heed.analysis.deltas import signed

Kind = Literal["share", "nats", "change", "step"]
"""`share`: of 1, shown in percent; `nats`; `change`: in the unit of its metric, shown with its
sign; `step`: an optimiser step, infinite where it never came."""

UNITS: dict[Kind, str] = {"share": "%", "nats": "nats", "change": "", "step": ""}
NOT_KNOWN = "not known"

PLACES = 12
"""Decimals to which a sum of shares may miss what it would be without rounding."""


@dataclass(frozen=True)
class Number:
    """One number of a run.

    Attributes:
        kind: What kind of number, which says how it is shown.
        value: None where it is not known; infinite: a step that never came.
        low: Lower end of its interval; None where it has none.
        high: Upper end.
        part: What it is told of, if an analysis tells of many things: a metric, say. A table may
            leave out parts that no run has anything to say about.
        hurt: Whether this part was surely hurt in this run.
        more: What a run does that has more of it than another, as a verb: `shifts more tokens`.
            Empty where no sentence is to be made of it.
    """

    kind: Kind
    value: float | None
    low: float | None = None
    high: float | None = None
    part: str = ""
    hurt: bool = False
    more: str = ""

    def __post_init__(self) -> None:
        for value in (self.value, self.low, self.high):
            if value is not None and not self._fits(value):
                raise ValueError(f"{value!r} is no {self.kind}.")

    def _fits(self, value: float) -> bool:
        if isinstance(value, bool):
            return False
        if self.kind == "step":
            return value >= 0  # infinite: it never came
        if self.kind == "share":
            return 0 <= round(value, PLACES) <= 1
        return math.isfinite(value)

    @property
    def main(self) -> str:
        """The value alone, without its unit."""
        return NOT_KNOWN if self.value is None else shown(self.kind, self.value)

    @property
    def ends(self) -> str:
        """Its interval; empty where it has none."""
        if self.low is None or self.high is None:
            return ""
        return f"[{shown(self.kind, self.low)}, {shown(self.kind, self.high)}]"

    @property
    def text(self) -> str:
        """All of it.

        Example:
            >>> Number("share", 0.5, 0.25, 0.75).text, Number("step", math.inf).text
            ('50.0 % [25.0, 75.0]', 'never')
        """
        unit = "" if self.value is None else UNITS[self.kind]
        return " ".join(filter(None, (self.main, unit, self.ends)))


def measured(kind: Kind, found: Mapping[str, Any] | None, **more: Any) -> Number:
    """A number from a recorded interval (`value`, `low`, `high`); of None, one that is not known.

    Raises:
        KeyError: an end is not recorded.
        TypeError: what is recorded is no number.
        ValueError: it is none of its kind.
    """
    if found is None:
        return Number(kind, None, **more)
    value, low, high = (found[name] for name in ("value", "low", "high"))
    return Number(kind, value, low, high, **more)


def shown(kind: Kind, value: float) -> str:
    """A number of a kind as a text, without its unit; what shows as zero has no sign.

    Example:
        >>> shown("share", 0.1314), shown("nats", 1.2426), shown("step", math.inf)
        ('13.1', '1.243', 'never')
        >>> shown("share", 0.9996), shown("nats", -0.00001)
        ('more than 99.9', '0.000')
    """
    if kind == "step":
        return "never" if math.isinf(value) else f"{value:g}"
    if kind == "change":
        return signed(value)
    if kind == "share":
        return share_text(round(value, PLACES) + 0.0, 1).removesuffix(" %")
    text = f"{value:.3f}"
    return "0.000" if text == "-0.000" else text


def difference(kind: Kind, value: float) -> str:
    """A difference of two numbers of a kind, with its sign.

    Example:
        >>> difference("share", 0.0891), difference("share", -0.0001), difference("nats", 0.5)
        ('+8.9', '0.0', '+0.500')
    """
    if kind == "step":
        return f"{value:+g}"
    if kind != "share":
        return signed(value)
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text
