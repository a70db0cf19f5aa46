"""A mix of teachers has the shares it names, loses no row uncounted, and never changes."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core.component import component
from heed.core.errors import ConfigError, DataError
from heed.core.types import Example, Message
from heed.data.encode import encode_all
from heed.data.intake import check_rows
from heed.data.mix import Mix, whole_shares
from heed.data.teacher import Teacher

SIZES = st.lists(st.integers(1, 30), min_size=2, max_size=4)
WEIGHTS = st.lists(st.floats(0.05, 20), min_size=4, max_size=4)


@component
class Numbers(Teacher):
    """Rows 0, 1, 2 ... behind some that cannot be read."""

    name: str
    size: int
    bad: int = 0

    def rows(self, on_bad=None):
        for number in range(self.bad):
            error = DataError(f"{self.name} {number}")
            if on_bad is None:
                raise error
            on_bad(error)
        for number in range(self.size):
            yield Example(str(number), (Message("text", str(number)),), self.name)

    def digest(self) -> str:
        return f"{self.name}{self.size}"


def mix(sizes, weights=None, total=None, seed=1, bad=0) -> Mix:
    names = "abcd"[: len(sizes)]
    return Mix(
        name="mixed",
        teachers={n: Numbers(name=n, size=s, bad=bad) for n, s in zip(names, sizes, strict=True)},
        weights=dict(zip(names, map(float, weights or [1] * len(names)), strict=False)),
        total=total,
        seed=seed,
    )


def counts(made: Mix) -> Counter[str]:
    return Counter(row.id.split("/")[0] for row in made.rows())


@given(SIZES, WEIGHTS)
def test_without_a_total_no_row_stands_twice_and_some_part_is_whole(sizes, weights):
    made = mix(sizes, weights)
    ids = [row.id for row in made.rows()]
    assert len(set(ids)) == len(ids)
    found = counts(made)
    assert any(found[part] == size for part, size in zip("abcd", sizes, strict=False))
    shares = {p: found[p] / w for p, w in zip(made.teachers, weights, strict=False)}
    for one in made.teachers:  # within a row of the shares that were asked for
        for other in made.teachers:
            slack = 1.01 / made.weights[one] + 1.01 / made.weights[other]
            assert abs(shares[one] - shares[other]) <= slack


@given(SIZES, WEIGHTS, st.integers(1, 200))
def test_a_total_is_met_and_every_row_stands_about_equally_often(sizes, weights, total: int):
    made = mix(sizes, weights, total)
    times = Counter(row.id for row in made.rows())
    assert times.total() == total
    for part, size in zip(made.teachers, sizes, strict=True):
        each = [times[f"{part}/{number}"] for number in range(size)]
        assert max(each) - min(each) <= 1


@given(SIZES, WEIGHTS, st.none() | st.integers(1, 200))
def test_what_is_taken_left_out_and_given_again_is_counted(sizes, weights, total):
    made = mix(sizes, weights, total)
    events, times = made.events(), Counter(row.id for row in made.rows())
    for part, size in zip(made.teachers, sizes, strict=True):
        each = [times[f"{part}/{number}"] for number in range(size)]
        assert events[f"mix: rows of {part} taken"] == sum(each)
        if sum(each) <= size:
            assert events.get(f"mix: rows of {part} left out", 0) == each.count(0)
        assert events.get(f"mix: rows of {part} given again", 0) == max(0, sum(each) - size)


@given(WEIGHTS, st.integers(1, 40))
def test_the_first_rows_have_the_shares_of_all(weights, first: int):
    made = mix([30] * 4, weights, 120)
    parts = [row.id[0] for row in made.rows()]
    for part in "abcd":
        share = parts.count(part) / len(parts)
        assert abs(parts[:first].count(part) - share * first) <= 2


def test_what_a_mix_takes_stands_among_the_events_of_its_encoding(template, tokenizer, recipe_of):
    made = mix([2, 6], [1, 1])
    found = encode_all(made, template, tokenizer, recipe_of().data, workers=1)
    assert len(made.events()) == 3
    assert made.events().items() <= dict(found.events).items()


def test_the_seed_draws_the_rows_and_nothing_else_does():
    drawn = {seed: [row.id for row in mix([5, 40], seed=seed).rows()] for seed in (1, 2)}
    assert drawn[1] != drawn[2]
    assert drawn[1] == [row.id for row in mix([5, 40], seed=1).rows()]


def test_ids_say_the_part_and_examples_the_mix():
    rows = list(mix([2, 2]).rows())
    assert sorted(row.id for row in rows) == ["a/0", "a/1", "b/0", "b/1"]
    assert {row.teacher for row in rows} == {"mixed"}


def test_a_row_that_cannot_be_read_is_told_of_once_however_often_its_part_is_given():
    told: list[Exception] = []
    rows = list(mix([2, 2], total=12, bad=3).rows(told.append))
    assert len(rows) == 12
    assert sorted(map(str, told)) == [f"{part} {number}" for part in "ab" for number in range(3)]
    with pytest.raises(DataError, match="a 0"):
        next(mix([2, 2], bad=1).rows())


def test_a_part_without_rows_is_named():
    with pytest.raises(DataError, match="no row of b can be read"):
        next(mix([2, 0]).rows())


@pytest.mark.parametrize(
    "changed",
    [mix([5, 7]), mix([5, 6], [1, 2]), mix([5, 6], total=9), mix([5, 6], seed=2)],
)
def test_everything_that_decides_the_rows_is_in_the_digest(changed: Mix):
    assert changed.digest() != mix([5, 6]).digest() == mix([5, 6]).digest()


def test_parts_are_named_by_their_config_keys_also_in_a_mix_of_mixes():
    inner = mix([1, 1])
    outer = Mix(
        name="outer", teachers={"x": inner, "y": Numbers(name="y", size=1)},
        weights={"x": 1.0, "y": 1.0}, total=None, seed=1,
    )  # fmt: skip
    assert list(outer.parts()) == ["teachers.x.teachers.a", "teachers.x.teachers.b", "teachers.y"]
    assert outer.events()["x: mix: rows of a taken"] == 1


@pytest.mark.parametrize(
    ("weights", "where"),
    [({"a": 1.0}, ["weights"]), ({"a": 1.0, "b": 1.0, "bb": 1.0}, ["weights.bb"])],
)
def test_weights_name_every_part_and_no_other(weights: dict, where: list[str]):
    with pytest.raises(ConfigError) as caught:
        Mix(name="m", teachers=mix([1, 1]).teachers, weights=weights, total=None, seed=1)
    assert [mistake.where for mistake in caught.value.mistakes] == where


def test_a_mix_of_one_is_refused():
    with pytest.raises(ConfigError, match="several parts"):
        mix([3])


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(1, 1000))
def test_whole_shares_sum_to_the_total_and_are_the_nearest_whole_numbers(parts, total: int):
    share = {str(i): part / sum(parts) for i, part in enumerate(parts)}
    found = whole_shares(share, total)
    assert sum(found.values()) == total
    assert all(abs(found[part] - total * share[part]) < 1 for part in share)


def test_rows_given_again_are_not_dropped_as_duplicates(template, tokenizer, recipe_of):
    dropping = recipe_of(duplicates="drop").data
    again, once = mix([2, 6], total=12), mix([2, 6])
    nested = Mix(
        name="outer", teachers={"x": again, "y": Numbers(name="y", size=1)},
        weights={"x": 1.0, "y": 1.0}, total=None, seed=1,
    )  # fmt: skip
    for source in (again, nested):
        for refused in (
            lambda s=source: encode_all(s, template, tokenizer, dropping),
            lambda s=source: check_rows(s, template, dropping),
        ):
            with pytest.raises(DataError, match=r"rows of a given again.*data\.duplicates=keep"):
                refused()
    assert len(encode_all(once, template, tokenizer, dropping).examples) > 1
    kept = encode_all(again, template, tokenizer, recipe_of().data)
    assert len(kept.examples) == 12
