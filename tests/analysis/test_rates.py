"""The best rate is chosen on one half of the items and reported on the other."""

import numpy as np
import pytest

from heed.analysis.contrasts import Change
from heed.analysis.rates import Tried, best_rate
from heed.core.resample import first_half

BOOTSTRAP = {"level": 0.95, "resamples": 400, "seed": 0}
ITEMS = 400
KEYS = [str(1000 + i) for i in range(ITEMS)]
HALF = first_half(KEYS)


def change(mean: float, luck: int, spread: float = 0.5) -> Change:
    num = np.random.default_rng(luck).normal(mean, spread, ITEMS)
    return Change({}, num, np.ones(ITEMS))


def tried(values: dict[float, float], seeds: int = 1, spread: float = 0.5) -> list[Tried]:
    return [
        Tried(f"r{i}", peak, tuple(change(mean, 100 * i + s, spread) for s in range(seeds)))
        for i, (peak, mean) in enumerate(values.items())
    ]


def test_a_half_is_about_half_and_the_same_for_a_key_wherever_it_stands():
    assert 0.4 < HALF.mean() < 0.6
    assert (first_half(KEYS[::-1]) == HALF[::-1]).all()


def test_the_choice_sees_one_half_only_and_the_report_the_other_only():
    rates = tried({1e-4: 0.0, 1e-3: 0.3, 1e-2: 0.1})
    told = best_rate(rates, KEYS, BOOTSTRAP)
    assert (told["chosen"]["peak"], told["edge"]) == (1e-3, None)
    assert told["chosen"]["items"] + told["reported"]["items"] == ITEMS
    for half, key in ((HALF, "reported"), (~HALF, "chosen")):
        others = [
            Tried(r.name, r.peak, tuple(Change({}, c.num - 9 * half, c.den) for c in r.changes))
            for r in rates
        ]
        assert best_rate(others, KEYS, BOOTSTRAP)[key] == told[key]
        assert best_rate(others, KEYS, BOOTSTRAP) != told


def test_where_no_rate_does_anything_the_reported_value_is_not_the_luck_of_the_best():
    chosen, reported = [], []
    for draw in range(80):
        rates = [Tried(f"{i}", 10.0**-i, (change(0, 1000 * draw + i),)) for i in range(6)]
        found = best_rate(rates, KEYS, {**BOOTSTRAP, "resamples": 10})
        chosen.append(found["chosen"]["delta"])
        reported.append(found["reported"]["delta"])
    error = np.std(reported) / np.sqrt(len(reported))
    assert np.mean(chosen) > 4 * error, "the best of six looks good where it was chosen"
    assert abs(np.mean(reported)) < 3 * error


@pytest.mark.parametrize(
    ("values", "less", "edge"),
    [
        ({1e-4: 0.5, 1e-3: 0.1, 1e-2: -0.4}, False, "lowest"),
        ({1e-4: 0.5, 1e-3: 0.1, 1e-2: -0.4}, True, "highest"),
        ({1e-2: 0.9, 1e-4: 0.0, 1e-3: 0.1}, False, "highest"),
    ],
)
def test_a_best_rate_at_the_edge_of_those_tried_is_said(values, less, edge):
    assert best_rate(tried(values), KEYS, BOOTSTRAP, less=less)["edge"] == edge


def test_of_equal_rates_the_lower_is_chosen():
    same = change(0.2, 5)
    rates = [Tried("b", 1e-2, (same,)), Tried("a", 1e-4, (same,)), Tried("c", 1e-3, (same,))]
    assert best_rate(rates, KEYS, BOOTSTRAP)["chosen"]["name"] == "a"


def test_the_curve_guesses_the_top_and_the_interval_is_surer_with_more_seeds():
    values = {10.0**-x: 0.3 - 0.2 * (x - 2.6) ** 2 for x in (4, 3.5, 3, 2.5, 2, 1.5)}
    fit = best_rate(tried(values, seeds=3, spread=0.2), KEYS, BOOTSTRAP)["fit"]
    assert np.log10(fit["best"]) == pytest.approx(-2.6, abs=0.1)
    assert (fit["low"], fit["high"]) == pytest.approx((1e-3, 1e-2)), "between the neighbours"
    assert (fit["outside"], fit["edges"]) == (0, [])
    wide = best_rate(tried(values, seeds=1, spread=4.0), KEYS, BOOTSTRAP)["fit"]
    assert np.log10(wide["high"] / wide["low"]) > np.log10(fit["high"] / fit["low"])


def test_the_top_of_a_parabola_is_found_whatever_the_distances_between_the_rates():
    values = {10.0**x: -((x + 2.3) ** 2) for x in (-4, -3.2, -2.5, -1)}
    fit = best_rate(tried(values, spread=0.0), KEYS, BOOTSTRAP)["fit"]
    assert np.log10(fit["best"]) == pytest.approx(-2.3)
    assert max(fit["curve"], key=lambda point: point[1])[0] == pytest.approx(10**-2.3, rel=0.05)
    for ends in ([rate for rate, _ in fit["curve"]], [fit["low"], fit["high"]]):
        assert np.log10([ends[0], ends[-1]]) == pytest.approx([-3.2, -1])


def test_a_cliff_beyond_the_neighbours_moves_nothing():
    flat = {1e-4: 0.3, 1e-3: 0.5, 1e-2: 0.48}
    fits = [
        best_rate(tried({**flat, 1e-1: cliff, 1: -1.0}, spread=0.1), KEYS, BOOTSTRAP)["fit"]
        for cliff in (0.0, -0.9)
    ]
    assert fits[0] == fits[1]
    assert 1e-3 < fits[0]["best"] < 1e-2


def test_a_cliff_at_a_neighbour_moves_the_guess_and_not_the_interval():
    """Whatever stands there, the top lies between the neighbours of the best rate."""
    rates = {1e-4: 0.3, 1e-3: 0.5, 1e-2: 0.48, 1e-1: 0.4}
    gentle, steep = (
        best_rate(tried({**rates, 1e-2: beside}, spread=0.1), KEYS, BOOTSTRAP)["fit"]
        for beside in (0.45, -0.9)
    )
    assert steep["best"] < gentle["best"]
    assert (steep["low"], steep["high"]) == (gentle["low"], gentle["high"])
    assert (steep["low"], steep["high"]) == pytest.approx((1e-4, 1e-2))


def test_of_two_rates_that_are_equal_the_interval_holds_both_and_their_neighbours():
    values = {1e-4: 0.0, 1e-3: 0.5, 1e-2: 0.5, 1e-1: -0.5}
    fit = best_rate(tried(values, spread=1.0), KEYS, BOOTSTRAP)["fit"]
    assert (fit["low"], fit["high"]) == pytest.approx((1e-4, 1e-1))
    assert fit["outside"] == 0


def test_no_curve_is_drawn_through_a_best_rate_at_the_end():
    fit = best_rate(tried({1e-3: 0.5, 1e-2: 0.1, 1e-1: 0.0}, spread=0.1), KEYS, BOOTSTRAP)["fit"]
    assert (fit["best"], fit["curve"], fit["edges"]) == (pytest.approx(1e-3), [], ["lowest"])
    assert (fit["low"], fit["high"]) == pytest.approx((1e-3, 1e-2))


def test_both_ends_are_warned_of_where_the_best_may_lie_at_either():
    found = best_rate(tried({1e-3: 0.6, 1e-2: 0.1, 1e-1: 0.6}, spread=2.0), KEYS, BOOTSTRAP)
    assert found["fit"]["edges"] == ["lowest", "highest"]
    assert found["fit"]["outside"] > 0.9


def test_where_no_rate_does_anything_none_is_the_best():
    found = best_rate(tried(dict.fromkeys((1e-3, 1e-2, 1e-1), 0.0), spread=0), KEYS, BOOTSTRAP)
    assert (found["edge"], found["fit"]) == (None, None)
    assert "all rates do the same" in found["reason"]


def test_a_ceiling_that_the_highest_rate_reaches_too_is_at_an_edge():
    found = best_rate(tried({1e-3: 0.0, 1e-2: 1.0, 1e-1: 1.0}, spread=0), KEYS, BOOTSTRAP)
    assert (found["chosen"]["peak"], found["edge"]) == (1e-2, None)
    assert found["fit"]["edges"] == ["highest"]
    assert found["fit"]["high"] == pytest.approx(1e-1)


@pytest.mark.parametrize("values", [(0.2, 0.5, 0.4, 0.3), (0.2, 0.4, 0.5, 0.3), (0.5, 0.5, 0.5, 0)])
def test_two_options_of_one_peak_have_a_best_one_and_no_top(values):
    peaks = (5e-5, 2e-4, 2e-4, 1e-3)
    rates = [
        Tried(f"r{i}", peak, (change(mean, i, 0.01),))
        for i, (peak, mean) in enumerate(zip(peaks, values, strict=True))
    ]
    found = best_rate(rates, KEYS, BOOTSTRAP)
    assert found["fit"] is None
    assert "one peak" in found["reason"]
    assert values[int(found["chosen"]["name"][1:])] == max(values)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_curve_that_only_rises_is_best_at_the_edge(sign):
    values = {10.0**-x: sign * -0.2 * x for x in (4, 3, 2, 1)}
    fit = best_rate(tried(values, spread=0.1), KEYS, BOOTSTRAP)["fit"]
    assert fit["best"] == pytest.approx(1e-1 if sign == 1 else 1e-4)
    assert fit["outside"] > 0.5
    assert fit["edges"] == ["highest" if sign == 1 else "lowest"]


def test_less_is_better_looks_for_the_bottom():
    values = {10.0**-x: 0.2 * (x - 3) ** 2 for x in (5, 4, 3, 2, 1)}
    found = best_rate(tried(values, spread=0.1), KEYS, BOOTSTRAP, less=True)
    assert found["chosen"]["peak"] == 1e-3
    assert found["fit"]["best"] == pytest.approx(1e-3, rel=0.2)


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_rates_for_a_curve_are_said(count):
    found = best_rate(tried({10.0**-x: 0.1 for x in range(1, count + 1)}), KEYS, BOOTSTRAP)
    assert found["fit"] is None
    assert "rate" in found["reason"]
    assert (found["chosen"] is None) == (count == 1)


def test_half_of_very_few_items_is_no_half():
    few = [Tried("a", 1e-3, (Change({}, np.ones(2), np.ones(2)),))] * 2
    assert "too small" in best_rate(few, KEYS[:2], BOOTSTRAP)["reason"]
