"""What a study asks for, and what of it the ledger already has."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.markup import escape
from rich.table import Table

from heed.core.compose import compose_component
from heed.core.errors import ConfigError
from heed.core.identity import short_hash
from heed.study.also import holds_beside
from heed.study.bases import baseline_directory
from heed.study.cell import Cell
from heed.study.ledger import latest
from heed.study.show import detectable_line
from heed.study.study import Study

State = Literal["done", "missing", "failed"]


@dataclass(frozen=True)
class PlannedCell:
    """One cell of a study.

    Attributes:
        overrides: As typed after `python train.py`.
        cell: The checked cell.
        key: (run id, suite hash), as in the ledger.
        baseline: Directory of the scores before tuning, shared with other cells.
    """

    overrides: tuple[str, ...]
    cell: Cell
    key: tuple[str, str]
    baseline: Path

    @property
    def command(self) -> str:
        """The line that runs just this cell."""
        return shlex.join(["python", "train.py", *self.overrides])


def plan_study(study: Study, conf: Path, outputs: str) -> list[PlannedCell]:
    """Check and identify every cell.

    Raises:
        ConfigError: with the mistakes of all cells, each once.
    """
    cells: list[PlannedCell] = []
    mistakes: dict[Any, None] = {}
    for overrides in study.cells():
        line = (*overrides, f"outputs={outputs}")
        try:
            cell = compose_component(conf, "train", line)
        except ConfigError as error:
            mistakes |= dict.fromkeys(error.mistakes)
            continue
        key = (cell.run.id, short_hash(cell.suite))
        baseline = baseline_directory(cell.model, cell.suite, cell.root)
        cells.append(PlannedCell(line, cell, key, baseline))
    if mistakes:
        raise ConfigError(list(mistakes))
    return cells


def states(cells: list[PlannedCell], root: Path) -> list[State]:
    """Whether the ledger has each cell's result, with all that its suite asks for.

    A result without the second prompting that is wanted is missing: the cell's command adds it.

    Raises:
        DataError: a task's data is missing.
    """
    known = latest(root)
    found: list[State] = []
    for planned in cells:
        entry = known.get(planned.key)
        state: State = "missing" if entry is None else entry["event"]
        if entry is not None and state == "done" and not holds_beside(planned.cell.suite, entry):
            state = "missing"
        found.append(state)
    return found


def plan_table(study: Study, cells: list[PlannedCell], found: list[State]) -> Table:
    """The plan as a table, a line per cell; below it, how small a delta each suite can show."""
    missing = len(cells) - found.count("done")
    table = Table(title=f"study {study.name}: {len(cells)} cells, {missing} to run")
    for column in ("", "student", "teacher", "method", "lr", "peak", "seed", "run"):
        table.add_column(column)
    for planned, state in zip(cells, found, strict=True):
        cell = planned.cell
        names = [cell.model.name, cell.teacher.name, cell.method.label, cell.lr.name]
        table.add_row(state, *names, f"{cell.lr.peak:g}", str(cell.seed), planned.key[0])
    suites = {planned.key[1]: planned.cell.suite for planned in cells}
    lines = [detectable_line(suite, len(cells)) for suite in suites.values()]
    table.caption = escape("\n".join(lines))
    return table
