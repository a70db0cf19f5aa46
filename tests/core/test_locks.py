"""A lock has one owner at a time, on one machine and over a shared folder, and dies with it."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from heed.core import locks
from heed.core.files import append_line
from heed.core.locks import HeldError, lock

HOLD = """
import sys, time; from pathlib import Path; from heed.core.locks import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True); time.sleep(60)
"""
ELSEWHERE = """
import sys, time, socket
socket.gethostname = lambda: "elsewhere"
import filelock._soft, filelock._identity
for module in [m for name, m in sys.modules.items() if name.startswith("filelock")]:
    if hasattr(module, "host_name"):
        module.host_name = lambda: "elsewhere"
import fcntl; fcntl.flock = lambda *_: None  # a folder on which this lock is kept to one machine
from heed.core import locks; from pathlib import Path
locks.LEASE_SECONDS = 1.5
with locks.lock(Path(sys.argv[1])):
    print("held", flush=True); time.sleep(60)
"""


@contextmanager
def holder(code: str, path: Path) -> Iterator[subprocess.Popen]:
    """Another process that has the lock."""
    line = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def take(path: Path) -> float:
    with lock(path):
        return time.monotonic()


def test_a_lock_keeps_others_out_until_its_owner_is_killed(tmp_path: Path):
    with holder(HOLD, tmp_path / "lock") as other, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(take, tmp_path / "lock")
        time.sleep(0.2)
        assert not waiting.done()
        killed = time.monotonic()
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert waiting.result(timeout=10) > killed


def take_at_once(path: Path) -> None:
    with lock(path, wait=False):
        pass


def test_a_held_lock_is_refused_where_it_is_not_waited_for(tmp_path: Path):
    with holder(HOLD, tmp_path / "lock"), pytest.raises(HeldError, match="another process"):
        take_at_once(tmp_path / "lock")
    take_at_once(tmp_path / "lock")


def test_who_waits_may_change_his_mind(tmp_path: Path):
    asked = []

    def three_times() -> bool:
        asked.append(1)
        return len(asked) < 3

    with holder(HOLD, tmp_path / "lock"), pytest.raises(HeldError):
        lock(tmp_path / "lock", wait=three_times).__enter__()
    assert len(asked) == 3


def test_a_lease_whose_maker_died_before_it_wrote_into_it_is_taken_over(tmp_path: Path):
    lease = tmp_path / "x.lease"
    lease.touch()
    with pytest.raises(HeldError), lock(tmp_path / "x", wait=False):
        pytest.fail("its maker may be about to write")
    os.utime(lease, (0, 0))
    with lock(tmp_path / "x", wait=False):
        assert lease.read_text(), "it is ours now"


def test_a_lease_that_another_takes_over_at_the_same_moment_stays_his(tmp_path: Path, monkeypatch):
    """Two machines see it empty where the lock of the system does not reach over the folder."""
    with holder(HOLD, tmp_path / "lock"):
        lease = tmp_path / "lock.lease"
        before = lease.stat().st_ino, lease.read_text()
        monkeypatch.setattr(locks.fcntl, "flock", lambda *_: None)
        monkeypatch.setattr(locks, "_is_left_empty", lambda _: True)  # a moment ago
        with pytest.raises(HeldError):
            take_at_once(tmp_path / "lock")
        assert (lease.stat().st_ino, lease.read_text()) == before
    assert {path.name for path in tmp_path.iterdir()} == {"lock", "lock.lease"}


def test_waiting_is_said_once(tmp_path: Path):
    said = []
    with holder(HOLD, tmp_path / "lock") as other, ThreadPoolExecutor(1) as pool:
        other.send_signal(signal.SIGSTOP)  # alive, and slow
        waiting = pool.submit(lambda: lock(tmp_path / "lock", lambda: said.append(1)).__enter__())
        time.sleep(0.2)
        assert said == [1]
        other.kill()
        other.wait()
        waiting.result(timeout=10)
    assert said == [1]


@pytest.mark.parametrize("follower", [False, True])
def test_who_measures_the_time_sees_from_outside_that_a_process_waits(
    tmp_path: Path, monkeypatch, follower
):
    mark = tmp_path / "mark"
    monkeypatch.setenv(locks.WAITS, str(mark))
    if follower:  # its leader may be what it waits for
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "2")
    seen = []
    with holder(HOLD, tmp_path / "lock"):
        with pytest.raises(HeldError):
            take_at_once(tmp_path / "lock")
        assert not mark.exists(), "it does not wait"
        for turns in (0, 3):
            left = iter([True] * turns)

            def goes_on(left: Iterator[bool] = left) -> bool:
                seen.append(mark.exists())
                return next(left, False)

            with pytest.raises(HeldError):
                lock(tmp_path / "lock", wait=goes_on).__enter__()
    assert seen == [False, False, *[not follower] * 3]
    assert not mark.exists(), "it has given up"


def test_an_owner_on_another_machine_counts_while_it_lives_and_no_longer(tmp_path, monkeypatch):
    """Where the system's own lock does not reach over the shared folder."""
    monkeypatch.setattr(locks, "LEASE_SECONDS", 1.5)
    with holder(ELSEWHERE, tmp_path / "lock") as other, ThreadPoolExecutor(1) as pool:
        with pytest.raises(HeldError):
            take_at_once(tmp_path / "lock")
        waiting = pool.submit(take, tmp_path / "lock")
        time.sleep(2.5)  # longer than a lease: it is touched again and again
        assert not waiting.done()
        killed = time.monotonic()
        other.send_signal(signal.SIGKILL)
        assert waiting.result(timeout=20) - killed > 0.5  # nobody can see from here that it died


def test_who_loses_a_lock_to_another_machine_is_told(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(locks, "LEASE_SECONDS", 0.6)
    told = []
    with lock(tmp_path / "lock", on_loss=lambda: told.append(1)):
        Path(f"{tmp_path / 'lock'}.lease").unlink()
        waited = time.monotonic() + 10
        while not told and time.monotonic() < waited:
            time.sleep(0.05)
    assert told == [1]


def lose(path: Path) -> None:
    with lock(path):
        Path(f"{path}.lease").unlink()
        time.sleep(10)


def test_who_gives_no_answer_to_a_loss_is_interrupted(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(locks, "LEASE_SECONDS", 0.6)
    with pytest.raises(KeyboardInterrupt):
        lose(tmp_path / "lock")


def test_a_folder_that_knows_no_lock_of_the_system_has_the_lease_alone(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with holder(HOLD, tmp_path / "lock"):
        monkeypatch.setattr(locks.fcntl, "flock", refuse)
        with pytest.raises(HeldError):
            take_at_once(tmp_path / "lock")
        append_line(tmp_path / "lines", "one")
        append_line(tmp_path / "lines", "two")
    take_at_once(tmp_path / "lock")
    assert (tmp_path / "lines").read_text() == "one\ntwo\n"


IGNORES = """
import signal, sys, time; from pathlib import Path; from heed.core import locks
signal.signal(signal.SIGINT, signal.SIG_IGN)  # begun in the background by a script
locks.LEASE_SECONDS = 0.6
with locks.lock(Path(sys.argv[1])):
    print("held", flush=True); time.sleep(60)
"""


def test_who_ignores_ctrl_c_ends_all_the_same_when_its_lock_is_lost(tmp_path: Path):
    with holder(IGNORES, tmp_path / "lock") as other:
        Path(f"{tmp_path / 'lock'}.lease").unlink()
        assert other.wait(30) == -signal.SIGTERM
