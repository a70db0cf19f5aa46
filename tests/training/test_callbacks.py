"""What watches a training writes the steps it was asked for, and always the last."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from heed.core.files import read_jsonl
from heed.tracking.tracker import LocalOnly
from heed.training.callbacks import Metrics, Progress, progress_line

TRAINER = SimpleNamespace(is_global_zero=True)


def steps(count: int):
    for done in range(1, count + 1):
        row = {"step": done, "loss": 1.5, "tokens": 100}
        yield SimpleNamespace(done=done, steps=count, row=row)


@pytest.mark.parametrize(("every", "written"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (9, [5])])
def test_every_nth_step_and_the_last_are_written(tmp_path: Path, every: int, written: list):
    write = Metrics(every_steps=every).build(tmp_path, LocalOnly())
    for module in steps(5):
        write.on_train_batch_end(TRAINER, module, None, None, 0)
    assert [row["step"] for row in read_jsonl(tmp_path / "metrics.jsonl")] == written


def test_only_one_rank_writes(tmp_path: Path):
    write = Metrics(every_steps=1).build(tmp_path, LocalOnly())
    for module in steps(2):
        write.on_train_batch_end(SimpleNamespace(is_global_zero=False), module, None, None, 0)
    assert list(tmp_path.iterdir()) == []


def test_progress_shows_the_last_step_however_short_the_training(tmp_path: Path, capsys):
    show = Progress(every_seconds=1e6).build(tmp_path, LocalOnly())
    show.on_train_start(TRAINER, None)
    for module in steps(3):
        show.on_train_batch_end(TRAINER, module, None, None, 0)
    shown = capsys.readouterr()
    assert "3/3  loss 1.500 nats/token" in shown.err
    assert shown.err.count("loss") == 1
    assert shown.out == ""


def test_the_time_left_is_that_of_the_steps_left():
    module = SimpleNamespace(done=25, steps=100, row={"loss": 2.25})
    line = progress_line(module, tokens=50_000, seconds=50.0)
    assert line == "step    25/100  loss 2.250 nats/token  1,000 tokens/s  ETA 2:30"
