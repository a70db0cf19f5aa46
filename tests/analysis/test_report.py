"""The page of a study shows every cell once, depends on nothing outside, and trusts no name."""

import csv
import io
import json
import re
import struct
import subprocess
import sys
import zlib
from html.parser import HTMLParser

import pytest
from rich.console import Console

from heed.analysis.confounds import confounds_of
from heed.analysis.deltas import (
    counts_of,
    forgetting_of,
    less_is_better,
    rows_of,
    to_csv,
)
from heed.analysis.markup import table, tag
from heed.analysis.panel import console_table
from heed.analysis.rate_figures import rate_figures
from heed.analysis.report import write_report
from heed.analysis.script import SCRIPT

PRIMARY, FACTS = "follow/prompt_level_strict_acc", "facts/acc"
RATES = {"gentle": 1e-4, "reference": 1e-3, "hot": 1e-2}
HOSTILE = '<script>alert("x")</script>&"\''


def delta(metric: str, value: float, verdict: str, falling: bool = False) -> dict:
    ends = {"low": value - 0.02, "high": value + 0.02, "items": 400, "verdict": verdict}
    ends["lower_is_better"] = falling
    return {"metric": metric, "before": 0.25, "after": 0.25 + value, "delta": value, **ends}


def result(student="nano", teacher="clear", lr="gentle", **more) -> dict:
    run = f"{zlib.crc32(f'{student} {teacher} {lr} {more}'.encode()):012x}"
    value = {"gentle": 0.0, "reference": 0.1, "hot": -0.1}[lr]
    verdict = {"gentle": "unchanged", "reference": "helped", "hot": "hurt"}[lr]
    cell = {"student": student, "teacher": teacher, "method": "lora", "lr": lr, "seed": 0}
    deltas = [delta(FACTS, -0.05, "hurt"), delta(PRIMARY, value, verdict)]
    named = {"run": run, "name": f"{student}-{lr}", "lr_peak": RATES[lr], "primary": PRIMARY}
    made = {"suite": "abc", "suite_name": "play", "level": 0.95, "margin": 0.03, "code": "c0de"}
    return {
        **cell,
        **named,
        **made,
        "directory": f"runs/x--{run}",
        "settings": {"seed": 0},
        "deltas": deltas,
        **more,
    }


def grid(students=("nano", "micro"), teachers=("clear", HOSTILE), rates=RATES) -> list[dict]:
    return [result(s, t, lr) for s in students for t in teachers for lr in rates]


AXES = {"model": ["nano", "micro"], "teacher": ["clear", HOSTILE], "lr": list(RATES)}


NAMES = ["student", "teacher", "lr"]


def study(**more) -> dict:
    plain = {"name": "toy", "question": f"Does {HOSTILE} help?", "axes": AXES, "cells": 13}
    return {**plain, "settings": {HOSTILE: HOSTILE}, **more}


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    lost = {"student": "micro", "teacher": HOSTILE, "method": "lora", "lr": "hot", "seed": 0}
    failed = [{**lost, "reason": "RunError: the loss was not finite <at step 41>"}]
    return write_report(tmp_path_factory.mktemp("page"), study(), grid(), failed).read_text()


class Reader(HTMLParser):
    """Collects elements, and demands that they are closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, name, attributes):
        self.seen.append((name, dict(attributes)))
        if name not in ("meta", "img", "wbr"):
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name


def test_every_result_stands_in_the_table_once(page):
    cells = re.search(r'<table id="cells">.*?</table>', page, re.S).group()
    runs = [cell["run"] for cell in grid()]
    assert [cells.count(f"<code>{run}</code>") for run in runs] == [1] * len(runs)


def test_a_hostile_name_stays_text(page):
    reader = Reader(page)
    assert reader.open == []
    scripts = [attributes for name, attributes in reader.seen if name == "script"]
    assert scripts == [{"id": "told", "type": "application/json"}, {}]
    assert "&lt;script&gt;" in page
    assert not any(key.startswith("on") for _, attributes in reader.seen for key in attributes)


def test_what_the_script_knows_of_the_cells_cannot_end_its_element(page):
    told = re.search(r'<script id="told" type="application/json">(.*?)</script>', page).group(1)
    assert not set("<>&") & set(told)
    assert json.loads(told)["filters"][1] == ["teacher", [c["teacher"] for c in sorted_grid()]]


def test_nothing_of_a_study_is_in_the_script(page):
    assert page.count("<script>") == 1
    assert page.split("<script>")[1].startswith(SCRIPT)


def test_the_page_needs_nothing_from_elsewhere(page):
    assert not re.search(r"https?://|@import|url\(", page)
    sources = [
        a.get("src") or a.get("href") for _, a in Reader(page).seen if {"src", "href"} & {*a}
    ]
    assert sources
    assert all(s.startswith(("../../runs/", "table.csv", "figures/", "#m")) for s in sources)


def sorted_grid() -> list[dict]:
    place = [list(RATES).index(cell["lr"]) for cell in grid()]
    cells = zip(grid(), place, strict=True)
    order = sorted(
        cells, key=lambda c: (c[0]["student"] != "nano", c[0]["teacher"] != "clear", c[1])
    )
    return [cell for cell, _ in order]


def test_each_run_links_to_its_directory(page):
    assert all(f'href="../../runs/x--{c["run"]}/"' in page for c in grid())


def test_the_answer_counts_every_verdict_and_a_cell_without_result_gives_its_reason(page):
    found = re.search(r'<div class="answer"><p>(.*?)</p><ul>(.*?)</ul></div>', page)
    answer, more = (re.sub(r"<[^>]+>", "", part) for part in found.groups())
    assert "Of 12 cells: 4 ▲ helped, 4 ▼ hurt, 4 = unchanged, 0 ? cannot tell" in answer
    assert "12 of 12 cells lost on facts/acc" in more
    assert "the loss was not finite &lt;at step 41&gt;" in page


def test_a_study_without_any_result_has_a_page_that_says_so(tmp_path):
    text = write_report(tmp_path / "studies/toy", study(), []).read_text()
    assert "None of 13 cells has a result yet" in text
    assert Reader(text).open == []


def test_the_order_in_which_cells_finished_does_not_change_a_byte(tmp_path):
    one = write_report(tmp_path / "1", study(), grid())
    two = write_report(tmp_path / "2", study(), grid()[::-1])
    names = sorted(path.relative_to(one.parent) for path in one.parent.rglob("*.*"))
    assert len(names) == 2 + 2 * (2 * 2 + 1)  # two metrics of two students, and all cells
    assert all((one.parent / n).read_bytes() == (two.parent / n).read_bytes() for n in names)


def test_a_student_name_cannot_lead_a_figure_out_of_its_folder(tmp_path):
    write_report(tmp_path / "a/b", study(), [result(student="../../x"), result(student="..")])
    assert {p.parent for p in tmp_path.rglob("*.png")} == {tmp_path / "a/b/figures"}


def test_the_csv_gives_back_what_was_recorded():
    rows = rows_of(grid())
    read = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert [r["teacher"] for r in read] == [row.teacher for row in rows]
    assert [r["verdict"] for r in read] == [row.decisive.verdict for row in rows]
    assert [float(r[f"{FACTS}.low"]) for r in read] == [row.deltas[1].low for row in rows]


def test_a_metric_that_one_cell_lacks_is_left_empty_there():
    bare = result(teacher="bare") | {"deltas": [delta(PRIMARY, 0.1, "helped")]}
    read = list(csv.DictReader(io.StringIO(to_csv(rows_of([result(), bare])))))
    assert [r[f"{FACTS}.delta"] for r in read] == ["", "-0.05"]


def test_the_primary_metric_decides_and_another_task_measures_forgetting():
    rows = rows_of(grid())
    assert counts_of(rows) == {"helped": 4, "hurt": 4, "unchanged": 4, "cannot tell": 0}
    assert forgetting_of(rows) == FACTS
    assert rows[0].deltas[0].metric == PRIMARY


def test_cells_come_in_the_order_of_the_study():
    rows = rows_of(grid(), {"student": ["nano", "micro"]})
    assert list(dict.fromkeys(row.student for row in rows)) == ["nano", "micro"]
    assert [row.lr for row in rows[:3]] == list(RATES)


def test_a_full_grid_is_not_confounded():
    assert confounds_of(rows_of(grid()), NAMES) == []


def test_axes_that_only_change_together_are_named_as_confounded():
    rows = rows_of([result("nano", lr="gentle"), result("micro", lr="hot")])
    assert any("student" in line and "lr" in line for line in confounds_of(rows, NAMES))


def test_a_setting_outside_the_axes_that_differs_is_named():
    one = result(settings={"data": {"max_tokens": 64}, "lr": {"peak": 1}, "seed": 0})
    two = result(lr="hot", settings={"data": {"max_tokens": 128}, "lr": {"peak": 2}, "seed": 0})
    (line,) = confounds_of(rows_of([one, two]), NAMES)
    assert "data.max_tokens" in line
    assert "64, 128" in line


def test_results_without_settings_are_said_not_to_have_been_compared():
    (line,) = confounds_of(rows_of([result(settings={}), result(lr="hot")]), NAMES)
    assert line.startswith("1 results do not say")


def test_a_figure_is_a_whole_png_and_the_same_every_time():
    rows = rows_of([*grid(teachers=("clear", "sloppy")), result(seed=1)])
    picture, other = rate_figures(rows, PRIMARY)
    assert picture.png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", picture.png[16:24])
    assert width > height > 300
    assert picture.png.endswith(b"IEND" + struct.pack(">I", zlib.crc32(b"IEND")))
    assert (picture, other) == tuple(rate_figures(rows, PRIMARY))
    assert picture.png != other.png


def test_one_cell_alone_still_makes_a_page(tmp_path):
    path = write_report(tmp_path / "one", study(), [result()])
    assert Reader(path.read_text()).open == []


def test_the_console_table_shows_every_metric_and_marks_the_primary_one():
    row = rows_of([result(lr="hot")])[0]
    console = Console(width=120)
    with console.capture() as capture:
        console.print(console_table(row.deltas, row.primary, 0.95, title="[nano]"))
    text = capture.get()
    assert "[nano]" in text
    assert re.search(rf"{PRIMARY} \* .*-0\.100 .*-0\.120 to -0\.080 .*400 .*hurt", text)
    assert re.search(rf"{FACTS}  .*hurt", text)


def test_text_cannot_become_markup():
    assert tag("p", HOSTILE, title=HOSTILE).count("<") == 2
    assert "<script" not in table([HOSTILE], [[HOSTILE]])


def test_the_page_module_needs_no_training_library():
    pages = ("report", "scores", "panel", "score_panel")
    named = ", ".join(f"heed.analysis.{name}" for name in pages)
    code = f"import sys, {named}; sys.exit('torch' in sys.modules or 'hydra' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_axis_may_be_any_config_key(tmp_path):
    cells = [result(settings={"method": {"adapter": {"rank": rank}}}, tag=rank) for rank in (4, 8)]
    axes = {"method.adapter.rank": [4, 8]}
    assert confounds_of(rows_of(cells), list(axes)) == []
    assert "method.adapter.rank" in "".join(confounds_of(rows_of(cells), ["lr"]))
    page = write_report(tmp_path / "s/x", study(axes=axes), cells).read_text()
    assert "<th>method.adapter.rank</th>" in page


def test_where_less_is_better_a_fall_is_the_gain(tmp_path):
    better = [delta(PRIMARY, -0.2, "helped", falling=True)]
    most = [delta(PRIMARY, -0.25, "helped", falling=True)]
    worse = [delta(PRIMARY, 0.3, "hurt", falling=True)]
    cells = [result(deltas=better), result(lr="hot", deltas=worse), result("micro", deltas=most)]
    assert less_is_better(rows_of(cells), PRIMARY)
    assert not less_is_better(rows_of(grid()), PRIMARY)
    page = write_report(tmp_path / "s/x", study(), cells).read_text()
    assert "The largest gain is micro taught by clear at gentle (1e-4): -0.250" in page
    assert "less is better" in page


def test_noise_and_weights_are_a_part_of_the_studied_method(tmp_path):
    quiet = result(settings={"method": {"name": "lora", "noise": None}})
    noisy = result(method="lora+NEFTune", settings={"method": {"noise": {"alpha": 5.0}}})
    axes = {"model": ["nano"], "noise": ["none", "neftune"]}
    text = write_report(tmp_path / "s/x", study(axes=axes), [quiet, noisy]).read_text()
    assert "not a studied axis" not in text
    assert "noise not recorded" not in text
