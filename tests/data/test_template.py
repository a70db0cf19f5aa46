"""Properties of templates: one rendering for training, evaluation and everybody else's tools."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core.errors import ConfigError, DataError
from heed.core.types import Message
from heed.data.template import Template

TEXT = st.text(alphabet="aé \n\r\t'\"\\{}%#<|>", max_size=6)
FRAME = st.tuples(TEXT, TEXT).map("{content}".join).filter(lambda f: f.count("{content}") == 1)
TEMPLATES = st.builds(
    Template, name=st.just("drawn"), system=FRAME, user=FRAME, assistant=TEXT,
    end_of_turn=st.just("<|end|>"), between=TEXT,
)  # fmt: skip


def turns(*shape: str):
    return st.tuples(*(st.builds(Message, st.just(role), TEXT) for role in shape)).map(list)


U, A = "user", "assistant"
CONVERSATIONS = st.one_of(
    turns(U, A), turns("system", U, A), turns(U, A, U, A), turns("system", U, A, U, A, U, A),
    turns(A),
)  # fmt: skip


def foreign(tokenizer, template: Template, messages: list[Message], *, opened: bool) -> str:
    return tokenizer.apply_chat_template(
        [message._asdict() for message in messages],
        chat_template=template.jinja(),
        tokenize=False,
        add_generation_prompt=opened,
    )


@given(TEMPLATES, CONVERSATIONS)
def test_transformers_renders_a_conversation_as_we_do(tokenizer, drawn: Template, messages: list):
    ours = drawn.render(messages).text
    assert foreign(tokenizer, drawn, messages, opened=False) == ours


@given(TEMPLATES, TEXT)
def test_transformers_opens_an_answer_as_we_do(tokenizer, drawn: Template, said: str):
    ours = drawn.prompt(said)
    assert foreign(tokenizer, drawn, [Message("user", said)], opened=True) == ours


OPENED = st.one_of(turns(U), turns("system", U), turns(U, A, U), turns("system", U, A, U, A, U))


@given(TEMPLATES, OPENED)
def test_transformers_opens_the_answer_of_a_conversation_as_we_do(
    tokenizer, drawn: Template, messages: list
):
    assert foreign(tokenizer, drawn, messages, opened=True) == drawn.prompt_of(messages)


@given(TEMPLATES, OPENED, TEXT)
def test_what_is_shown_in_a_chat_is_what_was_trained(drawn: Template, messages: list, said: str):
    whole = drawn.render([*messages, Message("assistant", said)]).text
    assert whole == drawn.prompt_of(messages) + said + drawn.end_of_turn


@pytest.mark.parametrize("roles", [(), ("user", "assistant")])
def test_a_student_is_never_asked_to_answer_itself(template: Template, roles: tuple):
    with pytest.raises(DataError, match="must follow somebody else's turn; found"):
        template.prompt_of([Message(role, "x") for role in roles])


@given(TEMPLATES, CONVERSATIONS)
def test_supervised_are_the_responses_with_their_ends_and_nothing_else(
    drawn: Template, messages: list
):
    text, spans = drawn.render(messages)
    said = [m.content + drawn.end_of_turn for m in messages if m.role == "assistant"]
    assert [text[start:stop] for start, stop in spans] == said


@given(TEMPLATES, TEXT, TEXT)
def test_a_prompt_is_what_stands_before_the_response(drawn: Template, asked: str, said: str):
    whole = drawn.render([Message("user", asked), Message("assistant", said)]).text
    assert whole == drawn.prompt(asked) + said + drawn.end_of_turn


def test_plain_text_has_no_template_and_is_supervised_whole(template: Template):
    text, spans = template.render([Message("text", "Once upon a time")])
    assert text == "Once upon a time<|end|>"
    assert spans == ((0, len(text)),)


@pytest.mark.parametrize("roles", [(), ("user",), ("user", "assistant", "user"), ("text", "user")])
def test_a_conversation_that_ends_without_a_response_is_refused(template: Template, roles: tuple):
    with pytest.raises(DataError, match="must end with the assistant's turn; found"):
        template.render([Message(role, "x") for role in roles])


def test_plain_text_inside_a_conversation_is_refused(template: Template):
    with pytest.raises(DataError, match="role 'text' cannot stand in a conversation"):
        template.render([Message("text", "x"), Message("assistant", "y")])


@pytest.mark.parametrize("frame", ["no slot", "{content}{content}", ""])
def test_a_frame_without_one_slot_is_refused(template: Template, frame: str):
    with pytest.raises(ConfigError, match="user: needs exactly one"):
        replace(template, user=frame)


def test_a_template_without_an_end_of_turn_is_refused(template: Template):
    with pytest.raises(ConfigError, match="never stops"):
        replace(template, end_of_turn="")
