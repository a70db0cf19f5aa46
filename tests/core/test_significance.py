"""Properties of the exact tests: what chance alone does, and how often it is taken for more."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heed.core.errors import DataError
from heed.core.significance import WEIGHED, counted, exchange_p, mcnemar, two_proportions_z


def table(change: list[int], asked: int = 3) -> np.ndarray:
    """Before and after of items whose count changes so, of `asked` each."""
    moved = np.array(change, dtype=float)
    ones = np.full(len(change), float(asked))
    return np.stack([np.maximum(-moved, 0), ones, np.maximum(moved, 0), ones])


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_does_not_ask_which_model_came_first(better: int, worse: int):
    p = mcnemar(better, worse)
    assert 0 < p <= 1
    assert p == pytest.approx(mcnemar(worse, better))
    assert mcnemar(better + worse + 6, 0) < 0.05


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 20))
def test_right_and_wrong_exchanged_is_mcnemars_test(better: int, worse: int, same: int):
    change = [1] * better + [-1] * worse + [0] * same
    assert exchange_p(table(change, 1), 10, 0) == pytest.approx(mcnemar(better, worse))


@settings(max_examples=50)
@given(st.lists(st.integers(-3, 3), min_size=2, max_size=9))
def test_the_exact_p_value_is_that_of_all_swaps_one_by_one(change: list[int]):
    sums = [abs(np.dot(signs, change)) for signs in product((1, -1), repeat=len(change))]
    share = np.mean([one >= abs(sum(change)) for one in sums])
    assert exchange_p(table(change), 10, 0) == pytest.approx(share)


def test_random_swaps_agree_with_all_swaps():
    change = [2, 1, -1, 1, 1, 0, 3, -1, 1, 1, 0, 1]
    exact = exchange_p(table(change), 10, 0)
    drawn = exchange_p(table(change) * [[0.5], [1], [0.5], [1]], 40_000, 0)  # no whole numbers
    assert drawn == pytest.approx(exact, abs=0.01)
    uneven = table(change)
    uneven[3, 0] += 1e-9  # other denominators after: swaps are drawn too
    assert exchange_p(uneven, 40_000, 0) == pytest.approx(exact, abs=0.01)


def test_a_p_value_of_drawn_swaps_is_never_zero_and_is_one_where_nothing_differs():
    amounts = np.random.default_rng(0).random(60)
    before = np.stack([amounts, np.ones(60)])
    assert exchange_p(np.concatenate([before, before + np.array([[9], [0]])]), 99, 0) == 0.01
    assert exchange_p(np.concatenate([before, before]), 99, 0) == 1


def test_things_counted_are_whole_numbers():
    assert counted(table([1, 0, -2]))
    assert not counted(table([1, 0]) / 2)


def test_chance_alone_is_called_an_effect_no_more_often_than_stated():
    draw, false = np.random.default_rng(0), 0
    for _ in range(400):
        before, after = (draw.binomial(3, 0.3, 60) for _ in range(2))
        false += exchange_p(table(list(after - before)), 10, 0) < 0.1
    assert 0.03 < false / 400 < 0.145  # 0.10 plus three standard errors


@pytest.mark.parametrize(
    ("before", "after", "n"), [(0, 0, 9), (9, 9, 9), (-1, 3, 9), (3, 10, 9), (0, 0, 0)]
)
def test_counts_without_a_meaning_have_no_z_value(before: int, after: int, n: int):
    with pytest.raises(DataError, match="have no z value"):
        two_proportions_z(before, after, n)


@given(st.integers(1, 99), st.integers(1, 99))
def test_the_z_value_turns_with_the_order_and_grows_with_the_items(before: int, after: int):
    z = two_proportions_z(before, after, 100)
    assert z == pytest.approx(-two_proportions_z(after, before, 100))
    assert two_proportions_z(4 * before, 4 * after, 400) == pytest.approx(2 * z)


def test_counts_of_any_size_are_tested_by_drawn_swaps():
    draw = np.random.default_rng(0)
    sizes = draw.integers(0, 10**9, (2, 300)).astype(float)
    ones = np.ones(300)
    large = np.stack([sizes[0], ones, sizes[1], ones])  # letters of a response, say
    assert np.abs(sizes[1] - sizes[0]).sum() > WEIGHED
    assert exchange_p(large, 1000, 0) == pytest.approx(exchange_p(large + 0.5, 1000, 0), abs=0.06)


@pytest.mark.parametrize("seed", range(20))
def test_five_amounts_that_change_are_never_called_however_few_swaps_are_drawn(seed: int):
    draw = np.random.default_rng(seed)
    before = np.stack([draw.random(100), np.ones(100)])
    after = before.copy()
    after[0, :5] += draw.uniform(1, 1.2, 5)
    assert exchange_p(np.concatenate([before, after]), 100, seed) >= 2 / 2**5
    after[0, 5:60] += 1
    assert exchange_p(np.concatenate([before, after]), 100, seed) < 0.05
