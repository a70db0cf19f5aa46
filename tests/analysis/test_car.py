"""CAR and its baselines: the formula, what each mean is over, and what is drawn together."""

from dataclasses import replace
from math import exp, inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from heed.analysis.car import (
    Formula,
    Measured,
    Read,
    car,
    losses,
    metrics_of,
    negatives,
    resampled,
    without_negatives,
)
from heed.analysis.car_summary import (
    firsts,
    ranks_of,
    recommendation,
    refuse_negative,
    sensitivity,
    summary_of,
)
from heed.core.errors import DataError

PLAIN = Formula(beta=1.0, per="token", conditioned=True)
BOOTSTRAP = {"level": 0.95, "resamples": 400, "seed": 0}
NUMBERS = st.floats(0.01, 20, allow_nan=False)


def measured_of(seed: int = 0, teachers: int = 4, n: int = 30, **changes) -> Measured:
    """Made-up numbers of responses of different lengths."""
    draw = np.random.default_rng(seed)
    tokens = draw.integers(2, 60, size=(teachers, n)).astype(float)
    given = tokens * draw.uniform(1, 4, size=(teachers, n))
    read = Read(given, given * draw.uniform(1, 1.5, size=(teachers, n)), tokens)
    every = np.ones(n, dtype=bool)
    made = Measured(
        teachers=tuple(f"t{i}" for i in range(teachers)),
        ids=tuple(map(str, range(n))),
        rewards={"good": draw.uniform(0, 1, size=(teachers, n))},
        read={"self": read},
        rewarded=every,
        weighed=every,
    )
    return replace(made, **changes)


def test_car_is_the_formula():
    assert car(0.6, 2.0, 0.5) == 0.3
    assert car(np.array([1.0, 2.0]), np.array([1.0, 3.0]), 2.0).tolist() == [1 / 3, 2 / 7]


@pytest.mark.parametrize("beta", [-0.1, float("nan")])
def test_a_beta_below_nothing_is_refused(beta: float):
    with pytest.raises(ValueError, match="must be 0 or more"):
        car(1.0, 1.0, beta)


@given(
    arrays(float, 6, elements=NUMBERS, unique=True),
    arrays(float, 6, elements=NUMBERS, unique=True),
)
def test_beta_goes_from_the_order_of_rewards_to_that_of_reward_over_loss(reward, loss):
    assert car(reward, loss, 0.0).tolist() == reward.tolist()
    ratio = reward / loss
    far = np.abs(ratio[:, None] - ratio)[~np.eye(6, dtype=bool)].min()
    if far > 1e-6:
        assert np.argsort(car(reward, loss, 1e12)).tolist() == np.argsort(ratio).tolist()
    assert car(reward, loss, inf).tolist() == ratio.tolist()


@given(NUMBERS, NUMBERS, st.floats(0.01, 10), st.floats(1.01, 3))
def test_more_reward_is_better_and_more_loss_is_worse(reward, loss, beta, more):
    assert car(reward * more, loss, beta) > car(reward, loss, beta) > car(reward, loss * more, beta)


def naive(measured: Measured, who: int) -> dict[str, float]:
    """Every metric of a teacher, by loops."""
    read, n = measured.read["self"], range(len(measured.ids))
    nats, alone, tokens = (
        [float(x[who, i]) for i in n if measured.weighed[i]]
        for x in (read.given, read.alone, read.tokens)
    )
    rewards = [float(measured.rewards["good"][who, i]) for i in n if measured.rewarded[i]]
    count = len(nats)
    per = {
        ("token", True): sum(nats) / sum(tokens),
        ("token", False): sum(alone) / sum(tokens),
        ("response", True): sum(nats) / count,
        ("response", False): sum(alone) / count,
        ("response_mean", True): sum(a / t for a, t in zip(nats, tokens, strict=True)) / count,
        ("response_mean", False): sum(a / t for a, t in zip(alone, tokens, strict=True)) / count,
    }
    rows = list(zip(nats, alone, tokens, strict=True))
    reward = sum(rewards) / len(rewards)
    return {
        **{f"{kind}": value for kind, value in per.items()},
        "reward": reward,
        "car": reward / (1 + per["token", True]),
        "ifd_self": sum(exp(a / t) / exp(b / t) for a, b, t in rows) / count,
        "ppl_self": sum(exp(a / t) for a, _, t in rows) / count,
        "length": sum(tokens) / count,
    }


def halves() -> Measured:
    """Rewards of one half of the instructions, losses of the other."""
    first = np.arange(30) % 2 == 0
    return measured_of(rewarded=first, weighed=~first)


@pytest.mark.parametrize("measured", [measured_of(), halves()], ids=["all", "halves"])
def test_every_metric_is_that_of_a_loop_over_responses(measured: Measured):
    found = metrics_of(measured, PLAIN)
    weights = np.ones((1, 30)) * measured.weighed
    for who in range(4):
        expected = naive(measured, who)
        for name in ("reward", "car", "ifd_self", "ppl_self", "length"):
            assert found[name][0, who] == pytest.approx(expected[name], rel=1e-12), name
        for per in ("token", "response", "response_mean"):
            for given_ in (True, False):
                value = losses(measured.read["self"], per, given_, weights)[0, who]
                assert value == pytest.approx(expected[f"{(per, given_)}"], rel=1e-12)


def test_length_is_the_only_thing_that_makes_the_loss_of_whole_responses_larger():
    read = Read(*(np.array([[2.0, 8.0]]),) * 2, np.array([[1.0, 4.0]]))
    ones = np.ones((1, 2))
    assert losses(read, "token", True, ones).item() == 2.0
    assert losses(read, "response_mean", True, ones).item() == 2.0
    assert losses(read, "response", True, ones).item() == 5.0


def test_a_reference_adds_its_own_baselines_and_changes_nothing_else():
    plain, other = measured_of(), measured_of(seed=1)
    both = replace(plain, read={**plain.read, "reference": other.read["self"]})
    found, alone = metrics_of(both, PLAIN), metrics_of(plain, PLAIN)
    assert found.keys() - alone.keys() == {"ifd_reference", "ppl_reference"}
    assert all(np.array_equal(found[name], alone[name]) for name in alone)
    assert np.array_equal(found["ifd_reference"], metrics_of(other, PLAIN)["ifd_self"])


def test_all_eight_baselines_stand_beside_car():
    plain = measured_of()
    rewards = {name: plain.rewards["good"] * i for i, name in enumerate(("one", "two", "three"), 1)}
    both = replace(
        plain, rewards=rewards, read={"self": plain.read["self"], "reference": plain.read["self"]}
    )
    assert set(metrics_of(both, PLAIN)) == {
        "car", "loss", "reward", "reward two", "reward three", "ifd_self", "ppl_self",
        "ifd_reference", "ppl_reference", "length",
    }  # fmt: skip


def test_a_teacher_without_rewards_has_no_car_and_all_else():
    rewards = measured_of().rewards["good"].copy()
    rewards[2] = np.nan
    found = metrics_of(measured_of(rewards={"good": rewards}), PLAIN)
    assert np.isnan([found["car"][0, 2], found["reward"][0, 2]]).all()
    assert not np.isnan([found[name][0, 2] for name in ("loss", "ifd_self", "length")]).any()
    assert not np.isnan(found["car"][0, [0, 1, 3]]).any()


def test_instructions_are_drawn_together_for_all_teachers_and_metrics():
    """Two teachers that said the same have the same draws; else their order would be noise."""
    one = measured_of(teachers=1)
    twice = replace(
        one,
        teachers=("a", "b"),
        rewards={"good": np.repeat(one.rewards["good"], 2, axis=0)},
        read={"self": Read(*(np.repeat(x, 2, axis=0) for x in vars(one.read["self"]).values()))},
    )
    for draws in resampled(twice, PLAIN, 50, 0).values():
        assert np.array_equal(draws[:, 0], draws[:, 1])
        assert len(np.unique(draws[:, 0])) > 40


def test_a_draw_is_the_metrics_of_the_instructions_that_it_draws():
    measured = measured_of(n=5)
    weights = np.array([[2.0, 0, 1, 0, 2]])
    chosen = [0, 0, 2, 4, 4]
    copied = replace(
        measured,
        rewards={"good": measured.rewards["good"][:, chosen]},
        read={"self": Read(*(x[:, chosen] for x in vars(measured.read["self"]).values()))},
    )
    drawn, expected = metrics_of(measured, PLAIN, weights), metrics_of(copied, PLAIN)
    for name, values in drawn.items():
        assert values == pytest.approx(expected[name], rel=1e-12), name


def test_the_seed_decides_the_draws_and_nothing_else():
    one, two = (resampled(measured_of(), PLAIN, 30, 7)["car"] for _ in range(2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, resampled(measured_of(), PLAIN, 30, 8)["car"])


@given(arrays(float, (3, 5), elements=st.floats(-5, 5)))
def test_shifted_and_squeezed_rewards_are_never_negative_and_keep_their_order(rewards):
    for negative in ("shift_min", "sigmoid"):
        found = without_negatives(rewards, negative)
        assert (found >= 0).all()
        below = rewards[:, :, None, None] < rewards - 1e-9
        assert (found[:, :, None, None] <= found)[below].all()
    assert np.array_equal(without_negatives(rewards, "keep"), rewards)


@pytest.mark.parametrize("negative", ["shift_min", "sigmoid", "keep"])
def test_a_reward_that_counts_in_no_mean_moves_none(negative: str):
    half = halves()
    rewards = half.rewards["good"].copy()
    rewards[0, ~half.rewarded] = -50
    one = Formula(beta=1.0, per="token", conditioned=True, negative=negative)
    own, other = (metrics_of(m, one) for m in (half, replace(half, rewards={"good": rewards})))
    assert np.array_equal(own["car"], other["car"])


def below_zero() -> Measured:
    rewards = measured_of().rewards["good"].copy()
    rewards[1] -= 2
    return measured_of(rewards={"good": rewards})


def test_a_negative_mean_is_refused_with_what_else_could_be_done():
    assert negatives(measured_of()) == {}
    assert negatives(below_zero()) == {"good": (30, 120, ("t1",))}
    with pytest.raises(DataError, match=r"mean of t1 is negative.*shift_min.*sigmoid.*keep"):
        refuse_negative(below_zero(), PLAIN)
    for negative in ("keep", "shift_min", "sigmoid"):
        refuse_negative(below_zero(), replace(PLAIN, negative=negative))


def test_of_a_negative_reward_more_loss_makes_more_car():
    """What the refusal warns of."""
    assert car(-1.0, 3.0, 1.0) > car(-1.0, 2.0, 1.0)


def test_negative_rewards_are_no_reason_to_refuse_where_no_mean_is():
    rewards = measured_of().rewards["good"].copy()
    rewards[0, 0] = -0.1
    refuse_negative(measured_of(rewards={"good": rewards}), PLAIN)


def test_fewer_than_two_instructions_are_refused():
    one = np.arange(30) == 3
    with pytest.raises(DataError, match="1 of 30 shared instructions are left for the losses"):
        measured_of(weighed=one)


@given(arrays(float, (4, 5), elements=st.sampled_from([0.1, 0.2, 0.3])))
def test_ranks_and_shares_of_the_first_place_add_up(values):
    ranks = ranks_of(values)
    assert (ranks.min(axis=1) == 1).all()
    assert (ranks <= 5).all()
    assert firsts(values).sum(axis=1) == pytest.approx(1)
    assert ((firsts(values) > 0) == (ranks == 1)).all()


def clear() -> Measured:
    """t0 is better than t1, and t1 than t2, on every instruction; t3 has no reward."""
    made = measured_of()
    rewards = np.array([[0.9], [0.6], [0.2], [np.nan]]) + np.zeros((4, 30))
    nats = np.array([[1.0], [1.5], [2.0], [1.2]]) * made.read["self"].tokens
    read = Read(nats, nats * 1.2, made.read["self"].tokens)
    return replace(made, rewards={"good": rewards}, read={"self": read})


def test_what_is_clear_is_said_to_be():
    found = summary_of(clear(), PLAIN, (0.5,), BOOTSTRAP)
    assert [one["name"] for one in found["teachers"]] == ["t0", "t1", "t2", "t3"]
    best, *_, bare = found["teachers"]
    assert (best["first"], best["top"], best["rank"]["high"]) == (1.0, 1.0, 1.0)
    assert bare["rank"] is bare["first"] is bare["metrics"]["car"] is None
    assert bare["metrics"]["loss"]["value"] == pytest.approx(1.2)
    assert recommendation(found, 0.95) == "t0 is ranked first in 100 % of resamples (t1 in 0 %)."


def test_what_cannot_be_told_apart_is_said_to_be_so():
    draw = np.random.default_rng(3)
    made = clear()
    rewards = np.tile(draw.uniform(0, 1, 30), (4, 1)) + draw.normal(0, 0.3, (4, 30))
    read = Read(*(np.tile(x[:1], (4, 1)) for x in vars(made.read["self"]).values()))
    near = replace(made, rewards={"good": rewards}, read={"self": read})
    found = summary_of(near, replace(PLAIN, negative="keep"), (), BOOTSTRAP)
    assert max(one["first"] for one in found["teachers"]) < 0.95
    assert sum(one["first"] for one in found["teachers"]) == pytest.approx(1)
    assert recommendation(found, 0.95).endswith("cannot be told apart.")


def test_one_teacher_with_a_reward_is_no_choice():
    rewards = np.full((4, 30), np.nan)
    rewards[2] = 0.5
    found = summary_of(replace(clear(), rewards={"good": rewards}), PLAIN, (), BOOTSTRAP)
    assert "t2 is the only teacher with a reward" in recommendation(found, 0.95)
    assert found["lead"] is None


def test_sensitivity_begins_with_the_rewards_and_ends_with_reward_over_loss():
    measured = measured_of()
    more = replace(measured, rewards={**measured.rewards, "bad": 1 - measured.rewards["good"]})
    found = sensitivity(more, PLAIN, (0.5, 3.0))
    names = [one["name"] for one in found["beta"]]
    assert names == ["0 (reward alone)", "0.5", "1", "3", "infinity (r / L)"]
    assert [one["chosen"] for one in found["beta"]] == [False, False, True, False, False]
    metrics = {name: values[0] for name, values in metrics_of(more, PLAIN).items()}
    by_reward = [more.teachers[i] for i in np.argsort(-metrics["reward"])]
    assert found["beta"][0]["order"] == by_reward
    by_ratio = np.argsort(-metrics["reward"] / metrics["loss"])
    assert found["beta"][-1]["order"] == [more.teachers[i] for i in by_ratio]
    assert [one["rho"] for one in found["reward"] if one["chosen"]] == [1.0]
    assert len(found["definition"]) == 6
    assert sum(one["chosen"] for one in found["definition"]) == 1


@pytest.mark.parametrize("negative", ["shift_min", "sigmoid"])
def test_what_is_done_about_negatives_goes_into_car_and_leaves_the_baselines(negative: str):
    """Squeezed rewards rank otherwise than plain ones, so the mean reward stays the plain one."""
    rewards = np.array([[8.0, 8, 8, -1, -1], [2, 2, 2, 2, 2]])
    two = measured_of(teachers=2, n=5, rewards={"good": rewards, "more": rewards + 3})
    changed = replace(PLAIN, negative=negative)
    found = {name: values[0] for name, values in metrics_of(two, changed).items()}
    assert found["reward"] == pytest.approx([4.4, 2.0])
    assert found["reward more"] == pytest.approx([7.4, 5.0])
    taken = without_negatives(rewards, changed.negative).mean(axis=1)
    assert found["reward_taken"] == pytest.approx(taken)
    assert found["car"] == pytest.approx(taken / (1 + found["loss"]))
    assert "reward_taken" not in metrics_of(two, PLAIN)
