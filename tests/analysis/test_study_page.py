"""What a study's page shows of contrasts, rates, types, losses, form, cost and scale."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import made_up_page as made
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from heed.analysis.answer import answer, scale_box, stopping_line
from heed.analysis.base_tables import bases_table
from heed.analysis.cells import Cells, cells_of
from heed.analysis.comparable import alone_in
from heed.analysis.contrast_tables import contrasts_csv, contrasts_line, contrasts_table
from heed.analysis.cost import commands_section, cost_table, duration
from heed.analysis.deltas import beside_line, rows_of
from heed.analysis.figures import drawing_style, rendered, unit
from heed.analysis.forest import forest
from heed.analysis.form_table import form_table
from heed.analysis.heat_map import heat_drawing, heat_map, parts_line, types_csv
from heed.analysis.loss_figures import _looks, loss_drawings, losses_csv, losses_section, thinned
from heed.analysis.markup import value
from heed.analysis.outside import published_table
from heed.analysis.rate_figures import _fits, beside_of, rate_figures, rate_note
from heed.analysis.rate_tables import edge_warnings, rates_csv, rates_table
from heed.analysis.report import write_report
from heed.analysis.style import CSS, DARK, LIGHT
from heed.analysis.tables import flags_list, seeds_table
from heed.analysis.words import pill

BARE = Cells((), (), {})
BARE_STUDY = {"name": "x", "question": "q", "axes": {}, "cells": 1}
RATES_OF_TWO = list(made.RATES)[:2]
HOSTILE = "<script>alert('$x$')</script>&"
AXES = {"student": made.STUDENTS, "lr": list(made.RATES), "seed": [1, 2, 3]}
ORDER = [
    "Does size or rate", 'class="answer"', "How to read a verdict", "Stopping rule",
    "Run at another scale", "carry a flag", "Every cell", "What differs, all else equal",
    "Delta by learning rate", "Every delta",
    "Change by type", "Training curves", "Form of the answers", "Published values", "Cost",
    "Commands and versions", "Settings",
]  # fmt: skip


@pytest.fixture(scope="module")
def results() -> list[dict]:
    return made.rerun()


@pytest.fixture(scope="module")
def path(results, tmp_path_factory) -> Path:
    return made.write_outputs(tmp_path_factory.mktemp("outputs"), results)


@pytest.fixture(scope="module")
def page(path) -> str:
    return path.read_text()


@pytest.fixture(scope="module")
def cells(results, tmp_path_factory):
    return cells_of(rows_of(results, AXES), list(AXES), tmp_path_factory.mktemp("none"))


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_the_question_and_the_answer_come_first_and_all_else_in_order(page):
    body = page[page.index("<body>") :]
    places = [body.index(text) for text in ORDER]
    assert places == sorted(places)


def test_a_reader_is_told_what_is_counted_and_what_a_control_is_where_the_verdicts_are(page):
    said = words(page)
    assert f"Primary metric: {made.PRIMARY} (share; more is better)." in said
    assert "After - best control: the tuned student minus the best of the rules" in said
    assert "delta of facts/ acc" in said


def test_the_page_needs_nothing_from_elsewhere(page):
    assert not re.search(r"https?:|@import|url\(|src=", page)


def test_each_number_of_a_cell_leads_to_its_run(results, page):
    for one in results:
        home = f"../../{one['directory']}/"
        assert page.count(f'href="{home}scores/play/verdict.html"') >= 4
        assert f'href="{home}"' in page


def test_a_run_without_a_page_is_not_linked_to_one(results, tmp_path):
    text = write_report(tmp_path / "studies/x", made.study(results), results).read_text()
    assert "verdict.html" not in text
    assert text.count(f'href="../../{results[0]["directory"]}/"') >= 4


@pytest.mark.slow
def test_a_page_of_200_cells_stays_small(tmp_path):
    """Measured: 1.6 MB."""
    assert made.write_outputs(tmp_path, made.many(200)).stat().st_size < 3_000_000


def test_the_same_study_gives_the_same_bytes(results, path, tmp_path):
    again = made.write_outputs(tmp_path, results[::-1], **made.study(results))
    first, second = (
        {f.relative_to(p.parent): f.read_bytes() for f in p.parent.rglob("*.*")}
        for p in (path, again)
    )
    assert first.keys() == second.keys()
    assert {name.suffix for name in first} == {".html", ".csv", ".png", ".svg"}
    assert [str(n) for n in first if first[n] != second[n]] == []


def test_every_file_beside_the_page_is_named_on_it(path, page):
    beside = {str(f.relative_to(path.parent)) for f in path.parent.rglob("*.*")} - {path.name}
    assert beside == {h for h in re.findall(r'href="([^"]*)"', page) if h[0] in "acflrt"}


def test_hostile_texts_stay_texts_everywhere(tmp_path):
    """Of the study, its cells, its types and its data; a dollar in a name is no formula."""
    results = [
        made.result(HOSTILE, lr, 1, peak=peak) for lr, peak in ((HOSTILE, 1e-3), ("b", 0.01))
    ]
    rates = [one | {"student": HOSTILE, "reason": HOSTILE} for one in made.rates()]
    contrasts = [one | {"one": HOSTILE, "also": [HOSTILE]} for one in made.contrasts()]
    runs = [one["run"] for one in results]
    path = made.write_outputs(
        tmp_path, [one | {"directory": f"runs/x--{one['run']}"} for one in results],
        name="x", question=HOSTILE, stopping=HOSTILE, rates=rates, contrasts=contrasts,
        axes={"model": [HOSTILE], "lr": [HOSTILE, "b"]}, commands=dict.fromkeys(runs, HOSTILE),
        types={"metric": HOSTILE, "names": [HOSTILE], "rows": {runs[0]: {HOSTILE: [0, 1, 2]}}},
        losses=[{"data": HOSTILE, "tokens": HOSTILE, "runs": {runs[0]: [[1, 2.0]]}}],
        environment={"versions": {HOSTILE: HOSTILE}, "machines": [HOSTILE]},
        scale={"name": HOSTILE, "why": HOSTILE, "rate_factor": 2,
               "stands_for": [[HOSTILE] * 3], "sets": {HOSTILE: HOSTILE}},
    )  # fmt: skip
    text = path.read_text()
    assert len(re.findall("<script", text)) == 2
    assert "alert('$x$')" in words(text).replace("&#x27;", "'")
    assert all("<script" not in f.read_text() for f in path.parent.rglob("*.svg"))


def test_a_stopping_rule_is_met_when_every_planned_cell_is_finished(results):
    rows = rows_of(results)
    study = {"stopping": "a <rule>", "cells": 21}
    assert "Stopping rule, met: all 21" in words(stopping_line(study, rows))
    interim = words(stopping_line(study, rows[:4]))
    assert "not met yet: 4 of 21 cells; what stands here is interim." in interim
    assert "a &lt;rule&gt;" in interim
    assert stopping_line({"cells": 21}, rows) == ""


def test_a_scale_says_what_stands_for_what():
    scale = made.study([])["scale"]
    said = words(scale_box(scale))
    assert "playground" in said
    assert "multiplied by 25" in said
    assert "model 1b nano" in said
    assert "lr.warmup_steps 10" in said
    assert scale_box(None) == ""


def test_a_contrast_without_pairs_names_what_it_cannot_be_told_from(results, cells):
    """And has no number at all, on the page or in the file."""
    first, second, confounded = made.contrasts()
    text = contrasts_table([confounded], BARE)
    assert "cannot be told apart from lr" in words(text)
    assert not re.search(r"[+-]\d", words(text))
    assert "+0.043" in contrasts_table([first], BARE)
    assert words(contrasts_table([second], BARE)).count("no difference shown") == 1
    runs = [r["run"] for r in results if r["student"] in ("micro", "mini")]
    row = contrasts_table([confounded | {"runs": runs}], cells)
    places = re.search('data-cells="([0-9 ]*)"', row).group(1).split()
    assert [cells.rows[int(i)].run for i in places] == runs
    assert 'class="runs"' not in row, "there are no pairs to unfold"
    lines = contrasts_csv([first, confounded])
    read = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    assert [r["difference"] for r in read] == [0.043, ""]
    assert [r["also"] for r in read] == ["", "lr"]
    assert contrasts_table([], BARE) == ""


def test_contrasts_within_single_settings_unfold_below_the_whole_ones():
    whole, part, other = made.contrasts()
    text = contrasts_table([whole, part | {"part": True}, other], BARE)
    shown, _, folded = text.partition("<details>")
    assert (shown.count("<tr"), folded.count("<tr")) == (3, 2), "a head and its lines"
    assert "The same within single settings: 1" in words(folded)
    assert "no difference shown" in folded
    assert "<details>" not in contrasts_table([whole, other], BARE)


def test_contrasts_have_a_column_of_settings_where_one_has_some():
    bare = [{**one, "context": ""} for one in made.contrasts()]
    assert "<th>within</th>" not in contrasts_table(bare, BARE)
    left_out = [bare[0] | {"without": ["lr hot"]}, *bare[1:]]
    for told in (made.contrasts(), left_out):
        text = contrasts_table(told, BARE)
        assert "<th>within</th>" in text
        first = text.partition("<tbody>")[2].partition("</tr>")[0]
        assert first.count("<td") == 9


def test_why_nothing_is_contrasted_and_what_is_left_out_is_said(results, tmp_path):
    told = {"contrasts": [], "contrasts_reason": "other <items>", "left_out": ["run <x>: lost"]}
    said = words(made.write_outputs(tmp_path, results[:2], **told).read_text())
    assert "What differs, all else equal other &lt;items&gt;" in said
    assert "Left out of comparisons item by item. run &lt;x&gt;: lost" in said


def test_one_rate_has_nothing_to_choose_from():
    bare = made.rates()[0] | {"peaks": [1e-3], "names": ["a"], "means": [0.1], "chosen": None}
    assert rates_table([bare], BARE) == ""


def test_students_before_tuning_have_a_column_each(results):
    text = words(bases_table(rows_of(results, AXES)))
    assert "metric nano micro mini best control that reads nothing echo" in text
    assert f"{made.PRIMARY} 0.250 0.290 0.330" in text
    assert "cells 6 9 6" in text


def test_the_answer_counts_the_contrasts_of_each_metric():
    whole = made.contrasts()
    further = [one | {"metric": "facts/acc", "verdict": "differs"} for one in whole[:1]]
    assert contrasts_line([*whole, *further]) == (
        f"On {made.PRIMARY}, of 2 contrasts with all else equal 1 differs; 1 cannot be told apart "
        "from another axis. On facts/acc, of 1 contrasts with all else equal 1 differs."
    )


def test_the_answer_counts_the_contrasts_that_were_read():
    line = "Of 2 contrasts with all else equal 1 differs; 1 cannot be told apart from another axis."
    whole = made.contrasts()  # of a single setting each, which is named and counted
    assert contrasts_line(whole) == line
    parts = [one | {"part": True} for one in whole[:2] + whole[:1]]
    told = made.study([], contrasts=[*whole, *parts])
    inside = line.replace("differs;", "differs (2 of 3 within single settings);")
    assert inside in words(answer(told, rows_of(made.rerun()), []))
    assert contrasts_line([]) == ""


def test_a_mean_says_which_settings_it_leaves_out_and_how_many_contrasts_are_not_shown():
    one = made.contrasts()[0] | {"without": ["student <big>"], "parts_left_out": 700}
    said = words(contrasts_table([one], BARE))
    assert "⚑ without student &lt;big&gt; (other seeds)" in said
    assert "700 contrasts within single settings are not shown." in said
    assert "not shown" not in words(contrasts_table(made.contrasts()[:1], BARE))
    head, line = contrasts_csv([one])
    assert (line[head.index("without")], line[head.index("part")]) == ("student <big>", 0)


def test_rates_are_chosen_on_one_half_and_reported_on_the_other():
    said = words(rates_table([made.rates()[0] | {"without": ["2", "<3>"]}], BARE))
    assert "⚑ without seeds 2, &lt;3&gt;: not of every rate" in said
    said = words(rates_table(made.rates(), BARE))
    assert "+0.120 260 prompts +0.090 [+0.050, +0.130] 260 prompts" in said
    assert "4e-3 [3e-3, 6e-3] 12.0% of resamples" in said
    assert said.count("two rates: no curve can be fitted") == 2
    (edge,) = edge_warnings(made.rates())
    assert "mini" in edge
    assert "a higher one may be better" in edge
    assert rates_table([], BARE) == ""


def test_a_rate_that_is_not_known_has_its_reason():
    bare = made.rates()[0] | {"chosen": None, "reported": None, "reason": "scores are lost"}
    assert "not known" in words(rates_table([bare], BARE))
    assert "scores are lost" in rates_table([bare], BARE)
    assert rates_csv([bare])[1][7] == 0


def test_the_file_of_rates_has_every_rate_and_marks_the_chosen_one():
    head, *lines = rates_csv(made.rates())
    read = [dict(zip(head, line, strict=True)) for line in lines]
    assert [r["lr"] for r in read if r["chosen"]] == ["reference"] * 3
    assert len(read) == 9
    assert {r["reported_delta"] for r in read if not r["chosen"]} == {""}


def test_of_two_rates_with_one_peak_one_alone_is_marked_as_chosen():
    """A shape of the schedule may be an option of its own."""
    one = made.rates()[0] | {"peaks": [5e-3] * 3, "names": ["cosine", "reference", "flat"]}
    head, *lines = rates_csv([one])
    assert [line[head.index("chosen")] for line in lines] == [0, 1, 0]
    assert [line[head.index("reported_delta")] for line in lines] == ["", 0.09, ""]


def test_rates_say_how_many_seeds_stand_behind_them_and_within_which_setting():
    told = [made.rates()[0] | {"seeds": 7, "context": "limit 50"}, made.rates()[1]]
    text = rates_table(told, BARE)
    assert '<td class="number">7</td>' in text
    assert '<td class="number">not recorded</td>' in text
    assert "limit 50" in words(text)
    assert "<th>within</th>" not in rates_table(made.rates(), BARE)
    assert "Both halves come from the same trained seeds" in words(text)
    head, *lines = rates_csv(told)
    assert [line[head.index("seeds")] for line in lines] == [7] * 3 + [""] * 3
    assert lines[0][head.index("context")] == "limit 50"


def test_rates_have_a_column_of_warnings_where_one_has_some():
    plain = made.rates()[1]
    assert "beware" not in words(rates_table([plain], BARE))
    assert words(rates_table([plain, made.rates()[2]], BARE)).count("beware") == 1


def test_a_row_of_rates_stands_for_its_own_runs_and_by_names_where_these_are_not_known(tmp_path):
    results = [
        made.result("nano", "gentle", 1, settings={"data": {"limit": limit}}) | {"run": f"r{limit}"}
        for limit in (10, 20)
    ]
    cells = cells_of(rows_of(results), ["data.limit"], tmp_path)
    one = made.rates()[0]
    told = [one | {"context": f"limit {limit}", "runs": [f"r{limit}"]} for limit in (10, 20)]
    text = rates_table([*told, one], cells)
    assert re.findall('data-cells="([0-9 ]*)"', text) == ["0", "1", "0 1"]


def test_a_curve_whose_best_may_lie_outside_is_warned_of_and_its_interval_is_cut_in_words():
    fit = made.rates()[1]["fit"] | {"high": 1e-2, "edges": ["highest"]}
    one = made.rates()[1] | {"fit": fit}
    (said,) = edge_warnings([one])
    assert said.startswith("micro, clear, lora: the top may be the highest that was tried")
    text = words(rates_table([one], BARE))
    assert "[3e-3, 1e-2 or higher]" in text
    assert "⚑ the top may be the highest" in text
    head, line, *_ = rates_csv([one])
    assert line[head.index("fit_edge")] == "highest"


def test_cells_stand_in_the_order_of_every_axis_of_the_study():
    """Also of one that is no column by itself; what is left open is said as it is typed."""
    results = [
        made.result("nano", "gentle", 1, settings={"data": {"limit": limit}}) | {"run": run}
        for run, limit in (("a", None), ("b", 1000), ("c", 250))
    ]
    rows = rows_of(results, {"data.limit": [250, 1000, None]})
    assert [row.value("data.limit") for row in rows] == [250, 1000, "null"]


def test_figures_by_rate_have_one_scale_and_the_fit_where_there_is_one(results):
    rows = rows_of(results, AXES)
    with_fit = {d.name: d for d in rate_figures(rows, made.PRIMARY, made.rates())}
    without = {d.name: d for d in rate_figures(rows, made.PRIMARY)}
    assert list(with_fit) == [f"delta_by_rate_{s}_{i}" for i, s in enumerate(made.STUDENTS)]
    micro = "delta_by_rate_micro_1"
    assert "parabola, best and neighbours" in with_fit[micro].inline
    assert "parabola, best and neighbours" not in with_fit["delta_by_rate_nano_0"].inline
    assert "parabola, best and neighbours" not in without[micro].inline
    ticks = [set(re.findall(r">(−?0\.\d+)<", d.inline)) for d in without.values()]
    assert ticks[0] == ticks[1] == ticks[2] != set()
    assert "seed 1 / 2 / 3" in rate_note(rows, made.PRIMARY)


def test_cells_that_differ_in_another_axis_are_lines_of_their_own_with_their_own_fit(tmp_path):
    results = [
        made.result("nano", lr, 1, settings={"data": {"limit": limit}}, tag=limit)
        | {"run": f"{lr}-{limit}"}
        for lr in RATES_OF_TWO for limit in (10, 20)
    ]  # fmt: skip
    found = cells_of(rows_of(results), ["data.limit", "lr"], tmp_path)
    one = made.rates()[1] | {"student": "nano"}
    chosen = one["chosen"] | {"runs": ["gentle-20"]}
    (drawn,) = rate_figures(found.rows, made.PRIMARY, [one | {"chosen": chosen}], beside_of(found))
    for limit in (10, 20):
        assert drawn.inline.count(f">clear, limit {limit}<") == 1
    assert drawn.inline.count("parabola, best and neighbours") == 1
    assert _fits(found.rows, ["data.limit"], [one | {"chosen": chosen}]) == {
        ("clear", "lora", "20"): one["fit"]
    }
    (mixed,) = rate_figures(found.rows, made.PRIMARY)
    assert "limit" not in mixed.inline


def test_no_mark_lies_outside_its_figure(results):
    far = made.result("mini", "aggressive", 1)
    far["deltas"][0] |= {"delta": 3.0, "low": 2.0, "high": 4.0}
    for drawn in rate_figures(rows_of([*results, far], AXES), made.PRIMARY, made.rates()):
        height = float(re.search(r'viewBox="0 0 \S+ (\S+)"', drawn.inline).group(1))
        places = [float(y) for y in re.findall(r'<use [^>]*\by="([-\d.]+)"', drawn.inline)]
        assert len(places) > 6
        assert all(0 < y < height for y in places)


def test_a_type_has_its_shade_by_sign_and_size_and_its_values_in_words(cells):
    run = cells.rows[0].run
    found = {"up": [0.25, 0.75, 20], "down": [0.5, 0.4, 10], "same": [0.5, 0.501, 9]}
    types = {"metric": "m", "names": [*found, "unasked"], "rows": {run: found}}
    text = heat_map(cells, types, None)
    assert 'title="0.250 → 0.750, 20 prompts" data-value="0.5000" class="g5">+50<' in text
    assert 'class="l1">-10<' in text
    assert 'data-value="0.0010">0<' in text
    assert f"{len(cells.rows) - 1} of {len(cells.rows)} cells have no values by type" in text
    assert [line[3] for line in types_csv(cells, types)[1:]] == ["up", "down", "same"]
    assert heat_map(cells, {}, None) == ""
    assert heat_drawing(cells, {}) is None
    assert heat_drawing(cells, types).png[:4] == b"\x89PNG"


def test_the_type_that_makes_most_of_a_change_is_named_in_the_answer_and_above_the_map(cells):
    """And no reader is told to look away from it."""
    two = cells.rows[0].run, cells.rows[1].run
    most, rest = [0.25, 0.75, 100], [0.5, 0.3, 10]
    rows = {two[0]: {"comma": most, "words": rest}, two[1]: {"comma": rest, "words": most}}
    rows[two[0]]["comma"] = [0.0, 0.9, 100]
    types = {"metric": "m", "names": ["words", "comma"], "rows": rows}
    line = (
        "By type of instruction, comma makes the largest part of the change: +44.0 prompts a cell "
        "on average, all other types together +24.0; it is the largest in 1 of 2 cells."
    )
    assert parts_line(cells.rows, types) == line
    said = words(heat_map(cells, types, None))
    assert line in said
    assert "2 of 2 types have fewer than 20 prompts." in said
    assert "noise" not in said
    assert line in words(answer(made.study([], types=types), cells.rows, []))
    still = {"metric": "m", "names": ["comma"], "rows": {two[0]: {"comma": [0.5, 0.5, 100]}}}
    assert parts_line(cells.rows, still) == parts_line(cells.rows, {}) == ""
    assert "fewer than" not in heat_map(cells, still, None)


@given(st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.floats(0, 1), st.floats(0, 1),
                       st.integers(1, 90)), min_size=1))  # fmt: skip
def test_the_parts_of_all_types_make_the_whole_change(found):
    row = rows_of([made.result("nano", "gentle", 1)])[0]
    line = parts_line([row], {"metric": "m", "names": list(found), "rows": {row.run: found}})
    whole = sum((after - before) * items for before, after, items in found.values())
    if line:
        told = [float(n) for n in re.findall(r"[+-]\d+\.\d", line)]
        assert sum(told) == pytest.approx(whole, abs=0.11)
    else:
        assert whole == 0


def told_of(number: int, beaten: int, turned: int) -> list[dict]:
    """Cells of which so many are flagged."""
    found = []
    for seed in range(number):
        flags = [{"kind": "controls", "text": "c"}] if seed < beaten else []
        flags += [{"kind": "prompting", "text": "p"}] if seed < turned else []
        also = {"prompting": "plain", "deltas": [made._delta(made.PRIMARY, 0.2, -0.1, 0.01, 9)]}
        found.append(made.result("nano", "gentle", seed, flags=flags, also=also))
    return found


@pytest.mark.parametrize(
    ("beaten", "turned", "beat", "other"),
    [(3, 3, "none of 3 cells", "3 of 3 cells"), (2, 0, "1 of 3 cells", "none of 3 cells"),
     (0, 1, "3 of 3 cells", "1 of 3 cells")],
)  # fmt: skip
def test_beside_the_counts_stands_what_undoes_them(beaten, turned, beat, other):
    rows = rows_of(told_of(3, beaten, turned))
    said = words(answer(made.study([]), rows, []))
    assert f"The best control that reads nothing is surely beaten by {beat}." in said
    assert f"Asked in another way (plain), the delta has the other sign in {other}." in said
    assert beside_line(rows) in said
    assert said.index("surely") < said.index("The largest gain")


def test_what_was_not_recorded_beside_is_counted_apart():
    rows = rows_of(told_of(2, 1, 1))
    old = replace(rows[0], flags=None, beside={})
    line = beside_line([*rows, old])
    assert "surely beaten by 1 of 2 cells (of 1 more this is not recorded)." in line
    assert "in 1 of 2 cells (of 1 more there is no other prompting)." in line
    assert beside_line([old]) == (
        "Controls that read nothing: not recorded. None was asked in another way."
    )


def test_a_flag_of_the_largest_gain_stands_beside_it():
    rows = rows_of(told_of(2, 2, 0))
    said = words(answer(made.study([]), rows, []))
    assert re.search(r"The largest gain is [^:]*: \S+ \[[^]]*\] \(flagged: controls\)\.", said)


def test_every_shade_and_every_colour_of_a_verdict_is_in_the_style():
    assert set(LIGHT) == set(DARK)
    assert set(re.findall(r"var\(--([\w-]+)\)", CSS)) <= set(LIGHT) | {"shade"}
    assert all(f".{sign}{step} {{" in CSS for sign in "gl" for step in range(1, 6))
    assert 'class="verdict cannot-tell"' in pill("cannot tell")


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_text_stands_out_from_its_paper(colours):
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    pairs = [(ink, paper) for ink in ("ink", "quiet", "link")
             for paper in ("paper", "ground", "caution")]  # fmt: skip
    pairs += [(f"{kind}-ink", f"{kind}-paper") for kind in ("gain", "loss", "same")]
    for ink, paper in pairs:
        high, low = sorted((luminance(colours[ink]), luminance(colours[paper])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, paper)


def test_losses_of_different_data_are_never_in_one_figure(cells):
    runs = [row.run for row in cells.rows[:3]]
    curves = {run: [[1, 3.0], [2, 2.0]] for run in runs}
    groups = [{"data": name, "tokens": "t", "runs": {run: curves[run]}}
              for name, run in zip("abc", runs, strict=True)]  # fmt: skip
    drawn = loss_drawings(cells, groups)
    assert [d.words for d in drawn] == [f"Trained on {n}: t." for n in "abc"]
    text = losses_section(groups, drawn)
    assert "not comparable" in text
    assert text.count("<figure>") == 3
    assert losses_section([], []) == ""
    assert len(losses_csv(cells, groups)) == 1 + 6


def test_curves_that_differ_in_more_than_their_seed_have_a_name_and_a_look_each(tmp_path):
    peaks = [1e-3, 2e-3, 3e-3, 4e-3, 5e-3]
    results = [
        made.result("nano", "peak", seed, peak=peak, method=method)
        for peak in peaks for method in ("lora", "full") for seed in (1, 2)
    ]  # fmt: skip
    found = cells_of(rows_of(results), ["method", "lr.peak", "seed"], tmp_path)
    runs = {row.run: [[1, 2.0], [2, 1.0]] for row in found.rows}
    (drawn,) = loss_drawings(found, [{"data": "d", "tokens": "t", "runs": runs}])
    names = {found.label(row, without=("seed",)) for row in found.rows}
    assert len(names) == 10
    assert [drawn.inline.count(f">{name}<") for name in names] == [1] * 10
    looks = {name: look for name, *look in _looks(found, found.rows)}
    assert len({tuple(map(str, look)) for look in looks.values()}) == 10
    assert len({colour for colour, _ in looks.values()}) == 2, "a colour for each method"
    assert "share a look" not in drawn.words


def test_looks_that_repeat_are_said(tmp_path):
    results = [made.result(f"s{i}", "gentle", 1) for i in range(9)]
    found = cells_of(rows_of(results), ["student"], tmp_path)
    runs = {row.run: [[1, 2.0]] for row in found.rows}
    (drawn,) = loss_drawings(found, [{"data": "d", "tokens": "t", "runs": runs}])
    assert "Some curves share a look" in drawn.words


def test_lists_tell_cells_apart_that_have_one_name_of_a_rate(tmp_path):
    flags = [{"kind": "short", "text": "s"}]
    results = [made.result("nano", "peak", 1, peak=p, flags=flags) for p in (1e-3, 2e-3)]
    found = cells_of(rows_of(results), ["lr.peak"], tmp_path)
    ids = [row.run for row in found.rows]
    asked = [{"where": {}, "metric": made.PRIMARY, "source": "s", "after": 1.0, "runs": ids}]
    over = [{"cell": "nano, peak", "seeds": [1, 2], "metric": "m", "reason": "lost", "runs": [run]}
            for run in ids]  # fmt: skip
    for text in (flags_list(found), published_table(asked, found), seeds_table(over, found)):
        said = words(text)
        assert all(f"nano, peak {peak}" in said for peak in (0.001, 0.002))
    two = [made.result("nano", "gentle", seed) for seed in (1, 2)]
    found = cells_of(rows_of(two), ["student"], tmp_path)
    text = seeds_table([over[0] | {"runs": [one["run"] for one in two]}], found)
    assert "<td>nano</td>" in text, "without the seed, for the line is about both"


@given(st.lists(st.floats(0, 10), min_size=1, max_size=300), st.integers(1, 80))
def test_a_thinned_curve_keeps_its_mean_and_is_short(values, most):
    found = thinned([(i, value) for i, value in enumerate(values)], most)
    size = -(-len(values) // most)
    weights = [min(size, len(values) - i * size) for i in range(len(found))]
    assert len(found) <= most
    total = sum(w * y for w, (_, y) in zip(weights, found, strict=True))
    assert total == pytest.approx(sum(values))


def test_that_steps_were_averaged_is_said(cells):
    run = cells.rows[0].run
    groups = [{"data": "a", "tokens": "t", "runs": {run: [[i, 1.0] for i in range(121)]}}]
    assert "the mean of neighbouring" in losses_section(groups, loss_drawings(cells, groups))
    groups[0]["runs"][run] = groups[0]["runs"][run][:60]
    assert "the mean of neighbouring" not in losses_section(groups, loss_drawings(cells, groups))


def test_the_form_of_the_answers_is_shown_before_and_after(cells):
    said = words(form_table(cells))
    assert re.search(r"\d+\.\d% → \d+\.\d%", said)
    assert "not judged" in said
    assert "loop" in said
    assert form_table(cells_of([], [], None)) == ""


def test_cost_is_summed_and_what_is_not_known_is_said(cells, results):
    text = words(cost_table(cells, results))
    assert "In all: 22 min 14 s for 21 of 21 cells" in text
    assert "on 2,592,618 supervised tokens" in text
    broken = results[0] | {"cost": results[0]["cost"] | {"seconds": None}}
    text = words(cost_table(cells, [broken, *results[1:]]))
    assert "1 cells were not made in one go" in text
    assert text.count("not in one go") == 1
    assert cost_table(cells, [{"run": "x"}]) == ""


@given(st.floats(0, 1e6))
def test_a_duration_is_within_its_last_place(seconds):
    units = {"s": 1, "min": 60, "h": 3600}
    parts = duration(seconds).split()
    told = sum(float(n) * units[u] for n, u in zip(parts[::2], parts[1::2], strict=True))
    assert abs(told - seconds) <= (0.06 if seconds < 60 else 1 if seconds < 3590 else 60)


def test_commands_and_versions_stand_whole(cells):
    run = cells.rows[0].run
    told = {"versions": {"torch": "2.13"}, "devices": ["CPU"]}
    text = commands_section(cells, {run: "python train.py 'a b'"}, told)
    assert "<pre><code>python train.py &#x27;a b&#x27;</code></pre>" in text
    assert "CPU" in text
    assert "2.13" in text
    assert commands_section(cells, {}, {}) == ""


def test_cells_are_marked_with_the_axes_in_which_none_is_their_equal(results, cells):
    alone = alone_in(cells)
    aggressive = [row.run for row in cells.rows if row.lr == "aggressive"]
    assert all(alone[run] == (["lr", "seed"], ["student"]) for run in aggressive)
    others = [found for run, found in alone.items() if run not in aggressive]
    assert others == [(["student", "lr", "seed"], [])] * 18


def test_a_setting_beside_the_axes_makes_cells_unequal(results, tmp_path):
    two = [made.result(student, "gentle", 1) for student in ("nano", "micro")]
    two[1]["settings"]["data"] = {"limit": 5}
    two += [made.result("nano", "reference", 1)]
    alone = alone_in(cells_of(rows_of(two), ["student", "lr"], tmp_path))
    assert alone[two[0]["run"]] == (["lr"], ["student"])


def test_another_state_of_the_code_makes_cells_unequal(tmp_path):
    two = [made.result(student, "gentle", 1) for student in ("nano", "micro")]
    two.append(made.result("nano", "reference", 1))
    two[1]["code"] = "another"
    found = cells_of(rows_of(two), ["student", "lr"], tmp_path)
    assert alone_in(found)[two[1]["run"]] == ([], ["student", "lr"])
    assert found.facts["heed's code"] == ["another", "c0de", "c0de"]


def test_a_full_grid_has_no_marks(tmp_path):
    full = [made.result(s, lr, 1) for s in ("nano", "micro") for lr in ("gentle", "reference")]
    assert alone_in(cells_of(rows_of(full), ["student", "lr"], tmp_path)) == {}


def test_two_rates_of_one_name_are_two_cells_in_the_table(tmp_path):
    two = [made.result("nano", "swept", 1, peak=peak) for peak in (1e-3, 2e-3)]
    found = cells_of(rows_of(two), ["student"], tmp_path)
    assert found.names == ["student", "lr"]
    assert [found.label(row) for row in found.rows] == ["nano, swept (1e-3)", "nano, swept (2e-3)"]


def test_a_forest_has_a_line_and_a_link_for_each_cell(cells, results):
    drawn = forest(cells)
    assert [drawn.inline.count(f'href="../../{one["directory"]}/"') for one in results] == [1] * 21
    assert drawn.svg.count("../../../runs/") == 21


def test_cells_of_another_primary_metric_are_left_out_of_the_forest_and_counted(tmp_path):
    two = [made.result(student, "gentle", 1) for student in ("nano", "micro")]
    two[0]["primary"] = made.FACTS
    drawn = forest(cells_of(rows_of(two), ["student"], tmp_path))
    assert "of 1 cells" in drawn.words
    assert "1 cells with another primary metric are left out." in drawn.words


def test_a_drawing_on_a_page_keeps_its_words_and_numbers_and_loses_what_would_leak():
    """Places may be rounded; texts and links may not."""
    with drawing_style():
        figure = Figure(figsize=(3, 2))
        axes = figure.subplots()
        axes.plot([1, 2], [0.123456, 2], color=LIGHT["gain"])
        axes.text(1, 1, "0.123456 of $x$ #0072b2").set_url("../../runs/0.123456/")
        drawn = rendered(figure, "name", "words")
    assert ">0.123456 of $x$ #0072b2<" in drawn.inline
    assert 'href="../../runs/0.123456/"' in drawn.inline
    assert 'xlink:href="../../../runs/0.123456/"' in drawn.svg
    assert "var(--gain)" in drawn.inline
    assert "#0072b2" in drawn.svg
    assert not re.search(r"<style|clip-path|<metadata|xmlns|<g id=|font-family", drawn.inline)
    assert "var(" not in drawn.svg


def test_a_share_is_not_said_to_be_one_of_items():
    """Of instructions, or of items: the metric's name says which."""
    assert unit("ifeval/inst_level_strict_acc") == unit("ifeval/prompt_level_strict_acc") == "share"


def test_numbers_are_sorted_by_value_and_shown_as_they_are():
    assert value("1 h", 3600.0) == '<td class="number" data-value="3600">1 h</td>'
    assert "data-value" not in value("x")


def test_the_files_hold_what_the_page_shows(path):
    sizes = {}
    for name in ("table", "contrasts", "rates", "types", "losses"):
        with (path.parent / f"{name}.csv").open(newline="") as file:
            sizes[name] = len(list(csv.DictReader(file)))
    assert sizes == {"table": 21, "contrasts": 3, "rates": 9, "types": 21 * 25,
                     "losses": 21 * 40 + 4}  # fmt: skip


def test_a_later_report_removes_what_it_does_not_make(tmp_path):
    """And nothing that is not its own."""
    folder = tmp_path / "studies/x"
    results = made.rerun(seeds=1)
    write_report(folder, made.study(results), results)
    mine = [folder / "plan.csv", folder / "figures/notes.txt", folder / "own.png"]
    for file in mine:
        file.write_text("kept")
    write_report(folder, BARE_STUDY, results[:1])
    again = tmp_path / "anew"
    write_report(again, BARE_STUDY, results[:1])
    left = {str(file.relative_to(folder)) for file in folder.rglob("*.*")}
    anew = {str(file.relative_to(again)) for file in again.rglob("*.*")}
    assert left == anew | {str(file.relative_to(folder)) for file in mine}


def test_what_is_about_several_cells_unfolds_to_their_runs(tmp_path: Path):
    cells = cells_of(rows_of(made.rerun(), AXES), list(AXES), tmp_path)
    ids = [row.run for row in cells.rows[:3]]
    contrast = {**made.contrasts()[0], "runs": ids}
    rate = next(one for one in made.rates() if one.get("chosen"))
    rate = {**rate, "chosen": {**rate["chosen"], "runs": ids}}
    seeds = {"cell": "a", "seeds": [1, 2, 3], "metric": "m", "reason": "lost", "runs": ids}
    for text in (
        contrasts_table([contrast], cells), rates_table([rate], cells), seeds_table([seeds], cells)
    ):  # fmt: skip
        for row in cells.rows:
            assert (f'href="../../{row.directory}/"' in text) == (row.run in ids)
