"""A page is made of what is there, and says what is not, whatever became of single results."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up import METRIC, done, planned

from heed.analysis.markup import tag
from heed.core.files import write_json
from heed.study.ledger import record, record_result, result_file
from heed.study.outcome import outcomes, report
from heed.study.plan import PlannedCell
from heed.study.study import Study

COST: Any = (10.0, 5.0, 100)


def study(**more: Any) -> Study:
    axes = {"lr": ("hot", "cold")}
    settings = {"name": "s", "question": "Does it?", "axes": axes, "seeds": (1,), "suite": "play"}
    return Study(**{**settings, "primary": None, "checkpoint": "last", **more})


def finish(root: Path, cell: PlannedCell) -> Path:
    """A cell with a short line and a whole result."""
    result = done(root / "elsewhere", cell, cost=COST, settings={"seed": 1}) | {
        "flags": [{"kind": "short", "text": "few steps"}]
    }
    path = result_file(root / result["directory"], result["suite_name"])
    write_json(path, result)
    record_result(root, result)
    return path


@pytest.fixture
def two(tmp_path: Path) -> tuple[list[PlannedCell], Path]:
    cells = [planned(tmp_path, 1, lr="hot"), planned(tmp_path, 2, lr="cold")]
    finish(tmp_path, cells[0])
    return cells, finish(tmp_path, cells[1])


def test_results_come_whole_in_the_order_of_the_cells(two: Any, tmp_path: Path):
    cells, _ = two
    found = outcomes(cells[::-1], tmp_path)
    assert [result["lr"] for result in found.done] == ["cold", "hot"]
    assert found.done[0]["flags"][0]["text"] == "few steps"
    assert found.failed == []


def test_a_result_that_another_study_made_is_called_as_this_one_calls_it(two: Any, tmp_path: Path):
    renamed = planned(tmp_path, 1, lr="warm")
    assert renamed.key == two[0][0].key
    (found,) = outcomes([renamed], tmp_path).done
    assert found["lr"] == "warm"
    assert found["flags"] == outcomes(two[0], tmp_path).done[0]["flags"]


@pytest.mark.parametrize("harm", ["gone", "changed", "lacking"])
def test_a_lost_result_is_listed_with_its_reason_and_stops_no_page(
    two: Any, harm: str, tmp_path: Path
):
    cells, path = two
    if harm == "gone":
        path.unlink()
    elif harm == "changed":
        path.write_text(path.read_text().replace("0.375", "0.475"))
    else:
        record(tmp_path, "done", cells[1].names)  # as an older heed might have entered it
    found = outcomes(cells, tmp_path)
    assert [result["lr"] for result in found.done] == ["hot"]
    (lost,) = found.failed
    assert lost["command"] == cells[1].command
    assert cells[1].key[0] in lost["reason"]
    page = report(study(), cells, found, tmp_path)[0].read_text()
    assert "Cells without a result" in page
    assert "train.py lr=cold seed=2" in page
    assert "Of 1 cells" in page


def test_failed_cells_stand_on_the_page_with_reason_log_and_command(two: Any, tmp_path: Path):
    cells, _ = two
    lost = planned(tmp_path, 3, lr="odd")
    log = ["first", "<b>last</b> words"]
    record(tmp_path, "failed", lost.names | {"reason": "out of <memory>", "log": log})
    stopped = planned(tmp_path, 4, lr="late")
    record(tmp_path, "stopped", stopped.names | {"reason": "asked"})
    found = outcomes([*cells, lost, stopped], tmp_path)
    page = report(study(), [*cells, lost, stopped], found, tmp_path)[0].read_text()
    (about,) = [part for part in page.split('id="missing"')[1:]]
    assert "out of &lt;memory&gt;" in about
    assert "<pre>first\n&lt;b&gt;last&lt;/b&gt; words</pre>" in about
    assert lost.command in about
    assert "Cells without a result: 2 (failed: 1)." in page


def test_a_section_of_teachers_that_fails_is_told_and_stands_on_a_whole_page(
    two: Any, tmp_path: Path, monkeypatch
):
    cells, _ = two
    said = {"reason": "MemoryError: <full>", "failed": "MemoryError: full"}
    monkeypatch.setattr("heed.study.outcome.teaching_of", lambda *_: said)
    page, failed = report(study(), cells, outcomes(cells, tmp_path), tmp_path)
    assert failed == ["MemoryError: full"]
    assert "MemoryError: &lt;full&gt;" in page.read_text()
    assert "Of 2 cells" in page.read_text()
    for fine in (None, {"reason": "2 teachers are finished"}):
        monkeypatch.setattr("heed.study.outcome.teaching_of", lambda *_, fine=fine: fine)
        assert report(study(), cells, outcomes(cells, tmp_path), tmp_path)[1] == []


def test_a_section_of_teachers_that_cannot_be_drawn_is_told_and_ends_no_page(
    two: Any, tmp_path: Path, monkeypatch
):
    cells, _ = two
    monkeypatch.setattr("heed.study.outcome.teaching_of", lambda *_: {"students": []})
    page, (failed,) = report(study(), cells, outcomes(cells, tmp_path), tmp_path)
    assert "KeyError" in failed
    assert "What predicts the deltas cannot be said: KeyError" in page.read_text()
    log = page.parent / "teaching.log"
    assert "Traceback" in log.read_text()
    log.unlink()
    monkeypatch.setattr("heed.study.outcome.teaching_of", lambda *_: None)
    monkeypatch.setattr("heed.analysis.report.to_csv", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # nothing of teachers, so no page
        report(study(), cells, outcomes(cells, tmp_path), tmp_path)
    assert not log.exists()


PARTS = ("teaching_drawings", "teaching_section", "teaching_csv")


@pytest.fixture
def drawable(monkeypatch) -> None:
    """A section on teachers that can be drawn, whatever is in it."""
    made: dict[str, Any] = {"teaching_drawings": [], "teaching_csv": [["student"]]}
    made["teaching_section"] = tag("p", "of teachers")
    monkeypatch.setattr("heed.study.outcome.teaching_of", lambda *_: {"made": "up"})
    for part in PARTS:
        monkeypatch.setattr(f"heed.analysis.report.{part}", lambda *_, part=part: made[part])


@pytest.mark.usefixtures("drawable")
@pytest.mark.parametrize("part", ["to_csv", "write_bytes", "study_page"])
def test_an_error_of_the_rest_of_the_page_is_not_put_down_to_teachers(
    two: Any, tmp_path: Path, monkeypatch, capsys, part: str
):
    calls: list[None] = []

    def full(*_: Any) -> None:
        calls.append(None)
        raise OSError("no space is left")

    cells, found = two[0], outcomes(two[0], tmp_path)
    page, failed = report(study(), cells, found, tmp_path)
    assert (failed, "of teachers" in page.read_text()) == ([], True)
    monkeypatch.setattr(f"heed.analysis.report.{part}", full)
    with pytest.raises(OSError, match="no space is left"):
        report(study(), cells, found, tmp_path)
    assert len(calls) == 1  # told at once, and not after it was tried again
    assert "cannot be said" not in capsys.readouterr().err
    assert not (page.parent / "teaching.log").exists()


@pytest.mark.usefixtures("drawable")
@pytest.mark.parametrize("part", PARTS)
def test_an_error_of_any_part_on_teachers_leaves_them_out_of_a_whole_page(
    two: Any, tmp_path: Path, monkeypatch, part: str
):
    from heed.analysis import report as page_of

    drawn = getattr(page_of, part)

    def breaks(about: Any, *more: Any) -> Any:
        if "reason" not in about:
            raise IndexError("9 of 8")
        return drawn(about, *more)

    monkeypatch.setattr(page_of, part, breaks)
    page, (failed,) = report(study(), two[0], outcomes(two[0], tmp_path), tmp_path)
    assert "cannot be said: IndexError: 9 of 8" in failed
    assert "Of 2 cells" in page.read_text()
    assert "breaks" in (page.parent / "teaching.log").read_text()


def test_the_page_tells_cells_apart_by_the_option_of_a_group(tmp_path: Path):
    cells = [planned(tmp_path, 1), planned(tmp_path, 2)]
    cells = [
        replace(one, overrides=(f"data={name}", *one.overrides))
        for one, name in zip(cells, ("long", "short"), strict=True)
    ]
    for one, epochs in zip(cells, (2, 1), strict=True):
        done(tmp_path, one, cost=COST, settings={"data": {"epochs": epochs}})
    made = study(axes={"data": ("short", "long")}, seeds=(1, 2))
    page = report(made, cells, outcomes(cells, tmp_path), tmp_path)[0].read_text()
    assert "<th>data</th>" in page
    assert page.index("<td>short</td>") < page.index("<td>long</td>")


PAPER = {"metric": METRIC, "source": "A paper, <table> 2", "before": 0.2, "delta": 0.05}


@pytest.mark.parametrize(
    ("where", "shown"),
    [
        ({"lr": "hot"}, ["hot"]),
        ({}, ["hot", "cold"]),
        ({"model": "nano", "seed": 2}, ["cold"]),
        ({"lr": "hot", "seed": 2}, []),
        ({"student": "nano"}, ["hot", "cold"]),
        ({"lr_peak": "0.1"}, []),
        ({"x.y": "a b"}, ["cold"]),
        ({"x.y": "a"}, []),
    ],
)
def test_published_values_stand_beside_the_cells_they_are_about(
    two: Any, where: Any, shown: list[str], tmp_path: Path
):
    cells = [two[0][0], replace(two[0][1], overrides=("lr=cold", "x.y='a b'"))]
    made = study(published=({"where": where, **PAPER},))
    page = report(made, cells, outcomes(cells, tmp_path), tmp_path)[0].read_text()
    (table,) = page.split('id="published"')[1:]
    table = table.partition("</table>")[0]
    assert table.count("+0.125<small>[+0.100, +0.150]</small>") == len(shown)
    for name in shown:
        assert f">nano, {name} (" in table
    assert ("no finished cell of this study" in table) == (not shown)
    assert table.count("A paper, &lt;table&gt; 2") == 1
    assert ">0.2 → not given<" in table
    assert ">+0.05<" in table
