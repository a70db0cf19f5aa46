"""A study is sent from its files: all of it, each run once, and nothing is run."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from made_up import METRIC, done, planned
from stubs import CONF, begun, stub

from heed.core.component import component
from heed.core.compose import compose_component
from heed.core.errors import ConfigError, RunError
from heed.core.locks import lock
from heed.study import supervisor
from heed.study.apart import see_through
from heed.study.ledger import record
from heed.study.outcome import Outcomes
from heed.study.plan import PlannedCell, plan_study
from heed.study.runs import run_lock
from heed.study.send import COLUMNS, cells_table, send_failed, send_study
from heed.study.several import Launch
from heed.study.study import Study
from heed.study.sweep import run_lines, run_sweep
from heed.tracking.tracker import Ending, Mirrored, Tracker

STUDY = ("study=playground", "study.axes.model=[nano]", "study.axes.teacher=[play_clear]")
WANDB = Path(sys.executable).with_name("wandb")


@component
class Far(Tracker):
    """A mirror elsewhere that remembers, or refuses all."""

    sent: ClassVar[list[tuple[Mirrored, Ending]]] = []
    begun: ClassVar[list[Mirrored]] = []
    afar = True

    refuses: bool = False

    def where(self, root: Path) -> str:
        assert not self.refuses, "asked only where something has arrived"
        return "Far away."

    def start(self, run: Mirrored) -> None:
        self.begun.append(run)

    def log(self, row: Mapping[str, Any]) -> None:
        raise AssertionError("its rows are read from disk by the mirror itself")

    def finish(self, ending: Ending) -> None:
        self.sent.append((self.begun[-1], ending))

    def arrived(self) -> bool:
        return not self.refuses


@pytest.fixture
def two(tmp_path: Path) -> tuple[Study, list[PlannedCell], Outcomes, Path]:
    """A study of a finished and a failed cell; nothing of them is on disk but the ledger."""
    Far.sent.clear()
    Far.begun.clear()
    study = compose_component(CONF, "sweep", [*STUDY, f"outputs={tmp_path}"]).study
    cells = [far(planned(tmp_path, number)) for number in (1, 2)]
    result = done(tmp_path, cells[0], cost=(1.0, 1.0, 1))
    failed = {**cells[1].names, "reason": "no memory", "command": "python train.py"}
    page = tmp_path / "studies/playground/report.html"
    (page.parent / "figures").mkdir(parents=True)
    (page.parent / "figures/a.png").touch()
    page.touch()
    return study, cells, Outcomes([result], [failed]), page


def far(one: PlannedCell, *, refuses: bool = False) -> PlannedCell:
    cell: Any = replace(one.cell, logger=Far(refuses=refuses))  # type: ignore[type-var]
    return replace(one, cell=cell)


def test_all_of_a_study_is_sent_under_ids_that_stay(two):
    for _ in range(2):
        assert send_study(*two, everything=True) == []
    first, second = (Far.sent[:3], Far.sent[3:])
    assert [run.id for run, _ in first] == [run.id for run, _ in second]
    assert [run.kind for run, _ in first] == ["tuned", "tuned", "report"]
    assert len({run.id for run, _ in first}) == 3
    assert not any(run.live for run, _ in first)
    (_, one), (_, other), (report, whole) = first
    assert (one.failed, other.failed, whole.failed) == (False, True, False)
    assert other.summary == {"ended": "failed", "reason": "no memory"}
    assert report.id == "report-playground"
    assert list(whole.figures) == ["figures/a"]
    assert whole.pages["report"].name == "report.html"
    assert {k: v for k, v in whole.summary.items() if k.startswith("cells/")} == {
        "cells/done": 1,
        "cells/failed": 1,
        "cells/missing": 0,
    }


def test_at_the_end_of_a_sweep_finished_cells_are_not_sent_again(two):
    assert send_study(*two, everything=False) == []
    assert [run.kind for run, _ in Far.sent] == ["tuned", "report"]
    assert Far.sent[0][1].failed


def test_it_is_said_which_finished_cells_this_command_has_not_sent(two, capsys):
    study, cells, found, page = two
    send_study(study, cells, found, page, everything=False, earlier={cells[0].key, cells[1].key})
    said = " ".join(capsys.readouterr().err.split())
    assert "2 of 2 bases, failed cells and the report of study playground are mirrored." in said
    assert "Far away. Not sent by it: 1 cells that were done before" in said
    assert "sync=true sends them" in said
    send_study(study, cells, found, page, everything=False)
    said = " ".join(capsys.readouterr().err.split())
    assert "Not sent" not in said
    send_study(study, cells, found, page, everything=True)
    said = " ".join(capsys.readouterr().err.split())
    assert said == "3 of 3 runs of study playground are mirrored. Far away."


@pytest.mark.slow
def test_a_sweep_tells_of_cells_that_were_done_before_it(command, tmp_path, monkeypatch, capsys):
    page = tmp_path / "report.html"
    page.write_text("<p>the page</p>")
    monkeypatch.setattr("heed.study.sweep.report", lambda *_: (page, []))
    (cell,) = _cells(tmp_path)
    done(tmp_path, cell, cost=(1.0, 1.0, 1))
    command(code="pass")
    said = " ".join(capsys.readouterr().err.split())
    assert "Not sent by it: 1 cells that were done before" in said


def _cells(root: Path) -> list[PlannedCell]:
    typed = (*STUDY, "study.axes.lr=[play_gentle]", f"outputs={root}", "also=none", "logger=wandb")
    sweep = compose_component(CONF, "sweep", typed)
    return plan_study(sweep.study, CONF, typed[len(STUDY) + 1 :])


def test_the_table_of_cells_has_a_row_for_each_with_its_primary_metric(two):
    table = cells_table(two[2])
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert tuple(table.columns) == COLUMNS
    assert [row["ended"] for row in rows] == ["done", "failed"]
    assert (rows[0]["metric"], rows[0]["delta"], rows[0]["verdict"]) == (METRIC, 0.125, "helped")
    assert (rows[1]["metric"], rows[1]["reason"]) == (None, "no memory")


@pytest.mark.parametrize("everything", [True, False])
def test_a_mirror_that_refuses_the_first_run_is_offered_no_other(two, everything, capsys):
    study, cells, found, page = two
    cells = [far(one, refuses=True) for one in cells]
    lines = send_study(study, cells, found, page, everything=everything)
    assert len(Far.begun) == 1
    assert len(lines) == (3 if everything else 0), "a sweep does not fail by its mirror"
    assert "the mirror did not take it" in " ".join(capsys.readouterr().err.split())


def test_a_cell_that_somebody_is_at_is_left_to_that(two):
    study, cells, found, page = two
    with lock(run_lock(cells[1].cell.root / "runs" / cells[1].directory)):
        lines = send_study(study, cells, found, page, everything=True)
    assert len(lines) == 1
    assert "another process is at it" in lines[0]
    assert [ending.failed for _, ending in Far.sent] == [False, False]


def test_a_base_whose_files_are_damaged_is_told_and_the_rest_is_sent(two):
    study, cells, found, page = two
    cells[0].baseline.mkdir(parents=True)
    (cells[0].baseline / "summary.json").write_text("{")
    (line,) = send_study(study, cells, found, page, everything=True)
    assert line.startswith("base ")
    assert "files are not whole" in line
    assert [run.kind for run, _ in Far.sent] == ["tuned", "tuned", "report"]


def test_where_no_mirror_is_afar_nothing_is_sent(two):
    study, cells, found, page = two
    plain = [planned(page.parents[2], number) for number in (1, 2)]
    assert send_study(study, plain, found, page, everything=True) == []
    send_failed(plain, found)
    assert Far.sent == []
    send_failed(cells, found)
    assert [ending.failed for _, ending in Far.sent] == [True]


def test_sending_without_a_mirror_is_one_clear_mistake():
    with pytest.raises(ConfigError) as wrong:
        compose_component(CONF, "sweep", [*STUDY, "sync=true"])
    (mistake,) = wrong.value.mistakes
    assert "sends nothing anywhere" in mistake.why
    assert "logger=wandb" in mistake.action
    compose_component(CONF, "sweep", [*STUDY, "sync=true", "logger=wandb"])
    with pytest.raises(ConfigError, match="status"):
        compose_component(CONF, "sweep", [*STUDY, "sync=true", "logger=wandb", "status=true"])


@pytest.fixture
def command(tmp_path, monkeypatch):
    """A sweep of one cell, whose process runs some code, with W&B offline."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    typed = [f"outputs={tmp_path}", "also=none", "logger=wandb"]

    def run(*more: str, code: str = "sys.exit(7)") -> None:
        monkeypatch.setattr(supervisor, "CHILD", stub(tmp_path, code))
        sweep = compose_component(
            CONF, "sweep", (*STUDY, "study.axes.lr=[play_gentle]", *typed, *more)
        )
        run_sweep(sweep, typed, CONF, Launch(begin))

    def begin(lines, how) -> None:
        for line in lines:
            see_through(compose_component(CONF, "train", line), how, line)

    return run


def read_back(root: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """An offline run: what a reader sees of it, and its record."""
    (file,) = (root / "wandb").glob(f"offline-run-*-{name}/*.wandb")
    line = [str(WANDB), "leet", "inspect", "--json", str(file)]
    told = [
        subprocess.run(x, capture_output=True, text=True, check=True).stdout
        for x in (line, [*line[:3], "--summary", *line[3:]])
    ]
    run = next(row["run"] for row in map(json.loads, told[0].splitlines()) if row["type"] == "run")
    return json.loads(told[1]), run


@pytest.mark.slow
def test_a_cell_that_was_killed_ends_failed_in_wandb_and_is_sent_again_by_sync(command, tmp_path):
    with pytest.raises(RunError, match="1 failed of 1 cells"):
        command(code="asked['part'] == 'cell' and os.kill(os.getpid(), signal.SIGKILL)")
    (entry,) = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    found, run = read_back(tmp_path, f"{entry['run']}-{entry['suite']}")
    assert (found["state"], found["exit_code"]) == ("failed", 1)
    assert "signal" in found["summary"]["reason"] or "kill" in found["summary"]["reason"]
    assert (run["run_group"], run["job_type"]) == ("playground", "tuned")
    (file,) = (tmp_path / "cells").glob("nano*.yaml")
    assert "study: playground" in file.read_text(), "what a cell of this study is told"
    before = begun(tmp_path)
    with pytest.raises(RunError, match="1 failed of 1 cells"):
        command("sync=true")
    assert begun(tmp_path) == before, "nothing is run"
    again, _ = read_back(tmp_path, f"{entry['run']}-{entry['suite']}")
    assert again["summary"]["reason"] == found["summary"]["reason"]
    report, run = read_back(tmp_path, "report-playground")
    assert run["job_type"] == "report"
    assert report["summary"]["cells"]["nrows"] == 1


@pytest.mark.slow
def test_sync_begins_no_cell_that_is_missing(command, tmp_path):
    command("sync=true")
    assert begun(tmp_path) == []
    report, _ = read_back(tmp_path, "report-playground")
    assert report["summary"]["cells/missing"] == 1


def test_sync_sends_nothing_to_a_server_that_is_away_and_says_so(command, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_API_KEY", 40 * "0")
    with pytest.raises(RunError, match="server does not answer, so nothing was sent"):
        command("sync=true", "logger.mode=online")
    assert not (tmp_path / "wandb").exists()
    assert begun(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "value"), [("WANDB_API_KEY", "short"), ("WANDB_MODE", "disabled")]
)
def test_sync_with_an_odd_setting_is_one_screen(command, monkeypatch, tmp_path, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(RunError, match=r"API key|disabled"):
        command("sync=true", "logger.mode=online")
    assert not (tmp_path / "wandb").exists()


def test_a_failed_one_of_several_lines_is_sent_too(tmp_path, monkeypatch):
    sent = []
    monkeypatch.setattr("heed.study.sweep.send_failed", lambda cells, found: sent.append(found))
    monkeypatch.setattr(supervisor, "CHILD", stub(tmp_path, "sys.exit(7)"))

    def begin(lines, how) -> None:
        for line in lines:
            see_through(compose_component(CONF, "train", line), how, line)

    with pytest.raises(RunError, match="1 failed of 1 cells"):
        run_lines([[f"outputs={tmp_path}", "also=none"]], CONF, tmp_path, Launch(begin))
    assert [len(found.failed) for found in sent] == [1]
    record(tmp_path, "stopped", {"run": "r", "suite": "s", "reason": "asked"})
