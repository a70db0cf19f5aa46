"""A look at the data trains nothing and shows what would be trained on."""

import subprocess
import sys
from pathlib import Path

import pytest
from tiny import ROOT, STUDENT, cell

from heed.core.errors import ConfigError
from heed.core.files import read_json
from heed.study.look import data_tables, look_at_data

LOOK = (*STUDENT, "debug=data", "data.limit=40", "data.validation_share=0.2")


@pytest.mark.slow
def test_a_command_that_looks_at_the_data_stops_there(tmp_path: Path):
    line = [sys.executable, "train.py", *LOOK, f"outputs={tmp_path}"]
    made = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert "40 examples to train on" in made.stdout
    assert "kept apart for validation" in made.stdout
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "ledger.jsonl").exists()
    (directory,) = (tmp_path / "data").iterdir()
    assert str(directory / "examples.html") in made.stdout
    page = (directory / "examples.html").read_text()
    assert page.count("<pre>") == 20
    assert read_json(directory / "statistics.json")["examples"] == 40


def test_a_look_makes_no_student_by_training(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr("heed.training.fit.fit", None)
    monkeypatch.setattr("heed.models.student.Scratch.fresh", None)
    here = cell(tmp_path, "debug=data", "data.limit=40")
    first, second = look_at_data(here), look_at_data(here)
    assert first == second
    assert len(list((tmp_path / "cache" / "tokens").iterdir())) == 1
    assert "supervised tokens" in capsys.readouterr().out


def test_every_event_and_bar_is_printed(capsys):
    from heed.core.console import result_console

    numbers = {
        "examples": 3, "validation_examples": 1, "tokens": 60, "supervised_tokens": 20,
        "supervised_share": 1 / 3, "overlap": None, "histogram": [[1, 10, 1], [11, 20, 2]],
        "events": {"rows read": 9, "dropped: [over-long]": 5},
        "lengths": {"mean": 20.0, "p5": 1, "p50": 2, "p95": 3, "longest": 4},
        "supervised": {"mean": 2.0, "p5": 1, "p50": 2, "p95": 3, "longest": 4},
    }  # fmt: skip
    for table in data_tables("toy", numbers):
        result_console().print(table)
    out = capsys.readouterr().out
    assert "dropped: [over-long]" in out
    assert "11-20" in out
    assert "33.3%" in out


def test_what_is_trained_on_depends_on_the_prompts_only_where_they_are_dropped(tmp_path: Path):
    def runs(*more: str) -> set[str]:
        return {cell(tmp_path, *more, f"suite.tasks.play_follow.world={w}").run.id for w in (1, 2)}

    assert len(runs("data.drop_contaminated=false")) == 1
    assert len(runs("data.drop_contaminated=true")) == 2


def test_a_base_student_cannot_be_kept_free_of_a_suite(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"pretraining\.data\.drop_contaminated.*every suite"):
        cell(tmp_path, "model.pretraining.data.drop_contaminated=true")
