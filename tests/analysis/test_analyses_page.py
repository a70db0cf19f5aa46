"""What analyses found stands on a study's page: cell by cell, side by side, and what is lacking."""

import html
import math
import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import made_up_page as made
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.analysis.analysed import MOST_PARTS, Analysed, AnalysedCell, all_else_equal
from heed.analysis.analyses_page import (
    AGREE,
    FEWEST_PAIRS,
    analyses_csv,
    analyses_line,
    analyses_section,
)
from heed.analysis.analysis import Analysis
from heed.analysis.cells import Cells, cells_of
from heed.analysis.contrasts import change_of, contrasts
from heed.analysis.deltas import rows_of
from heed.analysis.forgetting import Forgetting
from heed.analysis.number import Number, difference, measured, shown
from heed.analysis.report import Drawings, study_page, write_report
from heed.analysis.shift import TokenShift
from heed.analysis.shift_numbers import CATEGORIES
from heed.core.manifest import code_state

HOSTILE = "<script>alert('x')</script>&"
PRIMARY = "follow/strict"
NO_DRAWINGS = Drawings({}, None, None, [], [])
NOW = code_state()


def words(text: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())


def cell(number: int, value: float | None, **place: str) -> AnalysedCell:
    numbers = {"shifted": Number("share", value, more="shifts more tokens")}
    return AnalysedCell(f"run{number}", {"seed": "1", **place}, None, numbers, NOW)


def analysed(cells: list[AnalysedCell], axes: tuple[str, ...], **more) -> Analysed:
    return Analysed("shift", "What.", axes, more.pop("beside", ()), tuple(cells), **more)


def four(*values: float | None) -> Analysed:
    """Two methods for two students: lora nano, lora micro, full nano, full micro."""
    places = product(("lora", "full"), ("nano", "micro"))
    cells = [
        cell(i, value, method=method, student=student)
        for i, ((method, student), value) in enumerate(zip(places, values, strict=True))
    ]
    return analysed(cells, ("method", "student"))


def shown_of(results: list[dict]) -> Cells:
    return cells_of(rows_of(results), ["student", "lr", "seed"], Path("/nowhere/studies/x"))


# numbers


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Number("share", 0.1314, 0.115, 0.149), "13.1 % [11.5, 14.9]"),
        (Number("nats", 1.2426), "1.243 nats"),
        (Number("change", -0.012, -0.05, 0.02), "-0.012 [-0.050, +0.020]"),
        (Number("step", math.inf), "never"),
        (Number("step", 40), "40"),
        (Number("share", None), "not known"),
    ],
)
def test_a_number_is_written_in_its_unit_with_its_interval(number, text):
    assert number.text == text


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("share", {"value": math.nan, "low": 0, "high": 1}),
        ("share", {"value": math.inf, "low": 0, "high": 1}),
        ("nats", {"value": 1, "low": -math.inf, "high": 1}),
        ("step", {"value": -math.inf, "low": 0, "high": 1}),
        ("share", {"value": "0.5", "low": 0, "high": 1}),
        ("share", {"value": True, "low": 0, "high": 1}),
        ("share", {"value": 1.2, "low": 0, "high": 1}),
        ("share", {"value": 0.5, "low": -0.01, "high": 1}),
        ("share", {"value": 0.5, "low": 0, "high": 1.01}),
        ("step", {"value": -3, "low": 0, "high": 1}),
        ("step", {"value": math.nan, "low": 0, "high": 1}),
        ("share", {"value": 0.5}),
        ("share", [0.5, 0, 1]),
    ],
)
def test_what_is_no_number_is_refused(kind, found):
    with pytest.raises((KeyError, TypeError, ValueError)):
        measured(kind, found)


def test_a_share_that_rounding_makes_more_than_all_is_all():
    assert Number("share", 1 + 1e-15, -1e-15, 1.0).text == "100.0 % [0.0, 100.0]"


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("share", 0.0, "0.0"),
        ("share", -0.0, "0.0"),
        ("share", 0.0004, "less than 0.1"),
        ("share", 0.9996, "more than 99.9"),
        ("share", 1.0, "100.0"),
        ("nats", -0.00001, "0.000"),
        ("nats", -0.0, "0.000"),
        ("nats", -0.001, "-0.001"),
    ],
)
def test_some_is_not_written_as_none_or_all_and_zero_has_no_sign(kind, value, text):
    assert shown(kind, value) == text


@given(st.sampled_from(["share", "nats", "change"]), st.floats(-9, 9))
def test_a_difference_has_a_sign_unless_it_shows_as_zero(kind, value):
    text = difference(kind, value)
    assert (text[0] in "+-") == (float(text) != 0)
    assert float(text) == pytest.approx(value * (100 if kind == "share" else 1), abs=0.06)
    assert shown("share", 0.5) == "50.0"


# what the analyses give


def interval(value: float, width: float = 0.01) -> dict:
    return {"value": value, "low": value - width, "high": value + width, "items": 9}


def shift_summary(**more) -> dict:
    def part(at: float) -> dict:
        return {kind: interval(at + i / 100) for i, kind in enumerate(CATEGORIES)}

    every = part(0.3) | {"kl_base_tuned": interval(7.0), "kl_tuned_base": interval(2.0)}
    return {"parts": {"all": every, "first": part(0.5), "last": part(0.7), "stop": {}} | more}


def token_shift() -> TokenShift:
    return TokenShift(
        limit=4, base_context="same", choice="argmax", top_k=None, match="id", unit="sentence",
        first_share=0.125, batch_tokens=9, rows=4, shown=2,
    )  # fmt: skip


def test_token_shift_gives_shares_their_parts_and_the_divergence_from_the_base():
    found = token_shift().numbers(shift_summary(), PRIMARY)
    assert {name: one.text for name, one in found.items()} == {
        "unshifted": "30.0 % [29.0, 31.0]",
        "marginal": "31.0 % [30.0, 32.0]",
        "shifted": "32.0 % [31.0, 33.0]",
        "shifted, first part": "52.0 % [51.0, 53.0]",
        "shifted, the rest": "72.0 % [71.0, 73.0]",
        "KL(tuned || base)": "2.000 nats [1.990, 2.010]",
    }
    assert [name for name, one in found.items() if one.more] == ["shifted"]
    about = token_shift().about
    assert "first 12.5 % of each sentence" in about
    assert "KL(tuned || base)" in about


def test_a_part_that_too_few_responses_have_is_not_known():
    """A response of one token has a first part and no rest."""
    last = dict.fromkeys(CATEGORIES)
    found = token_shift().numbers(shift_summary(last=last), PRIMARY)
    assert found["shifted, the rest"].text == "not known"


def point(step: int, change: float, verdict: str, p: float) -> dict:
    return {"step": step, "here": interval(0.5), "change": interval(change), "p": p,
            "verdict": verdict, "gained": None, "lost": None}  # fmt: skip


def curve(metric: str, *points: dict, less: bool = False) -> dict:
    return {"metric": metric, "less_is_better": less, "base": interval(0.6), "points": points}


FORGOTTEN = {
    "level": 0.95,
    "curves": [
        curve("follow/loose", point(10, 0.3, "helped", 0.001)),
        curve("facts/acc", point(10, -0.1, "hurt", 0.2), point(20, -0.2, "hurt", 0.01)),
        curve("facts/acc_norm", point(10, -0.3, "hurt", 0.001)),
        curve("books/bits", point(10, 0.1, "helped", 0.001), point(20, 0.2, "cannot tell", 0.3),
              less=True),
    ],
}  # fmt: skip


def test_forgetting_gives_the_end_and_the_first_sure_loss_of_each_other_task():
    """The primary metric's task is left out; of several metrics of a task the first is taken."""
    found = Forgetting().numbers(FORGOTTEN, PRIMARY)
    assert {name: one.text for name, one in found.items()} == {
        "facts/acc, change": "-0.200 [-0.210, -0.190]",
        "facts/acc, first hurt at step": "20",
        "books/bits (less is better), change": "+0.200 [+0.190, +0.210]",
        "books/bits, first hurt at step": "never",
    }
    assert {one.part: one.hurt for one in found.values()} == {
        "facts/acc": True,
        "books/bits": False,
    }


@pytest.mark.parametrize(
    "harm",
    [
        {"curves": None},
        {"curves": [curve("facts/acc")]},
        {"curves": [{"metric": "facts/acc"}]},
        {"curves": [[]]},
        {"level": None},
        {"curves": [curve("facts/acc", {"step": 1})]},
        {"curves": [curve("facts/acc", point(1, math.nan, "hurt", 0.1))]},
    ],
)
def test_a_damaged_summary_is_no_number(harm):
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError, IndexError)):
        Forgetting().numbers(FORGOTTEN | harm, PRIMARY)


def test_an_analysis_that_names_no_numbers_has_none():
    class Bare(Analysis):
        name = "bare"

        def make(self, studied, directory):
            return []

    assert Bare().numbers({}, PRIMARY) == {}
    assert Bare().about == ""


# cells equal in all else


def test_pairs_differ_in_one_axis_alone():
    told, without = all_else_equal(four(0.1, 0.2, 0.4, 0.2))
    assert without == 0
    methods, students = told
    assert (methods.axis, methods.one, methods.two, methods.pairs) == ("method", "lora", "full", 2)
    (one,) = methods.numbers
    assert one.differences == pytest.approx([0.3, 0.0])
    assert one.means == pytest.approx((0.15, 0.3))
    assert (one.above, one.below, one.equal, one.unknown) == (1, 0, 1, 0)
    (one,) = students.numbers
    assert one.differences == pytest.approx([0.1, -0.2])
    assert (one.above, one.below) == (1, 1)


def test_cells_without_a_partner_have_no_table_of_pairs():
    cells = [cell(0, 0.1, method="lora", student="a"), cell(1, 0.2, method="full", student="b")]
    found = analysed(cells, ("method", "student"))
    assert all_else_equal(found) == ([], 2)
    text = analyses_section([found], shown_of(made.rerun()[:1]))
    assert "No two cells differ in one axis alone" in text
    assert "pairs" not in text


def test_cells_of_other_code_settings_or_seeds_are_no_pair():
    for name in ("heed's code", "data.epochs"):
        cells = [cell(0, 0.1, method="lora", **{name: "a"})]
        cells += [cell(1, 0.2, method="full", **{name: "b"})]
        assert all_else_equal(analysed(cells, ("method",), beside=(name,))) == ([], 1)
    cells = [cell(0, 0.1, method="lora"), cell(1, 0.2, method="full", seed="2")]
    assert all_else_equal(analysed(cells, ("method",))) == ([], 1)


def test_a_pair_with_a_side_that_is_not_known_is_counted_apart():
    told, _ = all_else_equal(four(0.1, None, 0.4, 0.3))
    (one,) = told[0].numbers
    assert (one.pairs, one.unknown, told[0].pairs) == (1, 1, 2)
    text = analyses_section([four(0.1, None, 0.4, 0.3)], shown_of(made.rerun()[:1]))
    assert "+30.0 +30.0 to +30.0 &gt; 0 in 1 of 1 not known: 1 of 2 pairs" in words(text)


def test_a_step_that_never_came_is_later_than_all_and_has_no_mean():
    steps = [Number("step", n) for n in (10, math.inf, 20, math.inf)]
    cells = [
        AnalysedCell(
            f"r{i}", {"method": "ab"[i % 2], "student": str(i // 2)}, None, {"hurt": one}, NOW
        )
        for i, one in enumerate(steps)
    ]
    (told,), _ = all_else_equal(analysed(cells, ("method",), beside=("student",)))
    (one,) = told.numbers
    assert (one.above, one.below, one.differences, one.means) == (2, 0, [], None)
    text = analyses_section([analysed(cells, ("method",), beside=("student",))],
                            shown_of(made.rerun()[:1]))  # fmt: skip
    assert "earlier in 0, later in 2 of 2" in words(text)
    assert 'data-value="2">earlier' in text
    assert "never is later than all" in text


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=4, max_size=4))
def test_pairs_are_those_of_the_contrasts_and_counts_add_up(values):
    found = four(*values)
    changes = [
        change_of(c.place, ([0.0], [1.0]), ([c.numbers["shifted"].value], [1.0]), c.run)
        for c in found.cells
    ]
    # a single item has no interval: two equal ones
    changes = [change_of(c.place, ([0.0, 0.0], [1.0, 1.0]), ([c.delta] * 2, [1.0, 1.0]), c.run)
               for c in changes]  # fmt: skip
    bootstrap = {"level": 0.95, "resamples": 20, "seed": 0}
    theirs = [c for c in contrasts(changes, found.axes, bootstrap) if not c["part"]]
    ours, _ = all_else_equal(found)
    assert [(c["axis"], c["one"], c["two"], c["pairs"]) for c in theirs] == [
        (two.axis, two.one, two.two, two.pairs) for two in ours
    ]
    for contrast, two in zip(theirs, ours, strict=True):
        (one,) = two.numbers
        assert sorted(contrast["runs"]) == sorted(two.runs)
        assert math.fsum(one.differences) / one.pairs == pytest.approx(contrast["difference"])
        assert one.above + one.below + one.equal == one.pairs


# the sentence


def line_of(found: Analysed, runs: list[str] | None = None) -> str:
    """The sentence of a study whose finished cells are those analysed, or these."""
    runs = [one.run for one in found.cells] if runs is None else runs
    results = [one | {"run": run} for one, run in zip(made.rerun(), runs, strict=False)]
    return analyses_line([found], rows_of(results))


def pairs(*values: tuple[float | None, float | None], axis: str = "method") -> Analysed:
    """Of each student a cell by lora and one by full tuning, with their shares."""
    cells = [
        cell(2 * i + side, value, **{axis: ("lora", "full")[side], "student": str(i)})
        for i, both in enumerate(values)
        for side, value in enumerate(both)
    ]
    return analysed(cells, (axis,), beside=("student",))


LESS, MORE, SAME = (0.1, 0.2), (0.2, 0.1), (0.1, 0.1)
"""Two shares of a pair; the name says of which the first method has."""


def test_the_answer_counts_pairs_where_all_cells_have_a_partner():
    assert line_of(pairs(*[LESS] * 4, (0.1, 0.05))) == (
        "Analysis shift: full shifts more tokens than lora in 4 of 5 pairs equal in all else "
        "(17.0 against 10.0 % on average)."
    )


@pytest.mark.parametrize(
    "values",
    [
        [LESS],
        [LESS] * 4,
        [LESS] * 3 + [MORE] * 2,
        [LESS] * 3 + [SAME] * 2,
        [LESS] * 7 + [MORE] * 2,
        [SAME] * 5,
    ],
    ids=["one pair", "four pairs", "three of five", "two are equal", "78 per cent", "all equal"],
)
def test_few_pairs_and_pairs_that_disagree_are_no_finding(values):
    assert line_of(pairs(*values)) == ""


def test_pairs_that_one_outlier_outweighs_are_no_finding():
    """Four of five have more by full tuning; on average it is less."""
    assert line_of(pairs(*[LESS] * 4, (0.9, 0.1))) == ""


@given(st.lists(st.tuples(*[st.sampled_from([0.0, 0.25, 0.5, 1.0])] * 2), min_size=1, max_size=10))
def test_the_answer_tells_just_of_pairs_that_agree(values):
    text = line_of(pairs(*values))
    n, ones, twos = len(values), *(math.fsum(side) for side in zip(*values, strict=True))
    more = [sum(two > one for one, two in values), sum(one > two for one, two in values)]
    sure = [n >= FEWEST_PAIRS and count >= n * AGREE / 100 for count in more]
    assert ("full shifts more tokens than lora in" in text) == (sure[0] and twos > ones)
    assert ("lora shifts more tokens than full in" in text) == (sure[1] and ones > twos)
    assert (text == "") == ("shifts" not in text)


@pytest.mark.parametrize(
    "found",
    [
        pairs(*[LESS] * 5, (0.1, None)),
        analysed(
            [cell(3 * i + j, 0.1 * j, method=m, student=str(i)) for i in range(5)
             for j, m in enumerate("abc")], ("method",), beside=("student",)),
        replace(pairs(*[LESS] * 5), cells=(*pairs(*[LESS] * 5).cells, cell(
            99, 0.1, method="lora", student="9"))),
        analysed([], ("method",)),
    ],
    ids=["one not known", "three values", "a cell without a partner", "none made"],
)  # fmt: skip
def test_nothing_is_said_where_a_cell_would_be_left_out(found):
    assert line_of(found) == ""


def test_nothing_is_said_where_the_analysis_of_a_finished_cell_is_missing():
    found = pairs(*[LESS] * 5)
    assert line_of(found, [*(one.run for one in found.cells), "other"]) == ""


def test_an_axis_that_needs_its_name_has_it():
    said = line_of(pairs(*[LESS] * 5, axis="data.limit"))
    assert "data.limit full shifts more tokens than data.limit lora in 5 of 5 pairs" in said


# the page


def test_each_cell_has_its_line_its_numbers_and_the_page_of_its_analysis():
    results = made.rerun()
    told = {"contrasts": [], "rates": [], "types": None, "losses": []}
    page = study_page(made.study(results, **told), shown_of(results), NO_DRAWINGS, results, [])
    table = page.partition('id="analysis-0">')[2].partition("</table>")[0]
    assert table.count("<tr data-cell=") == len(results) == 21
    for one in results[:-2]:
        assert f'href="../../{one["directory"]}/analysis/shift--ab/report.html"' in table
    assert "11.0 [9.0, 13.0]" in words(table)
    assert table.count(">not done<") == table.count(">cannot be read<") == 1
    assert 'data-value="inf"' not in page
    pairs = page.partition('id="analysis-0-pairs"')[2].partition("</table>")[0]
    assert 'class="pairs"' in pairs
    assert pairs.count("<tr data-cells=") == 6  # three students, three rates, each two of them


def test_analyses_of_other_code_are_counted_and_marked():
    results = made.rerun()
    cells = shown_of(results)
    (found,) = made.analyses(results)
    assert "ther code" not in str(analyses_section([found], cells))
    then = "c0de source 01234567"
    of_then = [replace(one, code=then if i < 3 else one.code) for i, one in enumerate(found.cells)]
    of_then[0] = replace(of_then[0], page=None)
    found = replace(found, cells=tuple(of_then))
    section = str(analyses_section([found], cells))
    count, _, table = section.partition('id="analysis-0">')
    said = html.unescape(words(count))
    assert "3 of 19 analyses shift were made by another state of heed's code than this one" in said
    assert f"({NOW}): 3 by {then}." in said
    lines = table.partition("</table>")[0].split("<tr")
    marked = [line for line in lines if "other code" in line]
    runs = [one.run for one in cells.rows if any(one.run in line for line in marked)]
    assert (len(marked), sorted(runs)) == (3, sorted(one.run for one in of_then[:3]))
    head, *rows = analyses_csv([found], cells)
    codes = {row[head.index("run")]: row[head.index("code")] for row in rows}
    assert [codes[one.run] for one in found.cells] == [then] * 3 + [NOW] * 16
    assert sorted(codes.values())[:2] == ["", ""], "of what is not there it is not known"


def test_the_same_code_of_another_commit_is_no_other():
    results = made.rerun()
    (found,) = made.analyses(results)
    same = f"an0ther {NOW.partition(' ')[2]}"
    found = replace(found, cells=tuple(replace(one, code=same) for one in found.cells))
    assert "ther code" not in str(analyses_section([found], shown_of(results)))


def test_what_is_not_done_is_counted_and_named():
    results = made.rerun()
    cells = shown_of(results)
    (found,) = made.analyses(results)
    said = words(analyses_section([found], cells))
    assert "Analysis shift is there of 19 of 21 cells. Not done: 1. Cannot be read: 1." in said
    assert f"(run {found.missing[0]}): not done" in said
    assert "otherwise only" not in said
    stale = words(analyses_section([replace(found, otherwise=found.missing)], cells))
    assert "not done (otherwise only)" in stale
    assert ": torn" in said
    other = Analysed("x", "", (), (), (), tuple(r["run"] for r in results), found.missing)
    said = words(analyses_section([other], cells))
    assert "0 of 21 cells. Not done: 21 (1 with other settings or versions only)." in said
    assert "Cannot be read" not in said


def test_metrics_that_are_hurt_in_no_cell_are_counted_where_there_are_many():
    def found(metrics: int) -> Analysed:
        parts = [f"t{i}/acc" for i in range(metrics)]
        numbers = {p: Number("change", -0.1, part=p, hurt=p == parts[1]) for p in parts}
        return analysed([AnalysedCell(made.rerun()[0]["run"], {}, None, numbers, NOW)], ())

    assert found(MOST_PARTS).names == [f"t{i}/acc" for i in range(MOST_PARTS)]
    many = found(MOST_PARTS + 1)
    assert many.names == ["t1/acc"]
    cells = shown_of(made.rerun()[:1])
    said = words(analyses_section([many], cells))
    assert "Surely hurt in no cell, so in analyses.csv alone: 4 (t0/acc, t2/acc" in said
    assert len(analyses_csv([many], cells)) == MOST_PARTS + 2, "a head and every metric"


def test_the_file_has_a_line_for_each_number_and_for_each_cell_without():
    results = made.rerun()
    head, *lines = analyses_csv(made.analyses(results), shown_of(results))
    read = [dict(zip(head, line, strict=True)) for line in lines]
    assert len(read) == 19 * 2 + 2
    assert [r["state"] for r in read].count("done") == 38
    assert sorted(r["state"] for r in read if not r["number"]) == ["cannot be read", "not done"]
    first = {r["number"]: r for r in read if r["run"] == read[0]["run"]}
    assert (first["shifted"]["value"], first["shifted"]["low"]) == tuple(
        map(pytest.approx, (0.16, 0.14))
    )
    assert (first["first hurt"]["value"], first["first hurt"]["low"]) == ("never", "")
    steps = {r["value"] for r in read if r["number"] == "first hurt"}
    assert steps == {"never", 10.0, 20.0, 30.0}


def test_a_page_of_a_study_without_analyses_is_as_it_was():
    results = made.rerun()[:2]
    told = made.study(results, losses=[])
    before = {key: value for key, value in told.items() if key != "analyses"}
    cells = shown_of(results)
    plain = study_page(before, cells, NO_DRAWINGS, results, [])
    assert study_page({**told, "analyses": []}, cells, NO_DRAWINGS, results, []) == plain
    assert "nalyses" not in plain
    assert study_page(told, cells, NO_DRAWINGS, results, []) != plain
    assert analyses_csv([], cells)[1:] == []


def test_the_file_of_an_earlier_page_is_removed(tmp_path):
    results = made.rerun()[:3]
    bare = {"name": "b", "question": "q", "axes": {"lr": []}, "cells": 3}
    told = bare | {"analyses": made.analyses(results)}
    path = write_report(tmp_path / "a/b", told, results)
    assert (path.parent / "analyses.csv").is_file()
    assert path.read_text().count('href="analyses.csv"') == 2
    write_report(tmp_path / "a/b", bare, results)
    assert not (path.parent / "analyses.csv").exists()


def test_hostile_texts_stay_texts():
    results = made.rerun()[:4]
    number = Number("share", 0.1, part=HOSTILE, more=HOSTILE)
    cells = tuple(
        AnalysedCell(
            one["run"],
            {"a": HOSTILE if i % 2 else "b"},
            f'x"{HOSTILE}',
            {HOSTILE: number},
            HOSTILE,
        )
        for i, one in enumerate(results[:2])
    )
    damaged = {results[3]["run"]: HOSTILE}
    found = Analysed(HOSTILE, HOSTILE, ("a",), (), cells, (results[2]["run"],), (), damaged)
    text = analyses_section([found], shown_of(results))
    assert "<script" not in text
    assert 'x"' not in text
    assert "alert" in text
    told = made.study(results, analyses=[found], losses=[])
    page = study_page(told, shown_of(results), NO_DRAWINGS, results, [])
    assert len(re.findall("<script", page)) == 2
