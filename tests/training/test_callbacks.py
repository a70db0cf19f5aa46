"""What watches a training writes the steps it was asked for, and always the last."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from heed.core.files import read_jsonl
from heed.tracking.tracker import LocalOnly
from heed.training.callbacks import Metrics, Watched

TRAINER = SimpleNamespace(is_global_zero=True)


def steps(count: int):
    for done in range(1, count + 1):
        row = {"step": done, "loss": 1.5, "tokens": 100}
        yield SimpleNamespace(done=done, steps=count, row=row)


@pytest.mark.parametrize(("every", "written"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (9, [5])])
def test_every_nth_step_and_the_last_are_written(tmp_path: Path, every: int, written: list):
    write = Metrics(every_steps=every).build(Watched(tmp_path, LocalOnly()))
    for module in steps(5):
        write.on_train_batch_end(TRAINER, module, None, None, 0)
    assert [row["step"] for row in read_jsonl(tmp_path / "metrics.jsonl")] == written


def test_only_one_rank_writes(tmp_path: Path):
    write = Metrics(every_steps=1).build(Watched(tmp_path, LocalOnly()))
    for module in steps(2):
        write.on_train_batch_end(SimpleNamespace(is_global_zero=False), module, None, None, 0)
    assert list(tmp_path.iterdir()) == []
