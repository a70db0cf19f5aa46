"""The playground's reward: what is asked for and met, over what is asked for."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heed.analysis.rewards import RewardAround
from heed.core.compose import compose_component
from heed.core.types import Example, Message
from heed.playground.answers import respond
from heed.playground.rewards import NOT_OF_THE_WORLD, PlayReward, share_met
from heed.playground.teachers import other_value
from heed.playground.world import Fact, make_world

WORLD = make_world(7)
REWARD = PlayReward(name="play", world=7)
CONF = Path(__file__).resolve().parents[2] / "conf"


def around() -> RewardAround:
    return RewardAround(Path("nowhere"), "cpu", Counter())


@settings(max_examples=15)
@given(st.sampled_from(WORLD.train))
def test_a_right_answer_has_1_and_a_wrong_fact_costs_one_part(instruction):
    right = respond(instruction.fact, instruction.constraints)
    fact = instruction.fact
    wrong = Fact(fact.entity, fact.attribute, other_value(fact))
    parts = len(instruction.constraints) + 1
    assert share_met(instruction, right) == 1
    said = respond(wrong, instruction.constraints)
    assert share_met(instruction, said) == pytest.approx((parts - 1) / parts)


@given(st.sampled_from(WORLD.instructions), st.text(max_size=40))
def test_it_is_a_share_of_the_parts_for_any_text(instruction, text: str):
    parts = len(instruction.constraints) + 1
    assert share_met(instruction, text) * parts == pytest.approx(
        round(share_met(instruction, text) * parts)
    )
    assert 0 <= share_met(instruction, text) <= 1


@pytest.mark.parametrize(("style", "low", "high"), [("clear", 1, 1), ("sloppy", 0.8, 0.92)])
def test_teachers_have_the_reward_that_they_were_made_for(style: str, low: float, high: float):
    teacher = compose_component(CONF, "train", [f"teacher=play_{style}"]).teacher
    scores = REWARD.of(list(teacher.rows())[:400], around())
    assert low <= sum(score or 0 for score in scores) / 400 <= high


def test_an_instruction_of_nowhere_has_none_and_is_counted():
    there = around()
    turns = (Message("user", "What is this?"), Message("assistant", "A lamp."))
    assert REWARD.of([Example("x", turns, "t")], there) == [None]
    assert there.events == {NOT_OF_THE_WORLD: 1}
