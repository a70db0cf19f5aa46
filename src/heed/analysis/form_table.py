"""The form of the answers of every cell, before and after tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heed.analysis.beside import FORM_NAMES, UNKNOWN
from heed.analysis.best_control import NOT_RECORDED
from heed.analysis.cells import Cells
from heed.analysis.deltas import Row
from heed.analysis.markup import Markup, join, table, tag, value
from heed.analysis.sections import meanings

BOTH = ("before", "after")


def form_table(cells: Cells) -> Markup:
    """A line per cell: the share of each kind of answer, before → after; nothing without a form."""
    known = [row for row in cells.rows if _models(row) is not None]
    if not known:
        return join()
    lines = [cells.line(row, _entries(_models(row) or {})) for row in known]
    columns = [*cells.heads, *FORM_NAMES.values(), "median words", "run"]
    note = "Share of answers of each form, before → after tuning."
    missing = len(cells.rows) - len(known)
    if missing:
        note += f" Of {missing} of {len(cells.rows)} cells no form is recorded."
    said = meanings(known[0].beside["form"]) if "meanings" in known[0].beside["form"] else join()
    title = tag("h2", "Form of the answers")
    return join(title, tag("p", note), table(columns, lines, id="forms"), said)


def _models(row: Row) -> Mapping[str, Any] | None:
    """Who -> the form of its answers, of the task that decides the verdict."""
    form = row.beside.get("form")
    found = form and form["tasks"].get(row.primary.partition("/")[0])
    return found if found and all(who in found for who in BOTH) else None


def _entries(models: Mapping[str, Any]) -> list[Any]:
    shares = [_pair([_share(models[who], kind) for who in BOTH], kind) for kind in FORM_NAMES]
    words = [models[who]["median_words"] for who in BOTH]
    return [*shares, value(" → ".join(f"{found:g}" for found in words), words[1])]


def _share(model: Mapping[str, Any], kind: str) -> float | None:
    judged = model["judged"].get(kind, 0)
    return model["counts"].get(kind, 0) / judged if judged else None


def _pair(shares: list[float | None], kind: str) -> Markup:
    unknown = UNKNOWN.get(kind, NOT_RECORDED)
    if shares == [None, None]:
        return value(unknown)
    told = " → ".join(unknown if share is None else f"{share:.1%}" for share in shares)
    return value(told, shares[1])
