"""Properties of the plan: every example once an epoch, the same step however it is cut."""

import gzip
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.data.dataset import Encoded
from heed.data.encode import encode_all
from heed.data.plan import (
    StepPlan,
    number_of_steps,
    order_digest,
    pack,
    plan,
    plan_digest,
    plan_record,
    step_indices,
)
from heed.data.treatment import Treatment

TREATMENT = Treatment(
    max_tokens=20, over_long="drop", limit=None, on_bad_row="error", duplicates="keep",
    loss_on="every_turn", validation_share=0.0, drop_contaminated=False, packing="best_fit",
    examples_per_step=7, epochs=3, steps=None, micro_tokens=40,
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


def best_fit(lengths: list[int], most: int) -> list[list[int]]:
    """Best fit, longest first, as one says it: look at every row for the fullest that has room."""
    rows: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        room = [most - sum(lengths[i] for i in row) for row in rows]
        fits = [place for place, free in enumerate(room) if free >= lengths[index]]
        if fits:
            rows[min(fits, key=lambda place: (room[place], place))].append(index)
        else:
            rows.append([index])
    return rows


@given(st.lists(st.integers(1, 20), max_size=60), st.integers(20, 70))
def test_each_example_goes_where_it_leaves_the_least_room(lengths: list[int], most: int):
    assert pack(lengths, most) == best_fit(lengths, most)


def test_no_work_is_done_row_by_row():
    """Comparisons and look-ups of lengths grow with n log n, not with n times rows."""
    looks = Counter()

    class Length(int):
        def __lt__(self, other):
            looks["n"] += 1
            return int(self) < other

        def __gt__(self, other):
            looks["n"] += 1
            return int(self) > other

        def __le__(self, other):
            looks["n"] += 1
            return int(self) <= other

        def __ge__(self, other):
            looks["n"] += 1
            return int(self) >= other

    drawn = np.random.default_rng(0).integers(8, 1024, 20_000).tolist()
    rows = pack([Length(n) for n in drawn], 4096)
    assert len(rows) > 2000
    assert looks["n"] < 40 * len(drawn)


@pytest.mark.shared
@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_the_record_counts_uneven_steps_and_those_that_no_division_makes_even(shared_data, ranks):
    """Real lengths (4 characters count as a token), two examples a rank."""
    path = shared_data / "alpaca_eval" / "outputs" / "vicuna-7b-v1.5.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        said = [len(row["instruction"] + row["output"]) // 4 for row in map(json.loads, file)]
    rows = examples([n for n in said if 2 <= n <= 1024])
    treatment = replace(
        TREATMENT, max_tokens=1024, micro_tokens=4096, examples_per_step=2 * ranks, epochs=1
    )
    steps = list(plan(rows, treatment, ranks=ranks, seed=1))
    found = plan_record(steps, treatment, rows)["rank_balance"]
    assert found["not_known"] == 0
    assert 0 < found["no_division"] == found["above"] < found["steps"]


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


@given(LENGTHS, st.integers(1, 5))
def test_without_packing_every_example_has_a_row_of_its_own(lengths: list[int], ranks: int):
    rows, alone = examples(lengths), replace(TREATMENT, packing="none")
    for one, other in zip(
        plan(rows, alone, ranks=ranks, seed=2), plan(rows, TREATMENT, ranks=1, seed=2), strict=True
    ):
        assert all(len(row) <= 1 for rank in one.micro for row in rank)
        assert held(one) == held(other)
        assert one.tokens == other.tokens
        assert one.loads == [sum(lengths[i] for row in rank for i in row) for rank in one.micro]


@given(LENGTHS, st.integers(1, 4), st.data())
def test_a_plan_goes_on_at_any_micro_batch(lengths: list[int], ranks: int, data):
    rows, treatment = examples(lengths), replace(TREATMENT, micro_tokens=20, epochs=2)
    whole = list(plan(rows, treatment, ranks=ranks, seed=4))
    step = data.draw(st.integers(0, len(whole) - 1))
    micro = data.draw(st.integers(0, len(whole[step].micro[0])))
    rest = list(plan(rows, treatment, ranks=ranks, seed=4, start=(step, micro)))
    assert rest[1:] == whole[step + 1 :]
    assert rest[0].tokens == whole[step].tokens
    for part, rank in zip(rest[0].micro, whole[step].micro, strict=True):
        assert part == rank[micro:]


def test_a_plan_does_not_begin_beyond_a_steps_last_micro_batch():
    with pytest.raises(AssertionError, match="step 0 has no micro-batch 1"):
        next(plan(examples([5, 6]), TREATMENT, ranks=1, seed=0, start=(0, 2)))


CHANGES = [{"examples_per_step": 6}, {"micro_tokens": 20}, {"epochs": 2}, {"packing": "none"}]


def test_the_digest_changes_with_anything_in_the_plan():
    rows = examples([3, 20, 11, 7, 2, 16, 9, 1, 4] * 3)
    plans = [plan(rows, TREATMENT, ranks=r, seed=s) for r, s in ((1, 0), (2, 0), (3, 0), (1, 1))]
    plans += [plan(rows, replace(TREATMENT, **c), ranks=1, seed=0) for c in CHANGES]
    half = [row._replace(mask=[False] * (len(row.mask) - 1) + [True]) for row in rows]
    plans.append(plan(half, TREATMENT, ranks=1, seed=0))
    digests = [plan_digest(steps, rows) for steps in plans]
    assert len(set(digests)) == len(digests) == 9
    assert plan_digest(plan(rows, TREATMENT, ranks=1, seed=0), rows) == digests[0]


@pytest.mark.parametrize("place", [0, 5])
def test_the_digest_changes_with_any_token_and_its_mask(place: int):
    rows = examples([3, 20, 11, 7, 2, 16])
    steps = list(plan(rows, TREATMENT, ranks=2, seed=0))
    row = rows[place]
    changes = [
        row._replace(ids=[*row.ids[:-1], 70_000]),
        row._replace(mask=[not row.mask[0], *row.mask[1:]]),
    ]
    digests = [plan_digest(steps, rows)]
    digests += [plan_digest(steps, [*rows[:place], c, *rows[place + 1 :]]) for c in changes]
    digests.append(plan_digest(steps, rows[::-1]))
    assert len(set(digests)) == 4
    named = [row._replace(id="another name") for row in rows]
    assert plan_digest(steps, named) == digests[0]


def test_the_digest_is_the_same_in_every_process():
    code = (
        "from test_plan import *\n"
        "rows = examples([3, 20, 11, 7] * 9)\n"
        "print(plan_digest(plan(rows, TREATMENT, ranks=4, seed=6), rows))"
    )
    rows = examples([3, 20, 11, 7] * 9)
    mine = plan_digest(plan(rows, TREATMENT, ranks=4, seed=6), rows)
    for seed in ("0", "77"):
        made = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        )  # fmt: skip
        assert made.stdout.strip() == mine


@given(LENGTHS, st.integers(1, 4))
def test_the_record_counts_what_the_plan_holds(lengths: list[int], ranks: int):
    rows = examples(lengths)
    steps = list(plan(rows, TREATMENT, ranks=ranks, seed=0))
    record = plan_record(steps, TREATMENT, rows)
    assert record["steps"] == number_of_steps(len(rows), TREATMENT)
    assert record["ranks"] == ranks
    assert record["supervised_tokens"] == 3 * sum(row.supervised for row in rows)
    assert record["micro_batches"] == sum(len(step.micro[-1]) for step in steps)
    assert 0 < record["row_fill"] <= 1
    whole, rest = record["rank_balance"], record["rank_balance_partial"]
    assert whole["steps"] + rest["steps"] == record["steps"]
    assert rest["steps"] == (3 if len(rows) % 7 else 0)  # the last of each epoch
    for found in (whole, rest):
        if found["steps"]:
            assert 1 <= found["median"] <= found["worst"] <= ranks
            assert (found["worst"] > 1.05) == (found["above"] > 0)
            assert found["no_division"] + found["not_known"] == found["above"] <= found["steps"]


def test_a_partial_step_does_not_hide_in_the_balance_of_whole_ones():
    rows = examples([10] * 9)  # a step of eight and one of a single example
    treatment = replace(TREATMENT, epochs=1, examples_per_step=8)
    record = plan_record(list(plan(rows, treatment, ranks=4, seed=0)), treatment, rows)
    even = {"steps": 1, "median": 1, "worst": 1, "above": 0, "no_division": 0, "not_known": 0}
    assert record["rank_balance"] == even
    alone = {"steps": 1, "median": 4, "worst": 4, "above": 1, "no_division": 1, "not_known": 0}
    assert record["rank_balance_partial"] == alone


def test_a_plan_of_examples_on_disk_is_that_of_examples_in_lists(toy, template, tokenizer):
    treatment = replace(TREATMENT, max_tokens=64, micro_tokens=64)
    found = encode_all(toy, template, tokenizer, treatment).examples
    flat, listed = (list(plan(e, treatment, ranks=2, seed=0)) for e in (found, list(found)))
    assert flat == listed
    assert plan_digest(flat, found) == plan_digest(listed, list(found))


@given(LENGTHS, st.integers(0, 9))
def test_the_order_is_the_same_on_any_number_of_ranks_and_however_rows_are_packed(lengths, seed):
    made = examples(lengths)
    cuts = [(1, {}), (2, {}), (3, {}), (2, {"packing": "none"}), (1, {"micro_tokens": 20})]
    found = set()
    for ranks, changes in cuts:
        steps = plan(made, replace(TREATMENT, **changes), ranks=ranks, seed=seed)
        found.add(order_digest(steps, made))
    assert len(found) == 1


def test_the_order_changes_with_what_a_step_holds_and_with_every_token():
    made = examples([5, 9, 3, 7, 7, 4, 11, 6, 8, 10, 12])

    def order(ranks=2, seed=1, what=made, skip=0, **changes) -> str:
        return order_digest(
            list(plan(what, replace(TREATMENT, **changes), ranks=ranks, seed=seed))[skip:], what
        )

    other_id = [made[0]._replace(ids=[2, *made[0].ids[1:]]), *made[1:]]
    other_mask = [made[0]._replace(mask=[True, *made[0].mask[1:]]), *made[1:]]
    turned = [made[0], made[2], made[1], *made[3:]]
    others = [
        order(seed=2), order(examples_per_step=8), order(epochs=2), order(epochs=None, steps=5),
        order(skip=1), order(what=made[:-1]), order(what=other_id), order(what=other_mask),
        order(what=turned),
    ]  # fmt: skip
    assert len({order(), *others}) == 1 + len(others)
    assert order(ranks=1) == order(ranks=3) == order()
    digests = {plan_digest(plan(made, TREATMENT, ranks=r, seed=1), made) for r in (1, 2, 3)}
    assert len(digests) == 3, "the digest of the plan tells them apart"


def test_two_steps_that_change_places_are_another_order():
    made = examples([5] * 14)
    steps = list(plan(made, TREATMENT, ranks=1, seed=1))
    assert order_digest([steps[1], steps[0], *steps[2:]], made) != order_digest(steps, made)
