"""A plan is read again only where planning anew would give the same."""

import csv
import os
from pathlib import Path
from typing import Any

import pytest

from heed.core.compose import compose_component
from heed.core.files import read_json, write_json
from heed.study import recall
from heed.study.plan import PlannedCell, plan_cells
from heed.study.recall import cells_left_out, keep_plan, recall_plan
from heed.study.several import Launch
from heed.study.sweep import run_sweep

CONF = Path(__file__).resolve().parents[2] / "conf"
TYPED = ["suite=play"]


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[PlannedCell]:
    folder = tmp_path_factory.mktemp("data")
    (folder / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    (folder / "out").mkdir()
    lines = [
        ["model=books", "teacher=file", f"teacher.source.path={folder}/rows.jsonl", "also=none",
         "layout@teacher.layout=instruction_output", "lr=reference", "data=responses", *TYPED],
        ["lr.peak=1e-05", f"outputs={folder}/out", *TYPED],
    ]  # fmt: skip
    return plan_cells(lines, CONF)


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A config tree; what is in it does not matter here."""
    folder = tmp_path / "conf" / "lr"
    folder.mkdir(parents=True)
    (folder / "a.yaml").write_text("peak: ${oc.env:HEED_A_RATE,1}\n")
    return tmp_path / "conf"


@pytest.fixture
def kept(cells: Any, conf: Path, tmp_path: Path) -> Path:
    keep_plan(tmp_path / "study", cells, conf, TYPED)
    return tmp_path / "study"


def test_what_is_recalled_is_what_was_planned(cells: Any, kept: Path, conf: Path):
    found = recall_plan(kept, conf, TYPED)
    assert found is not None
    assert found[0] == cells
    assert [one.names for one in found[0]] == [one.names for one in cells]


def test_cells_that_a_plan_no_longer_has_are_counted(cells: Any, kept: Path, tmp_path: Path):
    assert cells_left_out(kept, cells) == 0
    assert cells_left_out(kept, cells[:1]) == len(cells) - 1 > 0
    assert cells_left_out(tmp_path / "never planned", cells) == 0


def test_a_variable_that_was_typed_decides_too(cells: Any, conf: Path, tmp_path, monkeypatch):
    typed = ["teacher.source.path=${oc.env:HEED_A_CORPUS}"]
    monkeypatch.setenv("HEED_A_CORPUS", "one")
    keep_plan(tmp_path / "study", cells, conf, typed)
    assert recall_plan(tmp_path / "study", conf, typed) is not None
    monkeypatch.setenv("HEED_A_CORPUS", "two")
    assert recall_plan(tmp_path / "study", conf, typed) is None


def test_the_plan_is_a_table_too(cells: Any, kept: Path):
    with (kept / "plan.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == [one.key[0] for one in cells]
    assert [row["command"] for row in rows] == [one.command for one in cells]


def test_what_is_written_stays_out_of_what_is_read(kept: Path, cells: Any):
    names = set(read_json(kept / "plan.json")["files"])
    assert cells[0].settings["teacher.source.path"] in names
    assert cells[0].cell.data_dir in names
    assert not any(name.endswith("/out") for name in names)


def other_code(patch: Any) -> None:
    patch.setattr(recall, "code_state", lambda: "1 source 2")


@pytest.mark.parametrize(
    "change",
    [
        lambda conf, _, __: (conf / "lr" / "a.yaml").write_text("peak: 2\n"),
        lambda conf, _, __: (conf / "lr" / "b.yaml").write_text(""),
        lambda conf, _, __: (conf / "lr" / "a.yaml").rename(conf / "a.yaml"),
        lambda _, kept, __: (kept / "plan.json").write_text("{"),
        lambda _, kept, __: (kept / "plan.json").write_text("[]"),
        lambda _, kept, __: (kept / "plan.json").unlink(),
        lambda _, __, patch: patch.setenv("HEED_A_RATE", "3"),
        lambda _, __, patch: patch.chdir("/"),
        lambda _, __, patch: patch.setattr(recall, "versions", dict),
        lambda _, __, patch: other_code(patch),
    ],
    ids=[
        "content",
        "new",
        "moved",
        "torn",
        "foreign",
        "gone",
        "environment",
        "folder",
        "versions",
        "code",
    ],
)
def test_a_change_of_what_decides_makes_the_plan_anew(change: Any, kept: Path, conf: Path):
    with pytest.MonkeyPatch.context() as patch:
        change(conf, kept, patch)
        assert recall_plan(kept, conf, TYPED) is None


def test_other_settings_make_the_plan_anew(kept: Path, conf: Path):
    assert recall_plan(kept, conf, [*TYPED, "seed=2"]) is None
    assert recall_plan(kept, conf, []) is None


def test_changed_data_make_the_plan_anew(kept: Path, conf: Path, cells: Any):
    path = Path(cells[0].settings["teacher.source.path"])
    was = path.stat()
    try:
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns + 1))
        assert recall_plan(kept, conf, TYPED) is None
    finally:
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert recall_plan(kept, conf, TYPED) is not None


def test_a_plan_with_a_component_that_is_no_more_is_made_anew(kept: Path, conf: Path):
    found = read_json(kept / "plan.json")
    found["cells"][0]["cell"]["lr"]["_target_"] = "heed.training.optim.Gone"
    write_json(kept / "plan.json", found)
    assert recall_plan(kept, conf, TYPED) is None


STUDY = (
    "study=playground", "study.axes.model=[nano]", "study.axes.lr=[play_gentle]",
    "study.axes.teacher=[play_clear]",
)  # fmt: skip


def test_a_look_reads_the_last_plan_and_a_run_plans_anew(tmp_path: Path, capfd: Any):
    def look(*words: str) -> tuple[str, str]:
        asked = compose_component(CONF, "sweep", (*STUDY, *words, f"outputs={tmp_path}"))
        run_sweep(asked, [f"outputs={tmp_path}"], CONF, Launch(lambda *_: pytest.fail("it began")))
        found = capfd.readouterr()
        return found.out, found.err

    first, said = look("status=true")
    assert "As planned" not in said
    again, said = look("status=true")
    assert "As planned on 2" in said
    assert again == first
    assert "1 cells" not in first
    full, said = look("plan_only=true")
    assert "As planned" not in said
    assert full.startswith(first.rstrip())
    assert "python train.py model=nano lr=play_gentle" in full
    _, said = look("report_only=true")
    assert "As planned on 2" in said
    assert (tmp_path / "studies/playground/report.html").is_file()
