"""The kept steps of a run are found as the training recorded them, or it is said what is wrong."""

import json
from pathlib import Path

import pytest
from tiny import cell

from heed.core.errors import RunError
from heed.core.files import write_yaml
from heed.study.runs import TrainedRun, read_run
from heed.study.steps import KeptStep, kept_steps, last_step, not_kept, recorded_steps
from heed.training.callbacks import KeepSteps, step_directory


def run_at(directory: Path, fit: object) -> TrainedRun:
    write_yaml(directory / "config.yaml", {"model": {}})
    (directory / "model").mkdir(exist_ok=True)
    manifest = {"run": 12 * "a", "time": "now", "code": "x", "fit": fit}
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return read_run(directory)


@pytest.fixture
def run(tmp_path: Path) -> TrainedRun:
    for step in (2, 9):
        step_directory(tmp_path, step).mkdir(parents=True)
    return run_at(tmp_path, {"optimiser_steps": 12, "kept_steps": [2, 9]})


def test_kept_steps_are_those_of_the_record_and_not_what_lies_about(run: TrainedRun):
    step_directory(run.directory, 5).mkdir(parents=True)
    assert (kept_steps(run), last_step(run)) == ([2, 9], 12)


def test_the_last_step_is_that_of_the_student_that_was_taken(tmp_path: Path):
    """What was kept of later steps is no part of the way to it."""
    for step in (2, 9):
        step_directory(tmp_path, step).mkdir(parents=True)
    fit = {"optimiser_steps": 12, "kept_steps": [2, 9], "taken": {"step": 9}}
    assert (kept_steps(run_at(tmp_path, fit)), last_step(run_at(tmp_path, fit))) == ([2], 9)


def test_a_kept_step_that_is_gone_is_said_so(run: TrainedRun):
    step_directory(run.directory, 9).rmdir()
    with pytest.raises(RunError, match=r"at step 9, but .*model is gone"):
        kept_steps(run)
    assert recorded_steps(run) == [2, 9]


def test_a_run_of_before_kept_none(tmp_path: Path):
    assert kept_steps(run_at(tmp_path, {"optimiser_steps": 3})) == []


@pytest.mark.parametrize("fit", [None, {}, [1]])
def test_a_manifest_that_does_not_say_how_long_is_refused(tmp_path: Path, fit: object):
    with pytest.raises(RunError, match=r"has no fit\.optimiser_steps"):
        last_step(run_at(tmp_path, fit))


def test_steps_that_a_finished_run_lacks_are_told_of(run: TrainedRun):
    def told(*steps: int):
        return not_kept(run.directory, {"keep": KeepSteps(steps=steps)})

    assert told() is None
    assert told(2, 9) is None
    assert told(12, 13) is None  # the last is model/ itself, and none comes after it
    said = told(2, 3, 4, 99)
    assert said is not None
    assert "without keeping step 3, 4." in said
    assert str(run.directory) in said


def test_a_step_has_scores_of_its_own_and_the_lock_of_its_run(run: TrainedRun, tmp_path: Path):
    suite = cell(tmp_path).suite
    subjects = [KeptStep(run, "cpu", step) for step in (2, 9)]
    places = [subject.directory(suite) for subject in subjects]
    assert places[0] == run.directory / "steps/2/scores" / suite.name
    assert len({*places}) == 2
    assert len({subject.lock_file(suite) for subject in subjects}) == 1
    assert [subject.identity["step"] for subject in subjects] == [2, 9]
    assert "after step 9" in subjects[1].title
    assert "step 9" in subjects[1].facts["run"]


def test_kept_steps_are_not_in_the_run_id(tmp_path: Path):
    assert cell(tmp_path, "callbacks.keep.steps=[1,2]").run.id == cell(tmp_path).run.id
