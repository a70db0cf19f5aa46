"""Which learning rate is best, chosen on one half of the prompts and reported on the other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from heed.analysis.best_control import NOT_RECORDED
from heed.analysis.cells import Cells
from heed.analysis.deltas import peak_text, signed
from heed.analysis.markup import Markup, join, table, tag, value

NOTE = (
    "The best of several rates looks better than it is on the prompts that it was chosen on. So "
    "it is chosen on one half of the prompts (by their keys), and its delta is that of the other. "
    "Both halves come from the same trained seeds, so that a lucky seed is in both of them. The "
    "top between the rates is a guess: that of the parabola (in the logarithm of the rate) through "
    "the best one and its two neighbours, which a neighbour on a cliff pulls away from itself. Its "
    "interval only takes for granted that responses rise to one top and fall after it: it reaches "
    "from the rate below the best one to the one above, over resampled items and, of several "
    "seeds, seeds. Rates are compared on the seeds that all of them have finished. Of one seed, "
    "all intervals are about items alone."
)

COLUMNS = (
    "student", "teacher", "method", "within", "chosen rate", "delta where it was chosen",
    "delta on the other half [interval]", "seeds", "top between the rates", "beware", "metric",
)  # fmt: skip
RARE = ("within", "beware")
"""Columns that are only there where some line has something in them."""


def rates_table(rates: Sequence[Mapping[str, Any]], cells: Cells) -> Markup:
    """A line per student, teacher and method; nothing where none had several rates to try."""
    if not any(len(one["peaks"]) > 1 for one in rates):
        return join()
    lines = [_line(one, cells) for one in rates]
    columns = [name for name in COLUMNS if name not in RARE or any(line[name] for line in lines)]
    rows = [
        cells.several([line[name] for name in columns], _runs(one, cells))
        for one, line in zip(rates, lines, strict=True)
    ]
    file = tag("a", "rates.csv", href="rates.csv")
    title = tag("h3", "The best rate, chosen on one half of the prompts")
    return join(title, tag("p", NOTE, " ", file), table(columns, rows, id="rates"))


def edge_warnings(rates: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each best rate that lies on the edge of those that were tried."""
    found = []
    for one in rates:
        context = [one["context"]] if one.get("context") else []
        name = ", ".join([one["student"], one["teacher"], one["method"], *context])
        for subject, edge in _edges(one):
            further = "lower" if edge == "lowest" else "higher"
            told = f"{subject} the {edge} that was tried, so a {further} one may be better still."
            found.append(f"{name}: {told}")
    return found


def _edges(one: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is at an edge of the rates that were tried, and which edge."""
    best = [("the best rate is", one["edge"])] if one.get("edge") else []
    ends = (one.get("fit") or {}).get("edges", ())
    return best + [("the top may be", end) for end in ends]


def _line(one: Mapping[str, Any], cells: Cells) -> dict[str, Any]:
    which = [one["student"], one["teacher"], one["method"], one.get("context", "")]
    choice = [*_choice(one, cells), value(one.get("seeds", NOT_RECORDED))]
    rest = [_best(one), _beware(one), one["metric"]]
    return dict(zip(COLUMNS, [*which, *choice, *rest], strict=True))


def _runs(one: Mapping[str, Any], cells: Cells) -> list[str]:
    """The cells of these rates; of numbers that do not say them, all that are named alike."""
    if "runs" in one:
        return list(one["runs"])
    which = [one[name] for name in ("student", "teacher", "method")]
    return [row.run for row in cells.rows if [row.student, row.teacher, row.method] == which]


def _choice(one: Mapping[str, Any], cells: Cells) -> list[Any]:
    chosen, reported = one.get("chosen"), one.get("reported")
    if not chosen:
        return ["not known", "", ""]
    said = f"{chosen['name']} ({peak_text(chosen['peak'])})"
    name = tag("td", cells.runs(said, chosen.get("runs", ())), data_value=chosen["peak"])
    items = tag("small", f"{chosen['items']} prompts")
    where = value(join(signed(chosen["delta"]), " ", items), chosen["delta"])
    if not reported:
        return [name, where, ""]
    ends = f"[{signed(reported['low'])}, {signed(reported['high'])}] {reported['items']} prompts"
    after = value(join(signed(reported["delta"]), " ", tag("small", ends)), reported["delta"])
    return [name, where, after]


def _best(one: Mapping[str, Any]) -> Any:
    fit, peaks = one.get("fit"), one["peaks"]
    if not fit or fit.get("best") is None:
        return "not known"
    shown: list[Any] = [peak_text(fit["best"])]
    if fit.get("low") is not None and fit.get("high") is not None:
        low = f"{peak_text(fit['low'])}{' or lower' if _at(fit['low'], peaks[0]) else ''}"
        high = f"{peak_text(fit['high'])}{' or higher' if _at(fit['high'], peaks[-1]) else ''}"
        shown.append(tag("small", f"[{low}, {high}]"))
    if fit.get("outside") is not None:
        text = f"{fit['outside']:.1%} of resamples: at an edge"
        shown.append(tag("small", text))
    return value(join(*shown), fit["best"])


def _at(rate: float, end: float) -> bool:
    """Whether a rate is the last that was tried, where an interval is cut."""
    return math.isclose(rate, end, rel_tol=1e-9)


def _beware(one: Mapping[str, Any]) -> Any:
    said = [tag("div", f"⚑ {subject} the {edge} that was tried") for subject, edge in _edges(one)]
    if one.get("without"):
        said.append(tag("div", f"⚑ without seeds {', '.join(one['without'])}: not of every rate"))
    said += [tag("div", one["reason"])] if one.get("reason") else []
    return tag("td", *said, class_="wrap") if said else ""


def rates_csv(rates: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Head and lines of the file with the same numbers: a line per rate that was tried."""
    head = ["student", "teacher", "method", "metric", "lr", "lr_peak", "mean_delta", "chosen"]
    head += ["chosen_delta", "chosen_items", "reported_delta", "reported_low", "reported_high"]
    head += ["reported_items", "edge", "fit_best", "fit_low", "fit_high", "outside", "reason"]
    head += ["seeds", "context", "fit_edge"]
    lines: list[list[Any]] = [list(head)]
    for one in rates:
        which = [one[name] for name in ("student", "teacher", "method", "metric")]
        chosen, fit = one.get("chosen") or {}, one.get("fit") or {}
        reported = one.get("reported") or {}
        ends = [fit.get(name, "") for name in ("best", "low", "high", "outside")]
        for peak, name, mean in zip(one["peaks"], one["names"], one["means"], strict=True):
            here = (peak, name) == (chosen.get("peak"), chosen.get("name"))
            numbers = [chosen.get(k, "") if here else "" for k in ("delta", "items")]
            numbers += [
                reported.get(k, "") if here else "" for k in ("delta", "low", "high", "items")
            ]
            told = [one.get("edge") or "", *ends, one.get("reason") or ""]
            told += [one.get("seeds", ""), one.get("context", ""), ";".join(fit.get("edges", ()))]
            lines.append([*which, name, peak, mean, int(here), *numbers, *told])
    return lines
