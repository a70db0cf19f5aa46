"""The page of a ranking: its figure's names can be read, its numbers are those of the table."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_car import BOOTSTRAP, PLAIN, measured_of

from heed.analysis.car import Measured, car
from heed.analysis.car_figure import car_figure, places, point_of, reward_at
from heed.analysis.car_page import CAUTION, _ranking, lines_of, write_ranking
from heed.analysis.car_summary import recommendation, share_text, summary_of
from heed.analysis.ranking import CAR
from heed.analysis.rewards import Column
from heed.core.errors import ConfigError, DataError
from heed.core.files import read_json

LABELS = {"loss": "loss (nats per token)", "reward": "mean reward"}
ODD = '<b>t$1$ & "co"</b>'


def settings(**changes: Any) -> CAR:
    given = {
        "reward": Column(name="good", key=None), "also": {}, "beta": 1.0, "betas": (0.5,),
        "per": "token", "conditioned": True, "negative": "refuse", "unrewarded": "refuse",
        "rewarded": "all", "weighed": "all", "max_tokens": None, "over_long": "drop",
        "on_bad_row": "error", "precision": "weights", "reference": None, "limit": None,
        "batch_tokens": 2048,
    }  # fmt: skip
    return CAR(**(given | changes))


def about(measured: Measured, **changes: Any) -> dict[str, Any]:
    given = {
        "student": "nano", "set": "toys", "bootstrap": BOOTSTRAP, "facts": {"student": "nano"},
        "teachers": {name: {"family": None, "size_b": 1.5} for name in measured.teachers},
        "events": {"t0": {"empty response, left out": 3}},
        "counts": {"shared": 30, "asked": 30, "kept": 30, "rewarded": 30, "weighed": 30},
    }  # fmt: skip
    return given | changes


@pytest.fixture(scope="module")
def many() -> Measured:
    """24 teachers, many of them close to each other, under long names."""
    made = measured_of(teachers=24)
    names = tuple(f"Organisation-{i}-Instruct-{7 * i}B" for i in range(24))
    return replace(made, teachers=names)


def test_names_of_24_teachers_do_not_cover_each_other(many):
    boxes = places(summary_of(many, PLAIN, (), BOOTSTRAP)["teachers"], 1.0, LABELS)
    assert len(boxes) == 24
    area = sum(box.width * box.height for box in boxes)
    covered = sum(
        (min(a.x1, b.x1) - max(a.x0, b.x0)) * (min(a.y1, b.y1) - max(a.y0, b.y0))
        for i, a in enumerate(boxes)
        for b in boxes[:i]
        if a.overlaps(b)
    )
    assert covered < 0.02 * area


def test_the_figure_names_every_teacher_with_a_reward_and_is_the_same_each_time(many):
    rewards = many.rewards["good"].copy()
    rewards[3] = np.nan
    teachers = summary_of(replace(many, rewards={"good": rewards}), PLAIN, (), BOOTSTRAP)
    drawing = car_figure(teachers["teachers"], 1.0, LABELS)
    shown = [name for name in many.teachers if f">{name}<" in drawing.svg]
    assert shown == [name for name in many.teachers if name != many.teachers[3]]
    assert drawing.svg.count("CAR ") >= 3
    assert car_figure(teachers["teachers"], 1.0, LABELS) == drawing


@given(st.floats(0.01, 5), st.floats(0.01, 50), st.floats(0, 10))
def test_the_lines_of_a_figure_are_of_equal_car(value: float, loss: float, beta: float):
    assert car(reward_at(value, loss, beta), loss, beta) == pytest.approx(value)


def test_lines_are_drawn_from_the_least_to_the_largest_car():
    found = summary_of(measured_of(teachers=3), PLAIN, (), BOOTSTRAP)["teachers"]
    words = car_figure(found, 1.0, LABELS).svg
    for place in (0, -1):
        assert f">CAR {found[place]['metrics']['car']['value']:.3g}<" in words


@pytest.fixture
def odd() -> Measured:
    """A teacher whose name is markup and a formula."""
    made = measured_of()
    return replace(made, teachers=(ODD, *made.teachers[1:]))


def test_all_is_written_and_a_name_is_never_markup(odd, tmp_path):
    lines = write_ranking(tmp_path, odd, settings(), about(odd))
    text = (tmp_path / "report.html").read_text()
    assert "<b>t$1$" not in text
    assert text.count("&lt;b&gt;t$1$ &amp; &quot;co&quot;") >= 2
    for kind in ("png", "svg"):
        assert (tmp_path / f"figures/reward_by_loss.{kind}").stat().st_size > 5000
    summary = read_json(tmp_path / "summary.json")
    assert summary["recommendation"] in text.replace("&lt;", "<").replace("&gt;", ">").replace(
        "&amp;", "&"
    ).replace("&quot;", '"')
    assert CAUTION in text
    assert lines[-1] == CAUTION
    assert "empty response, left out" in text
    assert re.search(r"chosen.*0\.5.*infinity", text, re.DOTALL)


def test_the_table_holds_every_number_with_its_interval(odd, tmp_path):
    write_ranking(tmp_path, odd, settings(), about(odd))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text())))
    summary = read_json(tmp_path / "summary.json")
    assert [row["teacher"] for row in rows] == [one["name"] for one in summary["teachers"]]
    for row, one in zip(rows, summary["teachers"], strict=True):
        for name, found in one["metrics"].items():
            assert [float(row[name]), float(row[f"{name}_low"]), float(row[f"{name}_high"])] == [
                found["value"], found["low"], found["high"]
            ]  # fmt: skip
        assert float(row["first_share"]) == one["first"]
        assert float(row["size_b"]) == 1.5


def shown(tmp_path: Path, measured: Measured, analysis: CAR, **changes: Any) -> str:
    return "\n".join(write_ranking(tmp_path, measured, analysis, about(measured, **changes)))


def test_what_weakens_a_ranking_is_said(odd, tmp_path):
    rewards = odd.rewards["good"].copy()
    rewards[1], rewards[2] = rewards[1] - 2, np.nan
    counts = {"shared": 90, "asked": 40, "kept": 30, "rewarded": 30, "weighed": 30}
    measured = replace(odd, rewards={"good": rewards})
    said = shown(tmp_path, measured, settings(negative="keep"), counts=counts)
    assert "30 of 90 rewards good are negative, and so are the means of t1" in said
    assert "a higher loss makes a higher CAR" in said
    assert "10 of 40 instructions are left out" in said
    assert "shorter answers" not in said
    long = {"t0": {"dropped: over-long (read by nano)": 10}}
    again = shown(tmp_path, measured, settings(negative="keep"), counts=counts, events=long)
    assert "shorter answers" in again
    assert "No reward, so no CAR and no rank: t2." in said
    assert "resamples some teacher's mean reward is negative" in said
    page = (tmp_path / "report.html").read_text()
    assert page.count('class="warning"') == 4


def test_without_such_there_is_no_warning(odd, tmp_path):
    assert "Mind:" not in shown(tmp_path, odd, settings())


def test_a_negative_mean_ends_the_ranking_before_anything_is_written(odd, tmp_path):
    rewards = {"good": odd.rewards["good"] - 2}
    with pytest.raises(DataError, match="mean of"):
        shown(tmp_path, replace(odd, rewards=rewards), settings())
    assert not list(tmp_path.iterdir())


def test_two_rewards_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="two rewards of one name"):
        settings(also={"more": Column(name="good", key="other")})


@pytest.mark.parametrize("beta", [-1.0, float("inf"), float("nan")])
def test_a_beta_is_a_number_of_zero_or_more(beta: float):
    from pydantic import ValidationError

    with pytest.raises(ValidationError):
        settings(beta=beta)


@pytest.mark.parametrize("negative", ["shift_min", "sigmoid"])
def test_the_figure_draws_the_reward_that_car_takes(odd, tmp_path, negative: str):
    """Its lines of equal CAR would not pass through points of plain means."""
    rewards = {"good": odd.rewards["good"] - 2}
    said = shown(tmp_path, replace(odd, rewards=rewards), settings(negative=negative))
    assert "some teacher's mean reward is negative" not in said
    for one in read_json(tmp_path / "summary.json")["teachers"]:
        metrics = {name: found["value"] for name, found in one["metrics"].items()}
        assert metrics["reward"] < 0 < metrics["reward_taken"]
        assert metrics["car"] == pytest.approx(metrics["reward_taken"] / (1 + metrics["loss"]))
        loss, reward = point_of(one)
        assert (loss["value"], reward["value"]) == pytest.approx(
            (metrics["loss"], metrics["reward_taken"])
        )
    assert "reward_taken: the reward as CAR takes it" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("places", [0, 1, 2])
@given(share=st.floats(0, 1))
def test_a_share_is_written_as_all_or_nothing_only_where_it_is(places: int, share: float):
    said = share_text(share, places)
    number = float(said.removesuffix(" %").rpartition(" ")[2])
    assert (said == share_text(0.0, places)) == (share == 0)
    assert (said == share_text(1.0, places)) == (share == 1)
    step = 10.0**-places
    assert number == pytest.approx(100 * share, abs=step if "than" in said else 0.501 * step)
    if "less" in said:
        assert 100 * share < number
    if "more" in said:
        assert 100 * share > number


def test_terminal_and_table_of_a_ranking_round_nothing_to_all_or_none():
    summary = {
        "set": "s", "student": "n", "recommendation": "r", "warnings": [],
        "settings": {"beta": 1.0, "per": "token", "conditioned": True},
        "counts": {"rewarded": 9, "weighed": 9}, "bootstrap": {"level": 0.95}, "sensitivity": {},
        "teachers": [
            {"name": name, "metrics": {}, "rank": {"value": 1.0, "low": 1.0, "high": 2.0},
             "first": first, "top": top, "family": None, "size_b": None}
            for name, first, top in (("a", 0.9997, 1.0), ("b", 0.0003, 0.1234))
        ],
    }  # fmt: skip
    one, two = (line for line in lines_of(summary) if "first in" in line)
    assert one.endswith("first in more than 99 %")
    assert two.endswith("first in less than 1 %")
    text = re.sub(r"<[^>]+>", " ", str(_ranking(summary, 0.95)[-1]))
    assert re.findall(r"more than 99.9 %|less than 0.1 %|100.0 %|12.3 %|0.0 %", text) == [
        "more than 99.9 %", "100.0 %", "less than 0.1 %", "12.3 %"
    ]  # fmt: skip


def test_what_is_not_all_of_it_is_not_written_as_all():
    sure = {"name": "a", "first": 0.9997}, {"name": "b", "first": 0.0003}
    said = recommendation({"teachers": sure}, 0.95)
    assert said == "a is ranked first in more than 99 % of resamples (b in less than 1 %)."
