"""Properties of the intervals and of the verdict."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core import resample
from heed.core.errors import DataError
from heed.core.stats import interval, paired_delta, seeds_interval, share_interval, verdict_of

QUICK = {"level": 0.95, "resamples": 1000, "seed": 0}


def clustered(items: int, seed: int, rate: float = 0.5):
    """Followed and asked instructions per prompt; prompts differ in difficulty."""
    draw = np.random.default_rng(seed)
    asked = draw.integers(1, 4, items)
    return draw.binomial(asked, draw.beta(4 * rate, 4 * (1 - rate), items)), asked


@given(st.permutations(range(12)))
def test_the_order_of_items_does_not_matter(order: list[int]):
    num, den = np.random.default_rng(1).random((2, 12))
    assert interval(num[order], den[order], **QUICK) == interval(num, den, **QUICK)


def test_the_interval_holds_the_value_and_narrows_with_more_items():
    few, many = (interval(*clustered(items, 0), **QUICK) for items in (50, 800))
    assert few.low < few.value < few.high
    assert 3 < (few.high - few.low) / (many.high - many.low) < 5  # sqrt(16) = 4


def test_intervals_do_not_depend_on_the_memory_they_may_use(monkeypatch):
    num, den = clustered(40, 3)
    whole = interval(num, den, **QUICK)
    monkeypatch.setattr(resample, "COUNTS_AT_ONCE", 100)
    assert interval(num, den, **QUICK) == whole


@pytest.mark.parametrize("followed", [0, 1])
def test_scores_that_are_all_equal_have_an_interval_without_width(followed: int):
    found = interval([followed] * 5, [1] * 5, **QUICK)
    assert (found.low, found.value, found.high) == (followed, followed, followed)


def test_items_with_nothing_asked_are_left_out():
    assert interval([1, 0, 0, 2], [1, 0, 1, 2], **QUICK) == interval([1, 0, 2], [1, 1, 2], **QUICK)


def test_swapping_before_and_after_turns_the_sign():
    _, asked = clustered(200, 0)
    draw = np.random.default_rng(1)
    before, after = ((draw.binomial(asked, rate), asked) for rate in (0.3, 0.6))
    there, back = paired_delta(before, after, **QUICK), paired_delta(after, before, **QUICK)
    assert there.value == -back.value
    assert there.low == pytest.approx(-back.high, abs=0.01)
    assert there.high == pytest.approx(-back.low, abs=0.01)


@given(st.lists(st.floats(0.01, 0.99), min_size=2, max_size=20))
def test_identical_amounts_are_unchanged(num: list[float]):
    scores = (num, np.linspace(0.1, 3, len(num)))
    found = paired_delta(scores, scores, **QUICK)
    assert (found.low, found.value, found.high) == (0, 0, 0)
    assert verdict_of(found.low, found.high, 0.02) == "unchanged"


@pytest.mark.parametrize(("items", "word"), [(5, "cannot tell"), (541, "unchanged")])
def test_identical_counts_are_unchanged_only_if_there_are_many(items: int, word: str):
    scores = (np.arange(items) % 2, np.ones(items))
    found = paired_delta(scores, scores, **QUICK)
    assert found.low < found.value == 0 < found.high
    assert verdict_of(found.low, found.high, 0.02) == word


@pytest.mark.parametrize(
    ("items", "word"), [(8, "cannot tell"), (60, "cannot tell"), (541, "unchanged")]
)
def test_more_seeds_that_change_nothing_are_no_surer_of_few_counts_than_one(items: int, word: str):
    scores = (np.arange(items) % 2, np.ones(items))
    found = seeds_interval([(scores, scores)] * 3, **QUICK)
    assert found.low < found.value == 0 < found.high
    assert verdict_of(found.low, found.high, 0.02) == word


def test_pairing_removes_the_spread_between_items():
    num, den = clustered(300, 0, rate=0.4)
    gained = np.minimum(num + (np.arange(300) % 10 == 0), den)
    paired = paired_delta((num, den), (gained, den), **QUICK)
    alone = interval(num, den, **QUICK)
    assert paired.high - paired.low < (alone.high - alone.low) / 2


@pytest.mark.parametrize("paired", [False, True])
def test_intervals_cover_at_their_level(paired: bool):
    truth, hits, draws = (0.1 if paired else 0.5), 0, 300
    for seed in range(draws):
        num, den = clustered(80, seed)
        settings = {"level": 0.9, "resamples": 400, "seed": seed}
        if paired:
            draw = np.random.default_rng(seed + draws)
            after = num + draw.binomial(den - num, 0.2)  # a fifth of the failed half is repaired
            found = paired_delta((num, den), (after, den), **settings)
        else:
            found = interval(num, den, **settings)
        hits += found.low <= truth <= found.high
    assert 0.84 < hits / draws < 0.95  # 0.90 give or take three standard errors


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.001, 0.01, "helped"),
        (-0.3, -0.001, "hurt"),
        (0, 0.02, "unchanged"),
        (-0.02, 0.02, "unchanged"),
        (0, 0, "unchanged"),
        (0, 0.03, "cannot tell"),
        (-0.03, 0.01, "cannot tell"),
    ],
)
def test_the_verdict_follows_the_rule(low: float, high: float, word: str):
    assert verdict_of(low, high, 0.02) == word


@pytest.mark.parametrize(
    ("num", "den", "reason"),
    [
        ([1], [1], "needs at least two"),
        ([0, 0, 1], [0, 0, 1], "Only 1 of 3 items"),
        ([1, 0], [1, 1, 1], "cannot be matched"),
        ([1, 1], [0, 1], "numerator over nothing"),
        ([1, 1], [-1, 1], "negative denominator"),
        ([float("nan"), 1], [1, 1], "1 of 2 items have a score that is not a finite number"),
    ],
)
def test_scores_without_a_meaning_are_refused(num: list, den: list, reason: str):
    with pytest.raises(DataError, match=reason):
        interval(num, den, **QUICK)


def test_an_item_asked_on_one_side_only_is_refused():
    with pytest.raises(DataError, match="not the same item"):
        paired_delta(([0, 1, 1], [0, 1, 1]), ([1, 1, 1], [1, 1, 1]), **QUICK)


@pytest.mark.parametrize("ends", [(0.1, -0.1), (float("nan"), 0.1)])
def test_an_interval_that_is_none_gives_no_verdict(ends: tuple[float, float]):
    with pytest.raises(DataError, match="No verdict follows"):
        verdict_of(*ends, 0.02)


@pytest.mark.parametrize("n", [2, 10, 60])
def test_the_interval_of_a_share_covers_at_its_level_on_average(n: int):
    from scipy.stats import binom

    found = [share_interval(k / n, n, 0.9) for k in range(n + 1)]
    rates = np.linspace(0.01, 0.99, 99)
    covered = [
        sum(binom.pmf(k, n, p) for k, i in enumerate(found) if i.low <= p <= i.high) for p in rates
    ]
    assert 0.88 < np.mean(covered) < 0.93


@given(st.integers(1, 50), st.floats(0, 1))
def test_the_interval_of_a_share_has_a_width_and_holds_the_share(n: int, share: float):
    found = share_interval(share, n, 0.95)
    assert 0 <= found.low <= share <= found.high <= 1
    assert found.high - found.low > 0.02
    mirrored = share_interval(1 - share, n, 0.95)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((found.low, found.high))
    assert share_interval(share, 4 * n, 0.95).high <= found.high + 1e-12


@pytest.mark.parametrize(("share", "n"), [(0.5, 0), (1.2, 3), (-0.1, 3), (float("nan"), 3)])
def test_a_share_that_is_none_has_no_interval(share: float, n: int):
    with pytest.raises(DataError, match="has no interval"):
        share_interval(share, n, 0.95)
