"""Which learning rate is best, chosen on one half of the prompts and reported on the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heed.analysis.cells import Cells
from heed.analysis.deltas import peak_text, signed
from heed.analysis.markup import Markup, join, line, table, tag, value

NOTE = (
    "The best of several rates looks better than it is on the prompts that it was chosen on. So "
    "it is chosen on one half of the prompts (by their keys), and its delta is that of the other."
)


def rates_table(rates: Sequence[Mapping[str, Any]], cells: Cells) -> Markup:
    """A line per student, teacher and method; nothing where none had several rates to try."""
    if not any(len(one["peaks"]) > 1 for one in rates):
        return join()
    columns = ["student", "teacher", "method", "chosen rate", "delta where it was chosen"]
    columns += [
        "delta on the other half [interval]",
        "best of the fitted curve",
        "beware",
        "metric",
    ]
    file = tag("a", "rates.csv", href="rates.csv")
    title = tag("h3", "The best rate, chosen on one half of the prompts")
    shown = table(columns, [_line(one, cells) for one in rates], id="rates")
    return join(title, tag("p", NOTE, " ", file), shown)


def edge_warnings(rates: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each best rate that lies on the edge of those that were tried."""
    found = []
    for one in rates:
        if edge := one.get("edge"):
            further = "lower" if edge == "lowest" else "higher"
            found.append(
                f"{one['student']}, {one['teacher']}, {one['method']}: the best rate is the "
                f"{edge} that was tried, so a {further} one may be better still."
            )
    return found


def _line(one: Mapping[str, Any], cells: Cells) -> Markup:
    which = [one["student"], one["teacher"], one["method"]]
    return line([*which, *_choice(one, cells), _best(one.get("fit")), _beware(one), one["metric"]])


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


def _best(fit: Mapping[str, Any] | None) -> Any:
    if not fit or fit.get("best") is None:
        return "not known"
    shown: list[Any] = [peak_text(fit["best"])]
    if fit.get("low") is not None and fit.get("high") is not None:
        shown.append(tag("small", f"[{peak_text(fit['low'])}, {peak_text(fit['high'])}]"))
    if fit.get("outside") is not None:
        text = f"{fit['outside']:.0%} of resamples: at or beyond an edge"
        shown.append(tag("small", text))
    return value(join(*shown), fit["best"])


def _beware(one: Mapping[str, Any]) -> Markup:
    edge = tag("div", f"⚑ the {one['edge']} that was tried") if one.get("edge") else ""
    return join(edge, tag("div", one["reason"]) if one.get("reason") else "")


def rates_csv(rates: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Head and lines of the file with the same numbers: a line per rate that was tried."""
    head = ["student", "teacher", "method", "metric", "lr", "lr_peak", "mean_delta", "chosen"]
    head += ["chosen_delta", "chosen_items", "reported_delta", "reported_low", "reported_high"]
    head += ["reported_items", "edge", "fit_best", "fit_low", "fit_high", "outside", "reason"]
    lines: list[list[Any]] = [list(head)]
    for one in rates:
        which = [one[name] for name in ("student", "teacher", "method", "metric")]
        chosen, fit = one.get("chosen") or {}, one.get("fit") or {}
        reported = one.get("reported") or {}
        ends = [fit.get(name, "") for name in ("best", "low", "high", "outside")]
        for peak, name, mean in zip(one["peaks"], one["names"], one["means"], strict=True):
            here = peak == chosen.get("peak")
            numbers = [chosen.get(k, "") if here else "" for k in ("delta", "items")]
            numbers += [
                reported.get(k, "") if here else "" for k in ("delta", "low", "high", "items")
            ]
            told = [one.get("edge") or "", *ends, one.get("reason") or ""]
            lines.append([*which, name, peak, mean, int(here), *numbers, *told])
    return lines
