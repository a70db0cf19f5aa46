"""What a sweep prints at its end: a line per finished cell, beside the controls."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from heed.core.files import write_json
from heed.core.manifest import code_state
from heed.study.ledger import record, record_result, result_file
from heed.study.outcome import outcomes
from heed.study.results_table import result_table

METRIC = "follow/acc"
REACHED = (
    f"Controls that read nothing, on {METRIC}: sure 0.228, empty 0.000. Apart, as it repeats the "
    "prompt: echo 0.360."
)


def delta(value: float, metric: str = METRIC) -> dict:
    ends = {"low": value - 0.02, "high": value + 0.02, "items": 400, "verdict": "cannot tell"}
    before = {"metric": metric, "before": 0.25, "after": 0.25 + value, "delta": value}
    return {**before, **ends, "lower_is_better": False, "p": 0.01}


def controls(metric: str = METRIC) -> dict:
    rows = [
        {"control": name, "what": "", "input_blind": name != "echo", "value": value,
         "deltas": {"before": delta(0.9), "after": delta(0.5 - value)}}
        for name, value in (("echo", 0.36), ("sure", 0.228), ("empty", 0.0))
    ]  # fmt: skip
    return {"metric": metric, "best": "sure", "beaten": {"after": True}, "note": "", "rows": rows}


def result(run: str, **more) -> dict:
    """What a finished cell left; `left out` is not in it."""
    names = {"student": "nano", "teacher": "clear", "method": "lora", "lr": "hot", "seed": 1}
    named = {"name": "n", "lr_peak": 0.01, "primary": METRIC, "directory": "runs/x"}
    made = {"suite_name": "play", "level": 0.95, "margin": 0.03, "code": "c0de"}
    flags = [{"kind": "controls", "text": ""}, {"kind": "degenerate@plain", "text": ""}]
    key = {"run": run, "suite": "hash"}
    beside = {"deltas": [delta(0.1)], "flags": flags, "controls": controls()}
    entry = {**names, **named, **made, **key, **beside, **more}
    return {name: value for name, value in entry.items() if value != "left out"}


def cell(root: Path, run: str, **more) -> SimpleNamespace:
    """A finished cell in the ledger, with all of its result there."""
    record(root, "done", result(run, **more))
    return SimpleNamespace(key=(run, "hash"), names={}, settings={})


def printed(root: Path, *cells, width: int = 100) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(result_table(outcomes(list(cells), root).done))
    return capture.get()


def words(text: str) -> str:
    return " ".join(text.split())


def test_every_cell_stands_beside_the_best_control_with_the_interval_below_it(tmp_path):
    text = printed(tmp_path, cell(tmp_path, "a"))
    lines = [line for line in text.splitlines() if "+0." in line]
    assert "+0.100" in lines[0]
    assert "+0.272 sure" in lines[0]
    assert "[+0.080, +0.120]" in lines[1]
    assert "[+0.252, +0.292]" in lines[1]
    assert "after - best" in text
    assert "cannot tell" in lines[0]


def test_of_a_cell_that_the_ledger_has_in_short_the_whole_result_is_shown(tmp_path):
    whole = result("a")
    write_json(result_file(tmp_path / whole["directory"], whole["suite_name"]), whole)
    record_result(tmp_path, whole)
    text = printed(tmp_path, SimpleNamespace(key=("a", "hash"), names={}, settings={}))
    assert text == printed(tmp_path / "old", cell(tmp_path / "old", "a"))
    assert "+0.272 sure" in text


def test_below_the_table_stand_all_controls_and_the_echo_apart(tmp_path):
    text = words(printed(tmp_path, cell(tmp_path, "a"), cell(tmp_path, "b", seed=2)))
    assert text.count(REACHED) == 1
    assert "Corrected for 2 cells (Holm)" in text


NUMBERS = ("[+0.080, +0.120]", "[+0.252, +0.292]", "+0.272 sure", "cannot tell", "⚑ controls")


def test_a_study_of_three_axes_fits_100_columns(tmp_path):
    names = {"student": "micro", "teacher": "play_sloppy", "lr": "play_reference"}
    one = cell(tmp_path, "a", **names)
    two = cell(tmp_path, "b", student="nano", teacher="play_clear", lr="play_gentle")
    text = printed(tmp_path, one, two)
    assert max(map(len, text.splitlines())) <= 100
    for part in (*names.values(), *NUMBERS, "⚑ degenerate@plain"):
        assert part in text


def test_where_the_terminal_is_too_narrow_names_are_folded_and_no_number_is(tmp_path):
    one = cell(tmp_path, "a", student="s" * 40, teacher="play_sloppy", lr="play_reference")
    text = printed(tmp_path, one, cell(tmp_path, "b", seed=2))
    assert "…" not in text
    assert text.count("s" * 5)
    assert max(map(len, text.splitlines())) <= 100
    for part in NUMBERS:
        assert part in text


@pytest.mark.parametrize(
    ("given", "word", "below"),
    [
        ("left out", "not recorded", "Controls: not recorded."),
        (None, "none", "Controls: none, as nothing is answered in text."),
    ],
)
def test_a_cell_without_controls_says_why(tmp_path, given, word, below):
    text = words(printed(tmp_path, cell(tmp_path, "a", controls=given)))
    assert f"{word} " in text.partition("Controls")[0]
    assert below in text
    both = printed(tmp_path, cell(tmp_path, "a", controls=given), cell(tmp_path, "b", seed=2))
    assert "of 1 of 2 cells" in words(both)
    assert REACHED in words(both)


def test_a_control_on_another_metric_than_the_primary_says_which(tmp_path):
    deltas = [delta(0.1, "facts/acc")]
    text = printed(tmp_path, cell(tmp_path, "a", primary="facts/acc", deltas=deltas))
    assert "+0.272 sure" in text
    assert f"on {METRIC} " in text.partition("Controls")[0]


def test_below_the_table_stands_how_many_beat_a_control_and_turn_elsewhere(tmp_path):
    also = {"prompting": "plain", "deltas": [delta(-0.1)]}
    turned = [{"kind": "prompting", "text": ""}]
    both = printed(
        tmp_path, cell(tmp_path, "a", also=also), cell(tmp_path, "b", flags=turned, also=also)
    )
    assert "The best control that reads nothing is surely beaten by 1 of 2 cells." in words(both)
    assert "(plain), the delta has the other sign in 1 of 2 cells." in words(both)


def test_names_are_no_markup(tmp_path):
    one = cell(tmp_path, "a", student="[red]nano[/]", flags=[{"kind": "[b]odd", "text": ""}])
    text = printed(tmp_path, one)
    assert "[red]nano[/]" in text
    assert "[b]odd" in text


def test_a_cell_that_failed_or_did_not_run_has_no_line(tmp_path):
    done = cell(tmp_path, "a")
    record(tmp_path, "failed", {"run": "b", "suite": "hash", "reason": "x"})
    others = [SimpleNamespace(key=(run, "hash"), names={}, command="") for run in "bc"]
    assert printed(tmp_path, done, *others).count("+0.100") == 1
    assert "Controls" not in printed(tmp_path, *others)


def test_an_older_result_without_flags_says_so(tmp_path):
    text = printed(tmp_path, cell(tmp_path, "a", flags="left out"))
    assert "flags not recorded" in words(text)


def test_a_cell_that_other_code_made_is_marked_and_said(tmp_path):
    now = cell(tmp_path, "a", code=code_state())
    assert "other code" not in printed(tmp_path, now)
    text = printed(tmp_path, now, cell(tmp_path, "b", code="c0de source 00000000", seed=2))
    assert text.partition("1 of 2 cells")[0].count("other code") == 1
    said = "1 of 2 cells were made by another state of heed's code than this one"
    assert said in words(text)
    assert "1 by c0de source 00000000" in words(text)


def heads_and_rows(root: Path, cells, keys) -> tuple[str, list[list[str]]]:
    """The heads of a table, and of each line what stands before the numbers."""
    console = Console(width=130)
    with console.capture() as capture:
        console.print(result_table(outcomes(cells, root).done, keys))
    lines = capture.get().splitlines()
    rows = [line.partition("0.250")[0].split() for line in lines if "+0.100" in line]
    return " ".join(" ".join(lines[1:3]).split()), rows


def test_cells_are_told_apart_by_every_axis_of_the_study(tmp_path):
    """Also by the peak of a rate of one name, and by keys that are no group."""
    given = [("a", 0.01, 250, "lora"), ("b", 0.01, 500, "lora, noise"), ("c", 0.04, 250, "lora")]
    for run, peak, limit, method in given:
        settings = {"data": {"limit": limit}, "lr": {"peak": peak}}
        made = {"lr_peak": peak, "settings": settings, "method": method}
        record(tmp_path, "done", result(run, **made))
    cells = [SimpleNamespace(key=(run, "hash"), names={}, settings={}) for run, *_ in given]
    keys = ["model", "lr.peak", "data.limit", "noise"]
    heads, rows = heads_and_rows(tmp_path, cells, keys)
    assert "student method lr.peak data.limit after" in heads
    assert rows == [
        ["nano", "lora", "0.01", "250"],
        ["nano", "lora,", "noise", "0.01", "500"],
        ["nano", "lora", "0.04", "250"],
    ]
    heads, rows = heads_and_rows(tmp_path, cells, ["model"])
    assert "learning rate" in heads
    assert [row[-2:] for row in rows] == [["hot", "(1e-2)"]] * 2 + [["hot", "(4e-2)"]]


def test_cells_are_told_apart_by_the_option_of_a_group_as_it_was_typed(tmp_path):
    """A result records what stands below a group, and not which option that was."""
    typed = [
        {"data": "short", "optim": "adam"},
        {"data": "long", "optim": "adam"},
        {"data": "long"},
    ]
    cells = []
    for run, epochs, settings in zip("abc", (1, 2, 2), typed, strict=True):
        one = cell(tmp_path, run, settings={"data": {"epochs": epochs}})
        cells.append(SimpleNamespace(key=one.key, names={}, settings=settings | {"seed": "1"}))
    heads, rows = heads_and_rows(tmp_path, cells, ["data", "optim", "seed"])
    assert "student data optim after" in heads
    assert rows == [
        ["nano", "short", "adam"],
        ["nano", "long", "adam"],
        ["nano", "long", "as", "in", "conf"],
    ]
    heads, rows = heads_and_rows(tmp_path, cells, ["data.epochs"])
    assert "student data.epochs after" in heads
    assert rows == [["nano", "1"], ["nano", "2"], ["nano", "2"]]
