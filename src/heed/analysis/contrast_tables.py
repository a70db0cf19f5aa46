"""What differs, all else equal: the contrasts of a study as a table and as a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heed.analysis.cells import Cells
from heed.analysis.deltas import signed
from heed.analysis.markup import Markup, join, table, tag, value

LOOKS = {"differs": "unchanged", "no difference shown": "cannot-tell"}
"""Verdict of a contrast -> its look: neither is a gain or a loss, for two cells are compared."""

NOTE = (
    "Delta of the second minus delta of the first, over cells that are equal in all else, items "
    "resampled together. Where no two cells differ in an axis alone, no number can be put down to "
    "it, and none is given: the axes that change with it are named. Of one seed, the interval is "
    "about the choice of items alone. Not corrected for the number of contrasts."
)


def contrasts_table(
    contrasts: Sequence[Mapping[str, Any]], cells: Cells, reason: str = ""
) -> Markup:
    """A line for each two values of an axis; the ones that cannot be told apart say from what.

    Contrasts within single settings, which are parts of these, unfold.

    Args:
        contrasts: As `heed.analysis.contrasts.contrasts` gives them, each with its `metric`.
        cells: Of the study.
        reason: Why there are none, or none on a metric, if that is to be said.
    """
    title = tag("h2", "What differs, all else equal")
    why = tag("p", reason) if reason else join()
    if not contrasts:
        return join(title, why) if reason else join()
    whole = [one for one in contrasts if not one.get("part")]
    parts = [one for one in contrasts if one.get("part")]
    file = tag("a", "contrasts.csv", href="contrasts.csv")
    shown = [_table(whole, cells, "contrasts")] if whole else []
    if parts:
        said = tag("summary", f"The same within single settings: {len(parts)}")
        shown.append(tag("details", said, _table(parts, cells, "contrasts-within")))
    return join(title, tag("p", NOTE, _not_shown(contrasts), " ", file), why, *shown)


def _table(contrasts: Sequence[Mapping[str, Any]], cells: Cells, name: str) -> Markup:
    """A line for each; the settings have a column where one of these has some."""
    within = any(one.get("context") or one.get("without") for one in contrasts)
    columns = ["axis", "first", "second", *(["within"] if within else [])]
    columns += ["second - first [interval]", "reads as", "pairs of cells", "seeds", "metric"]
    return table(columns, [_line(one, cells, within) for one in contrasts], id=name)


def _not_shown(contrasts: Sequence[Mapping[str, Any]]) -> str:
    """That there are contrasts within single settings beside these; empty where there are none."""
    number = max((one.get("parts_left_out", 0) for one in contrasts), default=0)
    return f" {number} contrasts within single settings are not shown." if number else ""


def contrasts_line(contrasts: Sequence[Mapping[str, Any]]) -> str:
    """How many contrasts of one axis alone differ, a sentence a metric; empty where there are none.

    Contrasts within one of several settings are parts of these, and counted apart.
    """
    metrics = dict.fromkeys(one["metric"] for one in contrasts)
    counted = {name: _counted([c for c in contrasts if c["metric"] == name]) for name in metrics}
    told = {name: text for name, text in counted.items() if text}
    if len(told) == 1:
        return "".join(f"Of {text}." for text in told.values())
    return " ".join(f"On {name}, of {text}." for name, text in told.items())


def _counted(contrasts: Sequence[Mapping[str, Any]]) -> str:
    """How many contrasts on one metric differ; empty where there are none."""
    whole = [one for one in contrasts if not one.get("part")]
    parts = [one for one in contrasts if one.get("part")]
    told = [one for one in whole if one["pairs"]]
    if not whole:
        return ""
    differ = sum(one["verdict"] == "differs" for one in told)
    word = "differs" if differ == 1 else "differ"
    line = f"{len(told)} contrasts with all else equal {differ} {word}"
    if parts:
        inside = sum(one["verdict"] == "differs" for one in parts)
        line += f" ({inside} of {len(parts)} within single settings)"
    apart = len(whole) - len(told)
    return f"{line}; {apart} cannot be told apart from another axis" if apart else line


def also_text(names: Sequence[str]) -> str:
    """The axes that change with the one that is asked about, as words."""
    return " and ".join(names) or "a combination of the other axes"


def _line(one: Mapping[str, Any], cells: Cells, within: bool) -> Markup:
    which = [one["axis"], one["one"], one["two"], *([_within(one)] if within else [])]
    ids = one.get("runs", ())
    pairs = cells.runs(one["pairs"], ids if one["pairs"] else ())
    rest = [value(pairs, one["pairs"]), value(one.get("seeds", "")), one["metric"]]
    if not one["pairs"]:
        said = tag("strong", f"⚑ cannot be told apart from {also_text(one['also'])}")
        return cells.several([*which, tag("td", ""), said, *rest], ids)
    ends = tag("small", f"[{signed(one['low'])}, {signed(one['high'])}]")
    number = value(join(signed(one["difference"]), " ", ends), one["difference"])
    kind = LOOKS.get(one["verdict"], "cannot-tell")
    said = tag("span", one["verdict"], class_=f"verdict {kind}")
    return cells.several([*which, number, said, *rest], ids)


def _within(one: Mapping[str, Any]) -> Any:
    """The setting that a contrast is of, and those that a mean leaves out for lack of its seeds."""
    context = one.get("context", "")
    if not one.get("without"):
        return context
    left_out = f"⚑ without {'; '.join(one['without'])} (other seeds)"
    return join(context, tag("div", left_out))


def contrasts_csv(contrasts: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Head and lines of the file with the same numbers; what is not known is left empty."""
    head = ["axis", "one", "two", "context", "metric", "pairs", "seeds"]
    head += ["difference", "low", "high", "verdict"]
    lines: list[list[Any]] = [[*head, "also", "part", "without"]]
    for one in contrasts:
        also = ";".join(map(str, one.get("also") or ()))
        without = ";".join(one.get("without") or ())
        numbers = [one.get(name, "") for name in head]
        lines.append([*numbers, also, int(bool(one.get("part"))), without])
    return lines
