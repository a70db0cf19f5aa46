"""A study through a real SLURM: jobs that are put back into the queue or cancelled lose nothing."""

import csv
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster

from heed.core.files import read_json, read_jsonl

Process = subprocess.Popen[bytes]
pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
STEPS = 150
STUDY = (
    "study=playground", "study.axes.model=[nano]", "study.axes.lr=[play_gentle]", "also=none",
    "model.architecture.hidden=16", "model.architecture.ffn=16", "model.architecture.heads=2",
    "model.architecture.kv_heads=2", "model.pretraining.data.steps=2",
    "model.pretraining.teacher.documents=200", "suite.max_new_tokens=4", "suite.resamples=100",
    "trainer.threads=1", "debug=fast", f"data.steps={STEPS}",
)  # fmt: skip
READY = ("hydra/launcher=slurm_gpu", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1")
PATIENCE = 400  # seconds until a test counts as hung
ONE = "study.axes.teacher=[play_clear]"
AT_LIMIT = "scancel --signal=USR2"  # what SLURM does some time before a job's limit
BOTH = {"play_clear": 1, "play_sloppy": 1}


@dataclass(frozen=True)
class Sweep:
    """Commands of one study that share their outputs."""

    cluster: Cluster
    outputs: Path

    def start(self, name: str, *more: str) -> Process:
        line = [sys.executable, "sweep.py", *STUDY, f"outputs={self.outputs}", *more]
        with self._log(name).open("wb") as log:
            env = self.cluster.env | {"OMP_NUM_THREADS": "1"}
            return subprocess.Popen(line, cwd=ROOT, env=env, stdout=log, stderr=log)

    def said(self, name: str) -> str:
        return self._log(name).read_text()

    def all_said(self) -> str:
        """What the commands, their cells and their jobs have said, for who looks for a mistake."""
        logs = [*self.outputs.parent.glob(f"{self.outputs.name}-*.txt")]
        logs += [
            *self.outputs.glob("cells/*.log"),
            *self.outputs.glob("multirun/.submitit/*/*_log.*"),
        ]
        return "\n".join(f"--- {log}\n{log.read_text()}" for log in sorted(logs))

    def _log(self, name: str) -> Path:
        return self.outputs.with_name(f"{self.outputs.name}-{name}.txt")

    def count(self, event: str) -> Counter[str]:
        ledger = self.outputs / "ledger.jsonl"
        entries = read_jsonl(ledger) if ledger.is_file() else []
        return Counter(entry["teacher"] for entry in entries if entry["event"] == event)

    def begins(self, teacher: str) -> bool:
        """Whether the process of a cell has begun."""
        return any(self.outputs.glob(f"cells/nano-{teacher}-lora-*.log"))

    def trains(self, teacher: str) -> bool:
        """Whether the training of a cell is under way."""
        metrics = self.outputs.glob(f"runs/nano-{teacher}-lora-*/metrics.jsonl")
        return any(path.read_bytes().count(b'"loss"') > 5 for path in metrics)

    def resumed(self, teacher: str) -> list[int]:
        """The steps from which a training went on."""
        (manifest,) = self.outputs.glob(f"runs/nano-{teacher}-lora-*/manifest.json")
        fit: dict[str, Any] = read_json(manifest)["fit"]
        assert fit["optimiser_steps"] == STEPS
        return fit["resumed"]

    def job_log(self, teacher: str, ending: str) -> str:
        """What a job has said that ran a cell."""
        return self._job_log(teacher).with_suffix(f".{ending}").read_text()

    def job_of(self, teacher: str) -> str:
        """The number of the job that runs a cell."""
        return self._job_log(teacher).parent.name

    def _job_log(self, teacher: str) -> Path:
        logs = (self.outputs / "multirun/.submitit").glob("*/*_log.err")
        (found,) = [log for log in logs if f"start nano-{teacher}-lora" in log.read_text()]
        return found

    @property
    def table(self) -> list[dict[str, str]]:
        with (self.outputs / "studies/playground/table.csv").open() as file:
            return list(csv.DictReader(file))


Disturbance = tuple[Callable[[Sweep, str], bool], str]
"""When to do something to the job of a cell, and what."""


@dataclass
class Told:
    """One study whose jobs were put back into the queue, one that was cancelled, one left alone."""

    disturbed: Sweep
    cancelled: Sweep
    alone: Sweep


@pytest.fixture(scope="module")
def told(slurm: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    folder = tmp_path_factory.mktemp("outputs")
    told = Told(*(Sweep(slurm, folder / name) for name in ("disturbed", "cancelled", "alone")))
    begun: dict[Sweep, Process] = {}
    todo = {
        (told.disturbed, "play_clear"): (Sweep.trains, "scontrol requeue"),
        (told.disturbed, "play_sloppy"): (Sweep.trains, AT_LIMIT),
        (told.cancelled, "play_clear"): (Sweep.begins, "scancel"),
    }
    try:
        begun[told.alone] = told.alone.start("first", "hydra/launcher=basic")
        begun[told.disturbed] = told.disturbed.start("first", *READY)
        begun[told.cancelled] = told.cancelled.start("first", ONE, "hydra/launcher=submitit_slurm")
        disturb(todo, begun)
        codes = [begun[told.cancelled].wait(PATIENCE)]
        codes += [told.cancelled.start("second", ONE).wait(PATIENCE)]
        codes += [begun[sweep].wait(PATIENCE) for sweep in (told.disturbed, told.alone)]
        assert codes == [2, 0, 0, 0], "\n".join([*map(str, codes), *(s.all_said() for s in begun)])
        yield told
    finally:
        for process in begun.values():
            process.kill()
            process.wait()


def disturb(todo: dict[tuple[Sweep, str], Disturbance], begun: Mapping[Sweep, Process]) -> None:
    """Do something to each job as soon as it is under way."""
    end = time.monotonic() + PATIENCE
    while todo:
        for sweep, teacher in list(todo):
            is_due, command = todo[sweep, teacher]
            if is_due(sweep, teacher):
                sweep.cluster.tell(*command.split(), sweep.job_of(teacher))
                del todo[sweep, teacher]
            else:
                assert begun[sweep].poll() is None, sweep.all_said()
        assert time.monotonic() < end, f"no training was seen: {list(todo)}"
        time.sleep(0.05)


def test_a_job_that_is_put_back_into_the_queue_goes_on_from_its_checkpoint(told: Told):
    assert told.disturbed.count("stopped") == BOTH
    for teacher in BOTH:
        (step,) = told.disturbed.resumed(teacher)
        assert 0 < step < STEPS
        said = told.disturbed.job_log(teacher, "out")
        assert said.count("Starting with JobEnvironment") == 2, "the same job, twice"


def test_a_cancelled_job_ends_the_waiting_and_the_same_command_goes_on(told: Told):
    assert "The same command goes on with what is not finished." in told.cancelled.said("first")
    assert told.cancelled.count("stopped") == {"play_clear": 1}
    assert told.cancelled.count("done") == {"play_clear": 1}


def test_no_cell_is_finished_twice(told: Told):
    assert told.disturbed.count("done") == told.alone.count("done") == BOTH
    assert not told.disturbed.count("failed") + told.cancelled.count("failed")


def test_the_table_is_that_of_a_study_that_was_left_alone(told: Told):
    assert len(told.alone.table) == 2
    assert told.disturbed.table == told.alone.table
    assert [told.alone.resumed(teacher) for teacher in BOTH] == [[], []]


def test_the_ready_launcher_asks_for_a_device_and_for_going_back_into_the_queue(told: Told):
    scripts = (told.disturbed.outputs / "multirun/.submitit").glob("*/*_submission.sh")
    asked = [path.read_text() for path in scripts]
    assert asked
    for text in asked:
        assert "#SBATCH --gpus-per-node=1\n" in text
        assert "#SBATCH --requeue\n" in text


def test_what_slurm_refuses_is_one_screen_and_fails_no_cell(slurm: Cluster, tmp_path: Path):
    sweep = Sweep(slurm, tmp_path / "refused")
    wrong = ("hydra/launcher=submitit_slurm", "hydra.launcher.partition=none_such")
    assert sweep.start("only", *wrong).wait(PATIENCE) == 2
    assert "invalid partition specified: none_such" in sweep.said("only")
    assert "Traceback" not in sweep.said("only")
    assert not sweep.count("failed")


def test_a_cluster_leaves_no_process_even_of_a_job_that_ignores_its_end(tmp_path: Path, slurm):
    cluster = Cluster(tmp_path)
    cluster.start()
    stubborn = "trap '' TERM; touch begun; while true; do sleep 0.1; done"
    cluster.tell("sbatch", f"--chdir={tmp_path}", "--output=/dev/null", f"--wrap={stubborn}")
    end = time.monotonic() + 30
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert cluster.processes()
    cluster.stop()
    assert not cluster.processes()
    assert slurm.tell("sinfo", "--noheader", "--format=%a") == "up", "the other one is left alone"
