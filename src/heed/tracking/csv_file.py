"""The CSV mirror: the metrics as one table for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from heed.core.component import component
from heed.core.files import append_line, write_text
from heed.tracking.tracker import OWN, Ending, Mirror, Mirrored, whole_rows

FILE = "metrics.csv"
"""The table's name in the run directory."""


class Table:
    """A CSV file with one line for each step, in order; a new kind of metric is a new column.

    A row of a step that is there already is added to it. A row of an earlier one means that a
    training goes on from before it: what was written of that step and of later ones goes.

    Args:
        path: Of the file; one that is there is gone on with, but for a last line that is torn.
    """

    def __init__(self, path: Path):
        self.path = path
        self.columns = ["step"]
        self.rows: dict[int, dict[str, str]] = {}
        self.held: int | None = None  # the step that is not written yet: more may come of it
        self.stale = True  # whether the file must be written anew rather than added to
        if path.is_file():
            self._read(path.read_text(encoding="utf-8"))

    def add(self, row: Mapping[str, Any]) -> None:
        """Take a row; the file gets it with the first row of another step, or by `flush`."""
        step, last = int(row["step"]), max(self.rows, default=-1)
        if step < last:
            self.rows = {number: kept for number, kept in self.rows.items() if number < step}
            self.held, self.stale = None, True
        elif step > last:
            self.flush()
        self.stale = self.stale or (step in self.rows and self.held != step)
        self.rows.setdefault(step, {}).update({key: _cell(row[key]) for key in row})
        self.held = step
        if new := [key for key in row if key not in self.columns]:
            self.columns += new
            self.stale = True

    def fill(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add what the table lacks of rows, and write it: its last step may have been lost."""
        for row in rows:
            cells = self.rows.setdefault(int(row["step"]), {})
            cells |= {key: _cell(row[key]) for key in row if not cells.get(key)}
            self.columns += [key for key in row if key not in self.columns]
        self.rows = dict(sorted(self.rows.items()))
        write_text(self.path, self._lines([*self.rows.values()], header=True))
        self.stale = False

    def flush(self) -> None:
        """Bring the file to what was added."""
        if self.held is not None and self.stale:
            write_text(self.path, self._lines([*self.rows.values()], header=True))
        elif self.held is not None:
            append_line(self.path, self._lines([self.rows[self.held]]).rstrip("\n"))
        self.stale = self.stale and self.held is None
        self.held = None

    def _read(self, text: str) -> None:
        whole, _, torn = text.rpartition("\n")
        header, *lines = [*csv.reader(whole.splitlines())] or [["step"]]
        self.columns, self.stale = header, bool(torn)
        for line in lines:
            row = dict(zip(header, line, strict=True))
            self.rows[int(row["step"])] = row

    def _lines(self, rows: Iterable[Mapping[str, str]], *, header: bool = False) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if header:
            writer.writerow(self.columns)
        writer.writerows([row.get(column, "") for column in self.columns] for row in rows)
        return text.getvalue()


def _cell(value: Any) -> str:
    """A value as a cell, on one line; nothing for what is not known."""
    return "" if value is None else " ".join(str(value).split())


@component
class CSV(Mirror):
    """Write `metrics.csv` in the run directory: one line a step, every metric a column."""

    @cached_property
    def _open(self) -> dict[str, Table]:
        """The table of the run that is followed."""
        return {}

    def begin(self, run: Mirrored) -> None:
        """Open the table, or go on with it; what it lacks of the run's own rows is added."""
        table = self._open["table"] = Table(run.directory / FILE)
        if (run.directory / OWN).is_file():
            table.fill(whole_rows(run.directory / OWN))

    def send(self, row: Mapping[str, Any]) -> None:
        """Add a row."""
        self._open["table"].add(row)

    def end(self, ending: Ending) -> None:
        """Write what is left."""
        self._open.pop("table").flush()
