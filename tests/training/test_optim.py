"""Properties of the learning rate and the optimiser."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heed.training.optim import AdamW, LearningRate

SCHEDULES = ["cosine", "linear", "constant"]


def rate(**changes) -> LearningRate:
    rest = {"name": "r", "peak": 1e-3, "schedule": "cosine", "warmup_steps": 0, "final": 0.1}
    return LearningRate(**(rest | changes))


def factors(lr: LearningRate, steps: int) -> list[float]:
    return [lr.factor(step, steps) for step in range(steps)]


CASES = given(
    st.sampled_from(SCHEDULES), st.integers(0, 20), st.integers(1, 60), st.floats(0, 1)
)  # fmt: skip


@CASES
def test_the_rate_rises_to_the_peak_and_then_never_rises(schedule, warmup, steps, final):
    found = factors(rate(schedule=schedule, warmup_steps=warmup, final=final), steps)
    rise, fall = found[:warmup], found[warmup:]
    assert rise == [(step + 1) / warmup for step in range(len(rise))]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(fall))
    assert all(0 < factor <= 1 for factor in rise)
    assert not fall or fall[0] == pytest.approx(1)


@CASES
def test_the_rate_never_falls_below_its_final_share(schedule, warmup, steps, final):
    fall = factors(rate(schedule=schedule, warmup_steps=warmup, final=final), steps)[warmup:]
    floor = 1 if schedule == "constant" else final
    assert all(factor >= floor - 1e-12 for factor in fall)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_a_long_training_ends_at_its_final_share(schedule: str):
    lr = rate(schedule=schedule, warmup_steps=10, final=0.1)
    assert lr.factor(9999, 10_000) == pytest.approx(0.1, abs=1e-3)
    assert lr.factor(5005, 10_000) == pytest.approx(0.55, abs=1e-3)


def test_decay_is_on_matrices_only_and_frozen_weights_are_left_out():
    frozen = torch.nn.Parameter(torch.ones(2, 2), requires_grad=False)
    matrix, vector = (torch.nn.Parameter(torch.ones(*shape)) for shape in [(2, 2), (2,)])
    adam = AdamW(beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1, clip_norm=None)
    groups = adam.build([frozen, matrix, vector], rate()).param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert [[p.shape for p in group["params"]] for group in groups] == [[(2, 2)], [(2,)]]
    assert {group["betas"] for group in groups} == {(0.9, 0.95)}


def test_where_only_matrices_move_there_is_no_empty_group():
    adam = AdamW(beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1, clip_norm=None)
    assert len(adam.build([torch.nn.Parameter(torch.ones(2, 2))], rate()).param_groups) == 1
