"""Properties of the plan: every example once an epoch, the same step however it is cut."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.data.encode import Encoded
from heed.data.plan import StepPlan, number_of_steps, pack, plan, step_indices
from heed.data.treatment import Treatment

TREATMENT = Treatment(
    max_tokens=20, over_long="drop", limit=None, on_bad_row="error", duplicates="keep", loss_on="every_turn",
    validation_share=0.0, drop_contaminated=False, packing="best_fit", examples_per_step=7, epochs=3, steps=None,
    micro_tokens=40,
)  # fmt: skip
LENGTHS = st.lists(st.integers(1, 20), min_size=1, max_size=40)


def examples(lengths: list[int]) -> list[Encoded]:
    return [
        Encoded(str(i), [1] * n, [place >= n // 2 for place in range(n)])
        for i, n in enumerate(lengths)
    ]


@given(st.lists(st.integers(1, 6), max_size=30), st.integers(6, 13))
def test_packing_puts_each_example_into_one_row_and_no_row_is_over_full(lengths, most):
    rows = pack(lengths, most)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(0 < sum(lengths[index] for index in row) <= most for row in rows)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60))
def test_no_two_packed_rows_would_fit_into_one(lengths: list[int]):
    fills = sorted(sum(lengths[index] for index in row) for row in pack(lengths, 64))
    assert len(fills) == 1 or fills[0] + fills[1] > 64


@given(LENGTHS, st.integers(1, 12), st.integers(0, 5))
def test_every_example_comes_once_an_epoch(lengths: list[int], size: int, seed: int):
    treatment = replace(TREATMENT, examples_per_step=size)
    steps = list(step_indices(len(lengths), treatment, seed=seed))
    per_epoch = -(-len(lengths) // size)
    assert len(steps) == number_of_steps(len(lengths), treatment) == 3 * per_epoch
    for epoch in range(3):
        part = steps[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert sorted(index for step in part for index in step) == list(range(len(lengths)))


@given(st.integers(1, 20), st.integers(1, 50))
def test_a_number_of_steps_is_kept_over_epochs(count: int, steps: int):
    treatment = replace(TREATMENT, epochs=None, steps=steps)
    made = list(step_indices(count, treatment, seed=1))
    assert len(made) == number_of_steps(count, treatment) == steps
    times = Counter(index for step in made for index in step).values()
    assert max(times) - min([*times, *[0] * (len(times) < count)]) <= 1


def held(step: StepPlan) -> list[int]:
    return sorted(step.indices)


@given(LENGTHS, st.sampled_from([20, 40, 500]))
def test_what_a_step_holds_is_the_same_on_1_2_and_8_ranks(lengths: list[int], micro_tokens: int):
    treatment = replace(TREATMENT, micro_tokens=micro_tokens)
    plans = [list(plan(examples(lengths), treatment, ranks=r, seed=3)) for r in (1, 2, 8)]
    for steps in zip(*plans, strict=True):
        assert held(steps[0]) == held(steps[1]) == held(steps[2])
        assert len({step.tokens for step in steps}) == 1


@given(LENGTHS, st.integers(1, 9))
def test_every_rank_has_as_many_micro_batches_as_the_others(lengths: list[int], ranks: int):
    for step in plan(examples(lengths), TREATMENT, ranks=ranks, seed=0):
        assert len(step.micro) == ranks
        assert len({len(rank) for rank in step.micro}) == 1


@given(LENGTHS)
def test_a_step_counts_the_supervised_tokens_that_it_holds(lengths: list[int]):
    rows = examples(lengths)
    for step in plan(rows, TREATMENT, ranks=2, seed=0):
        assert step.tokens == sum(rows[index].supervised for index in held(step))


def test_the_seed_and_the_epoch_change_the_order():
    one = list(step_indices(28, TREATMENT, seed=1))
    assert one == list(step_indices(28, TREATMENT, seed=1))
    assert one != list(step_indices(28, TREATMENT, seed=2))
    assert one[:4] != one[4:8] != one[8:]


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_size_of_rows_does_not_change_what_is_learned_when(ranks: int):
    rows = examples([3, 20, 11, 7, 2, 16, 9, 1, 4] * 3)
    small, large = (
        [held(step) for step in plan(rows, replace(TREATMENT, micro_tokens=n), ranks=ranks, seed=5)]
        for n in (20, 4096)
    )
    assert small == large
