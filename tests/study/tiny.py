"""A tiny cell, and what is left behind when two processes run it at once."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from heed.core.compose import compose_component
from heed.core.files import read_json
from heed.study.cell import Cell
from heed.study.evaluation import Evaluation

ROOT = Path(__file__).resolve().parents[2]
STUDENT = (
    "model.architecture.hidden=16",
    "model.architecture.ffn=16",
    "model.architecture.heads=2",
    "model.architecture.kv_heads=2",
    "model.pretraining.data.steps=2",
    "model.pretraining.teacher.documents=200",
    "suite.max_new_tokens=4",
    "suite.resamples=100",
    "trainer.threads=1",
)
TINY = (*STUDENT, "debug=fast")


def cell(root: Path, *more: str) -> Cell:
    return compose_component(ROOT / "conf", "train", (*TINY, f"outputs={root}", *more))


def evaluation(root: Path, *more: str) -> Evaluation:
    """`python evaluate.py` over that student or what was made of it."""
    settings = [text for text in STUDENT if not text.startswith("model.")]
    return compose_component(ROOT / "conf", "evaluate", (*settings, *more, f"outputs={root}"))


@dataclass
class Finished:
    """What two processes of the same cell, begun at once, left behind."""

    root: Path
    cell: Cell
    printed: list[tuple[int, str, str]]  # exit code, stdout, stderr

    @property
    def run(self) -> Path:
        return self.cell.directory

    @property
    def result(self) -> dict[str, Any]:
        return read_json(self.run / "scores/play/result.json")

    def copy(self, to: Path) -> Cell:
        """The same cell with outputs of its own."""
        shutil.copytree(self.root, to, dirs_exist_ok=True)
        return replace(self.cell, outputs=str(to))  # type: ignore[type-var]


def run_twice_at_once(root: Path) -> Finished:
    """Two processes of one cell."""
    line = [sys.executable, "train.py", *TINY, f"outputs={root}"]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    both = [subprocess.Popen(line, cwd=ROOT, env=env, **pipes) for _ in range(2)]
    printed = []
    for process in both:
        out, err = process.communicate(timeout=300)
        printed.append((process.returncode, out, err))
    assert [code for code, *_ in printed] == [0, 0], printed
    return Finished(root, cell(root), printed)
