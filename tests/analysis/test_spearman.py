"""Spearman's rho is that of the books, with ties too; a printed one shows how many it ranks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr

from heed.analysis.spearman import fisher_interval, lattice, on_lattice, ranks, spearman
from heed.core.errors import DataError

few = st.lists(st.integers(-3, 3), min_size=3, max_size=12)


@given(few, st.randoms())
def test_rho_is_that_of_scipy_with_ties_and_without(values, random):
    other = [random.randint(-3, 3) for _ in values]
    if len(set(values)) == 1 or len(set(other)) == 1:
        assert np.isnan(spearman(values, other))
    else:
        assert spearman(values, other) == pytest.approx(spearmanr(values, other).statistic)


@given(st.permutations(list(range(9))))
def test_without_ties_rho_lies_on_the_lattice_and_is_one_minus_the_squares(order):
    rho = float(spearman(range(9), order))
    squares = sum((i - j) ** 2 for i, j in enumerate(order))
    assert rho == pytest.approx(1 - 6 * squares / (9**3 - 9))
    assert on_lattice(rho, 9, 10)
    assert on_lattice(round(rho, 4), 9, 4)


@given(few)
def test_only_the_order_counts_and_not_the_teachers_place(values):
    other = list(range(len(values)))
    rho = spearman(values, other)
    grown = [value**3 + 5 for value in values]
    assert np.array_equal(spearman(grown, other), rho, equal_nan=True)
    turned = spearman(values[::-1], other[::-1])
    assert np.array_equal(turned, rho, equal_nan=True)
    opposite = spearman([-v for v in values], other)
    assert np.array_equal(opposite, -rho, equal_nan=True)


@given(few)
def test_equal_values_share_the_mean_of_their_ranks(values):
    found = ranks(values)
    assert found.tolist() == rankdata(values).tolist()
    assert found.sum() == pytest.approx(len(values) * (len(values) + 1) / 2)


def test_many_are_ranked_at_once_along_the_last_axis():
    table = np.random.default_rng(0).normal(size=(4, 5, 7))
    together = spearman(table, table[0, 0])
    assert together.shape == (4, 5)
    assert together[2, 3] == spearman(table[2, 3], table[0, 0])


def test_every_value_of_a_small_lattice_is_reached():
    from itertools import permutations

    reached = {round(float(spearman(range(5), p)), 9) for p in permutations(range(5))}
    assert reached == {round(float(value), 9) for value in lattice(5)}


@pytest.mark.parametrize("wrong", [([1, 2], [1, 2, 3]), ([1, float("nan"), 2], [1, 2, 3])])
def test_what_cannot_be_ranked_is_refused(wrong):
    with pytest.raises(DataError, match="rank"):
        spearman(*wrong)


def test_a_published_rho_has_a_wide_interval_that_narrows_with_teachers():
    few, many = (fisher_interval(0.8, n, 0.95) for n in (10, 1000))
    assert few.low < many.low < 0.8 < many.high < few.high < 1
    half = np.arctanh(few.high) - np.arctanh(0.8)
    assert half == pytest.approx(1.959964 * np.sqrt(1.32 / 7), rel=1e-6)
    mirrored = fisher_interval(-0.8, 10, 0.95)
    assert (mirrored.low, mirrored.high) == pytest.approx((-few.high, -few.low))
    for rho, teachers in ((1.0, 19), (0.5, 3)):
        with pytest.raises(DataError, match="has no interval"):
            fisher_interval(rho, teachers, 0.95)


def test_the_interval_of_a_published_rho_holds_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(1)
    true = 0.7
    normal = random.multivariate_normal([0, 0], [[1, true], [true, 1]], size=(600, 19))
    rhos = spearman(normal[..., 0], normal[..., 1])
    population = 6 / np.pi * np.arcsin(true / 2)
    found = [fisher_interval(float(rho), 19, 0.95) for rho in rhos]
    held = np.mean([i.low <= population <= i.high for i in found])
    assert 0.92 < held < 0.98
