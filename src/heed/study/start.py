"""Where a command of `train.py` or `sweep.py` goes when its config is built."""

from __future__ import annotations

from heed.core.compose import one_of_several
from heed.core.errors import ConfigError, Mistake
from heed.core.manifest import code_state
from heed.study.cell import Cell
from heed.study.study import Sweep


def start(cell: Cell) -> float | None:
    """Run a cell here, so that a debugger works; one of several in a process of its own.

    Returns:
        Of one of several, the change of its primary metric, for sweepers that look for the best.
    """
    if one_of_several():
        from heed.study.apart import run_apart

        return run_apart(cell)
    from heed.study.run_cell import run_cell

    code_state()  # now: a file of heed that is changed later is not what runs here
    run_cell(cell)
    return None


def needs_sweeper(command: Sweep) -> None:
    """Refuse a sweep that another sweeper than heed's has taken apart.

    Raises:
        ConfigError: always.
    """
    name = command.study.name if command.study else "none"
    why = f"only heed's own sweeper knows the cells of a study (here: {name})."
    raise ConfigError([Mistake("hydra/sweeper", "another", why, "Leave hydra/sweeper out.")])
