"""An item that some sides have no score of counts on none, and is counted."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from heed.core.types import ItemScore, Ratio
from heed.core.unscored import MISSING, UNSCORED, scored_on_all

NONE, WHOLE = Ratio(0, 0), Ratio(1, 1)


def score(key: str, *ratios: Ratio) -> ItemScore:
    why = {MISSING: "it could not be read"} if NONE in ratios else {}
    return ItemScore("t", key, "", "", None, 0, dict(zip("mn", ratios, strict=True)), why)


def test_an_item_without_a_score_on_one_side_is_left_out_of_that_metric_on_both_and_counted():
    first = [score("a", WHOLE, WHOLE), score("b", NONE, WHOLE), score("c", NONE, NONE)]
    second = [score("c", NONE, NONE), score("b", WHOLE, WHOLE), score("a", NONE, WHOLE)]
    (before, after), told = scored_on_all(first, second)
    assert told == {UNSCORED: 2}
    assert [s.metrics["m"] for s in before] == [NONE, NONE, NONE]
    assert {s.key: s.metrics["m"] for s in after} == dict.fromkeys("abc", NONE)
    assert [s.metrics["n"] for s in before] == [WHOLE, WHOLE, NONE]
    assert scored_on_all(first, first) == ([first, first], {})


def test_what_says_no_reason_is_left_as_it_is_and_refused_later():
    first, second = [replace(score("a", NONE, WHOLE), details={})], [score("a", WHOLE, WHOLE)]
    assert scored_on_all(first, second) == ([first, second], {})


def test_what_was_taken_once_is_no_other_item_to_the_next():
    (one, two), _ = scored_on_all([score("a", NONE, WHOLE)], [score("a", WHOLE, WHOLE)])
    kept, told = scored_on_all(one, two, [score("a", WHOLE, WHOLE)])
    assert told == {UNSCORED: 1}
    assert [side[0].metrics["m"] for side in kept] == [NONE, NONE, NONE]


def test_other_lists_of_items_are_left_as_they_are_and_refused_later():
    first, second = [score("a", WHOLE, WHOLE)], [score("b", WHOLE, WHOLE)]
    assert scored_on_all(first, second) == ([first, second], {})


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=4))
def test_what_is_left_has_a_score_on_every_side(known):
    sides = [
        [score(str(i), WHOLE if has else NONE, WHOLE) for i, has in enumerate(k)] for k in known
    ]
    kept, told = scored_on_all(*sides)
    every = [all(has) for has in zip(*known, strict=True)]
    assert [[bool(s.metrics["m"].den) for s in side] for side in kept] == [every] * len(known)
    assert sum(told.values()) == sum(any(has) for has in zip(*known, strict=True)) - sum(every)
