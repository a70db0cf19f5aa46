"""A group of ranks begins together, is told apart in the log, and ends together with one reason."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stubs import ROOT, a_cell

from heed.core.errors import RunError
from heed.core.files import read_json
from heed.study import group, members
from heed.study.group import Size, need_one_device, run_group, size_of
from heed.study.members import Members
from heed.study.rank import Report
from heed.study.supervisor import reason_file

HEAD = """
import os, signal, subprocess, sys, time
from pathlib import Path
sys.path.insert(0, {src!r})
rank, file = int(os.environ["RANK"]), Path(sys.argv[1])
(file.parent / f"pid{{rank}}").write_text(str(os.getpid()))
def wait_for(name):
    while not (file.parent / name).exists():
        time.sleep(0.01)
def work():
"""
TAIL = """
from heed.study.rank import as_rank
from heed.study.child import end_with_supervisor
end_with_supervisor(file.with_suffix(".log"))
(file.parent / f"begun{rank}").touch()
for other in range(int(os.environ["WORLD_SIZE"])):  # what they take to begin is not tested
    wait_for(f"begun{other}")
sys.exit(as_rank(file, work))
"""
BARE = "\nwork()\n"
LOST = 'raise RuntimeError("[gloo/transport/tcp/pair.cc:5] Connection closed by peer [::1]:7")'


@pytest.fixture
def ranks(tmp_path, monkeypatch, capfd):
    """Run ranks that are a few lines; exit code, what was printed, and the reason."""
    for name, seconds in (
        ("ALONE", 0.3),
        ("END", 0.3),
        ("KEEP", 2.0),
        ("AGREED", 1.0),
        ("LAST", 0.3),
    ):
        monkeypatch.setattr(members, f"{name}_SECONDS", seconds)
    monkeypatch.setattr(os, "setpgid", lambda *_: None)  # this process is not the group's own
    file = tmp_path / "cell.a.yaml"

    def run(code: str, size: int = 2, tail: str = TAIL) -> tuple[int, str, str | None]:
        write(tmp_path, code, tail)
        monkeypatch.setattr(group, "CHILD", (str(tmp_path / "rank.py"),))
        ended = run_group(file, Size(size, 1))
        said = capfd.readouterr()
        reason = reason_file(file)
        told = read_json(reason)["reason"] if reason.exists() else None
        reason.unlink(missing_ok=True)
        assert not list(tmp_path.glob("*-rank*.json"))
        assert not (tmp_path / "slept").exists(), "it was waited for"
        for rank in range(size):
            assert is_gone(int((tmp_path / f"pid{rank}").read_text()))
        return ended, said.out + said.err, told

    return run


def write(folder: Path, code: str, tail: str = TAIL) -> None:
    body = "".join(f"    {line}\n" for line in code.strip().splitlines())
    (folder / "rank.py").write_text(HEAD.format(src=str(ROOT / "src")) + body + tail)


def is_gone(pid: int) -> bool:
    for _ in range(500):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


def test_lines_stay_whole_and_name_their_rank(ranks):
    code = """
for n in range(300):
    for part in (f"{rank} says ", f"{n} ", "and that is all\\n"):
        os.write(1 + n % 2, part.encode())
os.write(1, b"no line end")
"""
    ended, said, reason = ranks(code, 3, BARE)
    assert (ended, reason) == (0, None)
    lines = said.splitlines()
    assert sorted(lines) == sorted(
        f"{f'[rank {rank}] ' if rank else ''}{text}"
        for rank in range(3)
        for text in [*(f"{rank} says {n} and that is all" for n in range(300)), "no line end"]
    )


def test_each_rank_knows_its_place_and_the_way_to_the_others(ranks):
    names = ["LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR"]
    code = f"""
import socket
socket.create_connection((os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))).close()
print(*[os.environ[name] for name in {names}])
"""
    ended, said, _ = ranks(code, 2, BARE)
    assert ended == 0
    assert sorted(said.splitlines()) == ["0 0 2 2 127.0.0.1", "[rank 1] 1 0 2 2 127.0.0.1"]


WAIT = "time.sleep(60); (file.parent / 'slept').touch()"
FIRST = [
    ("raise ValueError('boom')", 1, "rank 1 of 2: ValueError: boom"),
    ("os.kill(os.getpid(), 9)", 137, "rank 1 of 2: killed by SIGKILL: by the system when"),
    ("os.kill(os.getpid(), 11)", 139, "rank 1 of 2: killed by SIGSEGV"),
    ("os._exit(7)", 7, "rank 1 of 2: exit code 7"),
    ("from heed.core.errors import DataError; raise DataError('no rows')", 2,
     "rank 1 of 2: DataError: no rows"),
]  # fmt: skip


@pytest.mark.parametrize("other", [WAIT, LOST, "signal.signal(15, signal.SIG_IGN); " + WAIT])
@pytest.mark.parametrize(("error", "code", "reason"), FIRST)
def test_the_first_that_fails_ends_all_with_its_own_reason(ranks, error, code, reason, other):
    """The others hang, or fail of its end, or do not hear."""
    before = "wait_for('dying'); time.sleep(0.05)" if "gloo" in other else "pass"
    ended, said, told = ranks(f"""
if rank == 1:
    (file.parent / "dying").touch()
    {error}
{before}
{other}""")
    assert ended == code
    assert told.startswith(reason)
    shown = said.partition("Cannot go on")[2]
    assert (
        re.sub(r"^rank 1 of 2( failed first)?:", "", shown.strip())
        .strip()
        .startswith(reason.removeprefix("rank 1 of 2: ").removeprefix("DataError: "))
    )
    assert said.count("Cannot go on") == 1


def test_an_error_that_all_have_is_shown_once_as_of_a_process_alone(ranks):
    ended, said, told = ranks("from heed.core.errors import RunError; raise RunError('no room')")
    assert (ended, told) == (2, "RunError: no room")
    assert said == "Cannot go on\nno room\n"


def test_a_crash_keeps_its_traceback_and_a_rank_that_lost_the_others_has_none(ranks):
    code = f"if rank == 1:\n    raise ValueError('boom')\ntime.sleep(0.2)\n{LOST}"
    _, said, _ = ranks(code)
    assert said.count("Traceback") == 1
    assert "[rank 1] ValueError: boom\n" in said
    assert "\nthe other ranks are gone: RuntimeError: [gloo" in f"\n{said}"


def test_where_all_have_lost_the_others_that_is_the_reason(ranks):
    assert "Connection closed by peer" in ranks(LOST)[2]


STOPS = """
from heed.core.errors import StoppedError
def stop(number, _):
    (file.parent / f"kept{rank}").touch()
    raise StoppedError("all is kept", number)
signal.signal(15, stop)
(file.parent / f"ready{rank}").touch()
"""


@pytest.mark.parametrize("stopping", ["it", "0", "1"])
def test_who_asks_any_of_them_asks_all(ranks, tmp_path, stopping):
    """A rank that keeps what it has may take longer than one that fails of another's end."""

    def ask() -> None:
        while not all((tmp_path / f"ready{rank}").exists() for rank in (0, 1)):
            time.sleep(0.01)
        whom = os.getpid() if stopping == "it" else int((tmp_path / f"pid{stopping}").read_text())
        os.kill(whom, signal.SIGTERM)

    threading.Thread(target=ask).start()
    ended, said, _ = ranks(f"{STOPS}\n{WAIT}")
    assert ended == 143
    assert said.count("Stopped") == 1
    assert all((tmp_path / f"kept{rank}").exists() for rank in (0, 1))


def test_who_has_agreed_to_end_is_not_asked_while_it_keeps_what_it_has(ranks, tmp_path):
    """After a training the next SIGTERM would kill it, with a lock half taken."""
    code = """
from heed.core.errors import StoppedError
if rank == 0:
    wait_for("other")
    time.sleep(0.4)
    (file.parent / "kept").touch()
    raise StoppedError("all is kept", 15)
(file.parent / "other").touch()
raise StoppedError("all is kept", 15)
"""
    assert ranks(code)[0] == 143
    assert (tmp_path / "kept").exists()


def test_a_rank_that_is_stopped_where_it_cannot_keep_anything_stops_all(ranks):
    ended, _, told = ranks(f"if rank == 1:\n    os.kill(os.getpid(), 15)\n{WAIT}")
    assert (ended, told) == (143, "killed by SIGTERM")


def test_who_does_not_end_when_asked_is_killed(ranks):
    deaf = "signal.signal(15, signal.SIG_IGN)"
    ended, _, _ = ranks(f"{deaf}\nif rank == 1:\n    os.kill(os.getppid(), 15)\n{WAIT}")
    assert ended == 143


def test_when_the_leader_has_done_all_one_that_does_not_leave_is_ended(ranks):
    deaf = "signal.signal(15, signal.SIG_IGN)"
    assert ranks(f"if rank == 1:\n    {deaf}\n    {WAIT}")[::2] == (0, None)


def test_a_leader_that_does_not_leave_when_all_others_have_is_ended_and_has_done_all(ranks):
    """They leave only when it has dismissed them, which is the last that it does."""
    hangs = f"if rank == 0:\n    {{}}\n    {WAIT}"
    assert ranks(hangs.format("pass"))[::2] == (0, None)
    assert ranks(hangs.format("signal.signal(15, signal.SIG_IGN)"))[::2] == (0, None)
    slow = "if rank == 0:\n    time.sleep(0.1)\n    raise ValueError('boom')"
    assert ranks(slow)[::2] == (1, "rank 0 of 2: ValueError: boom"), "it can still fail"


@pytest.mark.parametrize("codes", [{1: 0}, {1: 0, 2: 3}, {}])
def test_a_leader_works_on_while_any_other_has_not_left(codes):
    one = Members(Path("none.yaml"), dict.fromkeys(range(3)), 3)  # type: ignore[arg-type]
    one.codes = codes
    assert not one.leader_is_done
    one.codes = {1: 0, 2: 0}
    assert one.leader_is_done
    by_srun = Members(Path("none.yaml"), {0: None}, 3)  # type: ignore[dict-item]
    assert not by_srun.leader_is_done, "what it has not said is not known"


def test_ranks_share_the_processors_of_the_job_not_of_the_machine(ranks, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    _, said, _ = ranks("print(os.environ['OMP_NUM_THREADS'])", 2, BARE)
    assert sorted(said.splitlines()) == ["3", "[rank 1] 3"]


LAUNCHER = """
import sys
from pathlib import Path
sys.path.insert(0, {src!r})
from heed.study import group
from heed.study.child import end_with_supervisor
group.CHILD = ({rank!r},)
end_with_supervisor()
print("begun", flush=True)
sys.exit(group.run_group(Path({file!r}), group.Size(2, 1)))
"""


@pytest.mark.parametrize("how", ["kill", "supervisor"])
def test_no_rank_outlives_its_launcher_and_none_fails_to_say_what_it_does(tmp_path, how):
    """Killed itself, or ended with its supervisor: ranks may still print, and keep their things."""
    prints = STOPS.replace("touch()\n    raise", "touch(); os.write(2, b'kept all')\n    raise")
    write(tmp_path, prints + WAIT)
    about = {"src": str(ROOT / "src"), "rank": str(tmp_path / "rank.py")}
    (tmp_path / "launcher.py").write_text(
        LAUNCHER.format(file=str(tmp_path / "cell.a.yaml"), **about)
    )
    line = [sys.executable, str(tmp_path / "launcher.py")]
    with subprocess.Popen(
        line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:  # fmt: skip
        while not all((tmp_path / f"ready{rank}").exists() for rank in (0, 1)):
            assert process.poll() is None
            time.sleep(0.02)
        if how == "kill":
            process.kill()
        else:
            process.stdin.close()
        for rank in (0, 1):
            assert is_gone(int((tmp_path / f"pid{rank}").read_text()))
            assert (tmp_path / f"kept{rank}").exists()
        said = process.stdout.read()
        log = tmp_path / "cell.a.log"
        assert (log.read_bytes() if how == "kill" else said).count(b"kept all") >= 2
        assert process.wait(10) == (-9 if how == "kill" else 143)


def test_more_devices_than_there_are_and_machines_that_are_not_held_are_refused(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    trainer = a_cell(Path()).trainer
    assert size_of(replace(trainer, devices=3)) == Size(3, 1)
    gpu = replace(trainer, accelerator="gpu")
    assert size_of(replace(gpu, devices="all")) == Size(2, 1)
    with pytest.raises(RunError, match=r"sees 2 GPUs here\. Give trainer\.devices=2"):
        size_of(replace(gpu, devices=3))
    several = replace(a_cell(Path()), trainer=replace(trainer, nodes=2))
    with pytest.raises(RunError, match=r"no job of SLURM.*sbatch --nodes=2.*trainer\.nodes=1"):
        need_one_device(several)
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    with pytest.raises(RunError, match="this job of SLURM holds 1"):
        need_one_device(several)
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "2")
    need_one_device(several)


@pytest.mark.parametrize("looks", [{"debugging": "pdb"}, {"stop_after": "data"}])
def test_what_looks_into_one_process_needs_one_device(looks):
    cell = a_cell(Path())
    two = replace(cell, trainer=replace(cell.trainer, devices=2), **looks)
    with pytest.raises(RunError, match=r"Give trainer\.devices=1"):
        need_one_device(two)
    need_one_device(replace(cell, **looks))
    need_one_device(replace(two, stop_after=None, debugging="fast"))


@given(st.permutations(range(4)), st.sampled_from(["crash", "user"]))
def test_the_first_report_decides_unless_it_only_tells_of_the_end_of_another(order, kind):
    kinds = ["lost", "lost", kind, "crash"]
    reports = [
        Report(rank, float(time_), 1, kinds[rank], f"r{rank}", "")
        for rank, time_ in enumerate(order)
    ]
    one = Members(Path("none.yaml"), dict.fromkeys(range(4)), 4)  # type: ignore[arg-type]
    one.codes, one.seen = dict.fromkeys(range(4), 1), dict.fromkeys(range(4), 9.0)
    before, members.reports_of = members.reports_of, lambda *_: reports
    try:
        found = one.verdict(None, 0)
    finally:
        members.reports_of = before
    assert found.rank == min((2, 3), key=lambda rank: order[rank])


@pytest.mark.parametrize(("code", "first"), [(-signal.SIGKILL, 1), (-signal.SIGABRT, 0), (1, 0)])
def test_a_killed_rank_is_seen_a_moment_later_than_what_others_say_of_it(monkeypatch, code, first):
    """An abort is what a library does when another is gone: it is no such death."""
    report = Report(0, 10.0, 1, "crash", "ValueError: no answer", "")
    monkeypatch.setattr(members, "reports_of", lambda *_: [report])
    one = Members(Path("none.yaml"), dict.fromkeys(range(2)), 2)  # type: ignore[arg-type]
    one.codes, one.seen = {0: 1, 1: code}, {0: 10.2, 1: 10.1}
    assert one.verdict(None, 0).rank == first
