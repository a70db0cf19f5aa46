"""The process of one cell: reads one resolved config file, and ends when its supervisor does.

python -m heed.study.child <file>
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import yaml

from heed.core.component import build
from heed.core.errors import HeedError, RunError, StoppedError
from heed.core.identity import short_hash
from heed.core.manifest import code_state
from heed.core.screen import show

ORPHAN_SECONDS = 20.0
"""Without a supervisor, a cell may take so long to keep what it has."""

FAILED = 2
"""Exit code of a cell that the user can put right."""


def child(path: Path) -> int:
    """Do what a file of `heed.study.apart` asks for; the exit code."""
    code_state()  # now: a file of heed that is changed later is not what runs here
    try:
        asked: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        sys.argv = asked["command"]  # what manifests tell of the command
        _do(asked, path)
    except StoppedError as error:
        show(error)
        return error.exit_code
    except HeedError as error:
        show(error)
        return FAILED
    return 0


def _do(asked: dict[str, Any], path: Path) -> None:
    cell = build(asked["cell"])
    now = [cell.run.id, short_hash(cell.suite)]
    if now != asked["key"]:
        raise RunError(
            f"{path} was written for run {asked['key'][0]} on suite {asked['key'][1]}, but here "
            f"its settings make run {now[0]} on suite {now[1]}: heed's code, a library or a data "
            f"file has changed since, or differs on this machine. Give the sweep's command again."
        )
    if asked["part"] == "before":
        from heed.study.run_cell import score_before

        score_before(cell)
    elif asked["part"] == "cell":
        from heed.study.run_cell import run_cell

        run_cell(cell)
    else:
        from heed.study.analyses import analyse_cell

        analyse_cell(cell, build(asked["analysis"]))


def end_with_supervisor() -> None:
    """Ask this process to end as soon as the other end of its standard input is closed.

    The supervisor holds that end and writes nothing, so it is closed when the supervisor dies,
    however it dies. What does not end when asked, a step that hangs, is killed.
    """

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        for number in (signal.SIGTERM, signal.SIGKILL):
            if os.getpgrp() == os.getpid():
                os.killpg(0, number)  # what we have begun, too
            else:
                os.kill(os.getpid(), number)
            time.sleep(ORPHAN_SECONDS)

    threading.Thread(target=wait, daemon=True, name="supervisor").start()


if __name__ == "__main__":
    end_with_supervisor()
    sys.exit(child(Path(sys.argv[1])))
