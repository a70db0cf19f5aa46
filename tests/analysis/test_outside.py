"""What stands beside cells on a page: whose code made them, what failed, what others found."""

from dataclasses import replace

import pytest
from test_report import PRIMARY, grid, result, study

from heed.analysis.cells import Cells
from heed.analysis.confounds import OTHER_CODE, code_groups, confounds_of, other_code_line
from heed.analysis.deltas import Row, rows_of
from heed.analysis.outside import missing_table, other_code_box, published_table
from heed.analysis.report import write_report
from heed.core.manifest import code_state

NOW = code_state()


def rows(*codes: str) -> list[Row]:
    made = rows_of(grid(students=("nano",), teachers=("clear", "b", "c")))
    return [replace(row, code=code) for row, code in zip(made, codes, strict=False)]


def test_cells_of_one_source_are_one_group_whatever_their_commits():
    groups = code_groups(rows("1 source a", "2 source b", "3 source a", "old", "old"))
    assert [len(group) for group in groups] == [2, 1, 2]


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        ((NOW, NOW), None),
        ((f"another commit source {NOW.rpartition(' ')[2]}", NOW), None),
        ((NOW, "1 source a"), "1 of 2 cells were made by another state"),
        (("1 source a", "2 source b", NOW), "2 of 3 cells were made by another state"),
    ],
)
def test_other_code_is_said_with_its_number_of_cells(codes, said):
    line, box = other_code_line(rows(*codes)), other_code_box(rows(*codes))
    if said is None:
        assert line == box == ""
    else:
        assert line.startswith(said)
        assert NOW in line
        assert said in box


def test_two_states_of_code_are_a_confound_and_one_is_none():
    axes = ["teacher", "lr"]
    mixed = confounds_of(rows("1 source a", "2 source b", "1 source a"), axes)
    assert "heed's code is no studied axis but differs: 2 by 1 source a, 1 by 2 source b." in mixed
    same = confounds_of(rows("1 source a", "2 source a"), axes)
    assert not any("heed's code" in line for line in same)


def test_the_page_says_at_its_top_and_in_the_row_what_other_code_made(tmp_path):
    cells = [result(lr="gentle", code=NOW), result(lr="hot", code="1 source a")]
    page = write_report(tmp_path, study(), cells).read_text()
    assert page.index("1 of 2 cells were made by another state") < page.index("Every cell")
    table = page.split('id="cells"')[1].partition("</table>")[0]
    assert table.count(OTHER_CODE) == 1
    assert "heed&#x27;s code is no studied axis but differs" in page
    clean = write_report(tmp_path, study(), [result(code=NOW)]).read_text()
    assert OTHER_CODE not in clean


def test_a_failure_has_its_log_folded_and_nothing_of_it_is_markup():
    lost = {"student": "<i>", "reason": "<b>", "log": ["<u>", "x"], "command": "a '<s>'"}
    text = missing_table([lost, {"reason": "no log"}])
    assert not {"<i>", "<b>", "<u>", "<s>"} & {part + ">" for part in text.split(">")}
    assert text.count("<details>") == 1
    assert "&lt;u&gt;\nx" in text
    assert missing_table([]) == ""


def one(row: Row) -> Cells:
    return Cells((row,), (), {})


PAPER = {"where": {"lr": "hot"}, "source": "S <1>", "note": "other <prompts>", "after": 0.5}


def test_a_published_value_on_a_metric_that_was_not_measured_says_so():
    row = rows(NOW)[0]
    asked = [PAPER | {"metric": metric, "runs": [row.run]} for metric in (PRIMARY, "ifeval")]
    text = published_table(asked, one(row))
    assert text.count(f"on {PRIMARY}") == 1
    assert text.count(f'href="../../{row.directory}/"') == 2
    assert text.count("S &lt;1&gt;") == 2
    assert "other &lt;prompts&gt;" in text
    assert published_table([], one(row)) == ""


def test_a_value_is_said_of_what_its_source_says_and_not_of_the_stand_in():
    row = rows(NOW)[0]
    scaled = PAPER | {"where": {"model": "books"}, "said_of": {"model": "2b"}, "metric": PRIMARY}
    text = published_table([scaled | {"runs": [row.run]}], one(row))
    assert "model: 2b" in text
    assert "model: books" not in text


def test_our_values_beside_published_ones_stand_beside_the_best_control():
    row = rows(NOW)[0]
    over = {"delta": 0.125, "low": 0.0625, "high": 0.1875}
    best = {"control": "sure", "value": 0.2, "deltas": {"after": over}}
    controls = {"metric": PRIMARY, "best": "sure", "rows": [best]}
    asked = [PAPER | {"metric": PRIMARY, "runs": [row.run]}]

    def text(beside: dict) -> str:
        return published_table(asked, one(replace(row, beside=beside)))

    assert "+0.125 sure<small>[+0.062, +0.188]</small>" in text({"controls": controls})
    assert ">not recorded</td>" in text({})
    assert ">none</td>" in text({"controls": None})
