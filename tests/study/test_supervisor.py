"""A child is watched to its end, which is told in words; nothing of it is left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from heed.study import supervisor
from heed.study.supervisor import Ended, Limits, Signals, tail_of, watch

NEVER = Limits(threads=None, seconds=None)
GRANDCHILD = """
import subprocess, sys
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(other.pid, flush=True)
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Watch a child that runs some code."""
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(supervisor, "GRACE_SECONDS", 0.3)
    (tmp_path / "cell.a.yaml").write_text("{}")

    def begin(code: str, limits: Limits = NEVER, ends=lambda: False) -> Ended:
        (tmp_path / "child.py").write_text("import os, signal, sys, time\n" + code)
        monkeypatch.setattr(supervisor, "CHILD", (str(tmp_path / "child.py"),))
        with Signals() as signals, signals.only_noted():
            return watch(tmp_path / "cell.a.yaml", limits, signals, ends)

    return begin


def tail(folder: Path) -> list[str]:
    return tail_of(folder / "cell.a.yaml")


def is_gone(pid: int) -> bool:
    """Whether a process has ended, waiting for that a while."""
    for _ in range(500):
        try:
            if (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize(
    ("code", "reason", "stopped"),
    [
        ("sys.exit(7)", "exit code 7, and nothing recorded", False),
        ("", "exit code 0, and nothing recorded", False),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV", False),
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL: by the system when", False),
        ("os.kill(os.getpid(), signal.SIGTERM)", "killed by SIGTERM", True),
        ("sys.exit(143)", "exit code 143", True),
        ("sys.exit(130)", "exit code 130", True),
    ],
)
def test_an_end_is_told_in_words(run, code, reason, stopped):
    ended = run(code)
    assert ended.reason.startswith(reason)
    assert (ended.stopped, ended.hung, ended.asked) == (stopped, False, False)


def test_a_kill_that_the_kernel_has_counted_is_one_for_memory(run, tmp_path, monkeypatch):
    events = tmp_path / "memory.events"
    events.write_text("low 0\noom 2\noom_kill 3\noom_group_kill 0\n")
    monkeypatch.setattr(supervisor, "MEMORY_EVENTS", events)
    kill = "os.kill(os.getpid(), signal.SIGKILL)"
    assert "by hand" in run(kill).reason  # those were before
    count = f"open({str(events)!r}, 'w').write('oom_kill 4\\n')\n"
    assert run(count + kill).reason == (
        "killed by the system: out of memory (the kernel has counted it)"
    )
    assert run(count + "sys.exit(1)").reason == "exit code 1, and nothing recorded"


def test_a_child_that_hangs_and_will_not_end_is_killed_with_all_it_began(run, tmp_path):
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + GRANDCHILD + "time.sleep(60)"
    ended = run(deaf, Limits(threads=None, seconds=0.5))
    assert (ended.hung, ended.stopped) == (True, False)
    assert ended.reason == "it had not ended after cell_timeout=0.5 seconds"
    assert is_gone(int(tail(tmp_path)[0]))


def test_the_time_in_which_a_child_waits_for_another_process_is_not_counted(run, tmp_path):
    waits = """
from pathlib import Path
mark = Path(os.environ["HEED_WAITS"])
assert not mark.exists()
mark.touch(); time.sleep(4.5); mark.unlink()
print('waited', flush=True); mark.touch(); time.sleep(0.2); mark.unlink(); time.sleep(60)
"""
    (tmp_path / "cell.a.waits").touch()  # of one that was killed
    ended = run(waits, Limits(threads=None, seconds=2.5))
    assert (ended.hung, tail(tmp_path)) == (True, ["waited"])
    assert not (tmp_path / "cell.a.waits").exists()


def test_a_child_that_hangs_may_keep_what_it_has(run, tmp_path):
    keep = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('kept') or 143))\n"
    ended = run(keep + "print('on', flush=True); time.sleep(60)", Limits(None, 0.5))
    assert (ended.hung, ended.stopped, ended.code) == (True, False, 143)
    assert tail(tmp_path) == ["on", "kept"]


def test_what_a_dead_child_began_is_killed(run, tmp_path):
    run(GRANDCHILD + "os.kill(os.getpid(), signal.SIGKILL)")
    assert is_gone(int(tail(tmp_path)[0]))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_to_us_ends_the_child_and_us_afterwards(run, number):
    def send():
        os.kill(os.getpid(), number)
        return False

    ended = run("time.sleep(60)", ends=send)
    assert (ended.asked, ended.stopped, ended.code) == (True, True, -signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_twice_does_not_wait(run, tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "GRACE_SECONDS", 600.0)
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\n"

    def twice() -> bool:
        if (tmp_path / "cell.a.log").stat().st_size > 0:
            os.kill(os.getpid(), signal.SIGINT)
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        return False

    assert run(deaf + "time.sleep(60)", ends=twice).code == -signal.SIGKILL


def test_signals_come_in_the_end_as_they_would_have_come_at_once():
    for number in (signal.SIGTERM, signal.SIGINT):
        with Signals() as signals:
            with signals.only_noted():
                os.kill(os.getpid(), number)
            with pytest.raises(SystemExit) as ended:
                signals.hand_on()
            assert ended.value.code == 128 + number
        with Signals(), pytest.raises(SystemExit) as ended:
            signal.raise_signal(number)
        assert ended.value.code == 128 + number


def test_who_handled_a_signal_before_handles_it_in_the_end(monkeypatch):
    """A scheduler's library puts the job back into the queue, say."""
    told = []
    before = signal.signal(signal.SIGUSR2, lambda number, _: told.append(number))
    try:
        with Signals() as signals, signals.only_noted():
            os.kill(os.getpid(), signal.SIGUSR2)
            assert not told
            with pytest.raises(SystemExit):
                signals.hand_on()
        assert told == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_child_is_no_rank_of_ours_and_has_the_threads_it_is_given(run, tmp_path, monkeypatch):
    for name in ("SLURM_JOB_ID", "RANK", "MASTER_ADDR", "SUBMITIT_EXECUTOR", "MY_OWN"):
        monkeypatch.setenv(name, "1")
    names = "('SLURM_JOB_ID', 'RANK', 'MASTER_ADDR', 'SUBMITIT_EXECUTOR', 'MY_OWN')"
    run(
        f"print(*[n for n in {names} if n in os.environ], os.environ['OMP_NUM_THREADS'])",
        Limits(threads=3, seconds=None),
    )
    assert tail(tmp_path) == ["MY_OWN 3"]


def test_last_words_are_those_of_this_child_and_steer_no_terminal(run, tmp_path):
    run("print('before')")
    run("print(*range(50), sep='\\n'); print('\\x1b[2J')")
    assert tail(tmp_path) == [*(str(n) for n in range(31, 50)), r"\x1b[2J"]


POOL = """
import multiprocessing, os, sys, time
from heed.study.supervisor import Signals
def work(_):
    with Signals():
        pass
    print(os.getpid(), flush=True)
if __name__ == "__main__":
    from joblib.externals.loky import get_reusable_executor
    get_reusable_executor(max_workers=1).submit(work, 0).result()
    time.sleep(60)
"""


def test_a_worker_that_is_left_alone_ends(tmp_path):
    """A pool's idle workers would stay for minutes when its owner is killed."""
    (tmp_path / "pool.py").write_text(POOL)
    line = [sys.executable, str(tmp_path / "pool.py")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(line, **pipes) as owner:
        worker = int(owner.stdout.readline())
        for number in (signal.SIGINT, signal.SIGTERM):  # its owner tells it what to do
            os.kill(worker, number)
        time.sleep(0.3)
        assert Path(f"/proc/{worker}/stat").read_text().split()[2] != "Z"
        owner.kill()
    assert is_gone(worker)


def test_who_handled_a_signal_before_is_told_once_whatever_comes_meanwhile():
    """Putting a job back twice fails, and a job that ends by an error is not waited for."""
    told = []

    def put_back(number: int, _: object) -> None:
        told.append(number)
        signal.raise_signal(signal.SIGTERM)  # as the scheduler does with a job that is put back
        sys.exit(255)

    before = signal.signal(signal.SIGUSR2, put_back)
    try:
        with Signals() as signals:
            with signals.only_noted():
                os.kill(os.getpid(), signal.SIGUSR2)
            with pytest.raises(SystemExit) as ended:
                signals.hand_on()
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert told == [signal.SIGUSR2]
    assert ended.value.code == 255
