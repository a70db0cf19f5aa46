"""A command runs its cell here, one of several in a process of its own."""

from dataclasses import replace
from pathlib import Path

import pytest
from stubs import CONF, a_cell, begun, finished, stub

from heed.core.compose import compose_component
from heed.core.errors import ConfigError, RunError
from heed.core.files import read_jsonl
from heed.study import apart, run_cell, start, supervisor
from heed.study.study import Sweep


@pytest.mark.parametrize(("several", "where"), [(False, "here"), (True, "apart")])
def test_one_of_several_cells_has_a_process_of_its_own(tmp_path, monkeypatch, several, where):
    cell, ran = a_cell(tmp_path), []
    monkeypatch.setattr(start, "one_of_several", lambda: several)
    monkeypatch.setattr(run_cell, "run_cell", lambda cell: ran.append(("here", cell)))
    monkeypatch.setattr(apart, "run_apart", lambda cell: ran.append(("apart", cell)) or 0.5)
    assert start.start(cell) == (0.5 if several else None)
    assert ran == [(where, cell)]


@pytest.mark.parametrize(("chosen", "named"), [(["study=playground"], "playground"), ([], "none")])
def test_a_study_is_for_heeds_own_sweeper(chosen, named):
    command = compose_component(CONF, "sweep", chosen)
    assert isinstance(command, Sweep)
    with pytest.raises(ConfigError, match=rf"here: {named}.*Leave hydra/sweeper out"):
        start.needs_sweeper(command)


@pytest.fixture
def group(tmp_path, monkeypatch):
    """A single run on two devices whose process is a few lines; what it exits with."""
    cell = a_cell(tmp_path)
    cell = replace(cell, trainer=replace(cell.trainer, devices=2))

    def run(code: str) -> int:
        monkeypatch.setattr(supervisor, "CHILD", stub(tmp_path, code))
        try:
            start.start(cell)
        except SystemExit as ended:
            return ended.code
        return 0

    return run


@pytest.mark.parametrize(
    ("code", "ended", "event"),
    [
        ("done(); print('all is well')", 0, "done"),
        ("print('all is well'); sys.exit(1)", 2, "failed"),
        ("print('all is well'); sys.exit(143)", 143, "stopped"),
        ("print('all is well', flush=True); os.kill(os.getpid(), 15)", 143, "stopped"),
        ("done(); print('all is well'); sys.exit(2)", 2, "done"),
    ],
)
def test_a_run_on_several_devices_shows_what_its_process_prints_and_ends_as_it_did(
    group, tmp_path, capfd, code, ended, event
):
    assert group(code) == ended
    assert capfd.readouterr().out == "all is well\n"
    assert [row["event"] for row in read_jsonl(tmp_path / "ledger.jsonl")] == [event]


def test_of_a_finished_run_on_several_devices_the_result_is_shown_here(
    group, tmp_path, monkeypatch
):
    shown = []
    monkeypatch.setattr(run_cell, "run_cell", lambda cell: shown.append(cell))
    assert group("done()") == 0
    assert shown == []
    assert group("sys.exit(1)") == 0
    assert len(shown) == len(begun(tmp_path)) == 1


def test_the_ledgers_last_word_is_the_reason_of_the_rank_that_failed_first(group, tmp_path):
    """The leader has failed of another's end, and has said so itself."""
    code = """
reason = file.with_name(file.name.removesuffix(".yaml") + ".reason.json")
tell("failed", reason="RuntimeError: Connection closed by peer")
reason.write_text(json.dumps({"reason": "rank 1 of 2: ValueError: boom"}))
sys.exit({code})"""
    for ended, event in ((1, "failed"), (143, "stopped")):
        assert group(code.replace("{code}", str(ended))) == (143 if ended == 143 else 2)
        last = read_jsonl(tmp_path / "ledger.jsonl")[-1]
        assert (last["event"], last["reason"]) == (event, "rank 1 of 2: ValueError: boom")
        assert not list((tmp_path / "cells").glob("*.reason.json"))


def test_why_more_was_not_done_of_a_finished_run_is_on_one_screen(tmp_path, monkeypatch, capsys):
    def none(*_):
        raise RunError("1 GPUs may be used here")

    monkeypatch.setattr(apart, "claimed", none)
    cell = finished(tmp_path, 1, "also=plain").cell
    cell = replace(cell, trainer=replace(cell.trainer, devices=2))
    with pytest.raises(RunError, match=r"its result stays, but what more .*\.log\)") as told:
        start.start(cell)
    assert "1 GPUs may be used here" in capsys.readouterr().err
    log = Path(str(told.value).rpartition("(")[2].rstrip(")"))
    assert "1 GPUs may be used here" in log.read_text()


def test_what_needs_one_device_is_refused_before_a_process_is_begun(tmp_path):
    cell = a_cell(tmp_path)
    two = replace(cell, trainer=replace(cell.trainer, devices=2), stop_after="data")
    with pytest.raises(RunError, match=r"stop_after=data.*trainer\.devices=1"):
        start.start(two)
    assert begun(tmp_path) == []
