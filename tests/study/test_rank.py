"""A rank knows its place, has the same cell as the others, and reports why it failed."""

import os
import signal
import socket

import pytest

from heed.core import ranks
from heed.core.errors import DataError, RunError, StoppedError
from heed.study import srun
from heed.study.lines import Lines
from heed.study.rank import BY_SRUN, as_rank, digest_of, meet, report_on, reports_of, take_place

PEER = "[/x/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:17297"


@pytest.fixture
def rank_one(monkeypatch):
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "GROUP_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GLOO_SOCKET_IFNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.delenv(BY_SRUN, raising=False)


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (StoppedError("kept", signal.SIGTERM), "asked", 143),
        (KeyboardInterrupt(), "asked", 130),
        (RunError("no room; connection closed"), "user", 2),
        (ValueError("connection closed by peer"), "crash", 1),
        (RuntimeError("shapes differ"), "crash", 1),
        (RuntimeError(PEER), "lost", 1),
        (ConnectionResetError("Connection reset by peer"), "lost", 1),
        (RuntimeError("NCCL communicator was aborted on rank 1"), "lost", 1),
    ],
)
def test_what_a_rank_tells_of_its_end(rank_one, tmp_path, error, kind, code, capsys):
    def work() -> None:
        raise error

    assert as_rank(tmp_path / "cell.yaml", work) == code
    (report,) = reports_of(tmp_path / "cell.yaml", 2)
    assert (report.rank, report.kind, report.code) == (1, kind, code)
    assert str(error) in report.reason
    assert ("Traceback" in capsys.readouterr().err) == (kind == "crash")


def test_a_task_of_slurm_that_is_asked_to_end_does_so_without_a_bad_code(
    rank_one, tmp_path, monkeypatch
):
    """Of a bad code SLURM would kill the others while they keep what they have."""
    monkeypatch.setenv(BY_SRUN, "here:1")

    def stop() -> None:
        raise StoppedError("kept", signal.SIGTERM)

    assert as_rank(tmp_path / "cell.yaml", stop) == 0
    assert reports_of(tmp_path / "cell.yaml", 2)[0].code == 143


def test_a_crash_names_its_place(rank_one):
    def fails() -> None:
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom") as caught:
        fails()
    assert report_on(caught.value).message.startswith("ValueError: boom\n  in fails, ")


def test_a_task_of_slurm_takes_its_place_and_forgets_slurm(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "GROUP_RANK"):
        monkeypatch.setenv(name, "wrong")
    told = {"SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NODEID": "2", "SLURMD_NODENAME": "n"}
    for name, value in (told | {"SLURM_NTASKS": "6"}).items():
        monkeypatch.setenv(name, value)
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    came = []
    term = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv(BY_SRUN, f"127.0.0.1:{server.getsockname()[1]}")
        try:
            leash = take_place()
            os.kill(os.getpid(), signal.SIGUSR2)
            assert came == [signal.SIGTERM], "a warning asks to end"
        finally:
            for number, handler in (before | {signal.SIGTERM: term}).items():
                signal.signal(number, handler)
    assert [os.environ[name] for name in ("RANK", "LOCAL_RANK", "GROUP_RANK")] == ["5", "1", "2"]
    assert not [name for name in os.environ if name.startswith("SLURM")]
    leash.settimeout(10)
    with leash, pytest.raises(ConnectionResetError):
        leash.recv(1)  # who listened is gone
    monkeypatch.delenv(BY_SRUN)
    assert take_place() is None


class CPU:
    device = "cpu"


def test_ranks_of_different_configs_do_not_begin(rank_one, monkeypatch, capsys):
    joined = []
    monkeypatch.setattr(ranks, "join", joined.append)
    asked = {"key": ["run1", "suite1"], "cell": {"lr": 1.0}}
    other = {"key": ["run1", "suite1"], "cell": {"lr": 1.0, "outputs": "elsewhere"}}
    monkeypatch.setattr(ranks, "everybody", lambda mine: [mine, mine])
    meet(asked, CPU)
    assert f"run run1, config {digest_of(asked)}" in capsys.readouterr().err
    monkeypatch.setattr(ranks, "everybody", lambda mine: [mine, digest_of(other)])
    with pytest.raises(RunError, match=r"rank 0: \w+, rank 1: \w+.*outputs=<folder>"):
        meet(asked, CPU)
    assert joined == ["cpu", "cpu"]


def test_a_rank_without_a_gpu_of_its_own_says_so_and_joins_nobody(rank_one, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr(ranks, "join", lambda device: pytest.fail("it joined"))
    gpu = type("GPU", (), {"device": "cuda"})
    with pytest.raises(
        RunError, match=r"number 2 on .* sees 1 GPUs there\. Give trainer\.devices=1"
    ) as caught:
        meet({"key": ["run", "suite"]}, gpu)
    assert "bind" not in str(caught.value)
    monkeypatch.setenv(BY_SRUN, "here:1")
    with pytest.raises(
        RunError, match=r"shows each task one of them.*--gpus-per-task or --gpu-bind"
    ) as caught:
        meet({"key": ["run", "suite"]}, gpu)


def test_ranks_of_processors_see_no_gpu_and_those_of_gpus_see_theirs(rank_one, monkeypatch):
    """Where torch sees one, it makes groups of its own for FSDP, whose patience is minutes."""
    seen = []
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(ranks, "join", lambda _: seen.append(os.environ["CUDA_VISIBLE_DEVICES"]))
    ready = staticmethod(lambda: seen.append("ready"))
    for device in ("cuda", "cpu"):
        settings = {"device": device, "before_products": ready}
        meet({"key": ["run", "suite"]}, type("Settings", (), settings))
    assert seen == ["ready", "0,1", ""]


def resolves(monkeypatch, *addresses: str) -> None:
    """A machine whose own name stands for these addresses."""

    def ask(*_, **__):
        if not addresses:
            raise socket.gaierror("Name or service not known")
        kind = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
        return [(*kind, (address, 0)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", ask)


@pytest.fixture
def two_machines(rank_one, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    joined = []
    monkeypatch.setattr(ranks, "join", joined.append)
    return joined


@pytest.mark.parametrize("addresses", [("127.0.1.1",), (), ("192.0.2.1", "127.0.0.1")])
def test_a_machine_that_others_would_look_for_in_themselves_is_told_so(
    two_machines, monkeypatch, addresses
):
    """Its own name is loopback, or nothing; or another's address, which is passed over."""
    resolves(monkeypatch, *addresses)
    said = (
        r"rank 1 at 127\.0\.[01]\.1, where .*its own name .*export GLOO_SOCKET_IFNAME=<interface>"
    )
    with pytest.raises(RunError, match=said):
        meet({"key": ["run", "suite"]}, CPU)
    assert two_machines == []


def test_a_machine_that_others_find_joins(two_machines, monkeypatch):
    monkeypatch.setattr("heed.study.rank.announced", lambda: "10.0.0.4")
    meet({"key": ["run", "suite"]}, CPU)
    assert two_machines == ["cpu"]


@pytest.mark.parametrize("environment", [{"GLOO_SOCKET_IFNAME": "eth0"}, {"LOCAL_WORLD_SIZE": "4"}])
def test_what_a_name_stands_for_is_not_asked_where_it_is_not_used(
    two_machines, monkeypatch, environment
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("heed.study.rank.announced", lambda: pytest.fail("it was asked"))
    meet({"key": ["run", "suite"]}, CPU)
    assert two_machines == ["cpu"]


@pytest.mark.parametrize(
    ("line", "rank", "code", "how"),
    [
        ("srun: error: n1: task 1: Killed", 1, 137, "Killed, on n1"),
        ("srun: error: b: tasks 2-3: Exited with exit code 3", 2, 3,
         "Exited with exit code 3, on b"),
        ("srun: error: n1: task 0: Terminated", 0, 143, "Terminated, on n1"),
        ("srun: error: n1: task 0: Out Of Memory", 0, 137, "Out Of Memory, on n1"),
        ("srun: error: n1: task 0: Segmentation fault (core dumped)", 0, 139,
         "Segmentation fault (core dumped), on n1"),
        ("srun: error: n1: task 0: Aborted (core dumped)", 0, 134, "Aborted (core dumped), on n1"),
    ],
)  # fmt: skip
def test_what_srun_says_of_a_bad_end(line, rank, code, how):
    found = srun.bad_end(line)
    assert (found.rank, found.code, found.how) == (rank, code, how)
    assert srun.bad_end(f"0: {line}") is None, "a rank has printed it"


def test_lines_of_srun_are_named_and_its_first_word_on_a_bad_end_is_kept(monkeypatch):
    written = []
    lines = Lines(by_slurm=True)
    monkeypatch.setattr(lines, "_write", written.append)
    told = [b" 0: one", b"11: two: 3", b"srun: error: n1: task 4: Killed", b"0: "]
    told.append(b"srun: error: n1: task 5: Terminated")
    assert [lines._named(0, line) for line in told] == [
        b"one", b"[rank 11] two: 3", told[2], b"", told[4]
    ]  # fmt: skip
    assert (lines.bad_end.rank, lines.bad_end.code) == (4, 137)


def test_a_step_has_the_processors_of_the_smallest_machine():
    cpus = {"SLURM_JOB_CPUS_PER_NODE": "32(x2),16,64(x5)"}
    assert "--cpus-per-task=4" in srun.command(4, 8, cpus)
    assert "--gpu-bind=none" in srun.command(4, 8, cpus), "a rank takes its own of all"
    assert "--overcommit" in srun.command(4, 8, {"SLURM_JOB_CPUS_PER_NODE": "2(x8)"})


def test_data_errors_are_the_users(rank_one):
    assert report_on(DataError("no rows")).kind == "user"
