"""What a plan says to somebody who sees one for the first time."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up import done, planned
from rich.console import Console

from heed.core.manifest import code_state
from heed.study.ledger import latest, record
from heed.study.outcome import failed_of
from heed.study.plan import PlannedCell
from heed.study.show_plan import (
    LONG,
    command_lines,
    failure_lines,
    plan_table,
    status_line,
)


def printed(root: Path, *cells: PlannedCell, width: int = 100, **how: Any) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(plan_table("study x", cells, latest(root), **how))
    text = capture.get()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    return text


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def four(tmp_path: Path) -> list[PlannedCell]:
    """One done, one failed, one stopped, one missing; of two students."""
    cells = [
        planned(tmp_path, 1, student="nano"),
        planned(tmp_path, 2, student="nano"),
        planned(tmp_path, 3, student="micro"),
        planned(tmp_path, 4, student="micro"),
    ]
    done(tmp_path, cells[0], cost=(120.0, 60.0, 123_456), code=code_state())
    record(tmp_path, "failed", cells[1].names | {"reason": "it broke", "log": list("abcdefgh")})
    record(tmp_path, "stopped", cells[2].names | {"reason": "asked"})
    return cells


@pytest.mark.parametrize("width", [100, 110])
def test_every_cell_has_a_line_with_state_names_id_and_cost(four: Any, tmp_path: Path, width: int):
    text = printed(tmp_path, *four, width=width)
    lines = {n: line for line in text.splitlines() for n in range(4) if four[n].key[0] in line}
    for number, state in enumerate(("done", "failed", "stopped", "missing")):
        assert lines[number].startswith(state)
    assert re.search(r"done +nano .* 123,456 +$", lines[0])
    assert re.search(r"failed +nano .* 123,456 +2 min *$", lines[1])
    assert re.search(r"missing +micro .* 123,456 +\? *$", lines[3])
    assert "study x: 4 cells, 1 done, 1 missing, 1 stopped, 1 failed" in text


def test_below_stand_what_is_shared_what_it_takes_and_what_can_be_seen(four: Any, tmp_path: Path):
    four[0].baseline.mkdir(parents=True)
    (four[0].baseline / "summary.json").touch()
    said = words(printed(tmp_path, *four))
    assert "Before tuning: 2 scorings, shared by all cells of a student; 1 of 2 done." in said
    assert "How long it takes is not known yet (?)" in said
    assert "if 10 / 20 / 30 % of 520 items change" in said
    assert "the first of 4 cells by Holm" in said
    more = planned(tmp_path, 5, student="nano")
    said = words(printed(tmp_path, *four, more))
    assert "To do: about 2 min of work for 1 cell; 2 cells more, of which nothing" in said
    assert "what is still to be scored before tuning comes on top" in said


def test_a_study_that_is_done_promises_no_work(tmp_path: Path):
    cell = planned(tmp_path, 1)
    done(tmp_path, cell, cost=(120.0, 60.0, 1), code=code_state())
    said = words(printed(tmp_path, cell))
    assert "1 cell, 1 done" in said
    assert "To do" not in said
    assert "How long" not in said


def test_what_other_code_made_is_marked_and_said(four: Any, tmp_path: Path):
    assert "done*" not in printed(tmp_path, *four)
    other = planned(tmp_path, 6, student="nano")
    done(tmp_path, other, cost=(1.0, 1.0, 1), code="c0de source 00000000")
    text = printed(tmp_path, *four, other)
    assert text.count("done*") == 1
    assert f"* 1 cell made by another state of heed's code than this one ({code_state()})" in words(
        text
    )


def test_columns_are_what_tells_the_cells_apart(tmp_path: Path):
    odd = [planned(tmp_path, n) for n in (1, 1)]
    cells = [
        PlannedCell((*one.overrides, f"x.y='{c} b'", "suite=play"), *_rest(one))
        for one, c in zip(odd, "ac", strict=True)
    ]
    text = printed(tmp_path, *cells)
    assert "x.y" in text
    assert "'a b'" in text
    assert "suite" not in text.splitlines()[1]
    assert "seed" not in text.splitlines()[1]


def _rest(one: PlannedCell) -> tuple[Any, ...]:
    return one.cell, one.key, one.baseline, one.beside


def test_names_are_no_markup(tmp_path: Path):
    cells = [planned(tmp_path, n, teacher=t) for n, t in enumerate(("[red]x[/]", "y"))]
    assert "[red]x[/]" in printed(tmp_path, *cells)


def many(root: Path, number: int) -> list[PlannedCell]:
    return [planned(root, n, lr=("hot", "cold", "odd")[n % 3]) for n in range(number)]


def test_many_cells_are_counted_by_setting_and_listed_on_demand(tmp_path: Path):
    cells = many(tmp_path, 3 * LONG)
    for cell in cells[:9]:
        record(tmp_path, "failed", cell.names | {"reason": "x"})
    text = printed(tmp_path, *cells)
    assert re.search(rf"lr=hot +{LONG} +{LONG - 3} +3 *\n", text)
    assert cells[0].key[0] not in text
    assert "120 cells, 111 missing, 9 failed" in text
    full = printed(tmp_path, *cells, every=True)
    assert all(full.count(cell.key[0]) == 1 for cell in cells)


def test_a_setting_of_many_values_has_one_line(tmp_path: Path):
    text = printed(tmp_path, *many(tmp_path, LONG + 1))
    assert re.search(rf"seed: {LONG + 1} values +{LONG + 1} ", text)
    assert "seed=7" not in text


def test_counts_of_states_add_up(four: Any, tmp_path: Path):
    line = status_line(four, latest(tmp_path))
    total, *parts = (int(part.split()[0]) for part in line.split(","))
    assert total == sum(parts) == 4
    assert status_line([], {}) == "0 cells"


def test_a_failure_is_told_with_reason_last_words_and_command(four: Any, tmp_path: Path):
    failed = failed_of(four, latest(tmp_path))
    lines = failure_lines(failed)
    assert lines[0].endswith(f"seed 2, run {four[1].key[0]} failed: it broke")
    assert [line.strip() for line in lines[1:-1]] == list("defgh")
    assert lines[-1].strip() == four[1].command
    assert failure_lines([]) == []


def test_each_command_has_its_run_id_as_a_comment(four: Any):
    for line, cell in zip(command_lines(four), four, strict=True):
        assert line == f"{cell.command}  # {cell.key[0]}"


def test_what_a_result_still_lacks_is_work_and_its_export_alone_is_none(tmp_path: Path):
    """An export takes no time like that of a training; a second prompting is scored."""
    cells = [planned(tmp_path, number) for number in range(3)]
    for cell in cells:
        done(tmp_path, cell, cost=(120.0, 60.0, 1_000), code=code_state())
    wanted = replace(cells[0].cell, export=replace(cells[0].cell.export, merge=True))
    cells[0] = replace(cells[0], cell=wanted)
    (tmp_path / "runs" / cells[0].directory / "model").mkdir(parents=True)
    (tmp_path / "runs" / cells[0].directory / "model" / "adapter_config.json").touch()
    cells[1] = replace(cells[1], cell=wanted, beside={"name": "plain"})
    text = printed(tmp_path, *cells)
    assert re.search(rf"missing .*{cells[0].key[0]} +1,000 *$", text, re.M)
    assert re.search(rf"missing .*{cells[1].key[0]} +1,000 +2 min *$", text, re.M)
    assert "1 cell with a result not exported yet" in words(text)
    assert "To do: about 2 min of work for 1 cell;" in words(text)
