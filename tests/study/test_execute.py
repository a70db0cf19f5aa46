"""Cells are children of their own: scheduled round baselines, and never lost without a word."""

import random
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from heed.core.compose import compose_component
from heed.core.errors import RunError
from heed.study.cell import Cell
from heed.study.execute import execute, next_cell
from heed.study.ledger import latest, record
from heed.study.plan import PlannedCell
from heed.study.study import Study, Sweep
from heed.study.sweep import run_sweep

CONF = Path(__file__).resolve().parents[2] / "conf"

CHILD = """
import json, pathlib, sys
asked = dict(text.split("=", 1) for text in sys.argv[1:])
root = pathlib.Path(asked["outputs"])
with (root / "children").open("a") as file:
    file.write(json.dumps(asked) + "\\n")
{ending}
"""
ENDINGS = {
    "silent": "print('first'); print('the last words'); sys.exit(7)",
    "killed": "import os; print('before the end', flush=True); os.kill(os.getpid(), 9)",
    "liar": "print('all is well')",
}


@cache
def a_cell(seed: int) -> tuple[Cell, tuple[str, str]]:
    """A cell and its key; the root of its outputs is set by who uses it."""
    cell = compose_component(CONF, "train", (f"seed={seed}",))
    return cell, (cell.run.id, cell.names["suite"])


def cells_of(root: Path, students: tuple[int, ...]) -> list[PlannedCell]:
    """Planned cells, `students[i]` of them with the i-th baseline."""
    planned = []
    for student, count in enumerate(students):
        for number in range(count):
            cell, key = a_cell(number)
            here = replace(cell, outputs=str(root))  # type: ignore[type-var]
            line = (f"outputs={root}", f"seed={student}{number}")
            planned.append(PlannedCell(line, here, key, root / "baselines" / str(student)))
    return planned


@pytest.mark.parametrize("seed", range(20))
def test_no_two_cells_wait_for_one_baseline_and_every_cell_starts(seed: int, tmp_path: Path):
    """Plays the schedule with children that end in random order, some without a baseline."""
    chance = random.Random(seed)
    waiting, running, started = cells_of(tmp_path, (3, 1, 4)), [], 0
    jobs = chance.randint(1, 4)
    while waiting or running:
        planned = next_cell(waiting, running) if len(running) < jobs else None
        if planned is not None:
            waiting.remove(planned)
            running.append(planned)
            started += 1
            makers = [p.baseline for p in running if not (p.baseline / "summary.json").is_file()]
            assert len(makers) == len(set(makers))
            continue
        assert running, "nothing runs and nothing may start"
        ended = running.pop(chance.randrange(len(running)))
        if chance.random() < 0.7:
            ended.baseline.mkdir(parents=True, exist_ok=True)
            (ended.baseline / "summary.json").write_text("{}")
    assert started == 8


def test_students_without_baseline_are_begun_side_by_side(tmp_path: Path):
    planned = cells_of(tmp_path, (2, 2))
    assert next_cell(planned[1:], planned[:1]) == planned[2]


def project(tmp_path: Path, ending: str) -> Path:
    """A folder with a `train.py` that ends in one way."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text(CHILD.format(ending=ENDINGS[ending]))
    return folder


def run(planned: list[PlannedCell], folder: Path, root: Path) -> None:
    execute(planned, project=folder, logs=root / "logs", jobs=2, threads=1)


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        ("silent", "exit code 7: first | the last words"),
        ("killed", "exit code -9: before the end"),
        ("liar", "exit code 0: all is well"),
    ],
)
def test_a_child_without_an_entry_is_recorded_as_failed(ending: str, words: str, tmp_path: Path):
    planned = cells_of(tmp_path, (2,))
    run(planned, project(tmp_path, ending), tmp_path)
    entries = latest(tmp_path)
    assert [entries[p.key]["event"] for p in planned] == ["failed", "failed"]
    assert {entry["reason"] for entry in entries.values()} == {words}


def test_a_second_death_is_not_told_with_the_reason_of_the_first(tmp_path: Path):
    (planned,) = cells_of(tmp_path, (1,))
    record(tmp_path, "failed", planned.cell.names | {"reason": "the old reason"})
    run([planned], project(tmp_path, "killed"), tmp_path)
    assert "before the end" in latest(tmp_path)[planned.key]["reason"]


def test_a_child_gets_the_cells_own_line_and_the_sweeps_threads(tmp_path: Path):
    planned = cells_of(tmp_path, (1,))
    run(planned, project(tmp_path, "silent"), tmp_path)
    said = (tmp_path / "children").read_text()
    assert said == f'{{"outputs": "{tmp_path}", "seed": "00", "trainer.threads": "1"}}\n'


def test_a_sweep_keeps_its_page_and_names_the_cells_that_failed(tmp_path: Path):
    folder = project(tmp_path, "silent")
    (folder / "conf").symlink_to(CONF)
    study = Study(name="s", question="?", axes={"lr": ("gentle",)}, fixed={}, seeds=(1, 2))
    sweep = Sweep(study=study, outputs=str(tmp_path), jobs=2, threads=1)
    with pytest.raises(RunError, match=r"(?s)2 of 2 cells failed.*the last words"):
        run_sweep(sweep, folder)
    assert (tmp_path / "studies/s/report.html").is_file()
    assert len((tmp_path / "children").read_text().splitlines()) == 2


def test_a_sweep_without_a_study_lists_the_studies(tmp_path: Path, capsys):
    run_sweep(Sweep(outputs=str(tmp_path), jobs=1, threads=1), CONF.parent)
    assert "python sweep.py study=playground" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
