"""A tiny study swept in processes of its own, to be looked at and disturbed from outside."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny import ROOT, STUDENT

from heed.core.files import read_json, read_jsonl

BASE_STEPS, STEPS, EVERY = 60, 200, 10
CELL = (
    *STUDENT, "debug=fast", "also=none", f"model.pretraining.data.steps={BASE_STEPS}",
    f"data.steps={STEPS}", f"callbacks.checkpoints.every_steps={EVERY}",
)  # fmt: skip
RATES = ("play_gentle", "play_harsh")
STUDY = (
    "study=playground", "study.axes.model=[nano]", "study.axes.teacher=[play_clear]",
    f"study.axes.lr=[{','.join(RATES)}]", *CELL,
)  # fmt: skip
SCORED = 20
WORK = BASE_STEPS + len(RATES) * STEPS + (1 + len(RATES)) * SCORED
"""All that there is to be done, in optimiser steps; a scoring counts as some."""

MARK = "HEED_TEST_OUTPUTS"
KINDS = {
    "sweep": b"sweep.py",
    "worker": b"popen_loky_posix",
    "child": b"heed.study.child",
    "grandchild": b"probe.py",
}


@dataclass
class Swept:
    """A study in a folder, and the processes that are at it."""

    outputs: Path

    def start(self, *more: str, script: tuple[str, ...] = ("sweep.py", *STUDY)) -> subprocess.Popen:
        """Begin a sweep in a session of its own; what it prints is appended to a file."""
        line = [sys.executable, *script, f"outputs={self.outputs}", *more]
        env = os.environ | {"OMP_NUM_THREADS": "1", MARK: str(self.outputs)}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                line, cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True
            )

    def run(self, *more: str, script: tuple[str, ...] = ("sweep.py", *STUDY)) -> tuple[int, str]:
        """The same to its end: exit code, and what it printed."""
        size = self.log.stat().st_size if self.log.exists() else 0
        code = self.start(*more, script=script).wait(600)
        return code, self.log.read_text()[size:]

    @property
    def log(self) -> Path:
        return self.outputs.with_name(f"{self.outputs.name}.txt")

    def processes(self, kind: str | None = None) -> list[int]:
        """Processes of these sweeps that are alive, of one kind or all."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                ours = f"{MARK}={self.outputs}\0".encode() in (folder / "environ").read_bytes()
                line = (folder / "cmdline").read_bytes() if ours else b""
            except OSError:
                continue
            if line and (kind is None or KINDS[kind] in line):
                found.append(int(folder.name))
        return found

    def left_behind(self) -> list[int]:
        """Processes that outlive the sweep, after a while for those that are ending."""
        end = time.monotonic() + 20
        while self.processes() and time.monotonic() < end:
            time.sleep(0.05)
        return self.processes()

    def end(self) -> None:
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)

    @property
    def ledger(self) -> list[dict[str, Any]]:
        path = self.outputs / "ledger.jsonl"
        return read_jsonl(path) if path.is_file() else []

    def done(self) -> list[str]:
        return sorted(entry["lr"] for entry in self.ledger if entry["event"] == "done")

    def rows(self) -> dict[str, int]:
        """Steps on record of every training."""
        return {
            path.parent.name: path.read_bytes().count(b'"loss"')
            for path in self.outputs.glob("runs/*/metrics.jsonl")
        }

    def work(self) -> int:
        """How much of the work is done."""
        scores = [*self.outputs.glob("baselines/*/summary.json")]
        scores += self.outputs.glob("runs/*/scores/play/result.json")
        return sum(self.rows().values()) + SCORED * len(scores)

    def fits(self) -> dict[str, dict[str, Any]]:
        """Run directory -> what its manifest records of the training."""
        found = self.outputs.glob("runs/*/manifest.json")
        return {path.parent.name: read_json(path)["fit"] for path in found}

    def kept(self) -> dict[str, int]:
        """The step of the newest checkpoint of every training that is not finished."""
        found: dict[str, int] = {}
        for path in self.outputs.glob("runs/*/checkpoints/[0-9]*/state.json"):
            run = path.parents[2].name
            found[run] = max(int(path.parent.name), found.get(run, 0))
        return found

    @property
    def table(self) -> list[dict[str, str]]:
        """The study's table, but for what the clock decides."""
        with (self.outputs / "studies/playground/table.csv").open() as file:
            rows = list(csv.DictReader(file))
        return [{key: value for key, value in row.items() if "second" not in key} for row in rows]


def wait_for(what: Callable[[], bool], process: subprocess.Popen) -> None:
    """Wait until something is so, while a sweep is under way."""
    while not what():
        assert process.poll() is None, f"it ended with {process.returncode} before"
        time.sleep(0.01)
