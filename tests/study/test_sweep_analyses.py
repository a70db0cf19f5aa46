"""A sweep makes each analysis of each finished cell once, and names those that failed."""

import shutil
from pathlib import Path

import pytest
from tiny import TINY, Finished

from heed.analysis.analysis import Analysis, Studied
from heed.core.component import component
from heed.core.files import write_text
from heed.study.analyses import analyse_cell
from heed.study.apart import Apart
from heed.study.plan import PlannedCell, plan_cells
from heed.study.several import Launch, Several, sign_of

CONF = Path(__file__).resolve().parents[2] / "conf"


@component
class Said(Analysis):
    """A page of a word."""

    name = "said"

    word: str

    def make(self, studied: Studied, directory: Path) -> list[str]:
        """One file."""
        write_text(directory / "report.html", self.word)
        return []


class Launched:
    """Makes analyses here; the cells are done."""

    def __init__(self, cells: list[PlannedCell], *, works: bool = True):
        self.cells, self.works, self.made = cells, works, []

    def begin(self, lines: list[list[str]], how: Apart) -> None:
        assert how.part == "analysis", "a finished cell was begun again"
        for cell in self.cells:
            if list(cell.overrides) in [list(line) for line in lines]:
                self.made.append((how.analysis.word, cell.cell.seed))
                if self.works:
                    analyse_cell(cell.cell, how.analysis)


def two_of_which_one_is_done(finished: Finished, root: Path) -> list[PlannedCell]:
    shutil.copytree(finished.root, root, dirs_exist_ok=True)
    lines = [[*TINY, f"outputs={root}"], [*TINY, "seed=77", f"outputs={root}"]]
    return plan_cells(lines, CONF)


def analysed(cells: list[PlannedCell], root: Path, words: str, **how) -> tuple[list, list[str]]:
    """What was begun, and what is said to have failed."""
    launched = Launched(cells, **how)
    asked = Apart(halt=sign_of(root))
    several = Several(cells, root, Launch(launched.begin), asked)
    lines = several._analyse([Said(word=word) for word in words])
    return launched.made, lines


@pytest.mark.slow
def test_each_analysis_of_a_finished_cell_is_made_once(finished: Finished, tmp_path: Path):
    cells = two_of_which_one_is_done(finished, tmp_path)
    assert analysed(cells, tmp_path, "a", works=False) == (
        [("a", 1)],
        [f"said of {cells[0].directory}: see {cells[0].file.with_suffix('')}--said.log"],
    )
    assert analysed(cells, tmp_path, "ab") == ([("a", 1), ("b", 1)], [])
    assert analysed(cells, tmp_path, "ab") == ([], [])


@pytest.mark.slow
def test_a_damaged_run_is_told_and_stops_no_page(finished: Finished, tmp_path: Path):
    cells = two_of_which_one_is_done(finished, tmp_path)
    (cells[0].cell.directory / "config.yaml").unlink()
    made, (line,) = analysed(cells, tmp_path, "a")
    assert made == []
    assert line.startswith(f"said of {cells[0].directory}: ")
    assert "config.yaml" in line


@pytest.mark.slow
def test_a_result_that_is_lost_is_to_be_made_again(finished: Finished, tmp_path: Path):
    (cell, _) = two_of_which_one_is_done(finished, tmp_path)
    begun: list[list[str]] = []

    def begin(lines: list[list[str]], _: Apart) -> None:
        begun.extend(lines)
        shutil.copy(finished.run / "scores/play/result.json", lost)

    lost = cell.cell.directory / "scores/play/result.json"
    lost.unlink()
    for expected in ([list(cell.overrides)], []):
        begun.clear()
        Several([cell], tmp_path, Launch(begin), Apart(halt=sign_of(tmp_path))).run()
        assert [list(line) for line in begun] == expected
