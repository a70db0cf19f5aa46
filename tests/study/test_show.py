"""What a plan says of the smallest delta that can be seen, before any model is loaded."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from heed.core.compose import compose_component
from heed.core.errors import DataError
from heed.core.power import detectable_flips
from heed.evaluation.suite import Suite
from heed.playground.tasks import PlayFollow
from heed.study.show import detectable_line, plan_table

CONF = Path(__file__).resolve().parents[2] / "conf"
EFFECTS = r"a delta of ([\d.]+) / ([\d.]+) / ([\d.]+) points"


def suite() -> Suite:
    found: Suite = compose_component(CONF, "train", ("debug=fast",)).suite
    return found


def effects(line: str) -> list[float]:
    found = re.search(EFFECTS, line)
    assert found, line
    return [float(effect) for effect in found.groups()]


def test_the_plan_names_the_smallest_delta_for_its_number_of_items():
    items = len(suite().tasks["play_follow"].items())
    line = detectable_line(suite())
    assert f"if 10 / 20 / 30 % of {items} items change" in line
    expected = [100 * detectable_flips(share, items, 0.95) for share in (0.1, 0.2, 0.3)]
    assert effects(line) == pytest.approx(expected, abs=0.051)


def test_a_study_of_many_cells_needs_a_larger_delta():
    one, many = (effects(detectable_line(suite(), tests)) for tests in (1, 12))
    assert all(few < more for few, more in zip(one, many, strict=True))
    assert "first of 12 cells by Holm" in detectable_line(suite(), 12)


def test_what_cannot_be_known_before_scoring_is_said_so(monkeypatch):
    monkeypatch.setattr(PlayFollow, "lower_is_better", frozenset({"right"}))
    line = detectable_line(replace(suite(), primary="play_follow/right"))
    assert line == "play_follow/right: known once it is scored"


def test_items_that_cannot_be_made_are_told_with_their_reason(monkeypatch):
    def fails(task: PlayFollow) -> None:
        raise DataError("No file x. Fetch it.")

    monkeypatch.setattr(PlayFollow, "items", fails)
    assert detectable_line(suite()).endswith("its items cannot be made. No file x. Fetch it.")


def test_the_plan_of_a_run_has_that_line():
    table = plan_table(compose_component(CONF, "train", ("debug=fast",)))
    lines = dict(zip(*(column.cells for column in table.columns), strict=True))
    assert effects(lines["detectable"]) == effects(detectable_line(suite()))


def test_where_too_few_items_would_change_the_plan_says_that_none_shows(monkeypatch):
    few = suite().tasks["play_follow"].items()[:50]
    monkeypatch.setattr(PlayFollow, "items", lambda task: few)
    assert "a delta of none / 17.7 / 21.7 points" in detectable_line(suite())
