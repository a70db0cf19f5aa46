"""What the page says of metrics and deltas: found where it was put, and not where it was not."""

import json
from dataclasses import replace

import numpy as np
import pytest
from made_up_teaching import BOOTSTRAP, FORMULA, INSTRUCTIONS, TEACHERS, tried, two_students

from heed.analysis.agreement import Sample, agreement
from heed.analysis.car import metrics_of, resampled
from heed.analysis.spearman import spearman
from heed.analysis.teaching import LOW_FIRST, teaching_numbers
from heed.analysis.teaching_choices import betas_of
from heed.core.errors import DataError
from heed.core.resample import ends

BETAS = (0.3, 1.0, 3.0, float("inf"))


@pytest.fixture(scope="module")
def found():
    return teaching_numbers(two_students(reference=True), FORMULA, BETAS, BOOTSTRAP)


def column(student, metric):
    return [row["metrics"][metric] for row in student["teachers"]]


def deltas_of(student):
    return [row["delta"] for row in student["teachers"]]


def test_every_rho_is_that_of_the_shown_values(found):
    for student in found["students"]:
        for metric, rhos in student["rhos"].items():
            rho = float(spearman(column(student, metric), deltas_of(student)))
            for over in ("teachers", "instructions"):
                assert rhos[over]["value"] == pytest.approx(rho)
                assert rhos[over]["low"] <= rho <= rhos[over]["high"]


def test_all_of_it_is_plain_data(found):
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_all_metrics_of_the_source_are_ranked(found):
    assert set(found["mean"]) == {
        "car", "reward", "loss", "length", "ifd_self", "ppl_self", "ifd_reference", "ppl_reference",
    }  # fmt: skip
    assert [one["metric"] for one in found["published"]["car"]] == ["CAR"]
    assert len(found["published"]["reward"]) == 3


def test_what_makes_the_delta_predicts_it_best(found):
    rhos = {metric: rho["value"] for metric, rho in found["mean"].items()}
    assert rhos["car"] > 0.95
    assert rhos["car"] > max(abs(rhos[m]) for m in ("reward", "length"))
    assert rhos["loss"] < 0 < rhos["reward"]


def test_the_mean_is_over_students_with_the_same_teachers_drawn(found):
    for metric, mean in found["mean"].items():
        values = [s["rhos"][metric]["teachers"]["value"] for s in found["students"]]
        assert mean["value"] == pytest.approx(np.mean(values))


def test_differences_turn_losses_round_and_name_what_they_show(found):
    every = {(d["student"], d["two"]): d for d in found["differences"]}
    assert {student for student, _ in every} == {"nano", "micro", None}
    for (student, other), one in every.items():
        sign = -1 if other in LOW_FIRST else 1
        rhos = found["mean"]
        if student is not None:
            (mine,) = (s["rhos"] for s in found["students"] if s["name"] == student)
            rhos = {metric: mine[metric]["teachers"] for metric in mine}
        assert one["value"] == pytest.approx(rhos["car"]["value"] - sign * rhos[other]["value"])
        apart = one["low"] > 0 or one["high"] < 0
        assert one["verdict"] == ("differs" if apart else "no difference shown")
    assert every[None, "length"]["verdict"] == "differs"


def test_the_interval_of_a_difference_is_that_of_the_turned_loss():
    (one,) = two_students()[:1]
    found = teaching_numbers([one], FORMULA, BETAS, BOOTSTRAP)
    values = metrics_of(one.measured, FORMULA)
    sides = {"car": Sample(values["car"][0]), "turned": Sample(-values["loss"][0])}
    expected = agreement(sides, one.deltas, "teachers", **BOOTSTRAP).difference("car", "turned")
    (loss,) = [d for d in found["differences"] if d["two"] == "loss"]
    assert (loss["low"], loss["high"]) == pytest.approx((expected.low, expected.high))


def test_equal_metrics_show_no_difference():
    (one,) = two_students()[:1]
    found = teaching_numbers([one], replace(FORMULA, beta=0.0), BETAS, BOOTSTRAP)
    (same,) = [d for d in found["differences"] if d["two"] == "reward"]
    assert (same["value"], same["low"], same["high"]) == (0, 0, 0)
    assert same["verdict"] == "no difference shown"


def test_a_pick_is_the_first_of_a_metric_and_costs_what_the_best_gives_more(found):
    for student in found["students"]:
        deltas = dict(
            zip((row["teacher"] for row in student["teachers"]), deltas_of(student), strict=True)
        )
        for metric, pick in student["picks"].items():
            values = column(student, metric)
            place = values.index(min(values) if metric in LOW_FIRST else max(values))
            assert pick["teachers"] == [student["teachers"][place]["teacher"]]
            assert pick["delta"] == deltas[pick["teachers"][0]]
            assert pick["lost"] == pytest.approx(max(deltas.values()) - pick["delta"])


def test_beta_is_chosen_by_the_other_student_and_set_against_the_reward(found):
    beta = found["beta"]
    assert beta["grid"] == [0.0, 0.3, 1.0, 3.0, "inf"]
    nano, micro = beta["left_out"]
    for one, other in ((nano, "micro"), (micro, "nano")):
        rhos = beta["rhos"][other]
        assert one["beta"] == beta["grid"][rhos.index(max(rhos))]
        own = beta["rhos"][one["student"]]
        assert one["value"] == pytest.approx(own[beta["grid"].index(one["beta"])])
    by_reward = np.mean([beta["rhos"][name][0] for name in ("nano", "micro")])
    assert beta["over_reward"]["value"] == pytest.approx(beta["mean"]["value"] - by_reward)
    for student in found["students"]:
        assert beta["rhos"][student["name"]][0] == student["rhos"]["reward"]["teachers"]["value"]


def test_one_student_has_rhos_and_no_beta_of_others():
    found = teaching_numbers(two_students()[:1], FORMULA, BETAS, BOOTSTRAP)
    assert "leaves none to choose on" in found["beta"]["reason"]
    assert betas_of(two_students()[:1], FORMULA, BETAS, BOOTSTRAP) == found["beta"]
    assert len(found["beta"]["rhos"]["nano"]) == 5
    assert found["mean"]["car"] == found["students"][0]["rhos"]["car"]["teachers"]
    assert all(one["student"] == "nano" for one in found["differences"])


def test_every_reading_of_the_formula_is_tried(found):
    kinds = {(one["per"], one["conditioned"]) for one in found["definitions"]}
    assert len(kinds) == len(found["definitions"]) == 6
    (chosen,) = [d for d in found["definitions"] if (d["per"], d["conditioned"]) == ("token", True)]
    for student in found["students"]:
        for metric in ("loss", "car"):
            rho = student["rhos"][metric]["teachers"]["value"]
            assert chosen[metric][student["name"]] == pytest.approx(rho)


def test_a_teacher_without_a_reward_takes_the_metric_off_the_table_with_a_reason():
    one, two = two_students()
    one.measured.rewards["judge"][3] = np.nan
    found = teaching_numbers([one, two], FORMULA, BETAS, BOOTSTRAP)
    assert set(found["unranked"]) == {"car", "reward"}
    assert "1 of 10 teachers have none" in found["unranked"]["reward"]
    assert "car" not in found["mean"]
    assert "loss" in found["mean"]
    assert "not all teachers have a reward" in found["beta"]["reason"]


def test_a_resample_without_a_reward_is_left_out_counted_and_said():
    """As a ranking does; all others say what they said."""
    one, two = two_students()
    rewarded = np.zeros(INSTRUCTIONS, dtype=bool)
    rewarded[:2] = True
    few = replace(one, measured=replace(one.measured, rewarded=rewarded))
    draws = resampled(few.measured, FORMULA, BOOTSTRAP["resamples"], BOOTSTRAP["seed"])
    empty = np.isnan(draws["car"]).any(axis=1)
    assert 10 < empty.sum() < 50
    found = teaching_numbers([few, two], FORMULA, BETAS, BOOTSTRAP)
    assert found["unranked"] == {}
    said = f"nano: {empty.sum()} of {BOOTSTRAP['resamples']} resamples drew no instruction that "
    said += "car, reward can"
    assert [line.startswith(said) for line in found["resamples_left_out"]] == [True]
    rhos = spearman(draws["car"][~empty], few.deltas.draws[~empty])
    low, high = ends(rhos, 0.95)
    shown = found["students"][0]["rhos"]["car"]["instructions"]
    assert shown["low"] == pytest.approx(min(low, shown["value"]))
    assert shown["high"] == pytest.approx(max(high, shown["value"]))
    whole = teaching_numbers([one, two], FORMULA, BETAS, BOOTSTRAP)
    assert whole["resamples_left_out"] == []
    assert found["students"][0]["rhos"]["loss"] == whole["students"][0]["rhos"]["loss"]


def test_deltas_that_are_all_alike_have_no_order_and_no_number():
    one = tried("nano", np.linspace(0.3, 1, 8), np.linspace(1, 2, 8), [0.25] * 8)
    found = teaching_numbers([one], FORMULA, BETAS, BOOTSTRAP)
    rhos = found["students"][0]["rhos"]["car"]
    assert rhos["teachers"] is rhos["instructions"] is None
    assert rhos["without_order"] == BOOTSTRAP["resamples"]
    assert {d["verdict"] for d in found["differences"]} == {"no order"}


def test_other_teachers_or_too_few_are_refused():
    one, two = two_students()
    few = tried("few", [0.5, 0.6, 0.7], [1, 2, 3], [0.1, 0.2, 0.3])
    with pytest.raises(DataError, match="too few"):
        teaching_numbers([few], FORMULA, BETAS, BOOTSTRAP)
    other = replace(two.measured, teachers=tuple("abcdefghij"))
    with pytest.raises(DataError, match="other teachers"):
        teaching_numbers([one, replace(two, measured=other)], FORMULA, BETAS, BOOTSTRAP)


def test_the_order_of_the_teachers_decides_no_number():
    one = two_students()[0]
    turned = np.arange(TEACHERS)[::-1]
    measured = one.measured
    again = replace(
        one,
        measured=replace(
            measured,
            teachers=measured.teachers[::-1],
            rewards={k: v[turned] for k, v in measured.rewards.items()},
            read={
                who: replace(
                    r, given=r.given[turned], alone=r.alone[turned], tokens=r.tokens[turned]
                )
                for who, r in measured.read.items()
            },
        ),
        deltas=Sample(one.deltas.values[turned], one.deltas.draws[:, turned]),
    )
    sides = [teaching_numbers([s], FORMULA, BETAS, BOOTSTRAP) for s in (one, again)]
    for metric, rho in sides[0]["mean"].items():
        assert rho["value"] == pytest.approx(sides[1]["mean"][metric]["value"])
    assert sides[0]["students"][0]["picks"] == sides[1]["students"][0]["picks"]


def test_teachers_that_tie_for_the_first_place_are_all_the_pick_of_a_metric():
    """Else the order in which they were listed would choose."""
    one = two_students()[0]
    one.measured.rewards["judge"][:] = np.linspace(0.1, 0.5, TEACHERS)[:, None]
    one.measured.rewards["judge"][[2, 5, 7]] = 0.75
    (student,) = teaching_numbers([one], FORMULA, BETAS, BOOTSTRAP)["students"]
    pick, deltas = student["picks"]["reward"], one.deltas.values
    assert pick["teachers"] == ["teacher 2", "teacher 5", "teacher 7"]
    assert pick["delta"] == pytest.approx(deltas[[2, 5, 7]].mean())
    assert pick["lost"] == pytest.approx(deltas.max() - deltas[[2, 5, 7]].mean())


def below_zero():
    """Two students whose first teacher has a negative mean reward."""
    found = two_students()
    for one in found:
        one.measured.rewards["judge"][0] -= 3
    return found


def test_negative_means_are_refused_or_told_as_was_chosen():
    with pytest.raises(DataError, match=r"mean of teacher 0 is negative.*shift_min"):
        teaching_numbers(below_zero(), FORMULA, BETAS, BOOTSTRAP)
    kept = teaching_numbers(below_zero(), replace(FORMULA, negative="keep"), BETAS, BOOTSTRAP)
    assert len(kept["negative"]) == 1
    assert "40 of 400 rewards judge are negative" in kept["negative"][0]
    assert "the means of teacher 0" in kept["negative"][0]
    assert teaching_numbers(two_students(), FORMULA, BETAS, BOOTSTRAP)["negative"] == []


def test_a_study_s_choices_are_named_by_its_own_key():
    students = [
        replace(one, measured=replace(one.measured, where="study.teaching")) for one in below_zero()
    ]
    with pytest.raises(DataError, match=r"Give study\.teaching\.negative=shift_min"):
        teaching_numbers(students, FORMULA, BETAS, BOOTSTRAP)
    kept = teaching_numbers(students, replace(FORMULA, negative="keep"), BETAS, BOOTSTRAP)
    assert "(study.teaching.negative=keep)" in kept["negative"][0]


def test_the_reward_that_car_takes_stands_beside_the_plain_mean():
    squeezed = replace(FORMULA, negative="sigmoid")
    found = teaching_numbers(below_zero(), squeezed, BETAS, BOOTSTRAP)
    for one in found["students"]:
        plain, taken = column(one, "reward"), column(one, "reward_taken")
        assert plain[0] < 0 < taken[0]
        loss = column(one, "loss")
        assert column(one, "car") == pytest.approx(np.array(taken) / (1 + np.array(loss)))
    assert {d["two"] for d in found["differences"]} >= {"reward", "reward_taken"}


def test_two_settings_of_one_student_leave_none_to_choose_beta_on():
    one, two = two_students()
    same = [replace(one, model="nano"), replace(two, model="nano")]
    assert (
        "leaves none to choose on"
        in teaching_numbers(same, FORMULA, BETAS, BOOTSTRAP)["beta"]["reason"]
    )
    other = replace(two, student="micro", model="micro")
    found = teaching_numbers([*same, other], FORMULA, BETAS, BOOTSTRAP)["beta"]
    alone = found["rhos"]["micro"]
    best = found["grid"][alone.index(max(alone))]
    assert [one["beta"] for one in found["left_out"]][:2] == [best, best]


def test_a_reference_models_metrics_are_set_against_car_too(found):
    assert {d["two"] for d in found["differences"]} >= {"ifd_reference", "ppl_reference"}
