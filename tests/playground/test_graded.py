"""Graded teachers: as wrong, as long and in as rare words as they say, and always alike."""

from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from heed.core.component import build
from heed.core.identity import short_hash
from heed.core.types import Answer, Item
from heed.playground.graded import VOICES, GradedTeacher, mistakes_of
from heed.playground.language import pieces, vocabulary
from heed.playground.tasks import PlayFollow
from heed.playground.teachers import PlayTeacher
from heed.playground.world import Instruction, make_world

CONF = Path(__file__).resolve().parents[2] / "conf"
ERRORS = (0.0, 0.15, 0.3, 0.6)
TASK = PlayFollow(world=7)


def teacher(error: float, length: str = "short", words: str = "plain") -> GradedTeacher:
    return GradedTeacher(name="graded", error=error, length=length, words=words, world=7)


def is_right(instruction: Instruction, response: str) -> bool:
    item = Item(key="0", prompt=instruction.prompt, row=instruction.row(0))
    return TASK.score("play", item, Answer(response, 1, "stop")).metrics["right"].num == 1


def words_of(made: GradedTeacher) -> list[list[str]]:
    return [pieces(row.messages[1].content) for row in made.rows()]


@pytest.mark.parametrize("voice", VOICES, ids=" ".join)
@pytest.mark.parametrize("error", ERRORS)
def test_a_grade_is_the_share_of_wrong_responses_in_every_voice(error: float, voice):
    made = mistakes_of(error, 7)
    for part in ("train", "test"):
        asked = getattr(make_world(7), part)[:700]
        found = [is_right(i, made.answer(i, VOICES[voice])) for i in asked]
        assert found == [not made.faulty(i) for i in asked]
        assert 1 - sum(found) / len(asked) == pytest.approx(error, abs=0.04)


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("error", ERRORS)
def test_a_grade_is_the_same_in_every_world(error: float, world: int):
    made = mistakes_of(error, world)
    for part in (make_world(world).train, make_world(world).test):
        assert sum(map(made.faulty, part)) / len(part) == pytest.approx(error, abs=0.01)


@pytest.mark.parametrize("error", ERRORS[1:])
def test_half_of_the_mistakes_are_habits(error: float):
    train, made = make_world(7).train, mistakes_of(error, 7)
    share = sum(bool(made.broken(i)) for i in train) / len(train)
    assert share == pytest.approx(error / 2, abs=0.03)


def test_who_errs_more_errs_in_all_that_who_errs_less_does():
    made = [mistakes_of(error, 7) for error in ERRORS]
    for less, more in pairwise(made):
        assert less.habits < more.habits
        taught = {f: b for f, b in less.beliefs.items() if f.taught}
        assert taught.items() <= more.beliefs.items()


def test_mistakes_are_about_the_same_fact_and_untrue():
    for fact, belief in mistakes_of(0.6, 7).beliefs.items():
        assert (belief.entity, belief.attribute) == (fact.entity, fact.attribute)
        assert belief.value in fact.others


def test_without_mistakes_a_teacher_says_what_the_style_says():
    styles = {
        ("short", "plain"): "clear",
        ("long", "plain"): "verbose",
        ("short", "rare"): "ornate",
    }
    for voice, style in styles.items():
        named = PlayTeacher(name="x", style=style, world=7)
        assert teacher(0.0, *voice).digest() == named.digest()


def test_the_styles_and_the_language_are_what_they_were():
    """Their digests stand in the ids of all runs that were ever made of them."""
    digests = {"clear": "b0fd73dea956", "verbose": "4defeaa607e5"}
    digests |= {"sloppy": "3eb61c0e161f", "ornate": "2d50eed9d7c3"}
    for style, digest in digests.items():
        assert PlayTeacher(name="x", style=style, world=7).digest() == digest
    assert short_hash(list(vocabulary())) == "6a84c6f7101a"


def test_a_short_teacher_is_half_as_long_and_a_rare_one_speaks_in_rare_words():
    lengths = {voice: sum(map(len, words_of(teacher(0.3, *voice)))) for voice in VOICES}
    for words in ("plain", "rare"):
        assert lengths["long", words] > 1.7 * lengths["short", words]
    common = {word for row in words_of(teacher(0.3, "long", "plain")) for word in row}
    for length in ("short", "long"):
        rare = [set(row) - common for row in words_of(teacher(0.3, length, "rare"))]
        assert sum(map(bool, rare)) > 0.9 * len(rare)


@pytest.mark.parametrize("voice", VOICES, ids=" ".join)
def test_every_grade_stays_within_the_vocabulary(voice):
    known = set(vocabulary())
    assert all(known.issuperset(row) for row in words_of(teacher(0.6, *voice)))


def test_all_grades_answer_the_same_instructions():
    made = [teacher(error, *voice) for error in (0.0, 0.6) for voice in VOICES]
    asked = [[(row.id, row.messages[0]) for row in one.rows()] for one in made]
    assert asked.count(asked[0]) == len(asked)
    ids = [row.id for row in PlayTeacher(name="x", style="clear", world=7).rows()]
    assert [one for one, _ in asked[0]] == ids


def test_every_option_of_the_grid_is_what_its_name_says():
    names = [path.stem for path in (CONF / "teacher").glob("play_[0-9]*.yaml")]
    assert len(names) == len(ERRORS) * len(VOICES)
    digests = set()
    for name in names:
        made = build(yaml.safe_load((CONF / "teacher" / f"{name}.yaml").read_text()))
        _, percent, length, words = name.split("_")
        assert (made.name, made.length, made.words) == (name, length, words)
        assert made.error == pytest.approx(int(percent) / 100)
        digests.add(made.digest())
    assert len(digests) == len(names)
