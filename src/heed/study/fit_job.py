"""A training as a job of all ranks: what those that do not lead do of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heed.study.memory import training_memory
from heed.training.run import Run

if TYPE_CHECKING:
    from heed.study.cell import Cell
    from heed.training.fit import Surroundings


@dataclass(frozen=True)
class Pretrain:
    """Make a base together.

    Attributes:
        run: Which.
        around: Devices and watchers.
        directory: Of the run.
    """

    run: Run
    around: Surroundings
    directory: Path

    def take_part(self) -> None:
        """Train on this rank's share; the leader writes."""
        from heed.training.fit import fit

        with training_memory(self.run.student, self.run.recipe, self.around.trainer):
            fit(self.run.recipe, self.run.student.fresh(), self.around, self.directory)


@dataclass(frozen=True)
class Tune:
    """Tune a student together; its base is on disk.

    Attributes:
        cell: Whose; it has no mirror but the leader's.
    """

    cell: Cell

    def take_part(self) -> None:
        """Train on this rank's share; the leader writes, and tells the mirror."""
        from heed.study.bases import load_base
        from heed.study.run_cell import surroundings
        from heed.training.fit import fit

        cell, around = self.cell, surroundings(self.cell)
        loaded = load_base(cell.model, around, cell.root)
        with training_memory(cell.model, cell.run.recipe, cell.trainer):
            fit(cell.run.recipe, loaded, around, cell.directory, cell.prompts())
