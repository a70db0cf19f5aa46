"""What all tables of a study's page know of its cells: which are which, and where each is found."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from heed.analysis.confounds import code_groups, varying_settings
from heed.analysis.deltas import AXES, Row, peak_text, signed
from heed.analysis.markup import Markup, join, line, tag
from heed.analysis.verdict_page import PLACE


@dataclass(frozen=True)
class Cells:
    """The finished cells of a study, in the order in which they are shown.

    Attributes:
        rows: One per cell.
        axes: The studied ones, in the words of the table.
        pages: Run id -> where its page is, seen from the study's page; only pages that exist.
    """

    rows: tuple[Row, ...]
    axes: tuple[str, ...]
    pages: Mapping[str, str]

    @cached_property
    def names(self) -> list[str]:
        """The columns that tell these cells apart."""
        return [a for a in self._every if a == "student" or a in self.varied]

    @cached_property
    def _every(self) -> list[str]:
        return list(dict.fromkeys([*AXES, *self.axes]))

    @cached_property
    def varied(self) -> list[str]:
        """The axes on which these cells have more than one value."""
        return [a for a in self._every if len({self.value(r, a) for r in self.rows}) > 1]

    def value(self, row: Row, name: str) -> str:
        """A cell's value on an axis as text; of a learning rate, its peak too.

        Two rates of one name and two peaks are two, unless the peak is an axis of its own.
        """
        if name == "lr" and "lr.peak" not in self.axes:
            return f"{row.lr} ({peak_text(row.lr_peak)})"
        return str(row.value(name))

    @cached_property
    def facts(self) -> dict[str, list[str]]:
        """All in which two cells may differ, axes first: name -> the value of each cell."""
        found = {name: [self.value(row, name) for row in self.rows] for name in self.varied}
        groups = code_groups(self.rows)
        if len(groups) > 1:
            codes = {row.run: group[0].code for group in groups for row in group}
            found["heed's code"] = [codes[row.run] for row in self.rows]
        for name in varying_settings(self.rows, self.axes):
            found[name] = [str(row.settings.get(name, "not set")) for row in self.rows]
        return found

    @cached_property
    def heads(self) -> list[str]:
        """The heads of these columns."""
        return ["learning rate" if name == "lr" else name for name in self.names]

    @cached_property
    def common(self) -> str:
        """A sentence with what all cells have in common; may be empty."""
        rest = [name for name in self._every if name not in self.names]
        common = [f"{name} {self.rows[0].value(name)}" for name in rest]
        return f"The same in all cells: {', '.join(common)}." if common else ""

    @cached_property
    def _place(self) -> dict[str, int]:
        return {row.run: place for place, row in enumerate(self.rows)}

    def line(self, row: Row, entries: Sequence[Any], names: Sequence[str] | None = None) -> Markup:
        """A row of a table about one cell: what it is, the entries, and a link to its run.

        Args:
            row: The cell.
            entries: What stands between.
            names: The columns that say which cell it is; None: all that tell cells apart.
        """
        which = [self.entry(row, name) for name in (self.names if names is None else names)]
        return line([*which, *entries, run_link(row)], data_cell=self._place[row.run])

    def several(self, entries: Sequence[Any], ids: Sequence[str]) -> Markup:
        """A row of a table about several cells: shown as long as one of these is.

        Args:
            entries: Of the row.
            ids: Of the runs; where none of them is known, the row is never hidden.
        """
        places = " ".join(str(self._place[run]) for run in ids if run in self._place)
        return line(entries, **({"data_cells": places} if places else {}))

    def titled(self, row: Row, entries: Sequence[Any]) -> Markup:
        """A row of a table whose first entry is the cell in a few words, leading to its run."""
        name = tag("a", self.label(row), href=self.pages.get(row.run, home(row)), title=row.run)
        return line([name, *entries], data_cell=self._place[row.run])

    def entry(self, row: Row, name: str) -> Any:
        """A cell's value on an axis; a learning rate by name with its peak below it."""
        if name == "lr":
            peak = tag("small", f"({peak_text(row.lr_peak)})")
            return tag("td", row.lr, " ", peak, data_value=f"{row.lr_peak:.6g}")
        return row.value(name)

    def page_link(self, row: Row, shown: Any) -> Any:
        """Something of a cell, leading to the page with its verdict where there is one."""
        page = self.pages.get(row.run)
        return tag("a", shown, href=page) if page else shown

    def runs(self, shown: Any, ids: Sequence[str]) -> Any:
        """Something of several cells, unfolding to links to their runs; alone where none is."""
        known = [self.rows[self._place[run]] for run in ids if run in self._place]
        if not known:
            return shown
        links = [tag("div", run_link(row), " ", self.label(row)) for row in known]
        return tag("details", tag("summary", shown), *links, class_="runs")

    def label(self, row: Row, without: Sequence[str] = ()) -> str:
        """A cell in as few words as tell it from the others.

        Args:
            row: The cell.
            without: Axes that are not named.
        """
        return ", ".join(self._said(row, name) for name in self.names if name not in without)

    def _said(self, row: Row, name: str) -> str:
        """A cell's value on an axis, with the axis where the value alone does not say it."""
        if name in ("student", "teacher", "method", "lr"):
            return self.value(row, name)
        return f"{name.rpartition('.')[2]} {row.value(name)}"


def table_axes(keys: Iterable[str]) -> list[str]:
    """Config groups and keys in the words of a table: noise and weights are a part of the method.

    Example:
        >>> table_axes(["model", "noise", "method", "data.limit"])
        ['student', 'method', 'data.limit']
    """
    named = {"model": "student", "noise": "method", "weights": "method"}
    return list(dict.fromkeys(named.get(key, key) for key in keys))


def cells_of(rows: Sequence[Row], axes: Sequence[str], directory: Path) -> Cells:
    """The cells as a page in `directory` shows them.

    Args:
        rows: The finished cells.
        axes: The studied axes.
        directory: Where the page will be.
    """
    pages = {}
    for row in rows:
        suite = row.suite.rpartition(" (")[0]
        place = f"{home(row)}scores/{suite}/{PLACE}"
        if os.path.isfile(os.path.normpath(directory / place)):  # the directory may not be yet
            pages[row.run] = place
    return Cells(tuple(rows), tuple(axes), pages)


def home(row: Row) -> str:
    """Where a run is, seen from the study's page."""
    return f"../../{row.directory}/"


def run_link(row: Row) -> Markup:
    """A run's id, leading to its folder."""
    return tag("a", tag("code", row.run), href=home(row), title=row.name)


def two_lines(first: Any, low: float, high: float) -> Markup:
    """A number, and its interval in small type below it."""
    return join(first, " ", tag("small", f"[{signed(low)}, {signed(high)}]"))
