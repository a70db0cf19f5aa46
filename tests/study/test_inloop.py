"""The small score in the loop is that of the suite on fewer items, the same ones each time."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core.compose import compose_component
from heed.core.types import Item
from heed.evaluation.prompting import Declared
from heed.evaluation.suite import Suite
from heed.models.student import Loaded
from heed.study.inloop import InLoop, in_loop, some

CONF = Path(__file__).resolve().parents[2] / "conf"
KEYS = st.lists(st.text(min_size=1), unique=True)


@pytest.fixture(scope="module")
def cell():
    return compose_component(
        CONF, "train", ("debug=fast", "suite.max_new_tokens=4", "suite.resamples=100")
    )


@pytest.fixture(scope="module")
def suite(cell) -> Suite:
    return cell.suite


@pytest.fixture(scope="module")
def nano(cell) -> Loaded:
    return cell.model.fresh()


@given(KEYS, st.integers(0, 20), st.randoms())
def test_which_items_are_chosen_depends_on_nothing_but_their_keys(keys, count, random):
    items = [Item(key, "") for key in keys]
    chosen = some(items, count)
    assert len(chosen) == min(count, len(items))
    random.shuffle(items)
    assert some(items, count) == chosen
    assert some(items, count + 1)[:count] == chosen


def test_the_chosen_items_score_as_they_do_in_the_suite(suite, nano):
    look = in_loop(suite)
    found = look(nano, 12)
    keys = {item.key for item in some(suite.tasks["play_follow"].items(), 12)}
    scores = [s for s in suite.score(nano) if s.task == "play_follow" and s.key in keys]
    only = replace(suite, tasks={"play_follow": suite.tasks["play_follow"]},
                   margin={"play_follow": 0.02})  # fmt: skip
    want = only.summarise(scores)["play_follow"]["inst_level_strict_acc"]
    assert found["look/play_follow/inst_level_strict_acc"] == want.value
    assert found["look/items"] == 12
    assert found["look/low"] <= want.value <= found["look/high"]


def test_an_answer_is_cut_as_the_suites_prompting_cuts_it(suite, nano, monkeypatch):
    kept = in_loop(suite)(nano, 12)
    monkeypatch.setattr(Declared, "response", lambda self, said, events: said._replace(text=""))
    cut = in_loop(suite)(nano, 12)
    assert cut["look/play_follow/inst_level_strict_acc"] == 0.0
    assert cut != kept


def test_the_metric_is_the_suites_primary_or_the_first_of_the_task(suite):
    other = replace(suite, primary="play_follow/right")
    assert InLoop(other, "play_follow").metric == "right"
    other = replace(suite, primary="play_facts/acc")
    assert InLoop(other, "play_follow").metric == "prompt_level_strict_acc"


def test_a_suite_without_instructions_has_no_score_in_the_loop(suite):
    facts = {"play_facts": suite.tasks["play_facts"]}
    assert in_loop(replace(suite, tasks=facts, primary="play_facts/acc",
                           margin={"play_facts": 0.02})) is None  # fmt: skip


def test_its_prompts_are_those_of_its_items(suite):
    items = some(suite.tasks["play_follow"].items(), 3)
    assert in_loop(suite).prompts(3) == [item.prompt for item in items]
