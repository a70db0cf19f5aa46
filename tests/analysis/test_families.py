"""Families and sizes of teachers, where it is known what should be found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp, ttest_ind

from heed.analysis.families import (
    Taught,
    larger_in_family,
    of_one_size,
    own_family,
    size_in_family,
)

FAMILIES = ("a", "a", "a", "b", "b", "b", None)
SIZES = (1.0, 7.0, 70.0, 2.0, 9.0, None, 5.0)
RANDOM = np.random.default_rng(1)


def taught(outcomes, families=FAMILIES, sizes=SIZES) -> Taught:
    table = np.asarray(outcomes, dtype=np.float64)
    teachers = tuple(f"t{i}" for i in range(table.shape[1]))
    return Taught(tuple(f"s{i}" for i in range(len(table))), teachers, table, families, sizes)


def test_neighbours_in_size_are_compared_within_families_of_known_sizes():
    made = taught([[1, 3, 2, 5, 4, 0, 0], [2, 5, 3, 5, 6, 0, 0]])
    found = larger_in_family(made, level=0.95)
    pairs = [(one["smaller"], one["larger"]) for one in found]
    assert pairs == [("t0", "t1"), ("t1", "t2"), ("t3", "t4")]
    assert [one["smaller_wins"] for one in found] == [0, 2, 1]
    assert [one["difference"] for one in found] == [2.5, -1.5, 0.0]


def test_an_interval_over_students_is_that_of_a_t_test():
    made = taught(RANDOM.normal(size=(5, 7)))
    one = larger_in_family(made, level=0.9)[0]
    apart = made.outcomes[:, 1] - made.outcomes[:, 0]
    expected = ttest_1samp(apart, 0).confidence_interval(0.9)
    assert (one["low"], one["high"]) == pytest.approx(tuple(expected))


def test_one_student_has_no_interval_and_no_elsewhere():
    made = taught(RANDOM.normal(size=(1, 7)))
    assert larger_in_family(made, level=0.95)[0]["low"] is None
    (own,) = own_family(made, {"s0": ("a",)}, level=0.95)
    assert own["gain"] is None
    assert "no student of another family" in own["reason"]


def test_size_is_ranked_within_families_of_three_and_over_all_of_known_size():
    made = taught([[1, 2, 3, 0, 0, 9, 0], [3, 2, 1, 0, 0, 9, 0]])
    family, every = size_in_family(made, level=0.95)
    assert (family["family"], family["rhos"], family["mean"]) == ("a", [1.0, -1.0], 0.0)
    assert (every["family"], every["teachers"]) == (None, 6)
    assert (family["low"], family["high"]) == (-1, 1)  # no rho lies beyond


def test_a_student_that_finds_all_teachers_alike_has_no_rho_and_spoils_no_mean():
    family, _ = size_in_family(taught([[1, 2, 3, 0, 0, 9, 0], [1] * 7]), level=0.95)
    assert family["rhos"] == [1.0, None]
    assert (family["mean"], family["low"]) == (1.0, None)


def test_chance_counts_all_groups_of_as_many_teachers():
    (one,) = own_family(taught([[9, 8, 7, 6, 5, 4, 3]]), {"s0": ("a",)}, level=0.95)
    assert one["p"] == pytest.approx(1 / 35)
    assert (one["best_rank"], one["mean_rank"], one["teachers"], one["of"]) == (1, 2, 3, 7)
    (last,) = own_family(taught([[1, 2, 3, 4, 5, 6, 7]]), {"s0": ("a",)}, level=0.95)
    assert last["p"] == 1


def test_of_very_many_groups_some_are_drawn_and_say_nearly_the_same(monkeypatch):
    made = taught(RANDOM.normal(size=(1, 7)))
    (exact,) = own_family(made, {"s0": ("a",)}, level=0.95)
    monkeypatch.setattr("heed.analysis.families.MOST_GROUPS", 20)
    (drawn,) = own_family(made, {"s0": ("a",)}, level=0.95)
    assert 0 < drawn["p"] <= 1
    assert drawn["p"] == pytest.approx(exact["p"], abs=0.35)


@given(st.permutations(range(7)), st.permutations(range(7)))
def test_who_is_good_for_everybody_gains_nothing(first, second):
    same = taught([first, first])
    (none,) = own_family(same, {"s0": ("a",)}, level=0.95)
    assert (none["gain"], none["low"], none["high"]) == (0, None, None)
    assert "all alike" in none["reason"]
    (one,) = own_family(taught([first, second]), {"s0": ("a",)}, level=0.95)
    places = taught([first, second]).places
    gains = places[1] - places[0]
    expected = ttest_ind(gains[:3], gains[3:], equal_var=False).confidence_interval(0.95)
    assert one["gain"] == pytest.approx(gains[:3].mean() - gains[3:].mean())
    if gains[:3].std() and gains[3:].std():
        assert (one["low"], one["high"]) == pytest.approx(tuple(expected))


def test_students_of_one_family_are_no_elsewhere_for_each_other():
    """What both have of their family would be taken from both."""
    rows = RANDOM.normal(size=(3, 7))
    own = {"s0": ("a", "c"), "s1": ("a",), "s2": ("b",)}
    alone = own_family(taught(rows[[0, 2]]), {"s0": ("a", "c")}, level=0.95)
    both = own_family(taught(rows), own, level=0.95)
    assert both[0]["gain"] == alone[0]["gain"] != 0
    kin = own_family(taught(rows[:2]), {"s0": ("a",), "s1": ("a",)}, level=0.95)
    assert [one["gain"] for one in kin] == [None, None]
    assert all("no student of another family" in one["reason"] for one in kin)


def test_a_family_of_one_shows_no_spread_and_a_student_without_teachers_is_not_listed():
    made = taught(RANDOM.normal(size=(2, 7)), families=("a", "b", "b", "b", "b", "b", "b"))
    (one,) = own_family(made, {"s0": ("a",), "s1": ("c",)}, level=0.95)
    assert one["student"] == "s0"
    assert (one["gain"], one["reason"]) == (None, "one teacher of a kind shows no spread.")


def test_what_shows_no_spread_has_no_interval_and_says_so():
    """Two students that agree do not make a third one certain."""
    same = taught([[1, 2, 3, 0, 0, 9, 0]] * 2)
    for one in (*size_in_family(same, level=0.95), *larger_in_family(same, level=0.95)):
        assert one["low"] is one["high"] is None
        assert "2 students, all alike" in one["reason"]
    alone = taught([[1, 2, 3, 0, 0, 9, 0]])
    assert "one student" in larger_in_family(alone, level=0.95)[0]["reason"]


def test_teachers_of_one_size_are_neither_smaller_nor_larger():
    sizes = (1.0, 2.7, 2.7, 2.7, 9.0)
    made = taught([[1, 2, 3, 4, 5]], families=("a",) * 5, sizes=sizes)
    found = larger_in_family(made, level=0.95)
    pairs = {(one["smaller"], one["larger"]) for one in found}
    assert pairs == {("t0", t) for t in ("t1", "t2", "t3")} | {
        (t, "t4") for t in ("t1", "t2", "t3")
    }
    assert of_one_size(made) == [("t1", "t2", "t3")]
    two = taught([[1, 2, 3]], families=("a",) * 3, sizes=(1.0, 2.7, 2.7))
    assert of_one_size(two) == [("t1", "t2")]
    turned = taught([[5, 4, 3, 2, 1]], families=("a",) * 5, sizes=sizes[::-1])
    again = {
        (one["smaller"], one["larger"]): one["difference"]
        for one in larger_in_family(turned, level=0.95)
    }
    assert sorted(again.values()) == sorted(one["difference"] for one in found)
    assert of_one_size(taught(RANDOM.normal(size=(1, 7)))) == []
