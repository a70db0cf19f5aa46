"""Every step is compared with the untuned student over the same items, and all of it is written."""

import csv
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heed.analysis.analysis import Analysis
from heed.analysis.curves import curves
from heed.analysis.forgetting import Forgetting, curves_of, said_of, too_coarse
from heed.analysis.forgetting_page import SHOWN, About, forgetting_page
from heed.analysis.page import page, picture
from heed.core.files import read_json, read_jsonl
from heed.core.stats import compare_paired
from heed.core.types import ItemScore, Ratio
from heed.core.unscored import MISSING, UNSCORED

BOOTSTRAP = {"level": 0.95, "resamples": 500, "seed": 0}
ITEMS = 60


def score(i: int, right: bool, bits: float) -> ItemScore:
    known = i % 2 == 0
    metrics = {
        "acc": Ratio(int(right), 1) if known else Ratio(0, 0),
        "bits": Ratio(bits, 4),
    }
    return ItemScore("t", f"k{i}", f"<b>ask</b> {i}", None, None, 0, metrics, {"likeliest": "&x"})


def scores_at(wrong: int, bits: float) -> list[ItemScore]:
    """Of 60 items, the first ones wrong; bits differ from item to item."""
    return [score(i, i >= wrong, bits + 0.01 * i) for i in range(ITEMS)]


@dataclass
class Run:
    """A run of four steps that forgets more and more."""

    run: str = "0123456789ab"
    name: str = "a<b"
    facts: dict = field(default_factory=lambda: {"run": "<i>"})
    bootstrap: dict = field(default_factory=lambda: BOOTSTRAP)
    margin: dict = field(default_factory=lambda: {"t": 0.02})
    less_is_better: frozenset = frozenset({"t/bits"})
    made: tuple = ((0, 0, 2.0), (2, 2, 2.0), (4, 30, 3.0))
    beside: dict | None = None

    def steps(self):
        return [(step, None) for step, *_ in self.made]

    def scored(self, step: int) -> list[ItemScore]:
        return {s: scores_at(wrong, bits) for s, wrong, bits in self.made}[step]

    def events(self, step: int) -> dict[str, int]:
        return {"<left> out": step}

    def controls(self) -> dict | None:
        return self.beside


def found_in(run: Run):
    scores = {step: run.scored(step) for step, _ in run.steps()}
    kinds = {"less_is_better": run.less_is_better, "margin": run.margin}
    return curves_of(scores, **kinds, bootstrap=BOOTSTRAP)


def test_each_metric_has_a_point_a_step_with_the_paired_change_to_the_first():
    acc, bits = found_in(Run())
    assert (acc.metric, bits.metric) == ("t/acc", "t/bits")
    assert [point.step for point in acc.points] == [2, 4]
    assert acc.base.items == ITEMS // 2
    assert acc.base.value == 1.0
    assert acc.last.here.value == pytest.approx(0.5)
    assert acc.last.change.value == pytest.approx(-0.5)
    sums = [([s.metrics["bits"].num for s in Run().scored(n)], [4] * ITEMS) for n in (0, 4)]
    assert bits.last.change == compare_paired(*sums, **BOOTSTRAP).interval


def test_every_step_stands_beside_the_controls_where_something_is_answered_in_text(tmp_path):
    delta = {"delta": 0.1, "low": 0.05, "high": 0.15}
    deltas = {"step 0": delta, "step 2": delta, "step 4": delta}
    rows = [
        {"control": name, "what": "<i>", "input_blind": name == "sure", "value": 0.2,
         "deltas": deltas}
        for name in ("sure", "echo")
    ]  # fmt: skip
    beaten = {"step 0": False, "step 2": True, "step 4": False}
    values = {"sure": 0.2, "echo": 0.9}
    every = [{"metric": "t/acc", "best": "sure", "values": values, "deltas": deltas}]
    beside = {"metric": "t/acc", "best": "sure", "note": "", "beaten": beaten, "rows": rows}
    said = Forgetting().make(Run(beside=beside | {"metrics": every}), tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert said[-1] == "Not surely above the control sure (t/acc 0.200): step 0, step 4."
    assert said[-1] in page
    assert "<th>step 4 - control</th>" in page
    assert "<th>step 4 - best</th>" in page
    assert read_json(tmp_path / "summary.json")["controls"]["beaten"] == beaten
    other = tmp_path / "weighed"
    other.mkdir()
    assert "Not surely" not in " ".join(Forgetting().make(Run(), other))
    assert "Beside the controls" not in (other / "report.html").read_text()


def recorded(root: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((root / "curve.csv").read_text().splitlines()))


CONTROL_COLUMNS = (
    "control", "control_value", "step_minus_control", "step_minus_control_low",
    "step_minus_control_high", "echo",
)  # fmt: skip


def test_the_table_of_numbers_has_the_best_control_at_every_step_also_the_first(tmp_path):
    deltas = {f"step {n}": {"delta": 0.1 + n, "low": 0.05 + n, "high": 0.15 + n} for n in (0, 2, 4)}
    rows = [
        {"control": name, "what": "", "input_blind": name == "sure", "value": value,
         "deltas": deltas}
        for name, value in (("sure", 0.2), ("echo", 0.9))
    ]  # fmt: skip
    beaten = dict.fromkeys(deltas, True)
    beside = {"metric": "t/acc", "best": "sure", "note": "", "beaten": beaten, "rows": rows}
    every = [{"metric": "t/acc", "best": "sure", "values": {"sure": 0.2, "echo": 0.9},
              "deltas": deltas}]  # fmt: skip
    Forgetting().make(Run(beside=beside | {"metrics": every}), tmp_path)
    acc, bits = ([r for r in recorded(tmp_path) if r["metric"] == m] for m in ("t/acc", "t/bits"))
    assert [[r[c] for c in CONTROL_COLUMNS] for r in acc] == [
        ["sure", "0.2", str(0.1 + n), str(0.05 + n), str(0.15 + n), "0.9"] for n in (0, 2, 4)
    ]
    weighed = [["none", *[""] * 5]] * 3
    assert [[r[c] for c in CONTROL_COLUMNS] for r in bits] == weighed, "not answered in text"
    Forgetting().make(Run(beside=beside), tmp_path)
    assert [r["control"] for r in recorded(tmp_path)] == [*["sure"] * 3, *["not recorded"] * 3]
    Forgetting().make(Run(), tmp_path)
    assert [[r[c] for c in CONTROL_COLUMNS] for r in recorded(tmp_path)] == weighed * 2


def test_an_item_that_some_step_has_no_score_of_is_left_out_of_all_and_counted(tmp_path):
    class Unread(Run):
        def scored(self, step: int) -> list[ItemScore]:
            found = super().scored(step)
            lost = {**found[4].metrics, "acc": Ratio(0, 0)}
            why = {**found[4].details, MISSING: "unread"}
            odd = replace(found[4], metrics=lost, details=why)
            return [odd if step == 2 and s is found[4] else s for s in found]

    Forgetting().make(Unread(), tmp_path)
    told = read_json(tmp_path / "summary.json")
    acc, bits = told["curves"]
    assert {acc["base"]["items"], acc["points"][1]["here"]["items"]} == {ITEMS // 2 - 1}
    assert bits["base"]["items"] == ITEMS
    assert [events[UNSCORED] for events in told["events"].values()] == [1, 1, 1]


def test_items_that_are_lost_are_counted_where_items_are_right_or_wrong():
    acc, bits = found_in(Run())
    assert [(point.gained, point.lost) for point in acc.points] == [(0, 1), (0, 15)]
    assert {(point.gained, point.lost) for point in bits.points} == {(None, None)}


def test_a_metric_of_which_less_is_better_is_hurt_when_it_rises():
    acc, bits = found_in(Run())
    assert acc.last.verdict == bits.last.verdict == "hurt"
    assert bits.less_is_better
    assert not acc.less_is_better
    more = found_in(Run(less_is_better=frozenset()))[1]
    assert more.last.verdict == "helped"


def test_the_first_hurt_step_is_the_first_that_stands_after_adjusting():
    acc, bits = found_in(Run())
    assert acc.points[0].verdict != "hurt"
    assert acc.first_hurt(0.95) == bits.first_hurt(0.95) == 4
    weak = found_in(Run(made=((0, 0, 2.0), *((n, 14, 2.0) for n in range(1, 30)))))[0]
    assert weak.last.verdict == "hurt"
    assert weak.last.p > 0.05
    assert weak.first_hurt(0.95) is None
    assert "not after adjusting" in said_of([weak], 0.95)[1]


def test_resamples_that_let_no_p_value_stand_are_told(tmp_path):
    found = found_in(Run())  # two metrics at two steps
    assert too_coarse(found, 0.95, 500) is None
    assert too_coarse(found, 0.95, 160) is None
    assert "resamples=1600 " in too_coarse(found, 0.95, 158)
    few = Run(bootstrap=BOOTSTRAP | {"resamples": 150})
    said = Forgetting().make(few, tmp_path)
    assert said[-1].startswith("150 resamples are too few for 4 changes")
    assert "not after adjusting" in said[1]
    assert said[-1] in (tmp_path / "report.html").read_text()


@settings(max_examples=5)
@given(st.permutations(range(ITEMS)))
def test_the_order_of_items_decides_nothing(order):
    run = Run()
    mixed = {step: [run.scored(step)[i] for i in order] for step, _ in run.steps()}
    kinds = {"less_is_better": run.less_is_better, "margin": run.margin}
    mine = curves_of(mixed, **kinds, bootstrap={**BOOTSTRAP, "resamples": 50})
    scores = {step: run.scored(step) for step, _ in run.steps()}
    assert mine == curves_of(scores, **kinds, bootstrap={**BOOTSTRAP, "resamples": 50})


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, list[str]]:
    directory = tmp_path_factory.mktemp("made")
    analysis = Forgetting()
    assert isinstance(analysis, Analysis)
    return directory, analysis.make(Run(), directory)


def test_all_of_it_is_written(made):
    directory, said = made
    assert {path.name for path in directory.iterdir()} == {
        "summary.json", "curve.csv", "items.jsonl", "forgetting.png", "report.html",
    }  # fmt: skip
    assert "t/acc: 1.0000 -> 0.5000, change -0.5000" in said[1]
    assert "first hurt at step 4" in said[1]
    summary = read_json(directory / "summary.json")
    assert summary["curves"][0]["points"][1]["change"]["value"] == pytest.approx(-0.5)
    assert summary["events"]["4"] == {"<left> out": 4}


def test_the_table_has_a_line_a_metric_and_step_that_agrees_with_the_curves(made):
    rows = list(csv.DictReader((made[0] / "curve.csv").read_text().splitlines()))
    assert [(r["metric"], r["step"]) for r in rows] == [
        (metric, step) for metric in ("t/acc", "t/bits") for step in "024"
    ]
    for curve in found_in(Run()):
        last = [row for row in rows if row["metric"] == curve.metric][-1]
        assert float(last["change_low"]) == curve.last.change.low
        assert float(last["adjusted_p"]) == curve.last.p
        assert last["verdict"] == "hurt"


def test_items_hold_what_each_metric_is_made_of(made):
    rows = read_jsonl(made[0] / "items.jsonl")
    assert len(rows) == 3 * (ITEMS // 2 + ITEMS)
    for step, value in ((0, 1.0), (4, 0.5)):
        own = [row for row in rows if (row["step"], row["metric"]) == (step, "acc")]
        assert sum(row["num"] for row in own) / sum(row["den"] for row in own) == value


def test_the_page_shows_lost_items_and_events_and_no_markup_of_others(made):
    text = (made[0] / "report.html").read_text()
    assert "wrong at the end: 15" in text
    assert "&lt;b&gt;ask&lt;/b&gt; 28" in text
    assert "&lt;left&gt; out" in text
    assert "a&lt;b" in text
    for raw in ("<b>ask", "a<b", "<i>", "<left>"):
        assert raw not in text


def test_a_run_without_kept_steps_says_how_to_keep_some(tmp_path):
    Forgetting().make(Run(made=((0, 0, 2.0), (4, 30, 3.0))), tmp_path)
    assert "callbacks.keep.steps" in (tmp_path / "report.html").read_text()


def test_the_page_says_how_many_lost_items_it_leaves_to_the_file_and_what_is_in_doubt():
    lost = [score(i, False, 2.0) for i in range(SHOWN + 3)]
    about = About("t", 0.95, {}, {}, "few & <far>")
    text = forgetting_page(about, found_in(Run()), b"png", lost)
    assert f"wrong at the end: {SHOWN + 3}" in text
    assert "3 more are in items.jsonl." in text
    assert text.count("<code>k") == SHOWN
    assert "few &amp; &lt;far&gt;" in text
    plain = forgetting_page(About("t", 0.95, {}, {}), found_in(Run()), b"png", lost[:SHOWN])
    assert 'class="warning"' not in plain
    assert "more are in items.jsonl" not in plain


def test_the_same_curves_are_the_same_picture():
    found = found_in(Run())
    one = curves(found, 0.95, dpi=40)
    assert one == curves(found, 0.95, dpi=40)
    assert one != curves(found[:1], 0.95, dpi=40)


def test_a_page_needs_nothing_else_and_escapes_its_words():
    text = page("a < b", picture(b"png", "two > one"))
    assert "<title>a &lt; b</title>" in text
    assert 'alt="two &gt; one"' in text
    assert "data:image/png;base64,cG5n" in text
    assert "</img>" not in text
