"""Jobs of a SLURM are waited for while the queue has them, and not longer."""

import os
import threading

import pytest
from hydra_plugins.hydra_submitit_launcher.config import LocalQueueConf, SlurmQueueConf
from omegaconf import OmegaConf
from submitit.core.utils import FailedSubmissionError, UncompletedJobError

from heed.core.errors import RunError
from hydra_plugins.heed_study import slurm_queue
from hydra_plugins.heed_study.slurm_queue import begin_once, jobs_in_queue, name_jobs, wait_for
from hydra_plugins.heed_study.sweeper import hand_on_gpus, is_local, keep_from_ctrl_c

LOST = UncompletedJobError("has not produced any output")


@pytest.fixture
def queue(monkeypatch):
    """A queue whose answers are given; the last is repeated. It counts how often it was asked."""
    asked: list[str] = []

    def answers(*counts: int | None) -> list[str]:
        def told(name: str) -> int | None:
            asked.append(name)
            return counts[min(len(asked), len(counts)) - 1]

        monkeypatch.setattr(slurm_queue, "jobs_in_queue", told)
        return asked

    for name, seconds in (("POLL", 0.001), ("QUIET", 0.01), ("UNSEEN", 0.05)):
        monkeypatch.setattr(slurm_queue, f"{name}_SECONDS", seconds)
    return answers


@pytest.fixture
def for_ever():
    """A launch that never comes back."""
    never = threading.Event()
    yield never.wait
    never.set()


def fails(error: Exception):
    def launch() -> None:
        raise error

    return launch


def test_a_launch_that_comes_back_is_waited_for_however_the_queue_looks(queue, monkeypatch):
    queue(0)
    monkeypatch.setattr(slurm_queue, "UNSEEN_SECONDS", 60.0)
    done = threading.Event()
    threading.Timer(0.1, done.set).start()
    wait_for(done.wait, "jobs")
    assert done.is_set()


def test_jobs_that_left_the_queue_without_a_word_are_waited_for_no_more(queue, for_ever):
    silent = 50  # times the queue does not answer: far longer than jobs would be waited for
    asked = queue(None, 2, 1, *[None] * silent, 0)
    wait_for(for_ever, "jobs")
    assert len(asked) > silent + 3
    assert set(asked) == {"jobs"}


def test_jobs_that_the_queue_never_shows_are_given_more_time(queue, for_ever, monkeypatch):
    monkeypatch.setattr(slurm_queue, "QUIET_SECONDS", 0.0)
    seen = queue(1, 0)
    wait_for(for_ever, "jobs")
    assert len(seen) == 2
    seen.clear()
    queue(0)
    wait_for(for_ever, "jobs")
    assert len(seen) > 5


def test_one_lost_job_ends_no_waiting_for_the_others(queue, monkeypatch):
    asked, slept = queue(2, 2, 1, None, 1, 0), []
    monkeypatch.setattr("time.sleep", slept.append)
    with pytest.raises(UncompletedJobError):
        wait_for(fails(LOST), "jobs")
    assert len(asked) == 6
    assert len(slept) >= 5, "the queue is not asked without a pause"


def test_jobs_that_were_all_lost_before_one_looked_are_no_mistake_of_the_settings(queue):
    queue(0)
    with pytest.raises(UncompletedJobError):
        wait_for(fails(LOST), "jobs")


def test_settings_that_slurm_refuses_are_told_in_its_words(queue):
    queue(0)
    refused = FailedSubmissionError("sbatch: error: invalid partition specified: gpuu")
    with pytest.raises(RunError, match=r"(?s)invalid partition.*hydra\.launcher.*Nothing was run"):
        wait_for(fails(refused), "jobs")


def test_who_stops_waiting_is_told_how_to_end_the_jobs(queue, for_ever, monkeypatch, capsys):
    queue(1)

    def stopped(name: str) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(slurm_queue, "jobs_in_queue", stopped)
    with pytest.raises(KeyboardInterrupt):
        wait_for(for_ever, "sweep-1")
    assert "scancel --name=sweep-1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "count"), [("echo 7_0; echo 7_1", 2), ("", 0), ("exit 1", None)]
)
def test_the_queue_is_asked_by_name(tmp_path, monkeypatch, script, count):
    lines = f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n{script}\n'
    (tmp_path / "squeue").write_text(lines)
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert jobs_in_queue("sweep-1") == count
    assert "--name=sweep-1" in (tmp_path / "asked").read_text()


def test_a_machine_without_slurm_tells_nothing_of_its_queue(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert jobs_in_queue("sweep-1") is None


def test_only_jobs_of_a_slurm_are_given_a_name_of_their_own():
    slurm = OmegaConf.create({"_target_": "a.submitit_launcher.SlurmLauncher", "name": "my, study"})
    names = {name_jobs(slurm.copy()) for _ in range(20)}
    assert len(names) == 20
    assert name_jobs(slurm) == slurm.name
    assert slurm.name.startswith("my--study-")
    local = OmegaConf.create({"_target_": "a.submitit_launcher.LocalLauncher", "name": "mine"})
    assert name_jobs(local) is None
    assert local.name == "mine"


def test_ctrl_c_is_kept_from_who_watches_a_job_of_this_machine():
    """The setting is not one of the launcher's plug-in; to SLURM's jobs no Ctrl-C comes."""
    launcher = OmegaConf.structured(LocalQueueConf())
    OmegaConf.set_struct(launcher, True)
    keep_from_ctrl_c(launcher)
    assert launcher.setup == ["trap '' INT", "trap : EXIT"]
    assert [is_local(OmegaConf.structured(c)) for c in (LocalQueueConf, SlurmQueueConf)] == [1, 0]


@pytest.mark.parametrize(("shown", "told"), [(None, "all"), ("", ""), ("2,1", "2,1")])
def test_a_job_of_this_machine_is_told_which_gpus_its_command_is_shown(monkeypatch, shown, told):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("HEED_SHOWN_GPUS", "of another command")
    if shown is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    hand_on_gpus()
    assert os.environ["HEED_SHOWN_GPUS"] == told


@pytest.mark.parametrize(
    ("nodes", "tasks", "args"),
    [(1, 1, None), (2, 1, ["--nodes=1", "--ntasks=1"]), (1, 4, ["--nodes=1", "--ntasks=1"])],
)
def test_a_job_of_several_machines_begins_its_cell_once(nodes, tasks, args):
    """The setting is not one of the launcher's plug-in, which refuses what it does not know."""
    launcher = OmegaConf.structured(SlurmQueueConf(nodes=nodes, tasks_per_node=tasks))
    OmegaConf.set_struct(launcher, True)
    begin_once(launcher)
    assert launcher.get("srun_args") == args
    local = OmegaConf.structured(LocalQueueConf(nodes=2))
    begin_once(local)
    assert local.get("srun_args") is None
