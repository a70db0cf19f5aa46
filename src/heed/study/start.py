"""Where a command of `train.py` or `sweep.py` goes when its config is built."""

from __future__ import annotations

import sys

from heed.core.compose import one_of_several, typed
from heed.core.errors import EXIT_CODE, ConfigError, Mistake
from heed.core.manifest import code_state
from heed.study.cell import Cell
from heed.study.study import Sweep


def start(cell: Cell) -> float | None:
    """Run a cell here, so that a debugger works; one of several in a process of its own.

    One of several devices has a process for each; they are begun by one that is not this.

    Returns:
        Of one of several, the change of its primary metric, for sweepers that look for the best.
    """
    if one_of_several():
        from heed.study.apart import run_apart

        return run_apart(cell)
    if cell.trainer.several and not _run_by_group(cell):
        return None
    from heed.study.run_cell import run_cell

    code_state()  # now: a file of heed that is changed later is not what runs here
    run_cell(cell)
    return None


def _run_by_group(cell: Cell) -> bool:
    """Run a cell by a group of ranks if there is something to do, and show what they print.

    Returns:
        Whether its result is still to be shown.

    Raises:
        RunError: its devices are not to be had, or not for what it asks, or another process was at
            the cell and has failed.
        SystemExit: it has no result; with the exit code of the group.
    """
    from heed.study.apart import Apart, need_all, see_through
    from heed.study.group import need_one_device
    from heed.study.wanted import has_result

    need_one_device(cell)
    if has_result(cell):
        return True
    how = Apart(retry=True, live=True)
    ended = see_through(cell, how, typed())
    if ended is None:
        need_all(cell, how)
        return True
    if not has_result(cell):
        stopped = 128 - ended.code if ended.code < 0 else ended.code
        sys.exit(stopped if ended.stopped else EXIT_CODE)
    if ended.code != 0:
        sys.exit(EXIT_CODE)  # it has a result, but what more was wanted of it failed
    return False


def needs_sweeper(command: Sweep) -> None:
    """Refuse a sweep that another sweeper than heed's has taken apart.

    Raises:
        ConfigError: always.
    """
    name = command.study.name if command.study else "none"
    why = f"only heed's own sweeper knows the cells of a study (here: {name})."
    raise ConfigError([Mistake("hydra/sweeper", "another", why, "Leave hydra/sweeper out.")])
