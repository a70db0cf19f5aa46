"""Percentiles of resampled differences, of counts and of amounts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core.resample import ends, first_half, percentiles, tail_p

DRAWS = np.random.default_rng(0).normal(1, 1, 2000)


def test_of_counts_they_are_the_plain_ones():
    assert percentiles(DRAWS, 0.95) == (tail_p(DRAWS), *ends(DRAWS, 0.95))


@given(st.integers(2, 2000), st.floats(0.5, 0.99))
def test_fewer_amounts_are_less_sure(amounts: int, level: float):
    p, low, high = percentiles(DRAWS, level, amounts)
    more_p, more_low, more_high = percentiles(DRAWS, level, 2 * amounts)
    assert p > more_p > tail_p(DRAWS)
    assert low <= more_low < more_high <= high


def test_many_amounts_are_as_sure_as_counts():
    plain = percentiles(DRAWS, 0.95)
    assert percentiles(DRAWS, 0.95, 100_000) == pytest.approx(plain, abs=0.002)


@given(st.lists(st.text(max_size=6), max_size=30), st.randoms(use_true_random=False))
def test_a_key_belongs_to_one_half_beside_whatever_it_stands(keys, random):
    halves = dict(zip(keys, first_half(keys).tolist(), strict=True))
    others = random.sample(keys, len(keys))
    assert first_half(others).tolist() == [halves[key] for key in others]


def test_halves_are_about_as_large():
    assert 900 < first_half([str(n) for n in range(2000)]).sum() < 1100
