"""The progress line tells where a training stands, counted by what this process has seen."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from heed.tracking.tracker import LocalOnly
from heed.training.callbacks import Watched
from heed.training.progress import Progress, Seen, peak_memory, progress_line

TRAINER = SimpleNamespace(is_global_zero=True)


def steps(first: int, last: int):
    for done in range(first, last + 1):
        row = {"step": done, "loss": 1.5, "tokens": 100, "supervised_tokens": 25}
        yield SimpleNamespace(done=done, steps=last, row=row, device=torch.device("cpu"))


def shown(tmp_path: Path, first: int, last: int) -> Seen:
    show = Progress(every_seconds=1e6).build(Watched(tmp_path, LocalOnly()))
    show.on_train_start(TRAINER, None)
    for module in steps(first, last):
        show.on_train_batch_end(TRAINER, module, None, None, 0)
    return show.seen


def test_the_last_step_is_told_however_short_the_training(tmp_path: Path, capsys):
    shown(tmp_path, 1, 3)
    printed = capsys.readouterr()
    assert "step     3/3  loss 1.500 nats/token" in printed.err
    assert "25% supervised  peak " in printed.err
    assert printed.err.count("loss") == 1
    assert printed.out == ""


def test_a_training_that_goes_on_counts_its_own_steps_only(tmp_path: Path):
    seen = shown(tmp_path, 91, 100)
    assert (seen.steps, seen.tokens, seen.supervised) == (10, 1000, 250)


@pytest.mark.parametrize(
    ("done", "seen", "eta"),
    [
        (25, Seen(25, 50_000, 10_000, 50.0), "2:30"),
        (50, Seen(25, 50_000, 10_000, 50.0), "1:40"),  # 25 of them were done before
        (10, Seen(10, 50_000, 10_000, 400.0), "1:00:00"),
        (100, Seen(1, 1, 1, 9.0), "0:00"),
    ],
)
def test_the_time_left_is_that_of_the_steps_left_at_this_process_rate(done, seen, eta):
    module = SimpleNamespace(done=done, steps=100, row={"loss": 2.25})
    assert progress_line(module, seen, "peak 1 GiB").endswith(f"peak 1 GiB  ETA {eta}")


def test_the_whole_line():
    module = SimpleNamespace(done=25, steps=100, row={"loss": 2.25})
    line = progress_line(module, Seen(25, 50_000, 10_000, 50.0), "peak 1.00 GiB")
    assert line == (
        "step    25/100  loss 2.250 nats/token  1,000 tokens/s, 20% supervised  peak 1.00 GiB  "
        "ETA 2:30"
    )
    left_out = SimpleNamespace(done=25, steps=100, row={"loss": None})
    assert "loss left out" in progress_line(left_out, Seen(1, 1, 1, 1.0), "")


def test_memory_is_what_was_held_at_most():
    before = float(peak_memory(torch.device("cpu")).split()[1])
    held = torch.ones(2**26)  # 256 MiB
    assert float(peak_memory(torch.device("cpu")).split()[1]) >= min(before, 0.3)
    assert before > 0.05
    del held
