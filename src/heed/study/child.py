"""The process of one cell: reads one resolved config file, and ends when its supervisor does.

python -m heed.study.child <file>

A cell of several devices is run by a group: this process then begins the ranks, each of which is
such a process of the same file, and ends when this one does.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from heed.core import ranks
from heed.core.component import build
from heed.core.errors import EXIT_CODE, HeedError, RunError, StoppedError
from heed.core.files import write_json
from heed.core.identity import short_hash
from heed.core.manifest import code_state
from heed.core.screen import show
from heed.study.cell import Cell
from heed.study.rank import as_rank, meet, take_place
from heed.study.supervisor import reason_file

ORPHAN_SECONDS = 20.0
"""Without a supervisor, a cell may take so long to keep what it has."""


def child(path: Path) -> int:
    """Do what a file of `heed.study.apart` asks for; the exit code."""
    code_state()  # now: a file of heed that is changed later is not what runs here
    if ranks.is_rank():
        return as_rank(path, partial(_take_part, path))
    try:
        asked = _read(path)
        cell = _cell(asked, path)
        if cell.trainer.several:
            return _lead_group(asked, cell, path)
        _do(asked, cell)
    except StoppedError as error:
        show(error)
        return error.exit_code
    except HeedError as error:
        show(error)
        return EXIT_CODE
    return 0


def _read(path: Path) -> dict[str, Any]:
    asked: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    sys.argv = asked["command"]  # what manifests tell of the command
    return asked


def _cell(asked: dict[str, Any], path: Path) -> Cell:
    """The cell that a file asks for.

    Raises:
        RunError: here it is another than the one that was planned.
    """
    cell: Cell = build(asked["cell"])
    if asked["part"] == "scores":
        from heed.study.score_group import key_of

        now = key_of(cell)  # type: ignore[arg-type]
    else:
        now = [cell.run.id, short_hash(cell.suite)]
    if now != asked["key"]:
        raise RunError(
            f"{path} was written for run {asked['key'][0]} on suite {asked['key'][1]}, but here "
            f"its settings make run {now[0]} on suite {now[1]}: heed's code, a library or a data "
            f"file has changed since, or differs on this machine. Give the sweep's command again."
        )
    return cell


def _lead_group(asked: dict[str, Any], cell: Cell, path: Path) -> int:
    """Begin as many ranks as there are devices; one alone needs no group."""
    from heed.study.group import need_one_device, run_group, size_of

    try:
        if asked["part"] != "scores":
            need_one_device(cell)
        size = size_of(cell.trainer)
    except HeedError as error:
        write_json(reason_file(path), {"reason": f"{type(error).__name__}: {error}"})
        raise
    if size.world > 1:
        return run_group(path, size)
    _do(asked, cell)
    return 0


def _take_part(path: Path) -> None:
    """The part of one rank: the first leads, the others follow it."""
    from heed.study import crew

    asked = _read(path)
    cell = _cell(asked, path)
    meet(asked, cell.trainer)
    if ranks.leads():
        _do(asked, cell)
        crew.dismiss()
    else:
        crew.follow()
    ranks.leave()


def _do(asked: dict[str, Any], cell: Cell) -> None:
    if asked["part"] == "before":
        from heed.study.run_cell import score_before

        score_before(cell)
    elif asked["part"] == "scores":
        from heed.study.score_group import score_as_asked

        score_as_asked(cell)  # type: ignore[arg-type]
    elif asked["part"] == "cell":
        from heed.study.run_cell import run_cell

        run_cell(cell)
    else:
        from heed.study.analyses import analyse_cell

        analyse_cell(cell, build(asked["analysis"]))


def end_with_supervisor(log: Path | None = None, leash: socket.socket | None = None) -> None:
    """Ask this process to end as soon as the other end of its standard input is closed.

    The supervisor holds that end and writes nothing, so it is closed when the supervisor dies,
    however it dies. What does not end when asked, a step that hangs, is killed.

    Args:
        log: Of a process that prints through its supervisor: where it prints from then on.
        leash: A connection that tells the same.
    """

    def wait() -> None:
        while not _is_over(leash):
            pass
        if log is not None:
            file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            for stream in (1, 2):
                os.dup2(file, stream)
        for number in (signal.SIGTERM, signal.SIGKILL):
            if os.getpgrp() == os.getpid():
                os.killpg(0, number)  # what we have begun, too
            else:
                os.kill(os.getpid(), number)
            time.sleep(ORPHAN_SECONDS)

    threading.Thread(target=wait, daemon=True, name="supervisor").start()


def _is_over(leash: socket.socket | None) -> bool:
    """Wait for a word of the supervisor; whether it is that there will be no more."""
    stdin = sys.stdin.fileno()
    there, _, _ = select.select([stdin, leash] if leash else [stdin], [], [])
    try:
        return (stdin in there and not os.read(stdin, 4096)) or (
            leash is not None and leash in there and not leash.recv(1)
        )
    except ConnectionError:
        return True


if __name__ == "__main__":
    FILE = Path(sys.argv[1])
    LEASH = take_place()
    THROUGH_US = ranks.is_rank() and LEASH is None
    end_with_supervisor(FILE.with_suffix(".log") if THROUGH_US else None, LEASH)
    sys.exit(child(FILE))
