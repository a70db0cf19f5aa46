"""One training in processes that are killed, and the same one left alone.

python killed.py <outputs> <step> <step> ...   kill it once so many rows of metrics are written
"""

import importlib
import os
import signal
import sys
import time
from pathlib import Path

import torch

from heed.core.compose import compose_component
from heed.study.run_cell import _fit

ROOT = Path(__file__).resolve().parents[2]
STEPS = 30
IMPORTED = (
    "heed.training.fit", "datasets", "lm_eval.tasks.ifeval.instructions_registry", "peft",
    "torch._dynamo", "transformers.models.llama.modeling_llama",
)  # fmt: skip
"""What a training imports, slowest of all: once, and not in each process that is killed."""

COMMAND = (
    "model.architecture.hidden=16", "model.architecture.ffn=32", "model.architecture.heads=2",
    "model.architecture.kv_heads=2", "model.architecture.layers=1",
    "model.pretraining.data.steps=2",
    "model.pretraining.teacher.documents=200", "trainer.threads=1",
    "method.adapter.dropout=0.2", "noise=neftune", "data.limit=96", "data.epochs=null",
    f"data.steps={STEPS}",
    "data.examples_per_step=8", "data.packing=none", "data.validation_share=0.1",
    "callbacks.validation.every_steps=7", "callbacks.keep.steps=[5,20]",
    "callbacks.checkpoints.every_steps=3",
)  # fmt: skip


def rows(directory: Path) -> int:
    path = directory / "metrics.jsonl"
    return path.read_bytes().count(b'"loss"') if path.is_file() else 0


def train(cell, directory: Path) -> int:
    """A process of its own that trains."""
    pid = os.fork()
    if pid:
        return pid
    try:
        torch.set_num_threads(1)
        log = os.open(directory.with_name(f"{directory.name}.log"), os.O_CREAT | os.O_RDWR, 0o644)
        os.lseek(log, 0, os.SEEK_END)
        os.dup2(log, 1)
        os.dup2(log, 2)
        _fit(cell, directory)
        os._exit(0)
    finally:
        os._exit(1)


def status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(root: Path, kills: list[int]) -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    sys.modules["heed.training.fit"].check_fresh = lambda *_: 0.0  # type: ignore[attr-defined]
    cell = compose_component(ROOT / "conf", "train", (*COMMAND, f"outputs={root}"))
    alone, killed = root / "alone", root / "killed"
    assert status(train(cell, alone)) == 0, "the training that is left alone"
    for step in kills:
        pid = train(cell, killed)
        while rows(killed) < step and os.waitpid(pid, os.WNOHANG) == (0, 0):
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
        assert status(pid) == -signal.SIGKILL
        sys.stdout.write("killed\n")
    assert status(train(cell, killed)) == 0, "the training that was killed"


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(word) for word in sys.argv[2:]])
