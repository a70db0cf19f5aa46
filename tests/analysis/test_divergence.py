"""Two distributions compared: against loops in plain Python, with ties, lists and spelling."""

from math import exp, inf, log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heed.analysis.divergence import Compared, Shortlists, compare, divergence, spellings

SIZE = 7
LOGIT = st.integers(-4, 4).map(float)  # whole numbers, so that ties are common
ROW = st.lists(LOGIT, min_size=SIZE, max_size=SIZE)
PAIR = st.tuples(ROW, ROW, st.integers(0, SIZE - 1))
PAIRS = st.lists(PAIR, min_size=1, max_size=3)
NAMES = st.lists(st.integers(0, 3), min_size=SIZE, max_size=SIZE)


def logs(rows: list[list[float]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64).log_softmax(-1)


def tensors(pairs: list) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    base, tuned, said = zip(*pairs, strict=True)
    return logs(list(base)), logs(list(tuned)), torch.tensor(said)


def softmax(row: list[float]) -> list[float]:
    total = sum(map(exp, row))
    return [exp(x) / total for x in row]


def by_hand(base: list[float], tuned: list[float], chosen: int) -> tuple:
    p, q = softmax(base), softmax(tuned)
    rank = sum(x > base[chosen] for x in base)
    kl = sum(a * log(a / b) for a, b in zip(p, q, strict=True))
    return rank, p[chosen], kl, sum(b * log(b / a) for a, b in zip(p, q, strict=True))


def lists_by_hand(base: list[float], tuned: list[float], names: list[int], chosen: int, k: int):
    """Lists of the k largest logits, as dictionaries of name -> weight; the first of a name counts.

    Only for rows without ties, whose order is then the only one.
    """

    def top(row: list[float]) -> dict[int, float]:
        order = sorted(range(SIZE), key=lambda i: -row[i])[:k]
        weights, found = softmax([row[i] for i in order]), {}
        for i, weight in zip(order, weights, strict=True):
            found.setdefault(names[i], (weight, len(found)))
        return {name: weight for name, (weight, _) in found.items()}

    def place(row: list[float], name: int) -> int:
        order = [names[i] for i in sorted(range(SIZE), key=lambda i: -row[i])[:k]]
        return order.index(name) if name in order else k

    w, v, name = top(base), top(tuned), names[chosen]
    both = w.keys() & v.keys()
    return (
        place(base, name),
        w.get(name, 0.0),
        sum(w[n] * log(w[n] / v[n]) for n in both),
        sum(v[n] * log(v[n] / w[n]) for n in both),
    )


def rows_of(found: Compared) -> list[tuple]:
    columns = (found.rank, found.probability, found.kl_base_tuned, found.kl_tuned_base)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@given(PAIRS)
def test_the_comparison_is_what_a_loop_over_tokens_finds(pairs: list):
    found = rows_of(compare(*tensors(pairs), "emitted"))
    for (base, tuned, said), row in zip(pairs, found, strict=True):
        expected = by_hand(base, tuned, said)
        assert row[0] == expected[0]
        assert row[1:] == pytest.approx(expected[1:], abs=1e-12)


@given(PAIRS)
def test_the_tuned_choice_is_its_most_likely_token_or_the_one_that_was_said(pairs: list):
    base, tuned, said = tensors(pairs)
    likely = compare(base, tuned, said, "argmax").choice
    assert (tuned.gather(-1, likely[:, None])[:, 0] == tuned.amax(-1)).all()
    assert compare(base, tuned, said, "emitted").choice.equal(said)


def test_tokens_that_the_base_holds_for_equal_share_the_best_rank():
    base = logs([[2.0, 1.0, 1.0, 1.0, 0.0, 0.0, -1.0]])
    ranks = [compare(base, base, torch.tensor([i]), "emitted").rank.item() for i in range(SIZE)]
    assert ranks == [0, 1, 1, 1, 4, 4, 6]


@given(PAIRS)
def test_divergence_is_never_negative_and_nothing_between_equals(pairs: list):
    base, tuned, said = tensors(pairs)
    found = compare(base, tuned, said, "argmax")
    assert (found.kl_base_tuned >= -1e-12).all()
    assert (found.kl_tuned_base >= -1e-12).all()
    same = compare(base, base, said, "argmax")
    assert not same.kl_base_tuned.any()
    assert not same.rank.any()


def test_what_one_never_says_costs_the_other_everything_and_itself_nothing():
    p, q = logs([[0.0, -inf]]), logs([[0.0, 0.0]])
    assert divergence(p, q).item() == pytest.approx(log(2))
    assert divergence(q, p).item() == inf
    assert divergence(p, p).item() == 0


@given(PAIRS, st.integers(SIZE, SIZE + 3), st.sampled_from(["argmax", "emitted"]))
def test_a_list_of_all_tokens_by_id_is_the_whole_vocabulary(pairs: list, k: int, choice):
    lists = Shortlists(k, torch.arange(SIZE))
    listed = lists.compare(*tensors(pairs), choice)
    whole = compare(*tensors(pairs), choice)
    assert listed.rank.equal(whole.rank)
    for a, b in zip(rows_of(listed), rows_of(whole), strict=True):
        assert a == pytest.approx(b, abs=1e-12)


ORDER = st.permutations([float(i) / 2 for i in range(SIZE)])


@given(ORDER, ORDER, st.integers(0, SIZE - 1), NAMES, st.integers(1, SIZE))
def test_shortlists_are_what_dictionaries_find(base, tuned, said: int, names: list, k: int):
    lists = Shortlists(k, torch.tensor(names))
    (row,) = rows_of(lists.compare(logs([base]), logs([tuned]), torch.tensor([said]), "emitted"))
    expected = lists_by_hand(base, tuned, names, said, k)
    assert row[0] == expected[0]
    assert row[1:] == pytest.approx(expected[1:], abs=1e-12)


def test_a_choice_that_the_base_does_not_list_has_rank_k_and_probability_0():
    base, tuned = logs([[3.0, 2.0, 1.0, 0, 0, 0, -9.0]]), logs([[0.0, 0, 0, 0, 0, 0, 5.0]])
    found = Shortlists(3, torch.arange(SIZE)).compare(base, tuned, torch.tensor([0]), "argmax")
    assert (found.choice.item(), found.rank.item(), found.probability.item()) == (6, 3, 0)


class Decoder:
    """Tokens 1 and 3 decode to the same text."""

    def __len__(self) -> int:
        return 4

    def decode(self, ids: list[int]) -> str:
        return "abcb"[ids[0]]


def test_tokens_of_one_text_have_one_number_and_rows_without_a_token_their_own():
    assert spellings(Decoder(), 6, by_text=True).tolist() == [0, 1, 2, 1, 4, 5]
    assert spellings(Decoder(), 6, by_text=False).tolist() == [0, 1, 2, 3, 4, 5]
