"""Every division that can be even is, which exact solvers of another kind confirm."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heed.data import balance as module
from heed.data.balance import EVEN, balance, none_is_even, uneven

LENGTHS = st.lists(st.integers(1, 20), min_size=1, max_size=40)


def loads_of(lengths: Sequence[int], ranks: int) -> list[int]:
    return [sum(lengths[i] for i in share) for share in balance(lengths, ranks)]


def heaviest_of_the_best(lengths: Sequence[int], ranks: int) -> int:
    """Every division is tried."""
    return min(
        max(sum(n for n, r in zip(lengths, of, strict=True) if r == rank) for rank in range(ranks))
        for of in np.ndindex(*[ranks] * len(lengths))
    )


def ranks_needed(lengths: Sequence[int], most: int) -> int:
    """Fewest ranks that hold all, none more than `most`: over all subsets, so always exact.

    Of each subset the fewest ranks are known, and with so many, the least that the last one holds.
    """
    size = len(lengths)
    if max(lengths) > most:
        return 100 * size
    masks, unit = np.arange(2**size), most + 1
    counts = np.array([bin(mask).count("1") for mask in masks])
    found = np.full(2**size, np.iinfo(np.int64).max)
    found[0] = unit  # one rank, nothing in it
    for held in range(size):
        here = masks[counts == held]
        for i, length in enumerate(lengths):
            free = here[(here >> i) & 1 == 0]
            ranks, load = found[free] // unit, found[free] % unit
            fits = load + length <= most
            then = np.where(fits, ranks * unit + load + length, (ranks + 1) * unit + length)
            found[free | 1 << i] = np.minimum(found[free | 1 << i], then)
    return int(found[-1] // unit)


def responses(shared_data: Path, teacher: str) -> list[int]:
    """Lengths of instruction and response (4 characters count as a token)."""
    path = shared_data / "alpaca_eval" / "outputs" / f"{teacher}.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        said = [len(row["instruction"] + row["output"]) // 4 for row in map(json.loads, file)]
    return [n for n in said if 2 <= n <= 1024]


def steps_of(lengths: Sequence[int], size: int, seed: int = 1) -> list[list[int]]:
    """The whole steps of an epoch."""
    order = np.random.default_rng(seed).permutation(len(lengths))
    return [
        [lengths[i] for i in part] for part in order[: len(order) // size * size].reshape(-1, size)
    ]


@given(LENGTHS, st.integers(1, 9))
def test_balancing_gives_each_example_to_one_rank(lengths: list[int], ranks: int):
    shares = balance(lengths, ranks)
    assert len(shares) == ranks
    assert sorted(index for share in shares for index in share) == list(range(len(lengths)))


@given(LENGTHS, st.integers(2, 8))
def test_no_rank_is_heavier_than_another_by_more_than_the_longest_example(lengths, ranks: int):
    loads = [sum(lengths[i] for i in share) for share in balance(lengths, ranks)]
    assert max(loads) - min(loads) <= max(lengths)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=7), st.integers(2, 3))
def test_balancing_is_within_a_third_of_the_best_division(lengths: list[int], ranks: int):
    """Every division is tried; the differencing method's bound for the heaviest share is 4/3."""
    best = heaviest_of_the_best(lengths, ranks)
    assert max(loads_of(lengths, ranks)) <= best * 4 / 3


@given(st.integers(0, 10**6), st.sampled_from([2, 4, 8]))
def test_ranks_are_balanced_on_lengths_like_those_of_responses(seed: int, ranks: int):
    """8 examples a rank, many short and some long."""
    drawn = np.random.default_rng(seed).lognormal(5.2, 0.8, 8 * ranks)
    lengths = np.clip(drawn, 8, 700).astype(int).tolist()
    assert uneven(loads_of(lengths, ranks)) <= 1.05


@given(LENGTHS)
def test_one_rank_has_all_in_their_own_order(lengths: list[int]):
    assert balance(lengths, 1) == [list(range(len(lengths)))]


@given(st.lists(st.integers(1, 30), min_size=2, max_size=8), st.integers(2, 3))
def test_a_division_is_even_wherever_any_is(lengths: list[int], ranks: int):
    best = heaviest_of_the_best(lengths, ranks) * ranks / sum(lengths)
    assert (uneven(loads_of(lengths, ranks)) <= EVEN) == (best <= EVEN)
    assert none_is_even(lengths, ranks) == (best > EVEN)


@given(st.lists(st.integers(1, 60), min_size=4, max_size=11), st.integers(2, 6))
@settings(max_examples=60, deadline=None)
def test_more_ranks_are_even_wherever_an_exact_solver_says_so(lengths: list[int], ranks: int):
    possible = ranks_needed(lengths, 105 * sum(lengths) // (100 * ranks)) <= ranks
    assert (uneven(loads_of(lengths, ranks)) <= EVEN) == possible
    assert none_is_even(lengths, ranks) != possible


@given(st.lists(st.integers(1, 30), min_size=2, max_size=14), st.integers(2, 6))
def test_where_none_is_even_no_move_and_no_exchange_is_left(lengths: list[int], ranks: int):
    shares = balance(lengths, ranks)
    loads = [sum(lengths[i] for i in share) for share in shares]
    heavy = max(range(ranks), key=loads.__getitem__)
    if uneven(loads) <= EVEN:
        return
    for rank in set(range(ranks)) - {heavy}:
        for gone in shares[heavy]:
            for less in (lengths[gone], *(lengths[gone] - lengths[i] for i in shares[rank])):
                assert max(loads[heavy] - less, loads[rank] + less) >= loads[heavy]


def test_an_exchange_helps_where_none_is_even():
    lengths = [130, 180, 141, 149, 119]
    first = [sum(lengths[i] for i in share) for share in module._differencing(lengths, 2)]
    assert none_is_even(lengths, 2)
    assert max(loads_of(lengths, 2)) == heaviest_of_the_best(lengths, 2) < max(first)


def test_no_rank_can_be_lighter_than_the_shortest_of_those_that_must_share_one():
    assert module._least([9, 8, 7, 7, 1], 2) == 8 + 7
    assert module._least([9, 4, 4, 4, 4], 2) == 4 + 4 + 4
    assert module._least([30, 4, 4], 2) == 30


@given(LENGTHS, st.integers(2, 8))
def test_nothing_is_heavier_than_what_the_differencing_method_gives(lengths, ranks: int):
    first = [sum(lengths[i] for i in share) for share in module._differencing(lengths, ranks)]
    assert max(loads_of(lengths, ranks)) <= max(first)


@pytest.mark.shared
@pytest.mark.parametrize("teacher", ["vicuna-7b-v1.5", "gpt4_1106_preview"])
def test_two_examples_a_rank_are_even_wherever_an_exact_solver_says_so(shared_data, teacher: str):
    """50 real steps of 16 over 8 ranks."""
    steps = steps_of(responses(shared_data, teacher), 16)[:50]
    assert len(steps) >= 45
    possible = [ranks_needed(s, 105 * sum(s) // 800) <= 8 for s in steps]
    assert [uneven(loads_of(s, 8)) <= EVEN for s in steps] == possible
    assert [none_is_even(s, 8) for s in steps] == [not one for one in possible]
    assert 5 < sum(possible) < 30, "both kinds are here"


@pytest.mark.shared
@pytest.mark.parametrize(("size", "ranks"), [(16, 4), (32, 8), (128, 8)])
def test_four_examples_a_rank_are_even_on_real_lengths(shared_data, size: int, ranks: int):
    for teacher in ("vicuna-7b-v1.5", "gpt4_1106_preview", "phi-2-sft"):
        steps = [s for e in range(4) for s in steps_of(responses(shared_data, teacher), size, e)]
        assert all(uneven(loads_of(s, ranks)) <= EVEN for s in steps)


def test_a_search_that_is_too_long_is_given_up_and_proves_nothing(monkeypatch):
    hard = [32, 7, 4, 34, 18, 5, 20, 17, 18, 18]  # no division is even, and no bound says so
    assert none_is_even(hard, 4)
    monkeypatch.setattr(module, "LOOKS", 3)
    assert not none_is_even(hard, 4)
    assert sorted(i for share in balance(hard, 4) for i in share) == list(range(10))
    monkeypatch.setattr(module, "SEARCHED", 7)
    assert not none_is_even(hard, 4)


def test_what_is_looked_at_is_bounded(monkeypatch):
    """However odd the lengths are, a search ends after so many states."""
    states = []

    class Seen(set):
        def add(self, state):
            states.append(state)
            super().add(state)

    monkeypatch.setattr(module, "set", Seen, raising=False)
    for seed in range(6):
        drawn = np.random.default_rng(seed).integers(200, 400, 20 + 4 * seed).tolist()
        states.clear()
        balance(drawn, 7)
        none_is_even(drawn, 7)
        assert len(states) < 2.2 * module.LOOKS
