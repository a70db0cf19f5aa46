"""Two scored things, side by side: what may be compared, what is written, what is refused."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from tiny import ROOT, Finished, evaluation

from heed.core.compose import compose_component
from heed.core.errors import ConfigError, DataError, RunError
from heed.core.files import read_json, read_jsonl, write_json
from heed.study.compare import UNKNOWN, compare, unlike_settings
from heed.study.evaluation import Evaluation, run_evaluation

KINDS = ["punctuation:no_comma", "startend:quotation", "change_case:english_lowercase"]
ROWS = [
    {"key": i, "prompt": f"Say {i}.", "instruction_id_list": KINDS[: 1 + i % 3], "kwargs": k}
    for i in range(30)
    for k in [[{}] * (1 + i % 3)]
]

GOOD = '"this is a plain sentence that says very little about anything at all"'
POOR = "No, <b>Yes</b>"


def lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def said(path: Path, text_of) -> Path:
    return lines(path, [{"key": row["key"], "response": text_of(row["key"])} for row in ROWS])


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Responses that follow everything, but for items 20 to 24, which follow nothing."""
    return said(tmp_path / "good.jsonl", lambda i: POOR if 20 <= i < 25 else GOOD)


@pytest.fixture
def poor(tmp_path: Path) -> Path:
    """Responses that follow nothing, but for item 23."""
    return said(tmp_path / "poor.jsonl", lambda i: GOOD if i == 23 else POOR)


@pytest.fixture
def asked(tmp_path: Path) -> list[str]:
    file = lines(tmp_path / "asked.jsonl", ROWS)
    return ["suite=ifeval", f"prompts={file}", "suite.resamples=200", f"outputs={tmp_path}/out"]


def command(*words: str) -> Evaluation:
    return compose_component(ROOT / "conf", "evaluate", words)


def compared(one: Path | str, two: Path | str, *words: str) -> Path:
    """The directory of the comparison that a command makes."""
    line = command(f"compare=['{one}','{two}']", *words)
    before = set((line.root / "comparisons").glob("*"))
    run_evaluation(line)
    (made,) = set((line.root / "comparisons").glob("*")) - before
    return made


def test_a_comparison_is_written_whole_and_printed(poor, good, asked, capsys):
    made = compared(poor, good, *asked)
    out = capsys.readouterr().out
    names = {"report.html", "table.csv", "flips.jsonl", "summary.json"}
    assert {path.name for path in made.iterdir()} == names
    assert made.name.startswith("poor.jsonl--good.jsonl--")
    assert str(made / "report.html") in out
    assert "B is better" in out
    assert "<b>" not in (made / "report.html").read_text()


def test_the_numbers_are_those_of_the_two_scorings(poor, good, asked):
    made = compared(poor, good, *asked)
    summary = read_json(made / "summary.json")
    prompt = summary["flips"]["ifeval/prompt_level_strict_acc"]
    assert prompt == {"both": 0, "lost": 1, "gained": 25, "neither": 4}
    assert summary["deltas"][0]["metric"] == "ifeval/inst_level_strict_acc"
    (row,) = [
        row
        for row in csv.DictReader((made / "table.csv").read_text().splitlines())
        if row["metric"] == "ifeval/prompt_level_strict_acc"
    ]
    assert float(row["delta"]) == pytest.approx(24 / 30)
    assert (row["gained"], row["lost"]) == ("25", "1")
    scores = {Path(summary[side]["directory"]).name.partition("--")[0] for side in ("a", "b")}
    assert scores == {"poor.jsonl", "good.jsonl"}


def test_the_other_way_round_every_sign_turns(poor, good, asked):
    one = read_json(compared(poor, good, *asked) / "summary.json")
    two = read_json(compared(good, poor, *asked) / "summary.json")
    for there, back in zip(one["deltas"], two["deltas"], strict=True):
        assert (there["metric"], there["delta"]) == (back["metric"], pytest.approx(-back["delta"]))
    flips = [s["flips"]["ifeval/prompt_level_strict_acc"] for s in (one, two)]
    assert (flips[0]["lost"], flips[0]["gained"]) == (flips[1]["gained"], flips[1]["lost"])


def test_the_items_that_change_most_come_first_and_every_change_is_kept(poor, good, asked):
    made = compared(poor, good, *asked)
    summary = read_json(made / "summary.json")
    three = [str(i) for i in range(30) if i % 3 == 2 and not 20 <= i < 25]
    two = [str(i) for i in range(30) if i % 3 == 1 and not 20 <= i < 25]
    # item 23 asks for three things too, and loses them
    assert summary["changes"][:9] == sorted([*three, "23"], key=int)
    assert summary["changes"][9:18] == two
    assert len(summary["changes"]) == 20
    assert summary["changed"] == 26 == len(read_jsonl(made / "flips.jsonl"))
    by_key = {row["key"]: row["change"] for row in read_jsonl(made / "flips.jsonl")}
    assert (by_key["23"], by_key["29"], by_key["0"]) == (-3, 3, 1)


def test_types_are_those_of_the_instructions_with_p_values_for_their_number(poor, good, asked):
    types = read_json(compared(poor, good, *asked) / "summary.json")["types"]
    assert [row["name"] for row in types] == sorted(KINDS)
    assert all(row["adjusted"] >= row["p"] for row in types)


def test_directories_of_scores_compare_like_what_was_scored(poor, good, asked, tmp_path):
    first = read_json(compared(poor, good, *asked) / "summary.json")
    sides = [first[side]["directory"] for side in ("a", "b")]
    shutil.rmtree(tmp_path / "out/comparisons")
    poor.unlink()
    again = read_json(compared(*sides, *asked) / "summary.json")
    assert [d["delta"] for d in again["deltas"]] == [d["delta"] for d in first["deltas"]]
    assert again["a"]["title"] == first["a"]["title"] == "responses poor.jsonl"


def test_a_control_is_a_side_too(good, asked):
    summary = read_json(compared("prose20", good, *asked) / "summary.json")
    assert "prose20" in summary["a"]["title"]


def test_the_same_comparison_twice_is_one_directory(poor, good, asked, tmp_path):
    compared(poor, good, *asked)
    run_evaluation(command(f"compare=['{poor}','{good}']", *asked))
    (made,) = (tmp_path / "out/comparisons").iterdir()
    assert (made / "summary.json").is_file()


def test_scores_of_another_suite_are_refused_with_the_first_difference(poor, good, asked, tmp_path):
    summary = read_json(compared(poor, good, *asked) / "summary.json")
    other = lines(tmp_path / "other.jsonl", ROWS[:-1])
    words = [f"prompts={other}" if word.startswith("prompts") else word for word in asked]
    with pytest.raises(RunError, match=r"scored by suite 'ifeval'.*tasks\.ifeval\.content was"):
        compared(summary["a"]["directory"], good, *words)


LOOP = '"no no no" ' * 40
"""Follows every instruction of `ROWS`, and says nothing."""


def test_a_side_whose_answers_loop_is_flagged_on_the_page_and_in_the_terminal(
    poor, asked, tmp_path, capsys
):
    better = said(tmp_path / "loops.jsonl", lambda i: LOOP)
    made = compared(poor, better, *asked)
    summary, out = read_json(made / "summary.json"), " ".join(capsys.readouterr().out.split())
    assert "B is better" in out
    assert [flag["kind"] for flag in summary["b"]["flags"]] == ["degenerate"]
    assert [flag["kind"] for flag in summary["a"]["flags"]] == ["controls"]
    assert summary["form"]["tasks"]["ifeval"]["B"]["counts"]["loop"] == 30
    for text in (out, (made / "report.html").read_text()):
        assert "⚑" in text
        assert "B: This model is degenerate on ifeval: 30 of 30 answers" in text
        assert "A: This model does not surely beat the control" in text


def test_recorded_scores_without_a_record_of_controls_and_form_are_flagged_too(
    poor, asked, tmp_path
):
    loops = said(tmp_path / "loops.jsonl", lambda i: LOOP)
    first = read_json(compared(poor, loops, *asked) / "summary.json")
    kept = Path(first["b"]["directory"])
    for name in ("form.json", "controls.json"):
        (kept / name).unlink()
    shutil.rmtree(tmp_path / "out/comparisons")
    again = read_json(compared(poor, kept, *asked) / "summary.json")
    texts = [flag["text"] for flag in again["b"]["flags"]]
    assert "not recorded" in texts[0]
    assert "degenerate on ifeval: 30 of 30" in texts[1]
    assert not (kept / "form.json").exists()  # nothing is written into what is only read


@pytest.mark.parametrize(("name", "text"), [("form.json", "{"), ("controls.json", "[1]")])
def test_a_damaged_record_of_controls_or_form_is_named(name, text, poor, good, asked):
    kept = Path(read_json(compared(poor, good, *asked) / "summary.json")["a"]["directory"])
    (kept / name).write_text(text)
    with pytest.raises(RunError, match=name):
        compared(kept, good, *asked)


def test_a_side_that_is_not_there_is_named(good, asked):
    with pytest.raises(RunError, match="There is no run 'nowhere'"):
        compared("nowhere", good, *asked)
    with pytest.raises(DataError, match=r"no file of responses .*nowhere\.jsonl"):
        compared("nowhere.jsonl", good, *asked)


def test_the_same_scores_under_two_names_are_refused(good, asked, tmp_path):
    (tmp_path / "folder").mkdir()
    again = tmp_path / "folder" / "good.jsonl"
    shutil.copy(good, again)
    with pytest.raises(RunError, match="both the scores in"):
        compared(good, again, *asked)


@pytest.mark.parametrize("words", [("a",), ("a", "b", "c")])
def test_a_comparison_has_two_sides(words, asked):
    with pytest.raises(ConfigError, match="two sides"):
        compare(words, command("control=sure", *asked))


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("manifest.json", lambda found: {}),
        ("manifest.json", lambda found: {**found, "subject": {}}),
        ("events.json", lambda found: []),
        ("fingerprint.json", None),
    ],
)
def test_damaged_scores_are_named(name, harm, poor, good, asked):
    kept = Path(read_json(compared(poor, good, *asked) / "summary.json")["a"]["directory"])
    if harm is None:
        (kept / name).unlink()
    else:
        write_json(kept / name, harm(read_json(kept / name)))
    with pytest.raises(RunError, match="does not hold whole scores"):
        compared(kept, good, *asked)


def test_lost_metrics_are_named(poor, good, asked):
    kept = Path(read_json(compared(poor, good, *asked) / "summary.json")["a"]["directory"])
    rows = read_jsonl(kept / "items.jsonl")
    lines(kept / "items.jsonl", [*rows[:-1], {**rows[-1], "metrics": {}}])
    with pytest.raises(RunError, match="items of ifeval are lost"):
        compared(kept, good, *asked)


def test_nothing_is_written_if_the_page_cannot_be(poor, good, asked, tmp_path, monkeypatch):
    monkeypatch.setattr("heed.study.compare.metrics_csv", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        compared(poor, good, *asked)
    assert not list((tmp_path / "out/comparisons").iterdir())


MODEL = {"tasks": {"t": "x"}, "template": "m", "versions": {"torch": "1"}}
ELSEWHERE = {"tasks": {"t": "x"}, "versions": {"torch": "1"}, "answers": "responses 1"}


def test_two_models_must_be_alike_in_everything():
    assert unlike_settings(MODEL, dict(MODEL)) == {}
    with pytest.raises(RunError, match="template is 'm' before and 'n' after"):
        unlike_settings(MODEL, MODEL | {"template": "n"})
    with pytest.raises(RunError, match="template"):
        unlike_settings(MODEL, {key: MODEL[key] for key in ("tasks", "versions")})


def test_of_answers_made_elsewhere_the_rules_must_be_equal_and_the_rest_is_told():
    assert unlike_settings(ELSEWHERE, ELSEWHERE | {"answers": "control sure"}) == {}
    assert unlike_settings(ELSEWHERE, MODEL) == {"template": (UNKNOWN, "m")}
    assert unlike_settings(MODEL, ELSEWHERE) == {"template": ("m", UNKNOWN)}
    with pytest.raises(RunError, match=r"tasks\.t is 'x' before and 'y' after"):
        unlike_settings(MODEL, ELSEWHERE | {"tasks": {"t": "y"}})


def test_a_run_is_found_by_its_id_and_compared_with_its_base(finished: Finished, tmp_path, capsys):
    made = finished.copy(tmp_path)
    (base,) = (tmp_path / "baselines").glob("*--play--*/")
    line = evaluation(tmp_path, f"compare=['{base}','{made.run.id[:8]}']", "suite=play")
    run_evaluation(line)
    (kept,) = (tmp_path / "comparisons").iterdir()
    summary = read_json(kept / "summary.json")
    assert summary["unlike"] == {}
    recorded = {d["metric"]: d["delta"] for d in finished.result["deltas"]}
    assert {d["metric"]: d["delta"] for d in summary["deltas"]} == recorded
    assert "B minus A" in capsys.readouterr().out
