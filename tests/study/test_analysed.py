"""What analyses found is read of each finished cell; what is not there is named, never dropped."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up import done, planned

from heed.analysis.analysed import all_else_equal
from heed.analysis.analysis import Analysis
from heed.analysis.number import Number
from heed.core.component import component
from heed.core.files import write_json, write_text
from heed.study.analysed import analysed
from heed.study.analyses import analysis_place, is_analysed
from heed.study.ledger import record_result, result_file
from heed.study.outcome import outcomes, report
from heed.study.plan import PlannedCell
from heed.study.study import Study

COST: Any = (10.0, 5.0, 100)


@component
class Counted(Analysis):
    """A number."""

    name = "counted"

    word: str

    def make(self, studied: Any, directory: Path) -> list[str]:
        """Nothing."""
        return []

    def numbers(self, summary: Mapping[str, Any], primary: str) -> dict[str, Number]:
        """One share, which knows what is primary."""
        return {f"count beside {primary}": Number("share", summary["count"])}

    @property
    def about(self) -> str:
        """What it is."""
        return f"Counts of {self.word}."


A = Counted(word="a")
NAME = "count beside play_follow/inst_level_strict_acc"


def study(**more: Any) -> Study:
    settings = {"name": "s", "question": "?", "axes": {"lr": ("hot", "cold")}, "seeds": (1,)}
    return Study(**{**settings, "suite": "play", "primary": None, "checkpoint": "last", **more})


def finish(root: Path, cell: PlannedCell, **more: Any) -> Path:
    """A run with its result; returns its directory."""
    result = done(root / "elsewhere", cell, cost=COST, **{"settings": {"seed": 1}, **more})
    write_json(result_file(root / result["directory"], result["suite_name"]), result)
    record_result(root, result)
    run = root / result["directory"]
    write_text(run / "config.yaml", "{}")
    (run / "model").mkdir()
    fit = {"optimiser_steps": 3}
    about = {"run": cell.key[0], "time": "now", "code": "c0de", "fit": fit}
    write_json(run / "manifest.json", about)
    return run


def do(
    run: Path, cell: PlannedCell, count: Any, analysis: Analysis = A, code: Any = "c0de"
) -> Path:
    """An analysis of a run that found a number."""
    place = analysis_place(analysis, cell.cell.suite, run)
    write_json(place / "summary.json", {"count": count})
    write_text(place / "report.html", "<p>")
    write_json(place / "manifest.json", {"code": code})
    return place


@pytest.fixture
def two(tmp_path: Path) -> tuple[list[PlannedCell], list[Path]]:
    cells = [planned(tmp_path, i, lr=lr) for i, lr in enumerate(("hot", "cold"), 1)]
    return cells, [finish(tmp_path, cell) for cell in cells]


def found_in(cells: list[PlannedCell], root: Path, of: Study | None = None) -> Any:
    results = {(one["run"], one["suite"]): one for one in outcomes(cells, root).done}
    (found,) = analysed([A], of or study(), cells, results, root)
    return found


def test_each_finished_cell_has_its_numbers_its_place_and_its_page(two: Any, tmp_path: Path):
    cells, runs = two
    places = [do(*each) for each in zip(runs, cells, (0.25, 0.5), strict=True)]
    found = found_in([*cells, planned(tmp_path, 3, lr="late")], tmp_path)
    assert (found.name, found.about, found.axes) == ("counted", "Counts of a.", ("lr",))
    assert [one.run for one in found.cells] == [cell.key[0] for cell in cells]
    assert [one.place for one in found.cells] == [
        {"lr": "hot", "seed": "1"},
        {"lr": "cold", "seed": "2"},
    ]
    assert [one.numbers[NAME].value for one in found.cells] == [0.25, 0.5]
    assert [one.page for one in found.cells] == [f"analysis/{p.name}/report.html" for p in places]
    assert (found.missing, found.otherwise, found.damaged) == ((), (), {})


def test_what_is_not_done_or_done_otherwise_is_named(two: Any, tmp_path: Path):
    cells, runs = two
    other = do(runs[0], cells[0], 0.25, Counted(word="b"))
    begun = analysis_place(A, cells[1].cell.suite, runs[1])
    write_json(begun / "summary.json", {"count": 0.5})  # no manifest: it never ended
    found = found_in(cells, tmp_path)
    assert found.cells == ()
    assert found.missing == tuple(cell.key[0] for cell in cells)
    assert found.otherwise == (cells[0].key[0],)
    assert not is_analysed(A, cells[0].cell.suite, runs[0])
    assert other.name != begun.name


def test_an_analysis_of_a_training_that_was_done_again_is_another(two: Any, tmp_path: Path):
    cells, runs = two
    do(runs[0], cells[0], 0.25)
    about = {"run": cells[0].key[0], "time": "later", "code": "c", "fit": {"optimiser_steps": 3}}
    write_json(runs[0] / "manifest.json", about)
    found = found_in(cells, tmp_path)
    assert found.otherwise == (cells[0].key[0],)
    assert found.cells == ()


@pytest.mark.parametrize("harm", ["gone", "torn", "lacking", "no number", "a list"])
def test_a_damaged_summary_is_a_line_and_stops_nothing(two: Any, harm: str, tmp_path: Path):
    cells, runs = two
    do(runs[0], cells[0], 0.25)
    summary = do(runs[1], cells[1], 0.5) / "summary.json"
    if harm == "gone":
        summary.unlink()
    else:
        texts = {"torn": '{"count": 0.', "lacking": "{}", "no number": '{"count": "<b>"}'}
        summary.write_text(texts.get(harm, "[]"))
    found = found_in(cells, tmp_path)
    assert [one.run for one in found.cells] == [cells[0].key[0]]
    assert found.missing == ()
    (line,) = found.damaged.values()
    assert list(found.damaged) == [cells[1].key[0]]
    assert str(summary) in line
    assert f"Remove {summary.parent}" in line
    assert "\n" not in line


@pytest.mark.parametrize("text", ["{}", '{"code": null}', '{"co', "[]"])
def test_an_analysis_of_unknown_code_is_a_line_too(two: Any, text: str, tmp_path: Path):
    cells, runs = two
    do(runs[0], cells[0], 0.25)
    manifest = do(runs[1], cells[1], 0.5) / "manifest.json"
    manifest.write_text(text)
    found = found_in(cells, tmp_path)
    assert [one.run for one in found.cells] == [cells[0].key[0]]
    assert str(manifest) in found.damaged[cells[1].key[0]]


def test_an_analysis_stands_though_the_model_of_its_run_was_removed(two: Any, tmp_path: Path):
    cells, runs = two
    for each in zip(runs, cells, (0.25, 0.5), strict=True):
        do(*each)
    (runs[1] / "model").rmdir()
    found = found_in(cells, tmp_path)
    assert [one.numbers[NAME].value for one in found.cells] == [0.25, 0.5]
    assert found.damaged == {}
    assert is_analysed(A, cells[1].cell.suite, runs[1])


def test_a_disk_that_cannot_be_read_is_a_line_too(
    two: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cells, runs = two
    do(runs[0], cells[0], 0.25)
    real = Path.is_file

    def failing(path: Path) -> bool:
        if path.is_relative_to(runs[1]):
            raise OSError(5, "Input/output error")
        return real(path)

    results = {(one["run"], one["suite"]): one for one in outcomes(cells, tmp_path).done}
    monkeypatch.setattr(Path, "is_file", failing)
    (found,) = analysed([A], study(), cells, results, tmp_path)
    assert [one.run for one in found.cells] == [cells[0].key[0]]
    line = found.damaged[cells[1].key[0]]
    assert "Input/output error" in line
    assert str(runs[1]) in line


def test_a_damaged_run_is_a_line_too(two: Any, tmp_path: Path):
    cells, runs = two
    do(runs[0], cells[0], 0.25)
    (runs[1] / "config.yaml").unlink()
    found = found_in(cells, tmp_path)
    assert [one.run for one in found.cells] == [cells[0].key[0]]
    assert "config.yaml" in found.damaged[cells[1].key[0]]


def test_a_page_that_is_lost_is_not_linked(two: Any, tmp_path: Path):
    cells, runs = two
    (do(runs[0], cells[0], 0.25) / "report.html").unlink()
    assert found_in(cells, tmp_path).cells[0].page is None


@pytest.mark.parametrize(
    ("more", "pairs"),
    [
        ({}, 1),
        ({"code": "0ther"}, 0),
        ({"settings": {"seed": 1, "data": {"epochs": 2}}}, 0),
    ],
    ids=["equal", "other code", "other settings"],
)
def test_cells_of_other_code_or_settings_are_no_pair(more: Any, pairs: int, tmp_path: Path):
    """Whatever else the two cells share."""
    cells = [planned(tmp_path, i, lr=lr) for i, lr in enumerate(("hot", "cold"), 1)]
    same = [replace(cell, cell=replace(cell.cell, seed=1)) for cell in cells]  # type: ignore[type-var]
    for cell, said in zip(same, ({}, more), strict=True):
        settings = {"settings": {"seed": 1, "data": {"epochs": 1}}}
        do(finish(tmp_path, cell, **{**settings, **said}), cell, 0.25)
    told, without = all_else_equal(found_in(same, tmp_path))
    assert (sum(one.pairs for one in told), without) == (pairs, 1 - pairs)


@pytest.mark.parametrize(
    ("codes", "pairs"),
    [
        (("a source 1", "a source 1"), 1),
        (("a source 1", "b source 1"), 1),
        (("a source 1", "a source 2"), 0),
        (("old", "a source 2"), 0),
    ],
)
def test_analyses_of_other_code_are_no_pair(codes: tuple[str, str], pairs: int, tmp_path: Path):
    """Though one state of code trained both cells; commits with the same source are no other."""
    cells = [planned(tmp_path, i, lr=lr) for i, lr in enumerate(("hot", "cold"), 1)]
    same = [replace(cell, cell=replace(cell.cell, seed=1)) for cell in cells]  # type: ignore[type-var]
    for cell, code in zip(same, codes, strict=True):
        do(finish(tmp_path, cell), cell, 0.25, code=code)
    found = found_in(same, tmp_path)
    assert [one.code for one in found.cells] == list(codes)
    told, without = all_else_equal(found)
    assert (sum(one.pairs for one in told), without) == (pairs, 1 - pairs)


def test_among_analyses_of_several_states_those_of_one_source_are_pairs(tmp_path: Path):
    rates = ("hot", "cold", "warm")
    cells = [planned(tmp_path, i, lr=lr) for i, lr in enumerate(rates, 1)]
    same = [replace(cell, cell=replace(cell.cell, seed=1)) for cell in cells]  # type: ignore[type-var]
    for cell, code in zip(same, ("a source 1", "a source 2", "b source 1"), strict=True):
        do(finish(tmp_path, cell), cell, 0.25, code=code)
    told, without = all_else_equal(found_in(same, tmp_path, study(axes={"lr": rates})))
    assert [(one.one, one.two, one.pairs) for one in told] == [("hot", "warm", 1)]
    assert without == 2


def test_the_page_of_a_study_shows_what_its_analyses_found(two: Any, tmp_path: Path):
    cells, runs = two
    do(runs[0], cells[0], 0.25)
    found = outcomes(cells, tmp_path)
    path, failed = report(study(), cells, found, tmp_path, [A])
    page = path.read_text()
    assert failed == []
    assert "Counts of a." in page
    assert "is there of 1 of 2 cells" in page
    assert "counted," in (path.parent / "analyses.csv").read_text()
    without = report(study(), cells, found, tmp_path)[0].read_text()
    assert "Counts of a." not in without
    assert not (path.parent / "analyses.csv").exists()
