"""Cells that are run by one command, in waves, until the ledger has heard of each."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from heed.analysis.analysis import Analysis
from heed.core.console import progress_console
from heed.core.errors import HeedError, RunError
from heed.core.locks import HeldError, lock
from heed.study.apart import Apart
from heed.study.ledger import Key, is_kept, last_word, latest, record, size_of
from heed.study.part import file_of, is_missing
from heed.study.plan import PlannedCell, states
from heed.study.progress import Progress, begun_at
from heed.study.show_plan import status_line
from heed.study.supervisor import log_of
from heed.study.wanted import BESIDE, NOT_EXPORTED

TWICE = 2
LOST = f"the process that ran it was killed with its supervisor, {TWICE} times"
SAY = progress_console()


@dataclass(frozen=True)
class Launch:
    """How cells are begun.

    Attributes:
        begin: Has a task called once for each command line, and comes back when all have ended.
        stays: Whether what was begun outlives this command, in a queue.
    """

    begin: Callable[[Sequence[Sequence[str]], Apart], None]
    stays: bool = False


@dataclass
class Several:
    """Cells that are run by one command.

    Attributes:
        cells: All of them, the finished ones too.
        root: Of the outputs.
        launch: How they are begun.
        how: How each is seen through.
    """

    cells: Sequence[PlannedCell]
    root: Path
    launch: Launch
    how: Apart
    at_first: Mapping[Key, Any] = field(init=False)
    refused: str = ""
    files: Mapping[Key, int] = field(init=False)

    def __post_init__(self) -> None:
        self.at_first = latest(self.root)
        self.how = replace(self.how, heard=size_of(self.root))
        self.files = {cell.key: begun_at(cell.file) for cell in self.cells}

    def run(self, analyses: Sequence[Analysis] = ()) -> list[str]:
        """Run what is missing of cells and analyses; a line for each that failed beside a result.

        Raises:
            RunError: the launcher can begin none of them.
            SystemExit: a signal asked us to end.
        """
        try:
            with Asked(self.how, self.launch.stays):
                self._run_cells()
                return [*self._lacking_beside(), *self._analyse(analyses)]
        except (KeyboardInterrupt, SystemExit):
            told = status_line(self.cells, latest(self.root))
            SAY.print(
                f"Stopped: {told}. Everything finished is kept; the same command goes on.",
                markup=False,
                soft_wrap=True,
            )
            raise
        finally:
            self.how.forget()

    def _run_cells(self) -> None:
        """First the scores before tuning, each once; then the cells."""
        todo = self._wanted(self.at_first)
        baselines: dict[Path, PlannedCell] = {}
        for cell in todo:
            if not cell.ready:
                baselines.setdefault(cell.baseline, cell)
        if len(todo) > 1:
            self._begin(list(baselines.values()), replace(self.how, part="before"))
        known = self.at_first
        trained = [cell for cell in todo if not cell.lacks_export_alone(known.get(cell.key))]
        with Progress(trained, self.root, SAY):
            self._waves(todo)

    def _waves(self, todo: Sequence[PlannedCell]) -> None:
        """Begin cells, and begin again those that have not ended, though nobody asked them to stop.

        Others were at them, or they were killed with their supervisor: not more than twice.

        Raises:
            RunError: the launcher can begin none of them.
        """
        begun: Counter[Key] = Counter()
        how = replace(self.how, wait=False)
        while todo and not self.how.halted:
            before = {cell.key: begun_at(cell.file) for cell in todo}
            self._begin(todo, how)
            now = latest(self.root)
            left = self._left(todo, now)
            again = [cell for cell in left if begun_at(cell.file) != before[cell.key]]
            begun.update(cell.key for cell in again)
            self._record_lost([cell for cell in left if begun[cell.key] >= TWICE])
            todo = [cell for cell in left if begun[cell.key] < self._tries(cell, now)]
            if todo and how.wait and not again and not self.how.halted:
                said = self.refused or "It says nothing."
                raise RunError(f"{len(todo)} cells were not begun by the launcher. {said}")
            how = self.how

    def _analyse(self, analyses: Sequence[Analysis]) -> list[str]:
        """Make what is missing of the analyses of finished cells; a line for each that failed.

        Where no more are to be begun, those that were are told.
        """
        lines = []
        for analysis in analyses:
            how = replace(self.how, part="analysis", analysis=analysis)
            lacking, _ = self._lacking(how)
            files = {one.key: file_of(one.cell, how) for one in lacking}
            before = {key: begun_at(file) for key, file in files.items()}
            self._begin(lacking, how)
            lacking, damaged = self._lacking(how)
            if how.halted:
                begun = {key for key, file in files.items() if begun_at(file) != before[key]}
                lacking, damaged = [one for one in lacking if one.key in begun], []
            logs = [(one, f"see {log_of(file_of(one.cell, how))}") for one in lacking]
            lines += [f"{analysis.name} of {one.directory}: {why}" for one, why in logs + damaged]
        return lines

    def _lacking(self, how: Apart) -> tuple[list[PlannedCell], list[tuple[PlannedCell, str]]]:
        """Cells that an analysis is to be made of, and of those that are damaged, in what way."""
        lacking, damaged = [], []
        for one in self.cells:
            try:
                if is_missing(one.cell, how):
                    lacking.append(one)
            except HeedError as error:
                damaged.append((one, str(error)))
        return lacking, damaged

    def _wanted(self, known: Mapping[Key, Any]) -> list[PlannedCell]:
        run = ("missing", "stopped", *(["failed"] if self.how.retry else []))
        every = zip(self.cells, states(self.cells, known), strict=True)
        return [cell for cell, state in every if state in run]

    def _left(self, todo: Sequence[PlannedCell], now: Mapping[Key, Any]) -> list[PlannedCell]:
        """Those that are stopped, or of which the ledger has heard nothing since we began.

        Who stopped a job of a queue meant that job.
        """
        again = (None,) if self.launch.stays else (None, "stopped")
        wanted = {cell.key for cell in self._wanted(now)}
        return [c for c in todo if c.key in wanted and self._heard(c, now.get(c.key)) in again]

    def _heard(self, cell: PlannedCell, entry: Mapping[str, Any] | None) -> str | None:
        """The event of the ledger's last word on a cell; None: none since we began."""
        return None if entry is None or entry == self.at_first.get(cell.key) else entry["event"]

    def _begin(self, cells: Sequence[PlannedCell], how: Apart) -> None:
        """Begin cells; what the launcher gives back or raises says nothing about how they end."""
        if not cells or how.halted:
            return
        self.refused = ""
        try:
            self.launch.begin([cell.overrides for cell in cells], how)
        except HeedError:
            raise
        except Exception as error:
            if how.ended:
                return  # we asked for it
            self.refused = f"The launcher ended with {type(error).__name__}: {_line(error)}"
            said = f"{self.refused} The ledger says what became of the cells."
            SAY.print(said, markup=False, soft_wrap=True)

    def _record_lost(self, cells: Sequence[PlannedCell]) -> None:
        """Record cells that ended without anybody to see it; not those that another is at."""
        for cell in cells:
            with suppress(HeldError), lock(cell.file.with_suffix(".lock"), wait=False):
                entry = last_word(self.root, cell.key)
                if self._heard(cell, entry) is None and not is_kept(self.root, entry):
                    record(self.root, "failed", cell.names | {"reason": LOST, "log": []})

    def _tries(self, cell: PlannedCell, now: Mapping[Key, Any]) -> int:
        """How often a cell is begun of which nothing was heard; an export alone, once."""
        return 1 if cell.lacks_export_alone(now.get(cell.key)) else TWICE

    def _lacking_beside(self) -> list[str]:
        """A line for each cell that was begun, has a result, and lacks what more was wanted."""
        now = latest(self.root)
        begun = (one for one in self._wanted(now) if begun_at(one.file) != self.files[one.key])
        return [
            f"{one.directory}: {_why_not(one, now[one.key])}\n    see {log_of(one.file)}\n"
            f"  {one.command}"
            for one in begun
            if is_kept(self.root, now.get(one.key))
        ]


def _why_not(cell: PlannedCell, entry: Mapping[str, Any]) -> str:
    """Why a cell with a result lacks what more was wanted of it."""
    why = cell.not_exported if cell.has_result(entry) else None
    return BESIDE if why is None else NOT_EXPORTED.format(why)


def _line(error: Exception) -> str:
    """The first line of what an error says."""
    return str(error).strip().partition("\n")[0][:300]


class Asked:
    """While cells are run: the first signal that asks us to end lets them keep what they have.

    They are told on disk, wherever they run. A second one ends us at once; so does the first where
    they run in a queue, and go on. After the block the program ends with the usual exit code.
    """

    ASKING = (signal.SIGTERM, signal.SIGINT)

    def __init__(self, how: Apart, stays: bool):
        self.how, self.stays = how, stays
        self.number: int | None = None

    def __enter__(self) -> Asked:
        self.before = {number: signal.signal(number, self._take) for number in self.ASKING}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        if self.number is not None:
            sys.exit(128 + self.number)

    def _take(self, number: int, _: Any) -> None:
        again, self.number = self.number is not None, self.number or number
        if again or self.stays:
            sys.exit(128 + self.number)
        known = self.how.halted
        self.how.end_all()
        if known:  # a supervisor in this process has told it
            return
        name = signal.Signals(number).name
        said = f"\n{name}: cells under way keep what they have, and no more are begun.\n"
        os.write(2, said.encode())  # not through a console, which may be in the middle of a line


def sign_of(root: Path) -> str:
    """The file that says to all cells of a command that no more are to be begun."""
    name = f".halt-{os.uname().nodename}-{os.getpid()}-{time.time_ns()}"
    return str(root / "cells" / name)
