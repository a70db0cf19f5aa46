"""Controls, form, flags and how sure a verdict is: whole on pages and consoles, old results too."""

import csv
import io
import re
import zlib

import pytest
from rich.console import Console

from heed.analysis.beside import (
    also_line,
    control_lines,
    form_lines,
    sound_line,
    stratum_columns,
    stratum_values,
)
from heed.analysis.deltas import adjusted_of, delta_of, holm_line, row_of, rows_of, to_csv
from heed.analysis.panel import show_deltas
from heed.analysis.report import write_report
from heed.analysis.script import script
from heed.analysis.sections import controls_section, flags_box, form_section
from heed.analysis.verdict_page import verdict_page

METRIC = "follow/acc"
KINDS = ("empty", "loop", "echo", "no_stop", "cut", "other_language", "degenerate")
HOSTILE = '<script>alert("x")</script>'


def delta(value=0.1, metric=METRIC, **more) -> dict:
    ends = {"low": value - 0.02, "high": value + 0.02, "items": 400, "verdict": "helped"}
    sure = {"mde": 0.031, "p": 0.0123, "flips": [61, 21], "mcnemar": 0.00042}
    before = {"metric": metric, "before": 0.25, "after": 0.25 + value, "delta": value}
    return {**before, **ends, "lower_is_better": False, **sure, **more}


def controls(*who: str, best="sure") -> dict:
    rows = [
        {
            "control": name, "what": f"{name} {HOSTILE}", "input_blind": name != "echo",
            "value": value, "form": {},
            "deltas": {one: delta(0.5 - value + place / 10) for place, one in enumerate(who)},
        }
        for name, value in (("echo", 0.36), ("sure", 0.228), ("empty", 0.0))
    ]  # fmt: skip
    beaten = dict.fromkeys(who, True)
    return {"metric": METRIC, "best": best, "beaten": beaten, "note": "of 2", "rows": rows}


def every(*who: str) -> dict:
    """The same record with every metric, and what is reached on two types."""
    found = controls(*who)
    values = {"echo": 0.361, "sure": 0.231, "empty": 0.012}
    names = (METRIC, "follow/a_long_name_of_a_metric_acc")
    metrics = [
        {"metric": name, "best": "sure", "values": values,
         "deltas": {one: delta(0.3 + place / 10, name) for place, one in enumerate(who)}}
        for name in names
    ]  # fmt: skip
    parts = {"sure": {"acc": 0.777}, "echo": {"acc": 0.888}}
    strata = {"follow": [{"group": "size", "name": "size:small", "values": parts}]}
    return found | {"metrics": metrics, "strata": strata}


def summary(**counts: int) -> dict:
    told = {kind: counts.get(kind, 0) for kind in KINDS}
    judged = {kind: 400 for kind in KINDS} | {"other_language": 0, "no_stop": 300}
    return {"items": 400, "median_words": 12.5, "counts": told, "judged": judged}


def form(**models: dict) -> dict:
    meanings = dict.fromkeys(KINDS, HOSTILE)
    sound = {"items": 300, "of": 400, "delta": delta(0.07)}
    return {"meanings": meanings, "limit": 0.2, "tasks": {"follow": models}, "sound": sound}


def result(seed=1, p=0.0123, **more) -> dict:
    run = f"{zlib.crc32(f'{seed} {more}'.encode()):012x}"
    cell = {"student": "nano", "teacher": "clear", "method": "lora", "lr": "hot", "seed": seed}
    named = {"run": run, "name": "n", "lr_peak": 0.01, "primary": METRIC, "directory": "runs/x"}
    made = {"suite": "abc", "suite_name": "play", "level": 0.95, "margin": 0.03, "code": "c0de"}
    beside = {
        "flags": [{"kind": "controls", "text": f"The tuned student {HOSTILE}"}],
        "controls": controls("before", "after"),
        "form": form(before=summary(loop=8, degenerate=8), after=summary(degenerate=100)),
        "also": {"prompting": "plain", "deltas": [delta(-0.04)], "differs": True},
    }
    deltas = [delta(p=p)]
    return {**cell, **named, **made, **beside, "settings": {"seed": seed}, "deltas": deltas, **more}


def old(seed=1) -> dict:
    made = result(seed)
    for key in ("flags", "controls", "form", "also"):
        del made[key]
    for key in ("mde", "p", "flips", "mcnemar"):
        del made["deltas"][0][key]
    return made


def study(**more) -> dict:
    axes = {"model": ["nano"], "lr": ["hot"]}
    return {"name": "toy", "question": "Does it?", "axes": axes, "cells": 3, **more}


def printed(of: dict, width: int = 110) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        show_deltas(console, {"notes": [], **of})
    return capture.get()


def page(tmp_path, *results: dict, **more) -> str:
    """The page without its own script and what that knows of the cells."""
    text = write_report(tmp_path / "s/x", study(**more), results).read_text()
    whole = len(text)
    text = re.sub(r'<script id="told" .*?</script>', "", text.replace(script(), ""))
    assert len(text) < whole - len(script())
    return text


def words(markup: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", markup).split())


def test_the_echo_stands_below_the_input_blind_controls_and_the_best_has_a_star():
    lines = control_lines(controls("this"))
    assert [entries[0] for _, entries in lines] == ["sure *", "empty", "echo"]
    assert [kind for kind, _ in lines] == ["reads nothing", "reads nothing", "repeats the prompt"]
    assert lines[0][1][1:] == ["0.228", "+0.272 (+0.252 to +0.292)"]


def test_each_model_has_its_own_difference_to_a_control():
    said = words(controls_section(controls("before", "after")))
    assert "before - control after - control" in said
    assert "+0.272 (+0.252 to +0.292) +0.372 (+0.352 to +0.392)" in said


def test_shares_are_of_what_was_judged():
    lines = {line[0]: line[1] for line in form_lines({"this": summary(no_stop=30, loop=4)})}
    assert lines["median words"] == "12.5"
    assert lines["loop"] == "4 (1.0%)"
    assert lines["no stop token"] == "30 of 300 (10.0%)"
    assert lines["other language"] == "not judged"


def test_everything_beside_a_verdict_is_printed_whole():
    text = printed(result())
    assert "⚑ The tuned student" in text
    assert re.search(rf"{METRIC} .*0\.012 .*0\.031 .*61 / 21 .*0\.00042", text)
    assert re.search(r"sure \* .*0\.228 .*\+0\.272 .*\+0\.372", text)
    assert re.search(r"degenerate .*8 \(2\.0%\) .*100 \(25\.0%\)", text)
    assert "300 of 400 items have no degenerate answer" in text
    assert "prompting=plain: delta of follow/acc -0.040" in text
    assert "another sign than" in text


def test_the_tables_beside_a_verdict_fit_80_columns():
    lines = printed(result(), width=80).splitlines()
    start = next(i for i, line in enumerate(lines) if "how sure" in line)
    assert not [line for line in lines[start:] if "…" in line]


def test_every_metric_has_the_best_control_of_its_own_and_the_echo():
    said = words(controls_section(every("before", "after")))
    assert "metric best echo before - best after - best" in said
    line = "sure 0.231 0.361 +0.300 (+0.280 to +0.320) +0.400 (+0.380 to +0.420)"
    assert f"{METRIC} {line}" in said
    assert f"follow/a_long_name_of_a_metric_acc {line}" in said
    assert "Every metric" not in words(controls_section(controls("this")))


def test_in_the_terminal_every_metric_fits_80_columns_with_the_last_models_difference():
    lines = printed(result(controls=every("before", "after")), width=80).splitlines()
    start = next(i for i, line in enumerate(lines) if "every metric, beside" in line)
    table = "\n".join(lines[start : start + 8])
    assert "…" not in table
    assert "after - best" in table
    assert "before - best" not in table
    assert "+0.400 (+0.380 to +0.420)" in table
    assert "0.231" in table
    assert "0.361" in table


def test_types_stand_beside_the_controls_where_these_are_recorded():
    assert stratum_columns(every("this"), "follow", "acc") == ["sure", "echo"]
    here = ("size", "size:small")
    assert stratum_values(every("this"), "follow", here, "acc") == ["0.777", "0.888"]
    other = stratum_values(every("this"), "follow", ("size", "size:new"), "acc")
    assert other == ["not recorded", "not recorded"]
    for lacking in (None, controls("this")):
        assert stratum_columns(lacking, "follow", "acc") == []
        assert stratum_values(lacking, "follow", here, "acc") == []
    assert stratum_columns(every("this"), "follow", "other") == []


def test_a_studys_tables_of_metrics_have_their_controls(tmp_path):
    cells = [result(1, controls=every("before", "after")), result(2)]
    said = words(page(tmp_path, *cells))
    assert "best control that reads nothing echo" in said
    assert f"{METRIC} 0.250 sure 0.231 0.361" in said
    assert said.count("sure: +0.400 (+0.380 to +0.420)") == 1


def test_another_prompting_stands_beside_its_controls_on_a_studys_page(tmp_path):
    also = result()["also"]
    assert "controls not recorded" in words(page(tmp_path, result(also=also)))
    also = also | {"controls": controls("before", "after")}
    assert "; after - sure +0.372" in words(page(tmp_path, result(also=also)))


def test_a_result_without_flags_says_so():
    assert "No flags." in printed(result(flags=[]))


def test_an_older_result_is_shown_and_says_what_it_lacks(tmp_path):
    text = printed(old())
    assert "Flags: not recorded." in text
    assert "Another prompting: not recorded." in text
    made = page(tmp_path, old(1), result(2))
    line = re.search(r'<table id="beside">.*?</table>', made, re.S).group()
    assert line.count("not recorded") >= 6
    assert adjusted_of(rows_of([old(1), result(2)])) == [None, None]


def test_a_second_prompting_that_was_not_asked_for_is_left_to_the_notes():
    assert also_line(result(also=None)) == ""
    assert "the same sign as" in also_line(
        result(also={"prompting": "plain", "deltas": [delta(0.2)], "differs": False})
    )


def test_a_second_prompting_of_another_metric_is_not_called_the_same(tmp_path):
    """Where the deciding metric is not answered in text, no sign is compared with its delta."""
    other = {"prompting": "plain", "deltas": [delta(0.2, metric="said/acc")], "differs": False}
    line = also_line(result(also=other))
    assert "same sign" not in line
    assert f"no prompting changes {METRIC}" in line
    assert "plain, said/acc: +0.2" in page(tmp_path, result(also=other))


def test_too_few_sound_answers_have_no_delta():
    assert "too few" in sound_line({"sound": {"items": 1, "of": 400, "delta": None}})
    assert sound_line({"sound": None}) == sound_line({}) == ""


def test_a_recorded_delta_is_read_back_whatever_its_age():
    new, before = delta_of(delta()), delta_of(old()["deltas"][0])
    assert (new.p, new.mde, new.flips, new.mcnemar) == (0.0123, 0.031, (61, 21), 0.00042)
    assert (before.p, before.mde, before.flips, before.mcnemar) == (None,) * 4
    assert new.delta == before.delta
    assert row_of(old()).flags is None


def test_p_values_are_adjusted_for_the_number_of_cells(tmp_path):
    cells = [result(seed, p) for seed, p in ((1, 0.01), (2, 0.04), (3, 0.03))]
    assert adjusted_of(rows_of(cells)) == pytest.approx([0.03, 0.06, 0.06])
    read = list(csv.DictReader(io.StringIO(to_csv(rows_of(cells)))))
    assert [float(line["p_holm"]) for line in read] == pytest.approx([0.03, 0.06, 0.06])
    assert [line["flags"] for line in read] == ["controls"] * 3
    assert [line[f"{METRIC}.mde"] for line in read] == ["0.031"] * 3
    said = words(page(tmp_path, *cells))
    assert "0.012" not in said
    assert "corrected for the 3 cells" in said


def test_every_flag_stands_on_the_page_with_its_cell(tmp_path):
    made = page(tmp_path, result(1), result(2), result(3, flags=[]))
    assert "2 of 3 cells carry a flag: controls 2." in words(made)
    assert made.count("The tuned student &lt;script&gt;") == 2
    assert words(made).count("⚑ controls") == 2
    assert "carry a flag" not in page(tmp_path, result(flags=[]))


def test_the_untuned_students_stand_beside_the_controls_on_a_studys_page(tmp_path):
    said = words(page(tmp_path, result(1), result(2)))
    assert "nano untuned - control" in said
    assert said.count("+0.272 (+0.252 to +0.292)") == 1
    assert "nano untuned" not in words(page(tmp_path, old()))


def test_the_answer_says_how_many_verdicts_outlive_their_number(tmp_path):
    three = [result(seed, p) for seed, p in ((1, 0.01), (2, 0.04), (3, 0.03))]
    line = "Corrected for 3 cells (Holm), 1 of 3 helped or hurt stay so."
    assert holm_line(rows_of(three)) == line
    assert line in words(page(tmp_path, *three))
    assert holm_line(rows_of(three[:1])) == ""
    tries = [one | {"deltas": [one["deltas"][0] | {"verdict": "cannot tell"}]} for one in three]
    assert "0 of 0 helped or hurt" in holm_line(rows_of(tries))
    assert holm_line(rows_of([old(), *three])).startswith("Not corrected for 4 cells")


def test_seeds_of_the_study_are_no_confound_but_one_left_out_is(tmp_path):
    both = [result(seed) for seed in (1, 2)]
    assert "Confounded" not in page(tmp_path, *both, seeds=[1, 2])
    assert "Confounded" in page(tmp_path, *both, seeds=[1])


def test_cells_that_differ_in_their_seed_have_a_line_together(tmp_path):
    one = {"cell": HOSTILE, "seeds": [1, 2], "metric": METRIC, "delta": 0.1, "low": -0.4,
           "high": 0.6, "verdict": "cannot tell"}  # fmt: skip
    said = page(tmp_path, result(), over_seeds=[one])
    assert "+0.100 (-0.400 to +0.600)" in said
    assert "Over seeds" in said
    assert "Over seeds" not in page(tmp_path, result())
    lost = {"cell": "c", "seeds": [1, 2], "metric": METRIC, "reason": f"{HOSTILE} is lost."}
    said = page(tmp_path, result(), over_seeds=[one, lost])
    assert "is lost." in said
    assert "not known" in said
    assert "<script" not in said


def test_a_run_leaves_a_page_with_its_verdict_and_all_that_stands_beside_it():
    one = result(controls=every("before", "after"), before="baselines/b", notes=["a <note>"])
    made = verdict_page(one)
    said = words(made)
    assert "nano taught by clear, lora, hot (1e-2), seed 1: ▲ helped on follow/acc" in said
    assert "from 0.2500 to 0.3500, +0.100 [+0.080, +0.120] (95% paired interval" in said
    assert "⚑ Flags The tuned student" in said
    assert "another sign than the declared one" in said
    assert "before - control after - control" in said
    assert "300 of 400 items have no degenerate answer" in said
    assert "100 (25.0%)" in said
    assert "seed 1" in said
    assert "a &lt;note&gt;" in made
    assert "<script" not in made
    assert 'href="../../../../baselines/b/report.html"' in made
    assert 'href="report.html"' in made


def test_the_page_of_an_older_result_says_what_it_lacks():
    made = words(verdict_page(old()))
    assert "Flags: not recorded." in made
    assert "Another prompting: not recorded." in made
    assert "No flags." in words(verdict_page(result(flags=[])))


def test_no_name_or_text_becomes_markup(tmp_path):
    parts = controls_section(controls("this")) + form_section(form(this=summary()))
    assert "<script" not in parts + flags_box([HOSTILE]) + page(tmp_path, result())


def test_what_is_not_recorded_or_not_in_text_is_said():
    assert "Not recorded" in controls_section(None)
    assert "Not recorded." in form_section(None)
    assert "answered in text" in form_section({**form(), "tasks": {}})
    assert flags_box([]) == ""
