"""Run the missing cells of a study, each a child process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heed.core.console import progress_console
from heed.study.ledger import latest, record
from heed.study.plan import PlannedCell

POLL_SECONDS = 0.2
SAY = progress_console()


@dataclass
class Child:
    """A cell under way.

    Attributes:
        planned: The cell.
        entry: What the ledger said of it before.
        process: Its `python train.py ...`.
        log: What it prints.
        began: On the monotonic clock, in seconds.
    """

    planned: PlannedCell
    entry: dict[str, Any] | None
    process: subprocess.Popen[bytes]
    log: Path
    began: float


def execute(
    cells: list[PlannedCell], *, project: Path, logs: Path, jobs: int, threads: int
) -> None:
    """Run cells, `jobs` at a time; outcomes are read from the ledger, never from the children.

    A student's first cell makes the base student and its scores; the student's other cells wait
    for those rather than for a lock.

    Args:
        cells: What to run.
        project: Folder of `train.py`.
        logs: Folder for what the children print.
        jobs: Children at a time.
        threads: CPU threads of each.
    """
    waiting, total = list(cells), len(cells)
    running: list[Child] = []
    logs.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(f"stopped by signal {signal.SIGTERM}"))
    try:
        while waiting or running:
            for child in [c for c in running if c.process.poll() is not None]:
                running.remove(child)
                done = total - len(waiting) - len(running)
                _finish(child, done, total, time.monotonic() - began)
            planned = next_cell(waiting, [child.planned for child in running])
            if planned is not None and len(running) < jobs:
                waiting.remove(planned)
                running.append(_start(planned, project, logs, threads))
            else:
                time.sleep(POLL_SECONDS)
    finally:
        for child in running:
            child.process.terminate()
        for child in running:
            child.process.wait()


def next_cell(waiting: list[PlannedCell], running: list[PlannedCell]) -> PlannedCell | None:
    """The first waiting cell whose baseline is there, or is being made by nobody."""
    in_the_making = {planned.baseline for planned in running if not _ready(planned.baseline)}
    return next((p for p in waiting if p.baseline not in in_the_making), None)


def _ready(baseline: Path) -> bool:
    return (baseline / "summary.json").is_file()


def _start(planned: PlannedCell, project: Path, logs: Path, threads: int) -> Child:
    entry = latest(planned.cell.root).get(planned.key)
    log = logs / f"{planned.cell.run.directory}.log"
    train = [sys.executable, str(project / "train.py")]
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603 (our own train.py)
            [*train, *planned.overrides, f"trainer.threads={threads}"],
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"},
        )
    SAY.print(f"start {planned.cell.run.directory}")
    return Child(planned, entry, process, log, time.monotonic())


def _finish(child: Child, done: int, total: int, seconds: float) -> None:
    """Say how a cell ended; a child that died without a word is recorded as failed."""
    planned = child.planned
    root = planned.cell.root
    entry = latest(root).get(planned.key)
    took = time.monotonic() - child.began
    left = seconds / done * (total - done)
    if entry == child.entry:
        tail = child.log.read_text(errors="replace").strip().splitlines()[-5:]
        reason = f"exit code {child.process.returncode}: " + " | ".join(tail)
        entry = {"event": "failed", "reason": reason}
        record(root, "failed", planned.cell.names | {"reason": reason})
    state = "done" if entry and entry["event"] == "done" else f"FAILED, see {child.log}"
    SAY.print(
        f"[{done}/{total}] {planned.cell.run.directory} {state} in {took:.0f} s, "
        f"about {left:.0f} s left",
        markup=False,
    )
