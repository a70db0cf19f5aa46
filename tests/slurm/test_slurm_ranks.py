"""Ranks on two nodes of a real SLURM: told apart, ended together, put back, and none is lost."""

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster import Cluster
from test_slurm import ONE, PATIENCE, ROOT, STEPS, Process, Sweep

from heed.core.files import read_jsonl

pytestmark = pytest.mark.slow
TWO_NODES = (
    "hydra/launcher=slurm_nodes", "trainer.nodes=2", "hydra.launcher.cpus_per_task=2",
    "hydra.launcher.mem_gb=1", "hydra.launcher.gpus_per_node=1",
    "callbacks.checkpoints.every_steps=10",
)  # fmt: skip
TEACHER = "play_clear"


@dataclass
class Told:
    """A cell of two nodes: a rank was killed, later its job was put back; and one left alone."""

    disturbed: Sweep
    alone: Sweep
    first: str


@pytest.fixture(scope="module")
def told(slurm: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    folder = tmp_path_factory.mktemp("ranks")
    disturbed, alone = (Sweep(slurm, folder / name) for name in ("disturbed", "alone"))
    begun = [alone.start("only", ONE)]
    try:
        begun.append(disturbed.start("first", ONE, *TWO_NODES))
        wait_for(lambda: len(ranks_of(disturbed)) == 2, disturbed, begun[-1])
        os.kill(ranks_of(disturbed)[1], signal.SIGKILL)
        codes = [begun[-1].wait(PATIENCE)]
        first = log_of(disturbed)
        begun.append(disturbed.start("second", ONE, *TWO_NODES, "retry=failed"))
        wait_for(lambda: steps(disturbed) > 20, disturbed, begun[-1])
        disturbed.cluster.tell("scontrol", "requeue", job_of(disturbed))
        codes += [process.wait(PATIENCE) for process in (begun[-1], begun[0])]
        assert codes == [2, 0, 0], f"{codes}\n{disturbed.all_said()}\n{alone.all_said()}"
        yield Told(disturbed, alone, first)
    finally:
        for process in begun:
            process.kill()
            process.wait()


def wait_for(what: Callable[[], bool], sweep: Sweep, process: Process) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert process.poll() is None, sweep.all_said()
        assert time.monotonic() < end, sweep.all_said()
        time.sleep(0.05)


def steps(sweep: Sweep) -> int:
    metrics = sweep.outputs.glob(f"runs/nano-{TEACHER}-lora-*/metrics.jsonl")
    return max((row.get("step", 0) for path in metrics for row in read_jsonl(path)), default=0)


def log_of(sweep: Sweep) -> str:
    """What the ranks of the cell have said."""
    (log,) = sweep.outputs.glob(f"cells/nano-{TEACHER}-lora-*.log")
    return log.read_text()


def ranks_of(sweep: Sweep) -> dict[int, int]:
    """The processes of the ranks that are alive, by rank."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{sweep.outputs}/cells".encode() in (folder / "cmdline").read_bytes():
                said = dict(
                    line.partition("=")[::2]
                    for line in (folder / "environ").read_text(errors="replace").split("\0")
                )
                if "HEED_RANKS_BY_SRUN" in said and "SLURM_PROCID" in said:
                    found[int(said["SLURM_PROCID"])] = int(folder.name)
    return found


def job_of(sweep: Sweep) -> str:
    """The number of the newest job that runs the cell."""
    logs = (sweep.outputs / "multirun/.submitit").glob("*/*_log.err")
    return str(max(int(log.parent.name) for log in logs if "start nano" in log.read_text()))


def test_a_rank_that_is_killed_ends_the_cell_with_its_name(told: Told):
    (entry,) = (
        row for row in read_jsonl(told.disturbed.outputs / "ledger.jsonl") if "log" in row
        and row["event"] == "failed"
    )  # fmt: skip
    assert entry["reason"] == "rank 1 of 2: Killed, on n2"
    assert "rank 1 of 2 failed first: Killed, on n2" in told.first


def test_the_ranks_are_on_two_nodes_and_have_one_config(told: Told):
    lines = [line for line in log_of(told.disturbed).splitlines() if " of 2 (node " in line]
    assert sorted(line.split(" (")[0] for line in lines) == ["[rank 1] rank 1 of 2", "rank 0 of 2"]
    assert {line.partition(" (")[2][:6] for line in lines} == {"node 0", "node 1"}
    assert len({line.rpartition(":")[2] for line in lines}) == 1


def test_a_job_that_is_put_back_goes_on_and_its_table_is_that_of_one_process(told: Told):
    (step,) = told.disturbed.resumed(TEACHER)
    assert 20 <= step < STEPS
    assert told.disturbed.count("done") == told.alone.count("done") == {TEACHER: 1}
    assert told.disturbed.count("stopped") == {TEACHER: 1}
    assert told.disturbed.table == told.alone.table


def test_no_rank_is_left(told: Told):
    end = time.monotonic() + 30
    while ranks_of(told.disturbed) and time.monotonic() < end:
        time.sleep(0.1)
    assert ranks_of(told.disturbed) == {}


RANK = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {src!r})
from heed.core.errors import StoppedError
from heed.study.child import end_with_supervisor
from heed.study.rank import as_rank, take_place
end_with_supervisor(None, take_place())
file, rank = Path(sys.argv[1]), os.environ["RANK"]
def stop(number, _):
    (file.parent / f"kept{{rank}}").touch()
    raise StoppedError("kept", number)
signal.signal(signal.SIGTERM, stop)
def work():
    (file.parent / f"up{{rank}}").write_text(str(os.getpid()))
    while (file.parent / "mode").read_text() != "raise" or rank == "0":
        time.sleep(0.05)
    raise ValueError("boom")
sys.exit(as_rank(file, work))
"""
LAUNCHER = """
import sys
from pathlib import Path
sys.path.insert(0, {src!r})
from heed.study import group
group.CHILD = ({rank!r},)
sys.exit(group.run_group(Path({file!r}), group.Size(1, 2)))
"""
DISTURB = """
import os, signal, subprocess, sys, time
from pathlib import Path
folder = Path({folder!r})
def srun():
    for process in Path("/proc").glob("[0-9]*"):
        line = (process / "cmdline").read_bytes().split(b"\\0")
        if line[0] == b"srun" and str(folder / "rank.py").encode() in line:
            return int(process.name)
for mode in ("raise", "ask", "srun", "launcher"):
    for name in ("up0", "up1", "kept0", "kept1"):
        (folder / name).unlink(missing_ok=True)
    (folder / "mode").write_text("wait")
    launcher = subprocess.Popen([sys.executable, folder / "launcher.py"], start_new_session=True)
    ups = [folder / name for name in ("up0", "up1")]
    while not all(up.exists() and up.read_text() for up in ups):
        time.sleep(0.05)
    pids = [int(up.read_text()) for up in ups]
    if mode == "raise":
        (folder / "mode").write_text("raise")
    elif mode == "ask":
        launcher.terminate()
    else:
        os.kill(srun() if mode == "srun" else launcher.pid, signal.SIGKILL)
    code = launcher.wait()
    while any(Path(f"/proc/{{pid}}").exists() for pid in pids):
        time.sleep(0.05)
    kept = [rank for rank in (0, 1) if (folder / f"kept{{rank}}").exists()]
    print(mode, code, *kept, flush=True)
print("over", flush=True)
"""


def test_whoever_ends_the_group_ends_and_may_keep_what_they_have(slurm: Cluster, tmp_path: Path):
    """A rank that raises, a wish to end, and the death of `srun` or of who has begun it.

    Without its `srun`, SLURM may kill a step before the ranks have kept what they have.
    """
    about = {
        "src": str(ROOT / "src"), "rank": str(tmp_path / "rank.py"), "folder": str(tmp_path),
        "file": str(tmp_path / "cell.yaml"),
    }  # fmt: skip
    for name, text in {"rank": RANK, "launcher": LAUNCHER, "disturb": DISTURB}.items():
        (tmp_path / f"{name}.py").write_text(text.format(**about))
    out = tmp_path / "out"
    line = f"srun --nodes=1 --ntasks=1 {sys.executable} {tmp_path / 'disturb.py'}"
    job = ["sbatch", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=2", f"--output={out}"]
    slurm.tell(*job, f"--wrap={line}")
    end = time.monotonic() + PATIENCE / 4
    while not (out.exists() and "\nover\n" in out.read_text()):
        assert time.monotonic() < end, out.read_text() if out.exists() else "it was not begun"
        time.sleep(0.1)
    said = out.read_text()
    for told in ("raise 1 0", "ask 143 0 1", "srun 137.*", "launcher -9 0 1"):
        assert re.search(f"^{told}$", said, re.MULTILINE), said
    assert said.count("rank 1 of 2 failed first: ValueError: boom\n") == 1
    assert "srun failed first: it ended with 137" in said
