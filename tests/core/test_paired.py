"""Properties of paired comparisons: few changes are never sure, and seeds count."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heed.core.errors import DataError
from heed.core.significance import mcnemar
from heed.core.stats import (
    compare_paired,
    equivalent,
    holm,
    paired_delta,
    seeds_interval,
    verdict_of,
)

QUICK = {"level": 0.95, "resamples": 1000, "seed": 0}
Scores = tuple[np.ndarray, np.ndarray]


def flipped(better: int, worse: int, n: int = 500) -> tuple[Scores, Scores]:
    """Items that are wrong, but for those that flip."""
    same = n - better - worse
    before, after = (np.repeat(ends, [better, worse, same]) for ends in ([0, 1, 0], [1, 0, 0]))
    return (before, np.ones(n)), (after, np.ones(n))


@pytest.mark.parametrize(
    ("better", "worse", "word"),
    [(4, 0, "unchanged"), (5, 0, "unchanged"), (6, 0, "helped"), (0, 6, "hurt"),
     (7, 1, "unchanged"), (9, 1, "helped"), (40, 30, "cannot tell")],
)  # fmt: skip
def test_a_few_flips_are_no_verdict(better: int, worse: int, word: str):
    found = paired_delta(*flipped(better, worse), **QUICK | {"resamples": 10_000})
    assert verdict_of(found.low, found.high, 0.03) == word


@given(st.integers(0, 25), st.integers(0, 25))
def test_the_verdict_never_claims_more_than_the_exact_test(better: int, worse: int):
    found = compare_paired(*flipped(better, worse), **QUICK)
    assert found.flips == (better, worse)
    assert found.mcnemar == mcnemar(better, worse)
    assert found.p >= mcnemar(better, worse)
    sure = found.interval.low > 0 or found.interval.high < 0
    assert sure == (found.p < 0.05)
    assert not sure or mcnemar(better, worse) < 0.05


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["whole", "amounts"]))
def test_zero_is_left_out_exactly_where_the_p_value_is_small(seed: int, kind: str):
    draw = np.random.default_rng(seed)
    asked = draw.integers(1, 4, 40)
    before = draw.binomial(asked, 0.3).astype(float)
    after = before + draw.binomial((asked - before).astype(int), draw.choice([0.0, 0.1, 0.2, 0.5]))
    if kind == "amounts":
        before, after = before + draw.random(40), after + draw.random(40)
    found = compare_paired((before, asked), (after, asked), **QUICK)
    interval = found.interval
    assert 2 / 1001 <= found.p <= 1  # resamples can tell no less
    assert interval.low <= interval.value <= interval.high
    assert (interval.low > 0 or interval.high < 0) == (found.p < 0.05)
    assert (found.flips is None) == (found.mcnemar is None)


def test_one_prompt_with_many_changes_is_one_item():
    before, after = ([0] * 100, [10] * 100), ([10] * 5 + [0] * 95, [10] * 100)
    assert paired_delta(before, after, **QUICK).low <= 0
    before, after = ([0] * 500, [1] * 500), ([1] * 50 + [0] * 450, [1] * 500)
    assert paired_delta(before, after, **QUICK).low > 0


def test_the_two_more_items_fade_as_items_grow_and_are_not_there_for_amounts():
    few, many = (
        paired_delta(*flipped(n // 10, n // 10, n), **QUICK | {"resamples": 4000})
        for n in (50, 5000)
    )
    half = (many.high - many.low) / 2
    assert half == pytest.approx(1.96 * np.sqrt(0.2 / 5000), rel=0.06)
    assert (few.high - few.low) / 2 > 10 * half * 1.02
    draw = np.random.default_rng(0).random(30)
    shifted = paired_delta((draw, np.ones(30)), (draw + 0.25, np.ones(30)), **QUICK)
    assert (shifted.low, shifted.high) == pytest.approx((0.25, 0.25))


def seeds_of(deltas: list[int], n: int = 400) -> list[tuple[Scores, Scores]]:
    """Seeds that repair so many of the wrong half."""
    before = (np.arange(n) % 2, np.ones(n))
    after = [np.where(np.arange(n) < 2 * d, 1, before[0]) for d in deltas]
    return [(before, (one, np.ones(n))) for one in after]


def test_seeds_that_differ_widen_the_interval_and_more_seeds_narrow_it():
    alike, apart = (seeds_interval(seeds_of(d), **QUICK) for d in ([40, 40, 40], [20, 40, 60]))
    assert (alike.value, apart.value) == pytest.approx((0.1, 0.1))
    assert apart.high - apart.low > 2 * (alike.high - alike.low)
    more = seeds_interval(seeds_of([20, 40, 60, 20, 40, 60]), **QUICK)
    assert more.high - more.low < (apart.high - apart.low) / 1.5


def test_seeds_that_agree_still_know_only_these_prompts():
    found = seeds_interval(seeds_of([40, 40, 40]), **QUICK)
    alone = paired_delta(*seeds_of([40])[0], **QUICK | {"resamples": 4000})
    assert found.high - found.low == pytest.approx(alone.high - alone.low, rel=0.1)


def test_the_spread_of_seeds_enters_by_students_t():
    found = seeds_interval(seeds_of([10, 70], 40_000), **QUICK)
    halves = found.high - found.value
    assert halves == pytest.approx(12.706 * (60 / 40_000) / 2, rel=0.01)  # sd / sqrt(2) = 30


def test_the_order_of_seeds_and_items_does_not_matter():
    pairs = seeds_of([20, 40, 60])
    turned = [tuple((num[::-1], den[::-1]) for num, den in pair) for pair in pairs[::-1]]
    one, other = (seeds_interval(given, **QUICK) for given in (pairs, turned))
    assert (one.low, one.high) == pytest.approx((other.low, other.high))


def test_the_same_few_flips_in_every_seed_are_not_sure():
    few, enough = (seeds_interval(seeds_of([d] * 5), **QUICK) for d in (5, 8))
    assert few.low <= 0 < enough.low


def test_one_seed_says_nothing_of_the_spread():
    with pytest.raises(DataError, match=r"1 seed says nothing.*compare_paired"):
        seeds_interval(seeds_of([40]), **QUICK)


def test_seeds_over_different_items_are_refused():
    with pytest.raises(DataError, match="cannot be matched"):
        seeds_interval([*seeds_of([40]), *seeds_of([40], 300)], **QUICK)


P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@given(P_VALUES)
def test_holms_p_values_keep_their_order_and_are_never_smaller(ps: list[float]):
    adjusted = holm(ps)
    assert all(p <= a <= min(1.0, len(ps) * p) for p, a in zip(ps, adjusted, strict=True))
    in_order = [a for _, a in sorted(zip(ps, adjusted, strict=True))]
    assert in_order == sorted(in_order)
    assert min(adjusted) == min(1.0, len(ps) * min(ps))


@given(P_VALUES, st.floats(0.01, 0.2))
def test_holm_rejects_as_its_step_down_rule_does(ps: list[float], alpha: float):
    kept = sorted(ps)
    steps = [i for i, p in enumerate(kept) if p * (len(ps) - i) > alpha]
    rejected = kept[: steps[0]] if steps else kept
    assert sorted(p for p, a in zip(ps, holm(ps), strict=True) if a <= alpha) == rejected


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_what_is_no_p_value_is_refused(p: float):
    with pytest.raises(DataError, match="not all p values"):
        holm([0.5, p])


@pytest.mark.parametrize(
    ("low", "high", "inside"), [(-0.02, 0.02, True), (-0.021, 0.0, False), (0.0, 0.021, False)]
)
def test_the_same_is_what_lies_within_the_margin_as_a_whole(low: float, high: float, inside: bool):
    assert equivalent(low, high, 0.02) is inside


def test_of_few_amounts_the_interval_is_as_wide_as_students_t_asks():
    draw, ones, ratios = np.random.default_rng(0), np.ones(10), []
    for seed in range(60):
        before = draw.random(10)
        change = 1 + draw.normal(0, 0.3, 10)
        found = compare_paired((before, ones), (before + change, ones), **QUICK | {"seed": seed})
        half = 2.262 * change.std(ddof=1) / np.sqrt(10)  # t of 9 degrees of freedom
        ratios.append((found.interval.high - found.interval.low) / 2 / half)
    assert np.mean(ratios) == pytest.approx(1, abs=0.07)  # 0.82 without


@given(st.integers(2, 40), st.floats(0, 1), st.integers(0, 99))
def test_of_amounts_too_the_interval_and_the_p_value_agree(n: int, shift: float, seed: int):
    draw, ones = np.random.default_rng(seed), np.ones(n)
    before, after = draw.random(n), draw.random(n) + shift
    found = compare_paired((before, ones), (after, ones), **QUICK)
    sure = found.interval.low > 0 or found.interval.high < 0
    assert sure == (found.p < 0.05)
    assert found.interval.low <= found.interval.value <= found.interval.high
