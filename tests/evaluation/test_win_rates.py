"""Win rates: the published ones from the published judgements, to the precision of the table."""

import csv
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.data.tables import open_text
from heed.evaluation import win_rates as module
from heed.evaluation.win_rates import (
    BASELINE,
    INSTRUCTIONS,
    Judged,
    average_performance,
    length_controlled,
    recorded_win_rates,
    win_rates,
)

DIGITS = 5
"""After the point of a recorded preference."""

SHARES = st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=40)


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    return shared_data / "alpaca_eval"


def published(path: Path, name: str) -> dict[str, dict[str, str]]:
    return {row[name]: row for row in csv.DictReader(open_text(path).splitlines())}


@pytest.mark.shared
def test_recorded_judgements_give_the_published_win_rates_of_every_model(folder: Path):
    rates = recorded_win_rates(folder / "ae2_preference_matrix.csv.gz", "0 to 1")
    board = published(folder / "leaderboard_alpaca_eval_2_weighted_gpt4_turbo.csv", "")
    assert len(rates) == 58
    assert set(rates) - set(board) == {"text_davinci_003"}  # on no leaderboard of AlpacaEval 2
    for model in set(rates) & set(board):
        found, row = rates[model], board[model]
        # a mean of numbers that are cut at five digits is off by half a digit at most; in percent
        assert abs(found.win_rate - float(row["win_rate"])) <= 100 * 0.5 * 10**-DIGITS, model
        assert found.discrete == pytest.approx(float(row["discrete_win_rate"]), abs=1e-9), model
        assert found.judged == int(row["n_total"]), model
        assert found.judged + found.missing == INSTRUCTIONS


@pytest.mark.shared
def test_recorded_judgements_give_the_win_rates_of_the_teachers(folder: Path):
    rates = recorded_win_rates(folder / "ae2_preference_matrix.csv.gz", "0 to 1")
    teachers = published(folder / "teachers.csv", "teacher")
    both = [name for name, row in teachers.items() if name in rates and row["ae2_win_rate"]]
    assert len(both) >= 8
    for name in both:
        assert rates[name].win_rate == pytest.approx(
            float(teachers[name]["ae2_win_rate"]), abs=100 * 0.5 * 10**-DIGITS
        )


@given(SHARES)
def test_what_was_not_judged_is_in_no_rate(preferences):
    found = win_rates(preferences)
    known = [preference for preference in preferences if preference is not None]
    assert found == win_rates([*known, *[None] * (len(preferences) - len(known))])
    if found is None:
        assert not known
        return
    assert found.judged == len(known)
    assert 0 <= found.win_rate <= 100 + 1e-9
    assert found[:2] == win_rates(known)[:2]


@given(st.lists(st.floats(0, 1), min_size=1))
def test_the_reference_s_rate_is_what_the_model_s_leaves(preferences):
    one, two = win_rates(preferences), win_rates([1 - p for p in preferences])
    assert one.win_rate + two.win_rate == pytest.approx(100)


def test_ties_count_half():
    assert win_rates([0.5, 0.5, 0.9, 0.1]).discrete == 50
    assert win_rates([0.5, 0.9]).discrete == 75


def test_ap_is_the_mean_of_the_two_win_rates():
    assert average_performance(7.0, 2.5) == 4.75


def test_the_length_controlled_rate_is_skipped_where_it_is_not_defined():
    assert "this is 12 against me" in length_controlled([], "me", 12)
    assert "skipped" in length_controlled([], BASELINE, 804)


def test_without_alpaca_eval_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    said = length_controlled([], BASELINE, INSTRUCTIONS)
    assert "not installed (pip install -e '.[judge]')" in said


def test_a_failure_of_alpaca_eval_is_told_and_no_number(monkeypatch):
    def fail(*_):
        raise OSError("no such\nfile on the hub")

    monkeypatch.setattr(module, "find_spec", lambda _: True)
    monkeypatch.setattr(module, "_fitted", fail)
    said = length_controlled([], BASELINE, INSTRUCTIONS)
    assert "skipped: alpaca_eval failed (OSError: no such file on the hub)" in said


def test_alpaca_eval_is_given_each_judgement_once_and_its_number_is_told(monkeypatch):
    """A stand-in for its package, whose difficulties are on the hub; preferences are 1 to 2."""
    seen: list[dict[str, Any]] = []

    def fit(rows: list[dict[str, Any]], save_weights_dir: None) -> dict[str, float]:
        seen.extend(rows)
        return {"length_controlled_winrate": 12.345, "lc_standard_error": 0.5}

    package = ModuleType("alpaca_eval.metrics")
    package.get_length_controlled_winrate = fit
    monkeypatch.setitem(sys.modules, "alpaca_eval", ModuleType("alpaca_eval"))
    monkeypatch.setitem(sys.modules, "alpaca_eval.metrics", package)
    monkeypatch.setattr(module, "find_spec", lambda _: True)
    judged = [Judged(3, 0.25, "theirs", "ours"), Judged(5, 1.0, "a", "b")]
    said = length_controlled(judged, BASELINE, INSTRUCTIONS)
    assert said.startswith("length-controlled win rate 12.3")
    assert "(standard error 0.50)" in said
    assert "from 2 judgements" in said
    found = [(r["index"], r["preference"], r["output_1"], r["output_2"]) for r in seen]
    assert found == [(3, 1.25, "theirs", "ours"), (5, 2.0, "a", "b")]
    assert {(r["generator_1"], r["generator_2"]) for r in seen} == {(BASELINE, "model")}
