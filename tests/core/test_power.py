"""The smallest effect that data can show is found as often as is said."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core.errors import DataError
from heed.core.power import (
    POWER,
    detectable,
    detectable_flips,
    fewest_flips,
    least_detectable,
)
from heed.core.significance import mcnemar
from heed.core.stats import compare_paired


@given(st.floats(0.01, 1), st.integers(2, 5000))
def test_of_flips_it_is_two_point_eight_standard_errors(discordance: float, n: int):
    assert detectable_flips(discordance, n, 0.95) == pytest.approx(
        2.80 * sqrt(discordance / n), rel=0.001
    )


@given(st.floats(0.5, 0.98))
def test_a_surer_word_needs_a_larger_effect(level: float):
    assert detectable(1.0, level) < detectable(1.0, level + 0.01)


def test_the_stated_effect_is_found_four_times_of_five():
    n, discordance, draw, found = 541, 0.2, np.random.default_rng(0), 0
    effect = detectable_flips(discordance, n, 0.95)
    shares = [(discordance + effect) / 2, (discordance - effect) / 2, 1 - discordance]
    for better, worse, _ in draw.multinomial(n, shares, 1000):
        found += mcnemar(better, worse) < 0.05
    assert POWER - 0.06 < found / 1000 < POWER + 0.04  # the exact test finds a little less


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95, 0.99, 0.999])
def test_one_item_less_than_the_fewest_is_not_called(level: float):
    few = fewest_flips(level)
    assert mcnemar(few, 0) < 1 - level <= mcnemar(few - 1, 0)


@pytest.mark.parametrize(("share", "n"), [(0.1, 0), (-0.1, 9), (1.1, 9), (float("nan"), 9)])
def test_a_share_that_is_none_has_no_detectable_effect(share: float, n: int):
    with pytest.raises(DataError, match="no detectable effect"):
        detectable_flips(share, n, 0.95)


@given(st.integers(0, 60), st.integers(0, 60))
def test_flips_and_standard_error_agree_where_items_are_right_or_wrong(better: int, worse: int):
    n = 541
    before = np.repeat([0, 1, 0], [better, worse, n - better - worse])
    after = np.repeat([1, 0, 0], [better, worse, n - better - worse])
    settings = {"level": 0.95, "resamples": 20, "seed": 0}
    whole = compare_paired((before, np.ones(n)), (after, np.ones(n)), **settings)
    # twice of everything: no longer right or wrong, the same metric; no spread of no effect
    twice = compare_paired((2 * before, 2 * np.ones(n)), (2 * after, 2 * np.ones(n)), **settings)
    assert twice.flips is None
    changed, delta = (better + worse) / n, (better - worse) / n
    if better + worse == 0:
        assert whole.mde == pytest.approx(least_detectable(n, 0.95))
        return
    expected = detectable_flips(changed, n, 0.95) * sqrt((1 - delta**2 / changed) * n / (n - 1))
    assert twice.mde == pytest.approx(max(expected, least_detectable(n, 0.95) / 2))
    least = least_detectable(n, 0.95)
    assert whole.mde == pytest.approx(max(detectable_flips(changed, n, 0.95), least))


@pytest.mark.parametrize("n", [6, 20, 100, 541])
def test_the_least_effect_is_found_four_times_of_five_where_all_changes_go_one_way(n: int):
    least = least_detectable(n, 0.95)
    better = np.random.default_rng(0).binomial(n, least, 20_000)
    called = np.array([mcnemar(b, 0) < 0.05 for b in range(n + 1)])
    assert called[better].mean() == pytest.approx(POWER, abs=0.01)


def test_of_fewer_items_than_must_change_nothing_is_detectable():
    assert least_detectable(5, 0.95) > 1
    two = compare_paired(([0, 0], [1, 1]), ([1, 1], [1, 1]), level=0.95, resamples=20, seed=0)
    assert two.mde > 1
