"""TensorBoard's own reader finds each step once, and a missing package stops nothing."""

import sys
from pathlib import Path

import pytest
from mirrors import mirrored

from heed.tracking.tensorboard import FOLDER, TensorBoard
from heed.tracking.tracker import Ending

ROWS = [
    {"step": 1, "loss": 2.5, "note": "a text"},
    {"step": 1, "validation_loss": 3.5},
    {"step": 2, "loss": 2.0, "look/score": None},
]


def follow(directory: Path, rows: list[dict[str, object]]) -> None:
    mirror = TensorBoard()
    mirror.start(mirrored(directory))
    for row in rows:
        mirror.log(row)
    mirror.finish(Ending())


def scalars(directory: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(directory / FOLDER))
    found.Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def test_the_numbers_of_a_row_are_scalars_and_nothing_else_is(tmp_path: Path, capsys):
    follow(tmp_path, ROWS)
    assert scalars(tmp_path) == {
        "train/loss": [(1, 2.5), (2, 2.0)],
        "validation/loss": [(1, 3.5)],
    }
    assert capsys.readouterr().err == ""


def test_steps_that_are_done_again_are_shown_once(tmp_path: Path):
    follow(tmp_path, [{"step": step, "loss": 0.0} for step in (1, 2, 3, 4)])
    follow(tmp_path, [{"step": step, "loss": 1.0} for step in (3, 4, 5)])
    want = [(1, 0.0), (2, 0.0), (3, 1.0), (4, 1.0), (5, 1.0)]
    assert scalars(tmp_path) == {"train/loss": want}


def test_a_missing_package_is_told_once_and_the_rows_are_counted(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    follow(tmp_path, ROWS)
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("pip install tensorboard") == 1
    assert "TensorBoard mirror: 3 rows of metrics are not in it" in said
    assert not list(tmp_path.iterdir())


def test_a_run_without_a_row_leaves_no_file(tmp_path: Path):
    follow(tmp_path, [])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("failed", [True, False])
def test_a_run_that_breaks_off_leaves_a_whole_file(tmp_path: Path, failed: bool):
    mirror = TensorBoard()
    mirror.start(mirrored(tmp_path))
    mirror.log({"step": 1, "loss": 2.5})
    assert scalars(tmp_path) == {"train/loss": [(1, 2.5)]}, "before its end"
    mirror.finish(Ending(failed=failed))
    assert scalars(tmp_path) == {"train/loss": [(1, 2.5)]}
