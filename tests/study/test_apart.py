"""A cell has a process of its own, and is never lost without a word."""

import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import cloudpickle
import pytest
import yaml
from stubs import CONF, ROOT, a_cell, begun, finished, stub

from heed.core import locks
from heed.core.component import build
from heed.core.compose import compose_component
from heed.core.errors import RunError
from heed.core.files import read_jsonl
from heed.core.locks import lock
from heed.study import apart, part, supervisor
from heed.study.apart import Apart, run_apart, see_through
from heed.study.devices import NOTHING, claimed
from heed.study.ledger import latest, record
from heed.study.part import file_of, is_missing
from heed.study.plan import plan_cells
from heed.study.supervisor import log_of
from heed.study.wanted import key_of

ONCE = Apart()
ENDINGS = {
    "silent": "print('first'); print('the last words'); sys.exit(7)",
    "killed": "print('before the end', flush=True); os.kill(os.getpid(), 9)",
    "liar": "print('all is well')",
    "told": "print('a screen'); tell('failed', reason='RunError: no room'); sys.exit(2)",
    "asked": "tell('stopped', reason='StoppedError'); sys.exit(143)",
    "hangs": "print('waits', flush=True); signal.signal(15, signal.SIG_IGN); time.sleep(60)",
    "late": "signal.signal(15, lambda *_: sys.exit(done())); print(1, flush=True); time.sleep(60)",
    "keeps": "signal.signal(15, lambda *_: sys.exit(tell('stopped', reason='asked') or 143)); "
    "print('waits', flush=True); time.sleep(60)",
    "done": "done()",
}


@pytest.fixture
def see(tmp_path, monkeypatch):
    """See a cell through whose process ends in one way; the ledger's word on it."""
    for name, seconds in (("POLL", 0.02), ("GRACE", 0.5)):
        monkeypatch.setattr(supervisor, f"{name}_SECONDS", seconds)
    monkeypatch.setattr(locks, "LOOK_SECONDS", 0.02)

    def run(ending: str, how: Apart = ONCE, seed: int = 1) -> dict | None:
        monkeypatch.setattr(supervisor, "CHILD", stub(tmp_path, ENDINGS.get(ending, ending)))
        cell = a_cell(tmp_path, seed)
        see_through(cell, how, ("lr=play_gentle", "teacher='a b'"))
        return latest(tmp_path).get(key_of(cell))

    return run


@pytest.mark.parametrize(
    ("ending", "reason", "log"),
    [
        ("silent", "exit code 7, and nothing recorded", ["first", "the last words"]),
        ("killed", "killed by SIGKILL: by the system when", ["before the end"]),
        ("liar", "exit code 0, and nothing recorded", ["all is well"]),
        ("told", "RunError: no room", ["a screen"]),
        ("hangs", "it had not ended after cell_timeout=2 seconds", ["waits"]),
        ("keeps", "it had not ended after cell_timeout=2 seconds", ["waits"]),
    ],
)
def test_a_child_without_a_result_has_failed_with_its_last_words(see, ending, reason, log):
    entry = see(ending, Apart(cell_timeout=2.0))
    assert entry["event"] == "failed"
    assert entry["reason"].startswith(reason)
    assert entry["log"] == log
    assert entry["command"] == "python train.py lr=play_gentle 'teacher='\"'\"'a b'\"'\"''"
    assert entry["student"] == "nano"


def test_a_second_death_is_not_told_with_the_reason_of_the_first(see, tmp_path):
    see("silent")
    again = see("killed", Apart(retry=True))
    assert again["reason"].startswith("killed by SIGKILL")
    assert again["log"] == ["before the end"]


def test_who_was_asked_to_end_is_stopped_and_goes_on(see, tmp_path):
    assert see("asked")["event"] == "stopped"
    assert see("os.kill(os.getpid(), 15)")["reason"] == "killed by SIGTERM"
    assert see("done")["event"] == "done"
    assert len(begun(tmp_path)) == 3


def test_a_result_that_came_after_the_time_was_up_counts(see):
    assert see("late", Apart(cell_timeout=2.0))["event"] == "done"


def test_what_is_done_stays_so_where_what_more_was_wanted_of_it_fails(see, tmp_path, monkeypatch):
    see("tell('done', deltas=[], primary='m', code='here', also=None)")
    more = compose_component(CONF, "train", ("seed=1", f"outputs={tmp_path}"))
    assert key_of(more) == key_of(a_cell(tmp_path))
    assert is_missing(more, ONCE), "it wants a second prompting"
    for ending in ("silent", "killed"):
        monkeypatch.setattr(supervisor, "CHILD", stub(tmp_path, ENDINGS[ending]))
        see_through(more, ONCE, ())

    def none(*_):
        raise RunError("0 GPUs may be used here")

    monkeypatch.setattr(apart, "claimed", none)
    see_through(more, ONCE, ())
    monkeypatch.setattr(apart, "claimed", claimed)
    monkeypatch.setattr("sys.executable", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError):
        see_through(more, ONCE, ())
    assert [row["event"] for row in read_jsonl(tmp_path / "ledger.jsonl")] == ["done"]


def test_a_result_that_is_made_again_word_for_word_is_done(see, tmp_path):
    cell = a_cell(tmp_path)
    told = {"directory": "runs/x", "digest": "d", "deltas": [], "primary": "m", "code": "here"}
    record(tmp_path, "done", cell.names | told)
    assert is_missing(cell, ONCE), "its file is gone"
    path = f"runs/x/scores/{cell.suite.name}"
    again = f"(root / {path!r}).mkdir(parents=True); (root / {path!r} / 'result.json').touch()"
    assert see(again)["event"] == "done"
    assert len(begun(tmp_path)) == len(read_jsonl(tmp_path / "ledger.jsonl")) == 1


def test_what_fails_after_the_result_is_told(see, tmp_path, capsys):
    assert see("done(); sys.exit(2)")["event"] == "done"
    assert re.search(
        r"done, but its process ended with 2: .*, see .*\.log", capsys.readouterr().err
    )


def test_a_finished_cell_is_not_begun_again_and_a_failed_one_only_if_that_is_asked(see, tmp_path):
    see("done")
    see("silent", Apart(retry=True))
    see("silent", seed=2)
    see("done", seed=2)
    assert len(begun(tmp_path)) == 2
    assert see("done", Apart(retry=True), seed=2)["event"] == "done"


def test_what_another_fails_while_it_is_waited_for_is_not_tried_again(see, tmp_path):
    record(tmp_path, "failed", a_cell(tmp_path).names | {"reason": "an hour ago"})
    path = file_of(a_cell(tmp_path), Apart()).with_suffix(".lock")
    held = lock(path)
    held.__enter__()

    def fail() -> None:
        time.sleep(0.2)
        record(tmp_path, "failed", a_cell(tmp_path).names | {"reason": "now"})
        held.__exit__(None, None, None)

    other = threading.Thread(target=fail)
    other.start()
    assert see("done", Apart(retry=True))["reason"] == "now"
    other.join()
    assert begun(tmp_path) == []


def test_what_another_is_at_is_waited_for_or_left(see, tmp_path, monkeypatch, capsys):
    path = file_of(a_cell(tmp_path), Apart()).with_suffix(".lock")
    with lock(path):
        assert see("done", Apart(wait=False)) is None
    assert "another process is at it; left to that" in " ".join(capsys.readouterr().err.split())
    halt = tmp_path / "halt"

    def halted_once_it_waits(path, on_wait, **how):
        return lock(path, lambda: (on_wait(), halt.touch()), **how)

    monkeypatch.setattr(apart, "lock", halted_once_it_waits)
    with lock(path):
        assert see("done", Apart(halt=str(halt))) is None  # and comes back
    assert "waiting for that" in " ".join(capsys.readouterr().err.split())
    assert begun(tmp_path) == []


def test_after_a_failure_no_more_are_begun_if_that_is_wanted(see, tmp_path):
    for on_fail, count in (("continue", 2), ("stop", 1)):
        how = Apart(on_fail=on_fail, halt=str(tmp_path / on_fail))
        see("silent", how, seed=10 + count)
        see("done", how, seed=20 + count)
        assert how.halted == (on_fail == "stop")
    assert len(begun(tmp_path)) == 3


def test_who_is_told_to_end_ends_its_child_and_says_so_in_the_ledger(see, tmp_path):
    how = Apart(halt=str(tmp_path / "cells/halt"))
    threading.Timer(0.5, how.end_all).start()
    entry = see("time.sleep(60)", how)
    assert (entry["event"], entry["reason"]) == ("stopped", "killed by SIGTERM")
    how.forget()
    assert not how.halted
    assert not how.ended


def test_who_has_lost_its_claim_to_another_machine_ends_its_child(see, monkeypatch):
    """It showed no sign of life for too long, and the cell is run there now."""

    @contextmanager
    def lent(path, on_wait, *, wait, on_loss):
        threading.Timer(0.4, on_loss).start()
        yield

    monkeypatch.setattr(apart, "lock", lent)
    assert see("time.sleep(60)")["event"] == "stopped"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_child_and_the_sweep_and_keeps_the_usual_exit_code(
    see, tmp_path, number
):
    how = Apart(halt=str(tmp_path / "halt"))
    with pytest.raises(SystemExit) as ended:
        see(f"os.kill(os.getppid(), {number}); time.sleep(60)", how)
    assert ended.value.code == 128 + number
    assert latest(tmp_path)[key_of(a_cell(tmp_path))]["event"] == "stopped"
    assert how.halted


def test_a_signal_to_one_job_of_a_cluster_leaves_the_others_alone(see, tmp_path, monkeypatch):
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    how = Apart(halt=str(tmp_path / "halt"))
    with pytest.raises(SystemExit):
        see("os.kill(os.getppid(), 15); time.sleep(60)", how)
    assert not how.halted


POOL = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from stubs import a_cell, stub
from heed.study import supervisor
from heed.study.apart import Apart, see_through
def work(_):
    folder = Path({folder!r})
    supervisor.CHILD = stub(folder, "print(os.getppid(), flush=True); time.sleep(60)")
    see_through(a_cell(folder), Apart(halt=str(folder / "halt")), ())
if __name__ == "__main__":
    from joblib.externals.loky import get_reusable_executor
    list(get_reusable_executor(max_workers=1).map(work, range(2)))
"""


def test_a_worker_whose_sweep_is_killed_ends_its_child_and_begins_no_other(tmp_path):
    (tmp_path / "pool.py").write_text(
        POOL.format(tests=str(ROOT / "tests/study"), folder=str(tmp_path))
    )
    line = [sys.executable, str(tmp_path / "pool.py")]
    with subprocess.Popen(line, stderr=subprocess.DEVNULL, start_new_session=True) as owner:
        log = log_of(file_of(a_cell(tmp_path), Apart()))
        while not (log.is_file() and log.read_text()):
            assert owner.poll() is None
            time.sleep(0.02)
        worker = Path("/proc", log.read_text().strip())
        owner.kill()
    while worker.exists() and worker.joinpath("cmdline").read_bytes():
        time.sleep(0.02)
    assert len(begun(tmp_path)) == 1
    assert [entry["event"] for entry in latest(tmp_path).values()] == ["stopped"]
    assert not (tmp_path / "halt").exists()


def test_a_process_that_cannot_be_begun_is_told(see, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.executable", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError):
        see("done")
    (entry,) = latest(tmp_path).values()
    assert entry["reason"].startswith("its process was not begun: FileNotFoundError")


def test_scores_before_tuning_are_made_once_and_tell_the_ledger_nothing(see, tmp_path):
    how = Apart(part="before")
    cell = a_cell(tmp_path)
    folder = part.baseline_directory(cell.model, cell.suite, cell.root)
    assert see("sys.exit(1)", how) is None
    assert is_missing(cell, how)
    make = f"d = pathlib.Path({str(folder)!r}); d.mkdir(parents=True)\n"
    assert see(make + "(d / 'summary.json').write_text('{}')", how) is None
    see("sys.exit(1)", how, seed=2)  # of another cell, and the same student
    assert [line.split()[0] for line in begun(tmp_path)] == ["before", "before"]


def test_one_of_several_gives_the_change_of_its_primary_metric_or_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "CHILD", stub(tmp_path, ENDINGS["silent"]))
    with pytest.raises(RunError, match=r"exit code 7.*\.log\)"):
        run_apart(a_cell(tmp_path))
    monkeypatch.setattr(supervisor, "CHILD", stub(tmp_path, ENDINGS["done"]))
    assert run_apart(a_cell(tmp_path)) == 0.25  # it has failed before, and is run again
    merged = replace(a_cell(tmp_path).export, merge=True, dtype="float32")
    with pytest.raises(RunError, match=r"its result stays, but it was not exported: .*\.log\)"):
        run_apart(replace(a_cell(tmp_path), export=merged))


def test_one_of_several_fails_where_what_more_was_wanted_of_it_did(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "CHILD", stub(tmp_path, ENDINGS["silent"]))
    with pytest.raises(RunError, match=r"its result stays, but what more was .*\.log\)"):
        run_apart(finished(tmp_path, 1, "also=plain").cell)


SHIFT = compose_component(CONF, "evaluate", ["analysis=shift", "run=any"]).analysis


@pytest.mark.parametrize(
    ("more", "how", "taken"),
    [
        ("also=plain", Apart(), ("gpu", 2)),
        ("export.merge=true", Apart(), ("cpu", 1)),
        ("also=none", Apart(part="analysis", analysis=SHIFT), ("gpu", 1)),
        ("also=none", Apart(part="before"), ("gpu", 2)),
    ],
)
def test_no_more_devices_are_taken_than_a_part_of_a_cell_uses(
    tmp_path, monkeypatch, more, how, taken
):
    """An analysis is made on one; a student is merged and uploaded by the processor."""
    monkeypatch.setattr(supervisor, "CHILD", stub(tmp_path, "pass"))
    monkeypatch.setattr(part, "is_analysed", lambda *_: False)
    asked = []
    monkeypatch.setattr(apart, "claimed", lambda t, *_: asked.append(t) or nullcontext(NOTHING))
    cell = finished(tmp_path, 1, more).cell
    cell = replace(cell, trainer=replace(cell.trainer, accelerator="gpu", devices=2))
    see_through(cell, how, ())
    told = yaml.safe_load(file_of(cell, how).read_text())["cell"]["trainer"]
    (trainer,) = asked
    assert (trainer.accelerator, trainer.devices) == taken
    assert (told["accelerator"], told["devices"]) == taken


def test_the_file_of_a_cell_is_the_cell_of_the_command_line(tmp_path, monkeypatch):
    """So that the process of its own runs what the printed line would run."""
    monkeypatch.setattr(supervisor, "CHILD", stub(tmp_path, "done()"))
    line = ["lr=play_harsh", "method.adapter.rank=4", "seed=3", "data.epochs=1"]
    (planned,) = plan_cells([[*line, f"outputs={tmp_path}"]], CONF)
    see_through(planned.cell, Apart(), planned.overrides)
    asked = yaml.safe_load(file_of(planned.cell, Apart()).read_text())
    read = build(asked["cell"])
    printed = compose_component(CONF, "train", asked["command"][1:])
    assert read == printed == planned.cell
    assert [read.run.id, read.names["suite"]] == asked["key"] == list(planned.key)


def test_launchers_can_send_a_task_to_other_processes():
    analysis = compose_component(CONF, "evaluate", ["analysis=shift", "run=any"]).analysis
    how = Apart(part="analysis", halt="x", cell_timeout=2.0, analysis=analysis)
    assert pickle.loads(pickle.dumps(how)) == how
    assert cloudpickle.loads(cloudpickle.dumps(how)) == how
