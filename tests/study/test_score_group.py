"""A command of `evaluate.py` on several devices: what it hands to ranks, and what it refuses."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import ROOT, Finished, evaluation

from heed.core.component import build
from heed.core.errors import ConfigError
from heed.core.files import read_json
from heed.study import score_group
from heed.study.child import child
from heed.study.evaluation import Evaluation, run_evaluation, subject_of
from heed.study.score_group import file_of, key_of, score_by_group
from heed.study.supervisor import Ended

SEVERAL = ("trainer.devices=2",)
VLLM = ("model=nano", "backend=vllm")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("chat=x",), "chat= is more than that"),
        (("compare=[a,b]",), "compare= is more than that"),
        (("run=x", "analysis=forgetting", "suite=forgetting"), "analysis= is more than that"),
        (VLLM, "VLLMBackend begins processes of its own"),
    ],
)
def test_what_devices_cannot_share_is_refused_with_what_to_type(asked, said: str, tmp_path):
    evaluation(tmp_path, *asked)
    with pytest.raises(ConfigError) as refused:
        evaluation(tmp_path, *asked, *SEVERAL)
    (mistake,) = refused.value.mistakes
    assert mistake.where == "trainer.devices"
    assert said in mistake.why
    assert "trainer.devices=1 trainer.nodes=1" in mistake.action


@pytest.fixture
def command(tmp_path: Path) -> Evaluation:
    return evaluation(tmp_path, "model=nano", *SEVERAL)


@pytest.fixture
def begun(monkeypatch) -> list[Any]:
    """Files that ranks were begun on; they end by what stands last, and leave nothing."""
    found: list[Any] = [Ended(2, False, False, "")]

    def watch(file: Path, *_: Any) -> Ended:
        found.insert(0, yaml.safe_load(file.read_text()))
        return found[-1]

    monkeypatch.setattr(score_group, "watch", watch)
    return found


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (Ended(2, False, False, ""), 2),
        (Ended(1, False, False, ""), 2),
        (Ended(-9, False, False, ""), 2),
        (Ended(143, False, True, ""), 143),
        (Ended(0, False, False, ""), 2),  # it says that all is well, and there are no scores
    ],
)
def test_ranks_that_leave_no_scores_end_the_command(command, begun, ended: Ended, code: int):
    begun[-1] = ended
    with pytest.raises(SystemExit) as left:
        score_by_group(command, subject_of(command))
    assert left.value.code == code
    assert len(begun) == 2


def test_the_ranks_read_the_very_command(command: Evaluation, begun: list[Any]):
    with pytest.raises(SystemExit):
        run_evaluation(command)
    asked = begun[0]
    assert build(asked["cell"]) == command
    assert asked["part"] == "scores"
    assert asked["key"] == key_of(command)
    assert asked["command"][0] == "evaluate.py"


def test_what_is_scored_or_needs_no_model_begins_no_ranks(command, begun, tmp_path, monkeypatch):
    def read(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("heed.study.evaluation.scores_of", read)
    summary = subject_of(command).directory(command.suite) / "summary.json"
    summary.parent.mkdir(parents=True)
    summary.touch()
    score_by_group(command, subject_of(command))
    for asked in (command, evaluation(tmp_path, "control=sure", "suite=play", *SEVERAL)):
        with pytest.raises(KeyboardInterrupt):
            run_evaluation(asked)
    assert len(begun) == 1


def test_two_commands_share_a_file_only_if_they_make_the_same_scores(command, tmp_path):
    def of(asked: Evaluation) -> Path:
        return file_of(asked, subject_of(asked))

    again = evaluation(tmp_path, "model=nano", "trainer.devices=3")
    longer = replace(command, suite=replace(command.suite, max_new_tokens=9))
    assert of(again) == of(command)
    assert of(longer) != of(command)


def test_a_child_scores_as_asked_or_refuses_another_command(command, begun, monkeypatch, tmp_path):
    scored: list[Evaluation] = []
    monkeypatch.setattr(score_group, "score_as_asked", scored.append)
    monkeypatch.setattr("sys.argv", ["pytest"])
    alone = replace(command, trainer=replace(command.trainer, devices=1))
    asked = score_group.asked_of_ranks(alone)
    file = tmp_path / "scores.yaml"
    file.write_text(yaml.safe_dump(asked))
    assert child(file) == 0
    assert scored == [alone]
    file.write_text(yaml.safe_dump({**asked, "key": ["nano", "0" * 12]}))
    assert child(file) == 2
    assert scored == [alone]


@pytest.mark.slow
def test_a_run_is_scored_by_two_ranks_as_it_was_by_one(finished: Finished, tmp_path: Path):
    cell = finished.copy(tmp_path)
    there = finished.run / "scores" / "play"
    shutil.rmtree(cell.directory / "scores")
    settings = ("suite=play", "suite.max_new_tokens=4", "suite.resamples=100", "trainer.threads=1")
    line = [sys.executable, "evaluate.py", f"run='{cell.run.id}'", *settings, *SEVERAL]
    done = subprocess.run(
        [*line, f"outputs={tmp_path}"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "on 2 ranks" in done.stdout
    here = cell.directory / "scores" / "play"
    for name in ("items.jsonl", "summary.json", "events.json", "fingerprint.json"):
        assert (here / name).read_bytes() == (there / name).read_bytes(), name
    assert (
        read_json(here / "manifest.json")["ranks"],
        read_json(there / "manifest.json")["ranks"],
    ) == (2, 1)
    assert [path.name for path in here.parent.iterdir()] == ["play"], "no journal"
