"""A scoring as a job of all ranks: what travels to them, and what they refuse."""

import pickle
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from tiny import Finished, cell

from heed.core.compose import compose_component
from heed.core.errors import RunError
from heed.models.backend import VLLMBackend
from heed.models.student import Loaded
from heed.study import bases, score_job
from heed.study.bases import Untuned
from heed.study.run_cell import surroundings
from heed.study.runs import read_run
from heed.study.score_job import Score, share_out
from heed.study.scores import ModelSubject
from heed.study.steps import KeptStep
from heed.study.subjects import Tuned
from heed.training.run import base_run

ROOT = Path(__file__).resolve().parents[2]
SUITES = sorted(path.stem for path in (ROOT / "conf" / "suite").glob("*.yaml"))


def untuned(root: Path) -> Untuned:
    """The base of the tiny cell, in the surroundings of its run."""
    tiny = cell(root)
    return Untuned(tiny.model, surroundings(tiny), tiny.root)


@pytest.mark.parametrize("suite", SUITES)
def test_every_suite_travels_to_other_ranks_as_it_is(suite: str, tmp_path: Path):
    there = compose_component(
        ROOT / "conf", "evaluate", ("control=sure", f"suite={suite}", f"outputs={tmp_path}")
    ).suite
    assert pickle.loads(pickle.dumps(there)) == there


def test_an_untuned_student_travels_without_what_watches_its_pretraining(tmp_path: Path):
    here = untuned(tmp_path)
    assert here.around.callbacks
    job = pickle.loads(pickle.dumps(Score(here.for_ranks(), cell(tmp_path).suite)))
    assert (job.subject.student, job.subject.root) == (here.student, here.root)
    assert job.subject.around.trainer == here.around.trainer
    around = job.subject.around
    assert (around.callbacks, around.score, around.ask) == ({}, None, None)


SUBJECTS: dict[str, Callable[[Any], ModelSubject]] = {
    "tuned": lambda run: Tuned(run, "cpu"),
    "kept step": lambda run: KeptStep(run, "cpu", 1),
}


@pytest.mark.slow
@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)
def test_what_stands_in_a_run_travels_as_it_is(subject, finished: Finished):
    here = subject(read_run(finished.run))
    assert here.run.student.name, "what is found once is kept in the run, and travels too"
    there = pickle.loads(pickle.dumps(here.for_ranks()))
    assert there == here
    assert there.directory(finished.cell.suite) == here.directory(finished.cell.suite)


def test_a_rank_that_does_not_lead_makes_no_base_but_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.setattr(bases, "leads", lambda: False)
    monkeypatch.setattr(bases, "rank", lambda: 3)
    monkeypatch.setattr(bases, "_pretrain", None)
    here = untuned(tmp_path)
    with pytest.raises(RunError, match=r"rank 3: there is no .*DONE.*shared folder"):
        here.load()
    run = base_run(here.student)
    assert run is not None
    assert not (tmp_path / "runs" / run.directory).exists(), "neither base nor lock"


class Noting(ModelSubject):
    """Notes what is asked of it."""

    title, facts, identity = "noting", {}, {}

    def __init__(self, noted: list[Any]):
        self.noted = noted

    def directory(self, suite: Any) -> Path:
        raise AssertionError

    def load(self) -> Loaded:
        raise AssertionError

    def make(self) -> None:
        self.noted.append("made")

    def for_ranks(self) -> ModelSubject:
        return Noting([])


def test_the_model_is_on_disk_before_the_others_are_called(tmp_path, monkeypatch):
    noted: list[Any] = []
    suite = cell(tmp_path).suite
    monkeypatch.setattr(score_job, "call", noted.append)
    assert not share_out(Noting(noted), suite)
    assert noted == [], "one process alone makes it as it loads it"
    monkeypatch.setattr(score_job, "world", lambda: 2)
    assert share_out(Noting(noted), suite)
    made, job = noted
    assert made == "made"
    assert job.suite is suite
    assert {f.name for f in fields(job)} == {"subject", "suite"}
    assert job.subject.noted == []


def test_a_backend_that_begins_processes_of_its_own_calls_nobody(tmp_path, monkeypatch):
    noted: list[Any] = []
    monkeypatch.setattr(score_job, "call", noted.append)
    monkeypatch.setattr(score_job, "world", lambda: 2)
    suite = replace(cell(tmp_path).suite, backend=VLLMBackend(gpu_share=0.5, compared=1))
    with pytest.raises(RunError, match=r"VLLMBackend.*one of 2 ranks.*trainer\.devices=1"):
        share_out(Noting(noted), suite)
    assert noted == []
