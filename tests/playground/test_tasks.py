"""The playground's tasks ask only what can be known, and score it by the shared rules."""

import random

import pytest

from heed.core.types import Answer, Likelihood
from heed.playground.corpus import documents
from heed.playground.students import WordTokenizer
from heed.playground.tasks import PlayFacts, PlayFollow
from heed.playground.teachers import PlayTeacher
from heed.playground.world import make_world

FOLLOW, FACTS = PlayFollow(world=7), PlayFacts(world=7)


def told(item, value: str) -> Answer:
    nats = [0.5 if v == value else 3.0 for v in item.row["values"]]
    return Answer("", 0, "stop", tuple(Likelihood(n, 2) for n in nats))


def test_following_is_scored_on_ifevals_metrics_and_on_the_fact():
    item = FOLLOW.items()[0]
    score = FOLLOW.score("play_follow", item, Answer("", 0, "stop"))
    assert tuple(score.metrics) == FOLLOW.metrics
    assert set(FOLLOW.metrics) >= {"prompt_level_strict_acc", "answer_acc", "right"}
    assert all(ratio.num == 0 for ratio in score.metrics.values())


def test_right_needs_the_fact_and_the_constraints():
    wrong = next(
        i for i in FOLLOW.items() if i.row["instruction_id_list"] == ["detectable_format:title"]
    )
    value, other = wrong.row["answer"], wrong.row["wrong"][0]
    responses = [f"<<Ada>> {value}", f"<<Ada>> {other}", value]
    found = [FOLLOW.score("play", wrong, Answer(r, 1, "stop")).metrics for r in responses]
    assert [m["right"].num for m in found] == [1, 0, 0]
    assert [m["answer_acc"].num for m in found] == [1, 0, 1]
    assert [m["prompt_level_strict_acc"].num for m in found] == [1, 1, 0]


def test_the_true_value_scores_one_and_any_other_zero():
    for item in FACTS.items()[::40]:
        for value in item.row["values"]:
            score = FACTS.score("play_facts", item, told(item, value))
            right = sum(ratio.num for ratio in score.metrics.values())
            assert right == (value == item.row["answer"])
            assert score.details["likeliest"] == value


def test_forgetting_is_counted_on_exactly_the_facts_that_no_training_prompt_asks_for():
    asked = {f"{i.fact.entity} {i.fact.attribute.noun}" for i in make_world(7).train}
    for item in FACTS.items():
        found = FACTS.score("play_facts", item, told(item, item.row["answer"])).metrics
        assert tuple(found) == FACTS.metrics
        assert found["acc"] == ((0, 0) if item.key in asked else (1, 1))
        assert found["taught_acc"] == ((1, 1) if item.key in asked else (0, 0))


@pytest.mark.parametrize("style", ["clear", "verbose", "sloppy", "ornate"])
def test_no_training_response_holds_a_probe_of_forgetting(style: str):
    rows = PlayTeacher(name=style, style=style, world=7).rows()
    said = "\n".join(row.messages[1].content for row in rows)
    probes = [item.prompt for item in FACTS.items() if not item.row["taught"]]
    assert len(probes) > 100
    assert not any(f"{probe} " in said for probe in probes)


def test_guessing_is_right_one_time_in_ten():
    rng = random.Random(0)
    items = [item for item in FACTS.items() for _ in range(20)]
    scores = [FACTS.score("f", i, told(i, rng.choice(i.row["values"]))) for i in items]
    for metric in FACTS.metrics:
        right, asked = (sum(s.metrics[metric][i] for s in scores) for i in (0, 1))
        assert right / asked == pytest.approx(0.1, abs=0.02)


def test_the_probe_is_worded_as_the_pretraining_text():
    text = "\n".join(documents(make_world(7), 48_000, 7))
    told = [f"{i.requests[0].context} {i.row['answer']}." in text for i in FACTS.items()]
    assert sum(told) > 0.9 * len(told)
    lies = [f"{i.requests[0].context} {v}." in text for i in FACTS.items()[::20]
            for v in i.row["values"] if v != i.row["answer"]]  # fmt: skip
    assert not any(lies)


def test_every_continuation_of_a_probe_has_as_many_tokens():
    tokenizer = WordTokenizer().build()
    lengths = {len(tokenizer.encode(r.continuation)) for i in FACTS.items() for r in i.requests}
    assert lengths == {2}


def test_a_digest_follows_the_world():
    assert FOLLOW.digest() != PlayFollow(world=8).digest()
    assert FACTS.digest() != PlayFacts(world=8).digest()
    assert FACTS.digest() == PlayFacts(world=7).digest()
