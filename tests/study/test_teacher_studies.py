"""The studies of teachers say what the source says, and ask for what it asked."""

import csv
from pathlib import Path

import pytest
import yaml
from made_up import CONF

from heed.core.compose import compose_component, option_names, read_option
from heed.study.study import Study

SOURCE = {  # the source's words -> options of conf/model
    "Gemma 2-2B": "gemma-2-2b",
    "Llama-3.1-Minitron-4B": "Llama-3.1-Minitron-4B-Width-Base",
    "Qwen2.5-3B-Instruct": "Qwen2.5-3B",
}
WAYS = {
    "Best-of-N": "best_of_5",
    "Worst-of-N": "worst_of_5",
    "Sampling": "sampled",
    "Greedy": "greedy",
}


def study(name: str) -> Study:
    return compose_component(CONF, "sweep", [f"study={name}"]).study


def published(of: Study) -> dict[tuple[str, str], float]:
    return {(p["where"]["model"], p["where"]["teacher"]): p["after"] for p in of.published}


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def ap(row: dict[str, str]) -> float:
    return pytest.approx((float(row["AE2_LC"]) + float(row["ArenaHard_WR"])) / 2)


def test_the_matrix_is_that_of_the_source_with_its_values(papers: Path):
    of = study("teachers")
    assert len(of.lines()) == 95
    said = published(of)
    rows = rows_of(papers / "teachers_results_main.csv")
    assert len(said) == len(of.published) == len(rows) == 95
    for row in rows:
        model = SOURCE.get(row["base_model"], row["base_model"])
        assert said[model, f"generator_zoo/{row['teacher']}"] == ap(row)
    assert set(said) == {(m, t) for m in of.axes["model"] for t in of.axes["teacher"]}


def test_the_recipe_is_that_of_the_source(papers: Path):
    printed = {
        r["hyperparameter"]: r["value"] for r in rows_of(papers / "teachers_sft_hparams.csv")
    }
    for name in ("teachers", "teachers_decoding"):
        fixed = study(name).fixed
        rate = read_option(CONF, "lr", fixed["lr"])
        found = {
            "learning_rate": rate["peak"],
            "epochs": fixed["data.epochs"],
            "effective_batch_size": fixed["data.examples_per_step"],
            "max_seq_length": fixed["data.max_tokens"],
            "warmup_steps": rate["warmup_steps"],
        }
        for key, value in found.items():
            assert float(printed[key]) == value, key


def test_families_of_the_students_are_families_of_the_teachers():
    of = study("teachers")
    files = [CONF / "teacher" / f"{name}.yaml" for name in of.axes["teacher"]]
    families = {yaml.safe_load(file.read_text())["family"] for file in files}
    assert set(of.own_families) == set(of.axes["model"])
    assert {family for own in of.own_families.values() for family in own} <= families


def test_all_three_rewards_of_the_source_are_asked_for():
    asked = study("teachers").teaching
    assert list(asked.rewards) == ["skywork_gemma", "armorm", "skywork_llama"]
    assert asked.negative != "refuse"


def test_the_decodings_are_those_of_the_source_with_its_values(papers: Path):
    of = study("teachers_decoding")
    rows = rows_of(papers / "teachers_reject_sampling.csv")
    said = published(of)
    assert len(said) == len(rows) == len(of.lines()) == 8
    for row in rows:
        model = row["base_model_as_printed"]
        place = (SOURCE.get(model, model), f"decoded/{WAYS[row['method']]}")
        assert said[place] == ap(row)


def test_the_playgrounds_matrix_has_every_grade_and_two_students():
    of = study("teachers_play")
    grades = [n for n in option_names(CONF, "teacher") if n.startswith("play_") and n[5].isdigit()]
    assert sorted(map(str, of.axes["teacher"])) == sorted(grades)
    assert of.axes["model"] == ("nano", "micro")
    assert len(of.lines()) == 32
    assert of.teaching.reward.name == "play"


def test_the_playgrounds_decodings_mirror_those_of_the_source():
    here, there = study("teachers_decoding_play"), study("teachers_decoding")
    ways = [str(name).removeprefix("play_") for name in here.axes["teacher"]]
    assert ways == [str(name).removeprefix("decoded/") for name in there.axes["teacher"]]
    assert len(here.lines()) == 16
