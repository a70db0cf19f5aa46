"""Every table of a study stands beside the best control that reads nothing; the echo apart."""

import csv
import io
import re

import pytest
from test_beside import HOSTILE, METRIC, controls, delta, every, old, page, result, words

from heed.analysis.best_control import NOT_RECORDED, best_control, reached_lines
from heed.analysis.deltas import row_of, rows_of, to_csv


def cells_part(made: str) -> str:
    """What a study's page says of its cells: the table, and what stands below it."""
    return re.search(r"<h2>Every cell</h2>.*?(?=<h2>)", made, re.S).group()


REACHED = (
    f"Controls that read nothing, on {METRIC}: sure 0.228, empty 0.000. "
    "Apart, as it repeats the prompt: echo 0.360."
)


def test_every_cell_stands_beside_the_best_control_and_the_echo_is_listed_apart(tmp_path):
    made = page(tmp_path, result(1), result(2))
    part = words(cells_part(made))
    assert part.count("+0.372 sure [+0.352, +0.392]") == 2
    assert "after - best control" in part
    assert part.count(REACHED) == 1
    beside = words(re.search(r'<table id="beside">.*?</table>', made, re.S).group())
    assert "control" not in beside.replace("controls not recorded", ""), "each fact stands once"


def test_the_best_control_of_a_cell_is_the_recorded_one_and_never_the_echo(tmp_path):
    empty = result(1, controls=controls("before", "after", best="empty"))
    assert "+0.600 empty [+0.580, +0.620]" in words(cells_part(page(tmp_path, empty)))
    assert best_control(empty["controls"])[:4] == ("empty", METRIC, 0.0, 0.36)
    long = "follow/a_long_name_of_a_metric_acc"
    assert best_control(every("after"), long)[:4] == ("sure", long, 0.231, 0.361)
    assert best_control(controls("after"), long) is None
    assert best_control(None) is None


def test_cells_without_controls_say_whether_they_are_old_or_have_no_text(tmp_path):
    older, bare = old(1), result(2, controls=None)
    part = cells_part(page(tmp_path, older, bare, result(3)))
    lines = {seed: next(x for x in part.split("<tr>") if f"<td>{seed}</td>" in x) for seed in "123"}
    assert NOT_RECORDED in words(lines["1"])
    assert re.search(r">none<", lines["2"])
    assert "+0.372 sure" in words(lines["3"])
    assert "Controls of 1 of 3 cells: not recorded." in words(part)
    assert "Controls of 1 of 3 cells: none, as nothing is answered in text." in words(part)
    assert REACHED in words(part)
    assert reached_lines([row_of(older).beside]) == ["Controls: not recorded."]
    assert reached_lines([]) == []


def test_a_control_on_another_metric_than_the_primary_says_which(tmp_path):
    """Of a suite whose deciding metric is weighed, the first metric in text is shown."""
    weighed = result(primary="facts/acc", deltas=[delta(metric="facts/acc")])
    part = words(cells_part(page(tmp_path, weighed)))
    assert f"+0.372 sure, {METRIC} [+0.352, +0.392]" in part
    (line,) = read_csv(weighed)
    assert (line["control"], line["after_minus_control"]) == ("none", "")


def read_csv(*results: dict) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_csv(rows_of(results)))))


def test_the_csv_has_the_best_control_and_the_echo_of_each_cell():
    new, bare, older = read_csv(result(1), result(2, controls=None), old(3))
    parts = ("control_value", "echo", "after_minus_control")
    ends = ("after_minus_control.low", "after_minus_control.high")
    assert new["control"] == "sure"
    assert [float(new[p]) for p in parts] == pytest.approx([0.228, 0.36, 0.372])
    assert [float(new[p]) for p in ends] == pytest.approx([0.352, 0.392])
    assert (bare["control"], older["control"]) == ("none", "not recorded")
    assert {line[p] for line in (bare, older) for p in (*parts, *ends)} == {""}


def seeds_part(made: str) -> str:
    return re.search(r'<table id="seeds">.*?</table>', made, re.S).group()


def test_seeds_together_stand_beside_the_best_control(tmp_path):
    one = {"cell": "c", "seeds": [1, 2], "metric": METRIC, "delta": 0.1, "low": -0.4,
           "high": 0.6, "verdict": "cannot tell"}  # fmt: skip
    ends = {"delta": 0.25, "low": -0.05, "high": 0.55}
    better = one | {"control": HOSTILE, "over_control": ends}
    lost = one | {"control": NOT_RECORDED, "over_control": None, "control_reason": f"{HOSTILE} x"}
    bare = one | {"control": "none", "over_control": None}
    older = {key: one[key] for key in ("cell", "seeds", "metric")} | {"reason": "is lost"}
    part = seeds_part(page(tmp_path, result(), over_seeds=[better, lost, bare, older, one]))
    said = words(part)
    assert "mean after - best control" in said
    assert re.search(r"\+0\.250 &lt;script&gt;.* \[-0\.050, \+0\.550\]", said)
    assert said.count("not recorded") == 3
    assert re.search(r">none<", part)
    assert 'title="&lt;script&gt;' in part, "why it is not known"
    assert "<script" not in part
