"""The page's part on teachers: it says what the numbers say, of one student or of more."""

import re
from dataclasses import replace
from pathlib import Path

import made_up_page as made
import numpy as np
import pytest
from made_up_teaching import ABOUT, BETAS, BOOTSTRAP, FORMULA, teaching, tried, two_students

from heed.analysis.deltas import signed
from heed.analysis.families import Taught, larger_in_family, own_family, size_in_family
from heed.analysis.family_tables import family_tables
from heed.analysis.report import write_report
from heed.analysis.teaching import teaching_numbers
from heed.analysis.teaching_figures import teaching_drawings
from heed.analysis.teaching_page import beta_text, ends, teaching_csv, teaching_section


@pytest.fixture(scope="module")
def both():
    return teaching()


def text_of(markup: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", markup))


def test_nothing_is_shown_where_nothing_was_asked_and_a_reason_where_there_is_none():
    assert teaching_section(None) == ""
    assert "too <b> few" not in teaching_section({"reason": "too <b> few"})
    assert "too &lt;b&gt; few" in teaching_section({"reason": "too <b> few"})
    assert teaching_drawings(None) == teaching_drawings({"reason": "few"}) == []
    assert len(teaching_csv({"reason": "few"})) == 1


def test_every_number_of_the_tables_is_on_the_page(both):
    shown = text_of(teaching_section(both))
    for metric in both["mean"].values():
        assert signed(metric["value"]) in shown
        assert f"[{signed(metric['low'])}, {signed(metric['high'])}]" in shown
    for student in both["students"]:
        for rhos in student["rhos"].values():
            for over in ("teachers", "instructions"):
                low, high = (signed(rhos[over][end]) for end in ("low", "high"))
                assert f"[{low}, {high}] {over}" in shown
        for pick in student["picks"].values():
            assert f"{pick['lost']:.3f} below the best" in shown
    for one in both["differences"]:
        assert ends(one) in shown
    assert ends(both["beta"]["over_reward"]) in shown
    assert "+0.889 (+0.810 to +0.944)" in shown  # the source's CAR


def test_the_answer_names_the_strongest_metric_and_does_not_claim_a_difference_that_is_none(both):
    best = max(both["mean"], key=lambda name: abs(both["mean"][name]["value"]))
    first = text_of(teaching_section(both)).partition("goes most closely")[0]
    assert best == "car"
    assert first.rstrip().endswith("CAR")
    sure = [m for m, rho in both["mean"].items() if rho["low"] > 0 or rho["high"] < 0]
    shown = text_of(teaching_section(both)).partition("Intervals that leave zero out: ")[2]
    assert len(shown.partition(". ")[0].split(", ")) >= len(sure) > 0
    assert shown.startswith("CAR")
    same = teaching_numbers(two_students(), replace(FORMULA, beta=0.0), BETAS, BOOTSTRAP) | ABOUT
    assert "CAR and reward are not shown to differ: 0.000 [0.000, 0.000]" in text_of(
        teaching_section(same)
    )


def test_the_strongest_metric_is_that_of_the_largest_rho_whatever_its_sign_or_interval(both):
    mean = both["mean"] | {"length": {"value": -0.999, "low": -1.0, "high": 0.1}}
    mean |= {"reward": {"value": 0.99, "low": 0.98, "high": 1.0}}
    shown = text_of(teaching_section(both | {"mean": mean}))
    assert "length in tokens goes most closely with the delta: rho -0.999 [-1.000, +0.100]" in shown
    sure = shown.partition("Intervals that leave zero out: ")[2].partition(". ")[0]
    assert "reward" in sure
    assert "length" not in sure


def test_one_student_has_no_column_of_means_and_its_own_answer():
    one = teaching(two_students()[:1])
    shown = text_of(teaching_section(one))
    assert "mean over students" not in shown
    assert "leaves none to choose on" in shown
    assert "CAR and reward are" in shown


def test_text_is_escaped_and_events_are_added_up(both):
    markup = teaching_section(both)
    assert "<i>x</i>" not in markup
    assert "&lt;i&gt;x&lt;/i&gt;" in markup
    assert "A &lt;b&gt;" in markup
    assert "cut: 3 in all." in text_of(markup)
    assert "empty: 5 in all." in text_of(markup)  # what all students have alike is told once


def test_what_has_no_order_or_no_reward_is_said():
    flat = tried("nano", np.linspace(0.3, 1, 8), np.linspace(1, 2, 8), [0.25] * 8)
    shown = text_of(teaching_section(teaching([flat])))
    assert "no metric ranks the teachers" in shown
    assert "no order" in shown
    one = two_students()[0]
    one.measured.rewards["judge"][3] = np.nan
    shown = text_of(teaching_section(teaching([one])))
    assert "CAR is not ranked: 1 of 10 teachers have none." in shown
    assert "not all teachers have a reward" in shown


def test_the_file_has_a_line_for_each_student_and_teacher(both):
    head, *lines = teaching_csv(both)
    assert len(lines) == 2 * 10
    assert all(len(line) == len(head) for line in lines)
    first = dict(zip(head, lines[0], strict=True))
    row = both["students"][0]["teachers"][0]
    assert (first["teacher"], first["delta"], first["size_b"]) == ("teacher 0", row["delta"], 7.0)
    assert first["car"] == row["metrics"]["car"]


@pytest.fixture(scope="module")
def drawings(both):
    return teaching_drawings(both)


def test_figures_are_one_a_student_and_name_few_teachers(drawings):
    assert [d.name for d in drawings] == ["teaching_nano_0", "teaching_micro_1"]
    assert "teacher 3" not in drawings[0].svg
    assert "loss (nats)" in drawings[0].svg
    assert "play/follow" in drawings[0].svg
    few = [tried("nano", *np.random.default_rng(1).uniform(1, 2, (3, 5)))]
    assert "teacher 3" in teaching_drawings(teaching(few))[0].svg


def test_a_studys_page_holds_section_figures_and_file(both, drawings, tmp_path: Path):
    study = {"name": "s", "question": "Which?", "axes": {"model": ["nano"]}, "cells": 1}
    write_report(tmp_path, study | {"teaching": both}, [made.result("nano", "gentle", 1)])
    page = (tmp_path / "report.html").read_text()
    assert teaching_section(both, drawings) in page
    assert (tmp_path / "teaching.csv").read_text().startswith("student,teacher,")
    assert (tmp_path / "figures" / "teaching_micro_1.svg").is_file()


def test_families_are_shown_where_teachers_have_some(both):
    assert family_tables(both) == ""
    outcomes = np.random.default_rng(0).normal(size=(2, 6))
    sizes = (1.0, 2.0, 3.0, None, 5.0, 6.0)
    taught = Taught(("s", "t"), tuple("abcdef"), outcomes, ("A", "A", "A", "B", "B", None), sizes)
    found = {
        "families": own_family(taught, {"s": ("A",)}, level=0.95),
        "larger": larger_in_family(taught, level=0.95),
        "sizes": size_in_family(taught, level=0.95),
    }
    shown = text_of(family_tables(found))
    (own,) = found["families"]
    gain = f"{signed(own['gain'])} [{signed(own['low'])}, {signed(own['high'])}]"
    assert gain in shown
    assert f"{found['larger'][1]['smaller_wins']} of 2" in shown
    assert "all of known size" in shown


def test_one_student_shows_no_interval_over_students():
    taught = Taught(("s",), ("a", "b"), np.array([[1.0, 2.0]]), ("A", "A"), (1.0, 2.0))
    shown = text_of(family_tables({"larger": larger_in_family(taught, level=0.95)}))
    assert "+1.000 (one student: no interval)" in shown


@pytest.mark.parametrize(("beta", "said"), [(0.0, "0"), (0.3, "0.3"), ("inf", "∞ (reward / loss)")])
def test_a_beta_is_written_as_it_is_typed(beta, said: str):
    assert beta_text(beta) == said


def test_instructions_are_told_of_each_student_and_of_each_half(both):
    shown = text_of(teaching_section(both))
    assert "nano: 90 instructions that all teachers answered" in shown
    assert "50 of them asked for, 40 read; of these 21 in mean rewards, 19 in losses" in shown
    assert "micro: 90" in shown
    assert "38 read; of these 20 in mean rewards, 18 in losses" in shown
    assert "mean rewards of first_half" in shown


def test_tied_picks_are_all_named(both):
    one, *others = both["students"]
    tied = {"teachers": ["t <1>", "t 2"], "delta": 0.25, "lost": 0.125}
    picks = {name: tied for name in one["picks"]}
    shown = text_of(teaching_section(both | {"students": [one | {"picks": picks}, *others]}))
    assert "2 tied: t &lt;1&gt;, t 2 +0.250 on average, 0.125 below the best" in shown


def test_resamples_that_are_left_out_are_said(both):
    shown = teaching_section(both | {"resamples_left_out": ["<i>n</i>: 1 of 200 resamples."]})
    assert "&lt;i&gt;n&lt;/i&gt;: 1 of 200 resamples." in shown


def test_what_is_done_about_negative_rewards_is_said(both):
    shown = teaching_section(both | {"negative": ["3 of 9 rewards <i>j</i> are negative."]})
    assert "3 of 9 rewards &lt;i&gt;j" in shown
