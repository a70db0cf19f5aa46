"""The teachers are as good as they are said to be, by the very scoring that students get."""

import pytest

from heed.core.types import Answer, Item, Message
from heed.playground.language import ORNATE, PLAIN, QUESTIONS, WITH_COMMA
from heed.playground.students import WordTokenizer
from heed.playground.tasks import PlayFollow
from heed.playground.teachers import PlayTeacher, PlayText, answers_of, wrong_beliefs
from heed.playground.world import make_world

STYLES = ("clear", "verbose", "sloppy", "ornate")
TASK = PlayFollow(world=7)


def teacher(style: str, world: int = 7) -> PlayTeacher:
    return PlayTeacher(name=style, style=style, world=world)


def right(instruction_rows: list[dict], responses: list[str]) -> float:
    """Share of responses that the task calls right."""
    total = 0.0
    for row, response in zip(instruction_rows, responses, strict=True):
        item = Item(key="0", prompt=row["prompt"], row=row)
        total += TASK.score("play", item, Answer(response, 1, "stop")).metrics["right"].num
    return total / len(responses)


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("style", STYLES)
def test_a_teacher_scores_what_its_style_promises(style: str, part: str):
    asked = getattr(make_world(7), part)
    share = right([i.row(0) for i in asked], [answers_of(style, 7)(i) for i in asked])
    if style == "sloppy":
        assert share == pytest.approx(0.70, abs=0.03)
    else:
        assert share >= 0.98


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_sloppiness_does_not_depend_on_the_world(world: int, part: str):
    asked = getattr(make_world(world), part)
    share = right([i.row(0) for i in asked], [answers_of("sloppy", world)(i) for i in asked])
    assert share == pytest.approx(0.70, abs=0.01)


def test_the_sloppy_teacher_is_consistently_wrong_about_few_facts():
    beliefs = wrong_beliefs(7)
    assert 0 < len(beliefs) < len(make_world(7).facts) / 3
    for fact, belief in beliefs.items():
        assert (belief.entity, belief.attribute) == (fact.entity, fact.attribute)
        assert belief.value in fact.others


@pytest.mark.parametrize("style", STYLES)
def test_no_teacher_states_an_untaught_fact_in_any_wording(style: str):
    rows = [row.messages for row in teacher(style).rows()]
    said = "\n".join(message.content for messages in rows for message in messages)
    stated = [*QUESTIONS, WITH_COMMA, PLAIN, ORNATE.fact]
    for fact in make_world(7).facts:
        a = fact.attribute
        words = {"e": fact.entity, "a": a.noun, "o": a.ornate}
        heads = [w.split("{v}")[0].format(**words) for w in (*stated, a.verb, a.rare)]
        assert fact.taught or not any(head in said for head in heads)


def test_all_teachers_answer_the_same_instructions_and_none_of_the_test():
    prompts = [[row.messages[0].content for row in teacher(style).rows()] for style in STYLES]
    assert prompts.count(prompts[0]) == len(STYLES)
    assert not set(prompts[0]) & {item.prompt for item in TASK.items()}


def test_ids_are_unique_and_the_same_for_every_teacher():
    ids = [[row.id for row in teacher(style).rows()] for style in STYLES]
    assert ids.count(ids[0]) == len(STYLES)
    assert len(set(ids[0])) == len(ids[0])


def test_a_digest_tells_styles_and_worlds_apart_but_not_names():
    digests = [teacher(style).digest() for style in STYLES] + [teacher("clear", 8).digest()]
    assert len(set(digests)) == len(digests)
    assert PlayTeacher(name="other", style="clear", world=7).digest() == teacher("clear").digest()


def test_verbose_responses_are_long_and_all_fit_the_cap():
    tokenizer = WordTokenizer().build()
    lengths = {
        style: [len(tokenizer.encode(row.messages[1].content)) for row in teacher(style).rows()]
        for style in STYLES
    }
    assert max(map(max, lengths.values())) < 40
    assert sum(lengths["verbose"]) > 1.8 * sum(lengths["clear"])


def test_the_text_holds_no_conversation_and_few_ornate_words():
    text = PlayText(name="text", world=7, documents=2000)
    rows = list(text.rows())
    assert len(rows) == 2000
    assert all(len(row.messages) == 1 and row.messages[0].role == "text" for row in rows)
    documents = [row.messages[0].content for row in rows]
    prompts = {i.prompt for i in make_world(7).instructions}
    assert not any(prompt in document for prompt in prompts for document in documents)
    rare = sum("Verily" in d or "eth " in d for d in documents)
    assert 0 < rare < 0.03 * len(documents)


def test_the_text_is_the_same_every_time():
    text = PlayText(name="text", world=7, documents=50)
    assert list(text.rows()) == list(text.rows())
    assert isinstance(next(text.rows()).messages[0], Message)
