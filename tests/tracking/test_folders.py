"""The files of the W&B library stay below the outputs, and go with the run that they are of."""

import os
from pathlib import Path

from heed.tracking.folders import forget, stay_below, sync_line


def test_only_the_folders_of_that_run_are_removed(tmp_path: Path):
    (tmp_path / "wandb" / "heed-data" / "abc").mkdir(parents=True)
    mine = tmp_path / "wandb" / "offline-run-20261121_000000-abc"
    other = tmp_path / "wandb" / "offline-run-20261121_000000-xabc1"
    for folder in (mine, other):
        (folder / "files").mkdir(parents=True)
    forget(tmp_path, "abc")
    assert [p.name for p in sorted((tmp_path / "wandb").iterdir())] == ["heed-data", other.name]
    assert not (tmp_path / "wandb" / "heed-data" / "abc").exists()
    forget(tmp_path, "never made")


def test_the_data_of_each_run_lie_apart_unless_the_user_says_where(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("WANDB_DATA_DIR", "restored when the test ends")
    monkeypatch.delenv("WANDB_DATA_DIR")
    for run in ("one", "two"):
        stay_below(tmp_path, run)
        assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "wandb" / "heed-data" / run)
    monkeypatch.setenv("WANDB_DATA_DIR", "/elsewhere")
    stay_below(tmp_path, "three")
    assert os.environ["WANDB_DATA_DIR"] == "/elsewhere"


def test_the_command_that_sends_names_the_folder(tmp_path: Path):
    assert sync_line(tmp_path) == f"wandb sync {tmp_path}/wandb/offline-run-*"
