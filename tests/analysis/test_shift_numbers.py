"""Shares and means of token shift: parts add up, responses are the unit, sentences are found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.analysis.shift_numbers import (
    BINS,
    CATEGORIES,
    MEASURES,
    ItemShift,
    events_of,
    first_tokens,
    loops,
    mean_of,
    parts,
    sentence_lengths,
    summary_of,
    tokens_of,
)

BOOTSTRAP = {"level": 0.95, "resamples": 200, "seed": 0}


def response(ranks: list[int], texts: list[str] | None = None, stop="stop", **given) -> ItemShift:
    n = len(ranks)
    ids = given.pop("said", list(range(n)))
    numbers = np.arange(1, n + 1) / 10
    made = {
        "key": "k", "prompt": "p", "stop": stop, "texts": texts or ["x"] * n, "said": ids,
        "choice": ids, "chosen": [f"t{i}" for i in ids], "argmax": ids,
        "rank": np.array(ranks, float), "probability": numbers, "kl_base_tuned": numbers,
        "kl_tuned_base": 2 * numbers, "nats_base": numbers, "nats_tuned": numbers,
    }  # fmt: skip
    return ItemShift(**(made | given))


RANKS = st.lists(st.integers(0, 6), min_size=1, max_size=45)
RESPONSES = st.lists(RANKS, min_size=2, max_size=4)


def test_rank_0_is_unshifted_1_and_2_marginal_3_and_more_shifted():
    assert response([0, 1, 2, 3, 4, 300]).category.tolist() == [0, 1, 1, 2, 2, 2]


@given(st.lists(RANKS.filter(lambda r: len(r) > 1), min_size=2, max_size=4))
def test_shares_add_to_one_and_the_parts_to_the_whole(ranks: list):
    items = [response(r) for r in ranks]
    found = summary_of(items, "response", 0.05, BOOTSTRAP)["parts"]
    for part in ("all", "first", "last"):
        assert sum(found[part][kind]["value"] for kind in CATEGORIES) == pytest.approx(1)
    for name in MEASURES:
        halves = sum(found[p][name]["value"] * found[p]["positions"] for p in ("first", "last"))
        assert halves / found["all"]["positions"] == pytest.approx(found["all"][name]["value"])
    assert found["stop"]["positions"] == len(items)


@given(RESPONSES)
def test_a_mean_is_over_positions_and_lies_in_its_interval(ranks: list):
    items = [response(r) for r in ranks]
    found = mean_of(items, MEASURES["rank"], parts("response", 0.05)["all"], BOOTSTRAP)
    assert found.value == pytest.approx(np.mean([rank for r in ranks for rank in r]))
    assert found.low <= found.value <= found.high
    assert found.items == len(items)


def test_responses_are_the_unit_not_positions():
    part = parts("response", 0.05)["all"]
    few = mean_of([response([0] * 50), response([5] * 50)], MEASURES["shifted"], part, BOOTSTRAP)
    assert (few.low, few.high) == (0, 1)  # two responses say little, whatever their length


def test_a_share_on_which_all_agree_still_has_a_width_that_counts_responses():
    items = [response([0] * 30) for _ in range(4)]
    found = mean_of(items, MEASURES["unshifted"], parts("response", 0.05)["all"], BOOTSTRAP)
    assert found.value == 1
    assert 0.4 < found.low < 0.6  # Wilson, n = 4
    assert mean_of(items, MEASURES["rank"], parts("response", 0.05)["all"], BOOTSTRAP).value == 0


def test_a_part_that_one_response_has_alone_has_no_mean():
    found = summary_of([response([0, 1]), response([0])], "response", 0.05, BOOTSTRAP)
    assert found["parts"]["last"]["shifted"] is None
    assert found["parts"]["last"]["positions"] == 1


@given(st.integers(1, 400), st.floats(0.01, 0.99))
def test_the_first_part_is_the_share_rounded_up(n: int, share: float):
    first = first_tokens(n, share)
    assert 1 <= first <= n
    assert share * n - 1e-6 <= first < share * n + 1


def test_five_percent_of_every_twenty_tokens_is_one():
    assert [first_tokens(20 * i, 0.05) for i in range(1, 40)] == list(range(1, 40))


@pytest.mark.parametrize(
    ("texts", "lengths"),
    [
        (["Red", ".", " Blue", "!", "<end>"], [2, 3]),
        (["Red", ".", ".", ".", '"', " Blue"], [5, 1]),
        (["Red.", ")", " Blue", "\n", "\n", "Sea"], [2, 3, 1]),
        (["no", " end"], [2]),
        (["(", "a", ")", " b", "."], [5]),
        (["<end>"], [1]),
        (["- ", "\n", "x"], [2, 1]),
    ],
)
def test_a_sentence_ends_after_its_mark_and_what_closes_it(texts: list, lengths: list):
    stop = "stop" if texts[-1] == "<end>" else "cap"
    assert sentence_lengths(response([0] * len(texts), texts, stop)) == lengths


@given(st.lists(st.sampled_from(["a", ".", "\n", ' "', " ", "b!", ")"]), min_size=1, max_size=12))
def test_sentences_hold_every_token_once_and_each_has_a_first_one(texts: list):
    item = response([0] * len(texts), texts)
    lengths = sentence_lengths(item)
    assert sum(lengths) == len(texts)
    assert all(lengths)
    starts = {sum(lengths[:i]) for i in range(len(lengths))}
    assert set(np.flatnonzero(parts("sentence", 0.05)["first"](item))) == starts


def test_a_cut_response_has_no_stop_token():
    items = [response([0, 0]), response([0, 4], stop="cap"), response([0, 0, 0])]
    found = summary_of(items, "response", 0.05, BOOTSTRAP)["parts"]["stop"]
    assert found["positions"] == 2
    assert found["shifted"]["value"] == 0


@given(RESPONSES)
def test_every_position_is_in_one_piece_of_the_curve(ranks: list):
    items = [response([1] * len(r)) for r in ranks]
    curve = summary_of(items, "response", 0.05, BOOTSTRAP)["curves"]["rank"]
    assert len(curve) == BINS
    assert {found["value"] for found in curve if found} <= {1}
    assert curve[0] is not None  # the first token of each


def test_as_many_tokens_as_pieces_are_one_in_each():
    items = [response(list(range(BINS))), response(list(range(BINS)))]
    curve = summary_of(items, "response", 0.05, BOOTSTRAP)["curves"]["rank"]
    assert [found["value"] for found in curve] == list(range(BINS))


def test_tokens_are_counted_by_category_and_ordered_by_how_often_they_shift():
    items = [response([0, 3, 1], said=[7, 8, 9]), response([5, 4, 0], said=[8, 8, 9])]
    found = tokens_of(items)
    assert [(t["id"], t["text"], t["count"], t["shifted"]) for t in found] == [
        (8, "t8", 3, 3), (9, "t9", 2, 0), (7, "t7", 1, 0)
    ]  # fmt: skip
    assert found[1]["marginal"] == found[1]["unshifted"] == 1


def said(ids: list[int], stop: str = "cap") -> ItemShift:
    return response([0] * len(ids), stop=stop, said=ids)


@pytest.mark.parametrize(
    ("ids", "stop", "found"),
    [
        ([5, 6, 7] + [1, 2, 3] * 4, "cap", True),
        ([5, 6, 7] + [1, 2, 3] * 4 + [9], "stop", True),  # the stop token ends the loop
        ([5, 6, 7] + [1, 2, 3] * 4 + [9], "cap", False),
        ([5, 6, 7] + [1, 2, 3] * 3, "cap", False),
        ([1, 2, 3] * 4 + [1, 2], "cap", True),  # the last block may be cut
        ([4, 4, 4, 4], "cap", False),  # too short to be told from chance
        ([4] * 8, "cap", True),
        (list(range(100, 125)) + [4] * 8, "cap", False),  # too small a share
        ([9], "stop", False),
    ],
)
def test_a_loop_is_a_block_that_ends_a_response_four_times(ids, stop, found):
    assert loops(said(ids, stop)) is found
    assert summary_of([said(ids, stop)] * 2, "response", 0.05, BOOTSTRAP)["loops"] == 2 * found


def test_stop_tokens_are_counted_apart():
    (token,) = tokens_of([said([7], "stop"), said([7, 7], "stop"), said([7])])
    assert (token["count"], token["at_the_stop"]) == (4, 2)


def test_lists_that_share_nothing_are_counted():
    nothing = np.array([0.0, 0.0, 0.5])
    odd = response([3, 3, 0], probability=nothing, kl_base_tuned=nothing, kl_tuned_base=nothing)
    assert list(events_of([odd]).values()) == [2]


def test_what_is_out_of_the_ordinary_is_counted():
    odd = response([0, 0], argmax=[0, 5])
    found = events_of([odd, response([0]), response([0, 0], stop="cap")])
    assert sorted(found.values()) == [1, 1, 1]
    assert not events_of([response([0, 0])])
