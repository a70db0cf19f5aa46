"""An axis' effect is told from cells that differ in it alone, or is not told."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heed.analysis.contrasts import Change, change_of, contrasts
from heed.core.errors import DataError
from heed.core.stats import compare_paired

BOOTSTRAP = {"level": 0.95, "resamples": 400, "seed": 0}
ITEMS = 120


def outcomes(chance: float, luck: int) -> list[float]:
    return list(np.random.default_rng(luck).binomial(2, chance, ITEMS).astype(float))


DEN = [2.0] * ITEMS
BEFORE = outcomes(0.4, 99)


def cell(chance: float, luck: int, **place: str) -> Change:
    return change_of(place, (BEFORE, DEN), (outcomes(chance, luck), DEN))


def one(found: list[dict], axis: str, pair: tuple[str, str], context: str | None = None) -> dict:
    named = [
        row
        for row in found
        if (row["axis"], row["one"], row["two"], row.get("context")) == (axis, *pair, context)
    ]
    assert len(named) == 1, found
    return named[0]


def test_of_one_student_and_seed_it_is_the_paired_difference_of_what_was_scored_after():
    cells = [cell(0.3, 1, lr="gentle", seed="1"), cell(0.6, 2, lr="harsh", seed="1")]
    found = one(contrasts(cells, ["lr"], BOOTSTRAP), "lr", ("gentle", "harsh"))
    plain = compare_paired((outcomes(0.3, 1), DEN), (outcomes(0.6, 2), DEN), **BOOTSTRAP).interval
    assert found["difference"] == pytest.approx(plain.value)
    assert found["low"] == pytest.approx(plain.low, abs=0.01)
    assert found["high"] == pytest.approx(plain.high, abs=0.01)
    assert (found["pairs"], found["seeds"], found["verdict"]) == (1, 1, "differs")


def test_where_two_values_never_meet_with_all_else_equal_no_number_is_given():
    """The size ladder: its 3B was tuned at a rate of its own."""
    ladder = {"1b": "reference", "2b": "reference", "3b": "gentle"}
    cells = [cell(0.4, i, model=m, lr=rate, seed="1") for i, (m, rate) in enumerate(ladder.items())]
    cells = [replace(one, run=one.place["model"]) for one in cells]
    found = contrasts(cells, ["model", "lr"], BOOTSTRAP)
    assert "difference" in one(found, "model", ("1b", "2b"), "lr reference")
    for pair in (("1b", "3b"), ("2b", "3b")):
        told = one(found, "model", pair)
        assert (told["pairs"], told["also"]) == (0, ["lr"])
        assert told["runs"] == [c.run for c in cells if c.place["model"] in pair]
        assert "difference" not in told
    assert one(found, "lr", ("reference", "gentle"))["also"] == ["model"]


def test_both_rates_at_both_sizes_separate_size_from_rate():
    effect = {("1b", "gentle"): 0.4, ("1b", "reference"): 0.2}
    effect |= {("3b", "gentle"): 0.7, ("3b", "reference"): 0.5}
    cells = [
        cell(chance, i, model=m, lr=rate, seed="1")
        for i, ((m, rate), chance) in enumerate(effect.items())
    ]
    found = contrasts(cells, ["model", "lr"], BOOTSTRAP)
    size = one(found, "model", ("1b", "3b"))
    assert size["pairs"] == 2
    assert size["difference"] == pytest.approx(0.3, abs=0.1)
    alone = [one(found, "model", ("1b", "3b"), f"lr {rate}") for rate in ("gentle", "reference")]
    assert np.mean([row["difference"] for row in alone]) == pytest.approx(size["difference"])
    assert one(found, "lr", ("gentle", "reference"))["difference"] == pytest.approx(-0.2, abs=0.1)


def test_several_seeds_give_an_interval_over_seeds_and_items():
    chances = {"1": 0.5, "2": 0.55, "3": 0.9}
    cells = [cell(0.3, int(s), lr="gentle", seed=s) for s in chances]
    cells += [cell(chance, 10 + int(s), lr="harsh", seed=s) for s, chance in chances.items()]
    found = one(contrasts(cells, ["lr"], BOOTSTRAP), "lr", ("gentle", "harsh"))
    single = one(contrasts([cells[0], cells[3]], ["lr"], BOOTSTRAP), "lr", ("gentle", "harsh"))
    assert (found["pairs"], found["seeds"]) == (3, 3)
    assert found["high"] - found["low"] > single["high"] - single["low"]


def test_a_setting_that_lacks_a_seed_stays_in_the_mean_with_the_seeds_that_all_have():
    cells = [
        cell(0.3, 7 * i, model=m, lr=rate, seed=seed)
        for i, (m, rate, seed) in enumerate(product(("1b", "2b"), ("gentle", "harsh"), "123"))
        if not (m == "2b" and seed == "3")
    ]
    found = contrasts(cells, ["model", "lr"], BOOTSTRAP)
    mean = one(found, "lr", ("gentle", "harsh"))
    assert (mean["pairs"], mean["seeds"], mean["without"]) == (4, 2, [])
    alone = [one(found, "lr", ("gentle", "harsh"), f"model {m}") for m in ("1b", "2b")]
    assert [(row["pairs"], row["seeds"], row["part"]) for row in alone] == [
        (3, 3, True), (2, 2, True),
    ]  # fmt: skip


def test_a_setting_that_shares_no_seed_is_left_out_of_the_mean_by_name():
    seeds = {"1b": "12", "2b": "3"}
    cells = [
        cell(0.3, 7 * i, model=m, lr=rate, seed=seed)
        for m in seeds
        for i, (rate, seed) in enumerate(product(("gentle", "harsh"), seeds[m]))
    ]
    found = contrasts(cells, ["model", "lr"], BOOTSTRAP)
    mean = one(found, "lr", ("gentle", "harsh"))
    assert (mean["pairs"], mean["without"]) == (2, ["model 2b"])
    assert one(found, "model", ("1b", "2b"))["also"] == ["seed"]


def test_a_contrast_of_a_single_setting_names_it():
    cells = [cell(0.3, 1, model="2b", lr="a", seed="1"), cell(0.3, 2, model="2b", lr="b", seed="1")]
    cells.append(cell(0.3, 3, model="1b", lr="a", seed="1"))
    found = one(contrasts(cells, ["model", "lr"], BOOTSTRAP), "lr", ("a", "b"), "model 2b")
    assert not found["part"]


def test_what_differs_beside_the_axes_is_not_equal_in_all_else():
    cells = [
        cell(0.3, 1, lr="a", code="old", seed="1"), cell(0.6, 2, lr="b", code="new", seed="1")
    ]  # fmt: skip
    assert one(contrasts(cells, ["lr"], BOOTSTRAP), "lr", ("a", "b"))["pairs"] == 1
    found = one(contrasts(cells, ["lr"], BOOTSTRAP, ["code"]), "lr", ("a", "b"))
    assert (found["pairs"], found["also"]) == (0, ["code"])


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(8)))
def test_the_order_of_the_cells_changes_no_number(order: list[int]):
    cells = [
        cell(0.2 + 0.05 * i, i, model=m, lr=rate, seed=seed)
        for i, (m, rate, seed) in enumerate(product(("1b", "2b"), ("gentle", "harsh"), "12"))
    ]
    told = contrasts(cells, ["model", "lr"], BOOTSTRAP)
    again = contrasts([cells[i] for i in order], ["model", "lr"], BOOTSTRAP)

    def sizes(found: list[dict]) -> list[tuple[str, float]]:
        return sorted((f["axis"], round(abs(f["difference"]), 12)) for f in found)

    assert sizes(again) == sizes(told)


def test_of_too_many_settings_only_the_means_are_given_and_the_others_counted(monkeypatch):
    monkeypatch.setattr("heed.analysis.contrasts.MOST", 20)
    cells = [
        cell(0.4, i, a=a, b=f"b{i}", seed="1") for i in range(8) for a in ("one", "two", "three")
    ]
    found = contrasts(cells, ["a", "b"], {**BOOTSTRAP, "resamples": 20})
    assert [f["axis"] for f in found].count("a") == 3, "no row for each b"
    assert {f["parts_left_out"] for f in found} == {3 * 8 + 28 * 3}


def test_changes_over_other_amounts_are_refused():
    with pytest.raises(DataError, match="other denominators"):
        change_of({"lr": "a"}, (BEFORE, DEN), (BEFORE, [3.0] * ITEMS))
    other = change_of({"lr": "b", "seed": "1"}, (BEFORE, [3.0] * ITEMS), (BEFORE, [3.0] * ITEMS))
    with pytest.raises(DataError, match="on other items"):
        contrasts([cell(0.4, 1, lr="a", seed="1"), other, other], ["lr"], BOOTSTRAP)
