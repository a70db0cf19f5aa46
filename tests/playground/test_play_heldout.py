"""What the playground keeps apart is apart, and of the same kind as what students are taught."""

import pytest

from heed.core.errors import ConfigError
from heed.playground.heldout import PlayHeldOut, PlayOtherText
from heed.playground.teachers import PlayTeacher, PlayText

STYLES = ("clear", "verbose", "sloppy", "ornate")


def said(teacher) -> list[str]:
    return ["\n".join(message.content for message in row.messages) for row in teacher.rows()]


def test_the_stream_of_the_pretraining_text_is_refused():
    with pytest.raises(ConfigError, match="pre-trained on"):
        PlayOtherText(name="x", world=7, stream=7, documents=10)


def test_another_stream_is_other_text_of_the_same_world():
    other = said(PlayOtherText(name="x", world=7, stream=8, documents=300))
    own = said(PlayText(name="y", world=7, documents=300))
    assert len(other) == 300
    assert len(set(other) & set(own)) < 0.05 * 300
    words = {word for text in own for word in text.split()}
    assert sum(word in words for text in other for word in text.split()) > 0.9 * sum(
        len(text.split()) for text in other
    )


@pytest.mark.parametrize("style", STYLES)
def test_no_held_out_instruction_is_one_that_a_teacher_answers(style: str):
    apart = list(PlayHeldOut(name="x", style=style, world=7).rows())
    taught = {row.id for row in PlayTeacher(name="y", style=style, world=7).rows()}
    assert len(apart) > 100
    assert not taught & {row.id for row in apart}


def test_styles_answer_the_same_instructions_in_other_words():
    rows = [list(PlayHeldOut(name=style, style=style, world=7).rows()) for style in STYLES]
    assert len({tuple(row.id for row in each) for each in rows}) == 1
    assert len({tuple(row.messages[1].content for row in each) for each in rows}) == len(STYLES)


def test_a_digest_changes_with_what_is_said_and_not_with_the_name():
    made = [PlayHeldOut(name=n, style=s, world=7) for n, s in (("a", "clear"), ("b", "clear"))]
    assert made[0].digest() == made[1].digest()
    assert made[0].digest() != PlayHeldOut(name="a", style="ornate", world=7).digest()
    texts = [PlayOtherText(name="a", world=7, stream=s, documents=9) for s in (8, 9)]
    assert texts[0].digest() != texts[1].digest()
