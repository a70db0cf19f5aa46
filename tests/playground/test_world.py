"""The world: closed in its words, honest in its split, and verifiable in IFEval's own terms."""

from collections import Counter

import pytest

from heed.evaluation.ifeval import check_rows, verify
from heed.playground.answers import respond
from heed.playground.language import pieces, vocabulary
from heed.playground.tasks import tells
from heed.playground.world import COMMA, make_world

WORLD = make_world(7)


@pytest.mark.parametrize("seed", [7, 8])
def test_train_and_test_share_no_fact_under_the_same_constraints(seed: int):
    world = make_world(seed)
    train, test = (
        {(i.fact, frozenset(i.constraints)) for i in part} for part in (world.train, world.test)
    )
    assert not train & test
    assert len(test) == len(world.test) >= 400
    assert len(world.train) >= 2000


def test_no_right_response_to_a_test_prompt_is_one_to_a_training_prompt():
    train, test = (
        {respond(i.fact, i.constraints) for i in part} for part in (WORLD.train, WORLD.test)
    )
    assert not train & test


def test_demands_tell_right_responses_apart_and_nothing_else():
    pairs = {(i.demand, respond(i.fact, i.constraints)) for i in WORLD.instructions}
    demands, responses = zip(*pairs, strict=True)
    assert len(set(demands)) == len(set(responses)) == len(pairs)


def test_training_asks_for_taught_facts_only_and_the_test_for_all_alike():
    assert {i.fact for i in WORLD.train} == {f for f in WORLD.facts if f.taught}
    assert sum(f.taught for f in WORLD.facts) == pytest.approx(len(WORLD.facts) / 2, rel=0.1)
    assert sum(i.fact.taught for i in WORLD.test) == pytest.approx(len(WORLD.test) / 2, rel=0.15)


def test_the_split_follows_the_prompt_and_not_the_world():
    held_out = {i.prompt: i.held_out for i in WORLD.instructions}
    again = [i for i in make_world(8).instructions if i.prompt in held_out]
    assert again
    assert all(i.held_out == held_out[i.prompt] for i in again)


def test_a_seed_makes_one_world_and_another_seed_another():
    assert make_world.__wrapped__(7) == WORLD
    assert make_world(8).facts != WORLD.facts


def test_every_entity_has_one_value_of_every_attribute_and_values_are_even():
    assert len({(f.entity, f.attribute.noun) for f in WORLD.facts}) == len(WORLD.facts)
    counts = Counter(f.value for f in WORLD.facts)
    assert len(set(counts.values())) == 1


def test_the_rows_are_what_ifeval_expects():
    check_rows([i.row(key) for key, i in enumerate(WORLD.instructions)])


@pytest.mark.parametrize("kind", sorted({c.kind for i in WORLD.test for c in i.constraints}))
def test_a_constraint_is_met_only_on_purpose(kind: str):
    asked = [i for i in WORLD.test if kind in [c.kind for c in i.constraints]]
    assert len(asked) >= 20
    for instruction in asked:
        place = [c.kind for c in instruction.constraints].index(kind)
        good = respond(instruction.fact, instruction.constraints)
        bad = respond(instruction.fact, instruction.constraints, broken=[kind])
        row = instruction.row(0)
        assert all(v.strict for v in verify(row, good)), (instruction.prompt, good)
        assert not verify(row, bad)[place].strict, (instruction.prompt, bad)
        slip = kind == COMMA and any(c.count < 0 for c in instruction.constraints)  # a word more
        if len(instruction.constraints) == 2 and not slip:
            assert verify(row, bad)[1 - place].strict, (instruction.prompt, bad)


def test_a_response_that_hedges_does_not_tell_the_answer():
    assert tells("Ada wears red.", "red", ["blue"])
    assert not tells("Ada wears red or blue.", "red", ["blue"])
    assert not tells("Ada wears redder things.", "red", ["blue"])


def test_cut_text_joins_to_itself_and_the_vocabulary_is_of_few_hundred_pieces():
    for instruction in WORLD.test:
        assert "".join(pieces(instruction.prompt)) == instruction.prompt
    assert 200 <= len(vocabulary()) <= 600
