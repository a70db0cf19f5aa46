"""Items of two models side by side: flips counted once, the largest changes first, ties by key."""

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from heed.analysis.paired import (
    MOST,
    Flips,
    change_of,
    flips_of,
    largest_changes,
    natural,
    pairs_of,
)
from heed.core.types import ItemScore, Ratio

ONE_OF_TWO = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30)


def score(key: str, num: float, den: float = 1) -> ItemScore:
    return ItemScore("t", key, "Ask.", "Say.", None, 0, {"m": Ratio(num, den)})


def pairs(sides: Sequence[tuple[float, float]], den: float = 1, keys: Sequence[str] = ()):
    names = keys or [str(i) for i in range(len(sides))]
    first = [score(name, one, den) for name, (one, _) in zip(names, sides, strict=True)]
    second = [score(name, two, den) for name, (_, two) in zip(names, sides, strict=True)]
    return pairs_of(first, second[::-1])


@given(ONE_OF_TWO)
def test_every_item_is_in_one_cell_and_the_cells_make_up_the_difference(sides):
    flips = flips_of(pairs(sides), "m")
    assert flips is not None
    assert flips.both + flips.lost + flips.gained + flips.neither == len(sides)
    assert flips.gained - flips.lost == sum(two - one for one, two in sides)
    assert flips.both + flips.lost == sum(one for one, _ in sides)


def test_better_and_worse_are_not_mistaken_for_each_other():
    sides = [(1, 1), (1, 0), (1, 0), (0, 1), (0, 0), (0, 0), (0, 0)]
    assert flips_of(pairs(sides), "m") == Flips(both=1, lost=2, gained=1, neither=3)


def test_a_metric_that_is_more_than_right_or_wrong_has_no_flips():
    assert flips_of(pairs([(1, 0), (2, 1)], den=2), "m") is None
    assert flips_of(pairs([(1, 0), (0.5, 1)]), "m") is None


def test_an_item_of_nothing_over_nothing_is_in_no_cell():
    items = [*pairs([(1, 0)]), *pairs_of([score("x", 0, 0)], [score("x", 0, 0)])]
    assert flips_of(items, "m") == Flips(0, 1, 0, 0)
    assert flips_of(items[1:], "m") is None


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=60), st.randoms())
def test_the_largest_changes_are_the_largest_in_one_order_whatever_the_order_given(sides, random):
    given_pairs = pairs(sides, den=4)
    mixed = list(given_pairs)
    random.shuffle(mixed)
    found = largest_changes(mixed, "m")
    sizes = [abs(change_of(pair, "m")) for pair in found]
    assert (
        sizes == sorted((abs(two - one) for one, two in sides if one != two), reverse=True)[:MOST]
    )
    assert found == largest_changes(given_pairs, "m")
    for one, two in pairwise(found):
        if abs(change_of(one, "m")) == abs(change_of(two, "m")):
            assert int(one.first.key) < int(two.first.key)


def test_ties_stand_in_the_order_of_numbers_and_words_come_last():
    keys = ["b", "10", "9", "1/2", "a"]
    found = largest_changes(pairs([(0, 1)] * 5, keys=keys), "m")
    assert [pair.first.key for pair in found] == ["9", "10", "1/2", "a", "b"]


@given(st.lists(st.text(max_size=4), unique=True))
def test_any_keys_have_one_order(keys):
    assert sorted(keys, key=natural) == sorted(reversed(keys), key=natural)
