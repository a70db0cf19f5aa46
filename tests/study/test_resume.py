"""A scoring whose process is killed goes on at the first question that was not answered yet."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import ROOT, STUDENT, TINY, Finished, evaluation

from heed.core.files import read_json, read_jsonl
from heed.evaluation.journal import Journal
from heed.study.evaluation import run_evaluation
from heed.study.run_cell import run_cell

SLOWLY = ("suite.backend.rows=1", "suite.backend.batch_tokens=1")  # in no identity
KEPT = "answer kept from an interrupted scoring"


def kill_while_it_scores(folder: Path, name: str, *line: str) -> list[dict]:
    """Start a command, kill it as soon as its journal holds answers; the answers."""
    process = subprocess.Popen(
        [sys.executable, *line, *SLOWLY],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(60_000):
        found = list(folder.glob(f"{name}.answers-*.jsonl"))
        if found and found[0].read_bytes().count(b"\n") >= 5:
            break
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (folder / name / "summary.json").exists()
    whole = found[0].read_bytes().rpartition(b"\n")[0] + b"\n"
    found[0].write_bytes(whole + b'{"task": "play_fol')  # as if it had died within a line
    return rows_of(whole)


def rows_of(text: bytes) -> list[dict]:
    """The whole lines of a journal."""
    return [json.loads(line) for line in text.split(b"\n") if line.endswith(b"}")]


def keep_journals(monkeypatch: pytest.MonkeyPatch) -> list[Journal]:
    """Journals are not removed, but remembered."""
    kept: list[Journal] = []
    monkeypatch.setattr(Journal, "remove", lambda journal: kept.append(journal))
    return kept


def asked_once(journal: Journal) -> bool:
    keys = [(row["task"], row["key"]) for row in rows_of(journal.path.read_bytes())]
    return len(keys) == len(set(keys)) > 500


@pytest.mark.slow
def test_evaluate_goes_on_where_it_was_killed(finished: Finished, tmp_path, monkeypatch, capsys):
    finished.copy(tmp_path)
    (base,) = (tmp_path / "baselines").glob("nano--play--*")
    shutil.rmtree(base)
    line = ["evaluate.py", "model=nano", *STUDENT, f"outputs={tmp_path}"]
    answers = kill_while_it_scores(base.parent, base.name, *line)
    kept = keep_journals(monkeypatch)
    run_evaluation(evaluation(tmp_path, "model=nano", *STUDENT))
    assert f"{len(answers)} answers of an interrupted scoring are kept" in capsys.readouterr().err
    assert read_json(base / "events.json")[KEPT] == len(answers)
    assert asked_once(kept[0])
    whole = finished.root / finished.result["before"]
    assert read_jsonl(base / "items.jsonl") == read_jsonl(whole / "items.jsonl")


@pytest.mark.slow
def test_train_goes_on_where_its_scoring_was_killed(finished: Finished, tmp_path, monkeypatch):
    here = finished.copy(tmp_path)
    scores = here.directory / "scores"
    shutil.rmtree(scores)
    answers = kill_while_it_scores(scores, "play", "train.py", *TINY, f"outputs={tmp_path}")
    run_cell(here)
    assert read_json(scores / "play/events.json")[KEPT] == len(answers)
    assert read_json(scores / "play/result.json")["deltas"] == finished.result["deltas"]
    assert read_json(scores / "play/result.json")["also"] == finished.result["also"]
    left = sorted(path.name for path in scores.iterdir())
    assert left == ["play", "play.text@plain"], "the journals are gone"
