"""Cells side by side never share a GPU, wait in line for theirs, and free them however they end."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest
from stubs import a_cell, begun, stub
from test_gpus import fake_smi

from heed.core.errors import RunError
from heed.study import devices, supervisor
from heed.study import gpus as counted
from heed.study.apart import Apart, see_through
from heed.study.devices import NOTHING, Claim, claimed
from heed.study.ledger import latest
from heed.study.wanted import key_of
from heed.training.trainer import TrainerSettings

NAMES = [f"GPU-{x}" for x in "abc"]
HIDDEN = {"CUDA_VISIBLE_DEVICES": "", "SUBMITIT_EXECUTOR": "local"}
"""What a job of `hydra/launcher=submitit_local` sees, whatever the command saw."""

TOLD = HIDDEN | {"HEED_SHOWN_GPUS": "all"}
"""The same of a sweep that was shown all."""

SETTINGS = {
    "devices": 1, "nodes": 1, "strategy": "ddp", "threads": 1, "deterministic": False,
    "activation_checkpointing": False, "compile": False, "arguments": {},
}  # fmt: skip


def trainer(accelerator: str = "gpu", **changes) -> TrainerSettings:
    return TrainerSettings(**SETTINGS | {"accelerator": accelerator} | changes)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of some GPUs, with nobody on them."""
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "SLURM_JOB_ID", "SUBMITIT_EXECUTOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(devices.tempfile, "tempdir", None)
    monkeypatch.setattr(counted, "DRIVER", tmp_path / "no driver")
    monkeypatch.setattr(devices, "LOOK_SECONDS", 0.01)

    def make(count: int, slices: int = 0) -> None:
        lines = [f"GPU {n}: NVIDIA H200 (UUID: {NAMES[n]})" for n in range(count)]
        lines += [f"  MIG 1g.10gb  Device {n}: (UUID: MIG-{n})" for n in range(slices)]
        fake_smi(tmp_path / "bin", "".join(f"echo '{line}'\n" for line in lines), monkeypatch)

    return make


def seen(claim: Claim | None) -> list[str]:
    assert claim is not None
    return claim.environment["CUDA_VISIBLE_DEVICES"].split(",")


def never() -> bool:
    return False


def times(count: int):
    """Go on waiting so many times."""
    looks = iter([True] * count + [False] * 9)
    return lambda: next(looks)


def test_two_cells_have_a_gpu_each_and_a_third_waits(machine, capfd):
    machine(2)
    with claimed(trainer(), "one") as one, claimed(trainer(), "two") as two:
        assert (seen(one), seen(two)) == (["0"], ["1"])
        with claimed(trainer(), "three", times(2)) as three:
            assert three is None
        said = capfd.readouterr().err
    assert said.splitlines() == [
        "three: waiting for 1 of 2 GPUs; other cells hold too many of them"
    ]
    with claimed(trainer(devices="all"), "again") as both:
        assert seen(both) == ["0", "1"]
        assert both.environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_nothing_is_begun_where_nothing_is_to_be(machine):
    machine(1)
    with claimed(trainer(), "one", never) as claim:
        assert claim is None


@pytest.mark.parametrize(
    ("wanted", "environment"),
    [
        (trainer("cpu", devices=2), {}),
        (trainer("mps"), {}),
        (trainer("auto"), {"CUDA_VISIBLE_DEVICES": ""}),
        (trainer(nodes=2), {}),
        (trainer(devices=2), {"SLURM_JOB_ID": "7"}),
        (trainer(devices="all"), {"SLURM_JOB_ID": "7"}),
    ],
    ids=["cpu", "mps", "none seen", "nodes", "srun", "srun all"],
)
def test_nothing_is_claimed_for_what_has_no_gpu_or_is_given_them(
    machine, monkeypatch, wanted, environment
):
    machine(1)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with claimed(wanted, "x", never) as claim:
        assert claim is NOTHING


def test_nothing_is_claimed_where_nvidia_has_no_driver(machine, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with claimed(trainer(), "x", never) as claim:
        assert claim is NOTHING


def test_an_open_choice_takes_a_gpu_where_there_is_one(machine):
    machine(1)
    with claimed(trainer("auto"), "x") as claim:
        assert seen(claim) == ["0"]


@pytest.mark.parametrize(
    ("visible", "places"),
    [(None, [["0"], ["1"], ["2"]]), ("2,1", [["2"], ["1"]]), ("GPU-c,GPU-a", [["2"], ["0"]])],
)
def test_a_cell_is_shown_places_in_the_machine_whatever_its_launcher_was_shown(
    machine, monkeypatch, visible, places
):
    """Of what its launcher sees, 2 may be the first; the cell's own variable replaces that."""
    machine(3)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with ExitStack() as stack:
        claims = [stack.enter_context(claimed(trainer(), "x")) for _ in places]
        assert [seen(claim) for claim in claims] == places
    with claimed(trainer(devices="all"), "x") as every:
        assert seen(every) == [place for (place,) in places]


def test_locks_are_of_gpus_not_of_their_places(machine, tmp_path):
    """Another process may count otherwise, and is kept from the same GPU."""
    machine(1)
    with claimed(trainer(), "x"):
        assert (devices._folder() / "GPU-a.lock").exists()
        assert not devices._locked(devices._opened(devices._folder(), "GPU-a"))


def test_submitit_hides_all_gpus_from_a_job_on_this_machine(tmp_path, monkeypatch):
    """What the tests below take for given."""
    submitit = pytest.importorskip("submitit")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,1")
    executor = submitit.AutoExecutor(folder=tmp_path, cluster="local")
    seen = [executor.submit(os.getenv, name) for name in HIDDEN]
    assert [job.result() for job in seen] == list(HIDDEN.values())


@pytest.mark.parametrize("accelerator", ["gpu", "auto"])
def test_a_job_from_which_submitit_hides_all_gpus_takes_those_of_the_machine(
    machine, monkeypatch, accelerator
):
    machine(2)
    for name, value in TOLD.items():
        monkeypatch.setenv(name, value)
    with claimed(trainer(accelerator), "a") as a, claimed(trainer(accelerator), "b") as b:
        assert (seen(a), seen(b)) == (["0"], ["1"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # hydra.launcher.gpus_per_node=1
    with pytest.raises(RunError, match="1 GPUs may be used here by CUDA_VISIBLE_DEVICES=0, of 2"):
        claimed(trainer(devices=2), "x", never).__enter__()


def test_such_a_job_sees_gpus_that_nothing_is_known_of(machine, monkeypatch):
    """Of another maker, whose libraries read the same variable: the process inherits ours."""
    for name, value in TOLD.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with claimed(trainer(), "x", never) as claim:
        assert claim is NOTHING
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_a_job_of_which_nothing_was_handed_on_is_shown_none(machine, monkeypatch):
    """Of another sweeper, or one that asked for none."""
    machine(2)
    for name, value in HIDDEN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RunError, match="0 GPUs may be used here"):
        claimed(trainer(), "x", never).__enter__()


def test_such_a_job_takes_what_its_command_was_shown(machine, monkeypatch):
    machine(3)
    for name, value in TOLD.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HEED_SHOWN_GPUS", "2,1")
    with claimed(trainer(), "a") as a, claimed(trainer(), "b") as b:
        assert (seen(a), seen(b)) == (["2"], ["1"])


def test_cells_of_one_job_of_slurm_share_it_out_and_jobs_do_not_wait_for_each_other(
    machine, monkeypatch
):
    machine(1)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with claimed(trainer(), "x") as claim:
        assert seen(claim) == ["0"]
        with claimed(trainer(), "beside", times(1)) as beside:
            assert beside is None
        monkeypatch.setenv("SLURM_JOB_ID", "8")
        with claimed(trainer(), "shares", times(2)) as other:
            assert seen(other) == ["0"]


@pytest.mark.parametrize(
    ("wanted", "visible", "said"),
    [
        (4, None, r"trainer\.devices=4: 3 GPUs may be used here, of 3 in the machine.*devices=3"),
        (2, "1", r"1 GPUs may be used here by CUDA_VISIBLE_DEVICES=1, of 3"),
        (1, "", r"0 GPUs may be used here by CUDA_VISIBLE_DEVICES=, of 3"),
        ("all", "", r"0 GPUs may be used"),
    ],
)
def test_who_wants_more_than_there_will_ever_be_is_told_at_once(
    machine, monkeypatch, wanted, visible, said
):
    machine(3)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(RunError, match=said), claimed(trainer(devices=wanted), "x", never):
        pass


def test_a_process_has_one_slice_and_several_devices_are_whole_gpus(machine):
    machine(2, slices=3)
    taken = []
    with claimed(trainer(), "a") as a, claimed(trainer(), "b") as b, claimed(trainer(), "c") as c:
        taken = [*seen(a), *seen(b), *seen(c)]
    assert taken == ["GPU-a", "MIG-0", "MIG-1"]
    with pytest.raises(RunError, match="1 whole GPUs may be used here"):
        claimed(trainer(devices=2), "x", never).__enter__()
    with claimed(trainer(devices="all"), "x") as claim:
        assert seen(claim) == ["GPU-a"]


def test_a_folder_of_another_user_is_refused(machine, monkeypatch):
    machine(1)
    uid, folder = os.getuid(), devices._folder()
    monkeypatch.setattr(devices.os, "getuid", lambda: uid + 1)
    folder.rename(folder.with_name(f"heed-gpus-{uid + 1}"))
    with pytest.raises(RunError, match="belongs to another user"):
        claimed(trainer(), "x", never).__enter__()


WORKER = """
import json, os, sys, time
from pathlib import Path
from heed.study import devices
from heed.training.trainer import TrainerSettings
devices.LOOK_SECONDS = 0.005
trainer = TrainerSettings(**json.loads(sys.argv[1]))
root, wanted = Path(sys.argv[2]), int(sys.argv[3])
for turn in range(8):
    with devices.claimed(trainer, "cell") as claim:
        names = claim.environment["CUDA_VISIBLE_DEVICES"].split(",")
        assert len(set(names)) == wanted
        for name in names:  # fails if another is on it
            os.close(os.open(root / name, os.O_CREAT | os.O_EXCL))
        time.sleep(0.01)
        for name in names:
            os.unlink(root / name)
print("done")
"""


def test_many_processes_never_share_a_gpu_and_none_waits_for_ever(machine, tmp_path):
    machine(3)
    (tmp_path / "on").mkdir()
    wants = (1, 2, 2)
    workers = []
    for number in wants:
        asked = json.dumps(SETTINGS | {"accelerator": "gpu", "devices": number})
        line = [sys.executable, "-c", WORKER, asked, str(tmp_path / "on"), str(number)]
        workers.append(subprocess.Popen(line, stdout=subprocess.PIPE, text=True))
    assert [worker.communicate(timeout=60)[0] for worker in workers] == ["done\n"] * len(wants)


def test_who_wants_many_is_not_passed_by_those_who_want_few(machine, monkeypatch):
    machine(2)
    line = devices._opened(devices._folder(), f"line-{devices.short_hash(NAMES[:2])}")
    assert devices._locked(line), "somebody waits first in line"
    with claimed(trainer(), "later", times(2)) as claim:
        assert claim is None, "although two are free"
    os.close(line)


@pytest.fixture
def cells(machine, tmp_path, monkeypatch):
    """Cells on GPUs whose process is a few lines; the ledger's word on them."""
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(supervisor, "GRACE_SECONDS", 0.5)

    def see(code: str, devices: int = 1, seed: int = 1, **how) -> dict | None:
        from dataclasses import replace

        monkeypatch.setattr(supervisor, "CHILD", stub(tmp_path, code))
        cell = replace(a_cell(tmp_path, seed), trainer=trainer(devices=devices))
        see_through(cell, Apart(**how), ())
        return latest(tmp_path).get(key_of(cell))

    return see


def test_a_cell_sees_its_own_gpus_and_no_others(machine, cells):
    machine(3)
    show = "tell('done', deltas=[], primary='m', code=os.environ['CUDA_VISIBLE_DEVICES'])"
    with claimed(trainer(), "another"):
        assert cells(show, devices=2)["code"] == "1,2"


def test_a_cell_that_can_never_have_its_gpus_has_failed_and_the_next_goes_on(
    machine, cells, tmp_path, capfd
):
    machine(1)
    entry = cells("done()", devices=2)
    assert entry["event"] == "failed"
    assert entry["reason"].startswith("RunError: trainer.accelerator=gpu trainer.devices=2: 1 GPUs")
    assert not begun(tmp_path)
    assert "FAILED nano" in capfd.readouterr().err
    assert cells("done()", seed=2)["event"] == "done"
    stop = tmp_path / "stop"
    cells("done()", devices=2, seed=3, on_fail="stop", halt=str(stop))
    assert stop.exists()


def test_gpus_stay_held_until_who_was_begun_on_them_is_gone_too(machine, tmp_path):
    machine(1)
    with claimed(trainer(), "x") as claim:
        child = subprocess.Popen(["/bin/sleep", "30"], pass_fds=claim.files)
    with claimed(trainer(), "next", times(2)) as waiting:
        assert waiting is None, "the child is still on it"
    child.kill()
    child.wait()
    with claimed(trainer(), "next") as claim:
        assert seen(claim) == ["0"]


OWNER = """
import json, sys, time
from heed.study.devices import claimed
from heed.training.trainer import TrainerSettings
with claimed(TrainerSettings(**json.loads(sys.argv[1])), "x"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_an_owner_that_is_killed_frees_its_gpu(machine):
    machine(1)
    line = [sys.executable, "-c", OWNER, json.dumps(SETTINGS | {"accelerator": "gpu"})]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout.readline() == "held\n"
        with claimed(trainer(), "next", times(2)) as claim:
            assert claim is None
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    end = time.monotonic() + 20
    with claimed(trainer(), "next", lambda: time.monotonic() < end) as claim:
        assert seen(claim) == ["0"]


def test_the_process_of_a_cell_holds_its_gpu_itself(machine, cells, tmp_path):
    machine(1)
    code = "held = [n for n in os.listdir('/proc/self/fd') if 'heed-gpus' in os.path.realpath("
    code += "f'/proc/self/fd/{n}')]; tell('done', deltas=[], primary='m', code=str(len(held)))"
    assert cells(code)["code"] == "1"
