"""A teacher's decodings: all of one distribution, in the order in which they should be good."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from heed.core.component import build
from heed.core.errors import ConfigError
from heed.playground.graded import mistakes_of
from heed.playground.language import CLEAR, pieces, vocabulary
from heed.playground.rewards import share_met
from heed.playground.sampled import SampledTeacher
from heed.playground.world import make_world

CONF = Path(__file__).resolve().parents[2] / "conf" / "teacher"
NAMES = ("play_greedy", "play_sampled", "play_best_of_5", "play_worst_of_5")
TRAIN = make_world(7).train[:400]


def option(name: str) -> SampledTeacher:
    return build(yaml.safe_load((CONF / f"{name}.yaml").read_text()))


def wrong(teacher: SampledTeacher) -> float:
    return sum(share_met(i, teacher.answer(i)) < 1 for i in TRAIN) / len(TRAIN)


def test_each_decoding_is_as_often_wrong_as_its_distribution_says():
    greedy = sum(map(mistakes_of(0.3, 7).faulty, TRAIN)) / len(TRAIN)
    expected = {
        "play_greedy": greedy,
        "play_sampled": 0.8 * greedy + 0.2 * (1 - greedy),
        "play_best_of_5": 0.8**5 * greedy + 0.2**5 * (1 - greedy),
        "play_worst_of_5": 1 - 0.8**5 * (1 - greedy) - 0.2**5 * greedy,
    }
    found = {name: wrong(option(name)) for name in NAMES}
    for name, share in expected.items():
        assert found[name] == pytest.approx(share, abs=0.06), name
    order = ["play_best_of_5", "play_greedy", "play_sampled", "play_worst_of_5"]
    assert sorted(found, key=lambda name: found[name]) == order


def test_greedy_is_the_graded_teacher_of_its_error():
    greedy, graded = option("play_greedy"), mistakes_of(0.3, 7)
    assert [greedy.answer(i) for i in TRAIN] == [graded.answer(i, CLEAR) for i in TRAIN]


def test_the_best_is_no_worse_and_the_worst_no_better_than_the_first_draw():
    best, one, worst = (option(n) for n in ("play_best_of_5", "play_sampled", "play_worst_of_5"))
    for instruction in TRAIN:
        drawn = [best.draw(instruction, number) for number in range(5)]
        rewards = [share_met(instruction, said) for said in drawn]
        assert one.answer(instruction) == drawn[0]
        assert share_met(instruction, best.answer(instruction)) == max(rewards)
        assert share_met(instruction, worst.answer(instruction)) == min(rewards)


def test_without_spread_every_decoding_says_the_likeliest():
    greedy = option("play_greedy")
    for name in NAMES[1:]:
        still = replace(option(name), spread=0.0)
        assert [still.answer(i) for i in TRAIN] == [greedy.answer(i) for i in TRAIN]


def test_a_draw_hangs_on_its_number_and_the_seed_alone():
    one = option("play_sampled")
    other = replace(one, seed=2)
    assert [one.answer(i) for i in TRAIN] == [one.answer(i) for i in TRAIN]
    assert [one.answer(i) for i in TRAIN] != [other.answer(i) for i in TRAIN]
    assert one.digest() != other.digest()
    assert replace(one, name="x").digest() == one.digest()


def test_slips_are_of_facts_and_of_constraints_and_stay_within_the_language():
    known = set(vocabulary())
    one = replace(option("play_sampled"), error=0.0, spread=1.0)
    said = [(i, one.answer(i)) for i in TRAIN]
    assert all(share_met(i, text) < 1 for i, text in said)
    of_fact = sum(i.fact.value not in text for i, text in said)
    assert 0.2 < of_fact / len(said) < 0.8
    assert all(known.issuperset(pieces(text)) for _, text in said)


def test_rows_are_the_worlds_instructions():
    rows = list(option("play_worst_of_5").rows())
    assert [row.id for row in rows] == [i.id for i in make_world(7).train]


@pytest.mark.parametrize(("name", "samples"), [("play_greedy", 2), ("play_best_of_5", 1)])
def test_a_number_of_samples_that_does_nothing_is_refused(name: str, samples: int):
    with pytest.raises(ConfigError, match="pick"):
        replace(option(name), samples=samples)
