"""Intervals of rho and of its differences: paired, honest about what is resampled, and covering."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.analysis.agreement import Sample, agreement, leave_one_out, resamples_of
from heed.analysis.spearman import spearman
from heed.core.errors import DataError

BOOTSTRAP = {"level": 0.95, "resamples": 400, "seed": 3}
RANDOM = np.random.default_rng(5)
OUTCOME = RANDOM.normal(size=12)
NEAR, FAR = OUTCOME + 0.2 * RANDOM.normal(size=12), RANDOM.normal(size=12)


def found(**metrics: Sample):
    return agreement(metrics, Sample(OUTCOME), "teachers", **BOOTSTRAP)


def test_a_metric_has_its_rho_within_its_interval():
    made = found(near=Sample(NEAR), far=Sample(FAR))
    for name, values in (("near", NEAR), ("far", FAR)):
        interval = made.rhos[name]
        assert interval.value == spearman(values, OUTCOME)
        assert -1 <= interval.low <= interval.value <= interval.high <= 1
        assert interval.items == 12
    assert made.rhos["near"].low > made.rhos["far"].value


def test_a_difference_is_paired_and_turns_with_its_sides():
    made = found(near=Sample(NEAR), same=Sample(NEAR * 2 + 1), far=Sample(FAR))
    none = made.difference("near", "same")
    assert (none.value, none.low, none.high) == (0, 0, 0)
    one, two = made.difference("near", "far"), made.difference("far", "near")
    assert (one.low, one.value, one.high) == pytest.approx((-two.high, -two.value, -two.low))
    rhos = made.rhos
    assert one.value == pytest.approx(rhos["near"].value - rhos["far"].value)
    unpaired = rhos["near"].high - rhos["far"].low
    assert one.high < unpaired


def test_the_draws_of_a_difference_are_those_of_its_two_rhos():
    made = found(near=Sample(NEAR), far=Sample(FAR))
    drawn = np.random.default_rng(3).integers(0, 12, (400, 12))
    by_hand = [spearman(NEAR[i], OUTCOME[i]) - spearman(FAR[i], OUTCOME[i]) for i in drawn]
    low, high = np.quantile(by_hand, [0.025, 0.975])
    difference = made.difference("near", "far")
    assert (difference.low, difference.high) == pytest.approx((low, high))


def test_over_instructions_teachers_stand_still():
    still = Sample(NEAR, np.tile(NEAR, (400, 1)))
    moving = Sample(NEAR, NEAR + RANDOM.normal(size=(400, 12)))
    sides = {"still": still, "moving": moving}
    over = {
        name: agreement(sides, Sample(OUTCOME), name, **BOOTSTRAP)
        for name in ("teachers", "instructions", "both")
    }
    alone = over["instructions"].rhos
    assert alone["still"].low == alone["still"].high == alone["still"].value
    assert alone["moving"].low < alone["moving"].high
    for metric in sides:  # without the draws over instructions both are drawn alike
        assert over["teachers"].rhos[metric] == over["teachers"].rhos["still"]
    assert over["both"].rhos["still"] == over["teachers"].rhos["still"]
    assert over["both"].rhos["moving"].low < over["teachers"].rhos["moving"].low


def test_draws_of_the_outcome_move_every_rho():
    outcome = Sample(OUTCOME, OUTCOME + RANDOM.normal(size=(400, 12)))
    made = agreement({"near": Sample(NEAR)}, outcome, "instructions", **BOOTSTRAP)
    assert made.rhos["near"].low < made.rhos["near"].high


def test_a_metric_without_an_order_has_no_rho_and_takes_none_from_the_others():
    made = found(flat=Sample(np.ones(12)), near=Sample(NEAR))
    assert made.rhos["flat"] is None
    assert made.difference("flat", "near") is None
    assert made.undefined["flat"] == 400
    assert made.rhos["near"] == found(near=Sample(NEAR)).rhos["near"]


def test_resamples_without_an_order_are_counted_and_left_out():
    rare = Sample(np.eye(12)[0])
    made = found(rare=rare)
    lacking = sum(0 not in row for row in np.random.default_rng(3).integers(0, 12, (400, 12)))
    assert 0 < made.undefined["rare"] == lacking
    assert not np.isnan([made.rhos["rare"].low, made.rhos["rare"].high]).any()


def test_too_few_teachers_and_draws_of_another_number_are_refused():
    three = Sample(np.arange(3.0))
    with pytest.raises(DataError, match="too few"):
        agreement({"a": three}, three, "teachers", **BOOTSTRAP)
    drawn = Sample(NEAR, np.tile(NEAR, (7, 1)))
    with pytest.raises(DataError, match="do not belong"):
        agreement({"a": drawn}, Sample(OUTCOME), "both", **BOOTSTRAP)


@given(st.integers(4, 20), st.integers(0, 9))
def test_drawn_teachers_are_teachers(teachers: int, seed: int):
    drawn = resamples_of(teachers, "both", resamples=20, seed=seed)
    assert set(drawn.teachers.flat) <= set(range(teachers))
    still = resamples_of(teachers, "instructions", resamples=20, seed=seed)
    assert (still.teachers == np.arange(teachers)).all()


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Normal values of 19 teachers: of rho, and of the difference of two that hang together."""
    random = np.random.default_rng(2)
    covariance = [[1, 0.8, 0.6], [0.8, 1, 0.7], [0.6, 0.7, 1]]
    true = [6 / np.pi * np.arcsin(r / 2) for r in (0.8, 0.6)]
    held = []
    for number in range(150):
        outcome, one, two = random.multivariate_normal([0, 0, 0], covariance, size=19).T
        made = agreement(
            {"one": Sample(one), "two": Sample(two)}, Sample(outcome), "teachers",
            level=0.95, resamples=200, seed=number,
        )  # fmt: skip
        rho, apart = made.rhos["one"], made.difference("one", "two")
        held.append([rho.low <= true[0] <= rho.high, apart.low <= true[0] - true[1] <= apart.high])
    share = np.mean(held, axis=0)
    assert (share > 0.88).all()
    assert (share < 1).all()


def test_left_out_students_are_judged_by_what_the_others_chose():
    good, bad = OUTCOME, -OUTCOME
    grids = [np.stack([good, bad, bad]), np.stack([bad, good, bad]), np.stack([good, bad, bad])]
    made = leave_one_out(grids, [OUTCOME] * 3, **BOOTSTRAP)
    assert made.chosen == (0, 0, 0)  # the others of the second choose its worst; of the rest a tie
    assert [rho.value for rho in made.rhos] == [1.0, -1.0, 1.0]
    assert made.mean.value == pytest.approx(1 / 3)
    assert made.over_first.value == 0


def test_a_students_own_outcome_has_no_part_in_its_choice():
    grids = [RANDOM.normal(size=(6, 12)) for _ in range(3)]
    outcomes = [RANDOM.normal(size=12) for _ in range(3)]
    before = leave_one_out(grids, outcomes, **BOOTSTRAP)
    after = leave_one_out(grids, [-outcomes[0], *outcomes[1:]], **BOOTSTRAP)
    assert before.chosen[0] == after.chosen[0]
    assert before.rhos[0].value == -after.rhos[0].value


def test_of_pure_noise_the_best_of_a_grid_looks_good_and_the_left_out_does_not():
    random = np.random.default_rng(8)
    best, honest = [], []
    for number in range(60):
        grids = [random.normal(size=(30, 12)) for _ in range(2)]
        outcomes = [random.normal(size=12) for _ in range(2)]
        best.append(max(spearman(grids[0], outcomes[0])))
        made = leave_one_out(grids, outcomes, level=0.95, resamples=10, seed=number)
        honest.append(made.mean.value)
    assert np.mean(best) > 0.4
    assert abs(np.mean(honest)) < 0.15


def test_the_gain_over_the_first_place_is_paired():
    grids = [np.stack([FAR, NEAR]) for _ in range(2)]
    made = leave_one_out(grids, [OUTCOME] * 2, **BOOTSTRAP)
    assert made.chosen == (1, 1)
    gain = spearman(NEAR, OUTCOME) - spearman(FAR, OUTCOME)
    assert made.over_first.value == pytest.approx(gain)
    first = leave_one_out([grid[::-1] for grid in grids], [OUTCOME] * 2, **BOOTSTRAP)
    assert first.over_first.value == 0
    assert first.over_first.low <= 0 <= first.over_first.high


def test_of_equally_good_places_the_first_is_chosen():
    grids = [np.stack([NEAR, NEAR * 3, NEAR]) for _ in range(2)]
    assert leave_one_out(grids, [OUTCOME] * 2, **BOOTSTRAP).chosen == (0, 0)


def test_one_student_leaves_none_to_choose_on_and_no_order_is_refused():
    with pytest.raises(DataError, match="leaves none"):
        leave_one_out([np.stack([NEAR])], [OUTCOME], **BOOTSTRAP)
    with pytest.raises(DataError, match="nothing can be"):
        leave_one_out([np.ones((1, 12))] * 2, [OUTCOME] * 2, **BOOTSTRAP)
