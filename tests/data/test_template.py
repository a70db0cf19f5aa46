"""Properties of templates: one rendering for training, evaluation and everybody else's tools."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.exceptions import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from heed.core.compose import compose_component, option_names
from heed.core.errors import ConfigError, DataError
from heed.core.identity import short_hash
from heed.core.types import Message
from heed.data.template import Template

CONF = Path(__file__).resolve().parents[2] / "conf"
TEXT = st.text(alphabet="aé😀\u2028 \n\r\t\0'\"\\{}%#<|>", max_size=6)
FRAME = st.tuples(TEXT, TEXT).map("{content}".join).filter(lambda f: f.count("{content}") == 1)
TEMPLATES = st.builds(
    Template, name=st.just("drawn"), begin=TEXT, system=FRAME, system_in_user=st.booleans(),
    default_system=st.none() | TEXT, user=FRAME, assistant=TEXT, end_of_turn=st.just("<|end|>"),
    between=TEXT, special_tokens=st.just(()),
)  # fmt: skip


def turns(*shape: str):
    return st.tuples(*(TEXT.map(partial(Message, role)) for role in shape)).map(list)


U, A = "user", "assistant"
CONVERSATIONS = st.one_of(
    turns(U, A), turns("system", U, A), turns(U, A, U, A), turns("system", U, A, U, A, U, A),
    turns("system", U, A, U, A, "system", U, A), turns(U, U, A, U, A),
)  # fmt: skip


def foreign(tokenizer, template: Template, messages: list[Message], *, opened: bool) -> str:
    return tokenizer.apply_chat_template(
        [{"role": message.role, "content": message.content} for message in messages],
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


OPENED = st.one_of(
    turns(U), turns("system", U), turns(U, A, U), turns("system", U, A, U, A, U),
    turns(U, A, "system", U),
)  # fmt: skip


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
    text, spans, _ = drawn.render(messages)
    said = [m.content + drawn.end_of_turn for m in messages if m.role == "assistant"]
    assert [text[start:stop] for start, stop in spans] == said


@given(TEMPLATES, CONVERSATIONS)
def test_transformers_marks_the_characters_that_we_supervise(drawn: Template, messages: list):
    said = drawn.jinja().split("{% elif m['role'] == 'assistant' %}")[1]
    said = said.split("{% endif %}")[1].split("{% else %}")[0]  # after the check of the order
    header, _, response = said.partition(" + m['content']")
    marked = header + " }}{% generation %}{{ m['content']" + response + "{% endgeneration %}"
    jinja = drawn.jinja().replace(said, marked)
    rows = [[{"role": message.role, "content": message.content} for message in messages]]
    (text,), (spans,) = render_jinja_template(
        rows, chat_template=jinja, return_assistant_tokens_mask=True
    )
    assert (text, tuple(spans)) == drawn.render(messages)[:2]


@given(TEMPLATES, CONVERSATIONS, st.data())
def test_only_turns_that_may_be_learned_are_supervised_and_the_text_stays(
    drawn: Template, messages: list, data
):
    spans = iter(drawn.render(messages).supervised)
    flags = [data.draw(st.booleans()) for _ in messages]
    chosen = [m._replace(supervised=flag) for m, flag in zip(messages, flags, strict=True)]
    kept = [next(spans) if m.role == A else None for m in messages]
    expected = [s for s, flag in zip(kept, flags, strict=True) if s and flag]
    text, found, _ = drawn.render(chosen)
    assert text == drawn.render(messages).text
    assert list(found) == expected
    last = drawn.render(chosen, loss_on="last_turn")
    assert last[:2] == (text, (kept[-1],) if flags[-1] else ())
    assert last.turns == tuple(span for span in kept if span)


@given(TEMPLATES, CONVERSATIONS)
def test_a_default_system_turn_is_as_if_it_had_been_said(drawn: Template, messages: list):
    silent = replace(drawn, default_system=None)
    if drawn.default_system is not None and messages[0].role != "system":
        said = [Message("system", drawn.default_system), *messages]
        assert drawn.render(messages) == silent.render(said)
    else:
        assert drawn.render(messages) == silent.render(messages)


@given(TEMPLATES, TEXT, TEXT, TEXT)
def test_without_a_system_role_the_user_says_what_the_system_says(
    drawn: Template, rule: str, asked: str, said: str
):
    folded = replace(drawn, system_in_user=True)
    told = folded.system.replace("{content}", rule)
    two = [Message("system", rule), Message(U, asked), Message(A, said)]
    one = [Message(U, told + asked), Message(A, said)]
    assert folded.render(two) == replace(folded, default_system=None).render(one)


def test_a_system_turn_that_no_user_follows_is_refused_by_us_and_by_transformers(
    tokenizer, template: Template
):
    folded = replace(template, system_in_user=True)
    messages = [Message("system", "Be kind."), Message(A, "Yes.")]
    with pytest.raises(DataError, match=r"'toy' knows no system role.*It would be lost"):
        folded.render(messages)
    with pytest.raises(TemplateError, match="No user turn follows"):
        foreign(tokenizer, folded, messages, opened=False)
    with pytest.raises(TemplateError, match="No user turn follows"):
        foreign(tokenizer, folded, messages[:1], opened=True)


def test_transformers_refuses_a_role_that_we_refuse(tokenizer, template: Template):
    with pytest.raises(TemplateError, match="Unknown role: tool"):
        foreign(tokenizer, template, [Message("tool", "4")], opened=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("role", ["system", U, A])
def test_a_row_that_says_a_token_of_the_template_is_refused(template: Template, role: str):
    special = replace(template, user="<|u|>{content}\n", special_tokens=("<|u|>",))
    turns = [Message("system", "s"), Message(U, "u"), Message(A, "a")]
    for token in ("<|u|>", "<|end|>"):
        said = [m._replace(content=f"x{token}y") if m.role == role else m for m in turns]
        with pytest.raises(DataError, match=rf"the {role}'s turn says '<\|\w+\|>', which is a"):
            special.render(said)
        if role != A:  # but it may be asked about
            assert f"x{token}y" in special.prompt_of(said[:2])


@given(TEMPLATES, TEXT, TEXT)
def test_a_prompt_is_what_stands_before_the_response(drawn: Template, asked: str, said: str):
    whole = drawn.render([Message("user", asked), Message("assistant", said)]).text
    assert whole == drawn.prompt(asked) + said + drawn.end_of_turn


def test_plain_text_has_no_template_and_is_supervised_whole(template: Template):
    text, spans, _ = template.render([Message("text", "Once upon a time")])
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


def test_a_special_token_that_the_template_does_not_use_is_refused(template: Template):
    with pytest.raises(ConfigError, match="special_tokens: stands in no part of the template"):
        replace(template, special_tokens=("<|user|>",))


def test_all_mistakes_of_a_template_are_told_at_once(template: Template):
    with pytest.raises(ConfigError) as caught:
        replace(template, user="", system="", end_of_turn="", special_tokens=("x!",))
    places = [mistake.where for mistake in caught.value.mistakes]
    assert places == ["system", "user", "end_of_turn", "special_tokens"]


IM, END_IM = "<|im_start|>", "<|im_end|>"
HEAD, END_HEAD, EOT = "<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>"
QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
FAMILIES = {  # system S, user U, assistant A, user V, as the students' own templates open the next
    "alpaca": "[B]S\n\n### Instruction:\nU\n\n### Response:\nA[E]\n\n### Instruction:\nV\n\n"
    "### Response:\n",
    "plain": "[B]S\n\nU\n\nA[E]\n\nV\n\n",
    "chatml": f"[B]{IM}system\nS{END_IM}\n{IM}user\nU{END_IM}\n{IM}assistant\nA{END_IM}\n{IM}user\n"
    f"V{END_IM}\n{IM}assistant\n",
    "qwen": f"{IM}system\nS{END_IM}\n{IM}user\nU{END_IM}\n{IM}assistant\nA{END_IM}\n{IM}user\n"
    f"V{END_IM}\n{IM}assistant\n",
    "llama3": f"<|begin_of_text|>{HEAD}system{END_HEAD}S{EOT}{HEAD}user{END_HEAD}U{EOT}"
    f"{HEAD}assistant{END_HEAD}A{EOT}{HEAD}user{END_HEAD}V{EOT}{HEAD}assistant{END_HEAD}",
    "gemma": "<bos><start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n"
    "<start_of_turn>user\nV<end_of_turn>\n<start_of_turn>model\n",
    "zephyr": "[B]<|system|>\nS</s>\n<|user|>\nU</s>\n<|assistant|>\nA</s>\n<|user|>\nV</s>\n"
    "<|assistant|>\n",
}
ASKED = [Message("system", "S"), Message(U, "U"), Message(A, "A"), Message(U, "V")]


def option(name: str) -> Template:
    line = [
        "model=hub", f"template@model.template={name}", "model.path=a/b", "data_dir=/nowhere",
        f"model.revision={40 * 'a'}",
    ]  # fmt: skip
    own = [] if name in WITH_OWN_BEGIN else ["model.template.begin='[B]'"]
    own += [] if name in WITH_OWN_END else ["model.template.end_of_turn='[E]'"]
    return compose_component(CONF, "train", [*line, *own]).model.template


WITH_OWN_BEGIN = {"qwen", "llama3", "gemma"}
WITH_OWN_END = {"qwen", "llama3", "gemma", "chatml", "zephyr"}


def test_every_template_of_the_config_is_compared_with_its_family():
    assert set(option_names(CONF, "template")) == set(FAMILIES)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_template_opens_an_answer_as_its_family_does(name: str):
    assert option(name).prompt_of(ASKED) == FAMILIES[name]


def test_qwen_says_who_it_is_unless_the_system_speaks():
    opened = option("qwen").prompt("U")
    assert opened == f"{IM}system\n{QWEN}{END_IM}\n{IM}user\nU{END_IM}\n{IM}assistant\n"


@pytest.mark.parametrize("name", FAMILIES)
def test_what_ends_a_turn_in_a_prompt_of_a_family_ends_the_supervised_one(name: str):
    chosen = option(name)
    text, spans, _ = chosen.render([*ASKED, Message(A, "W")])
    assert [text[a:b] for a, b in spans] == [f"A{chosen.end_of_turn}", f"W{chosen.end_of_turn}"]
    assert text.startswith(FAMILIES[name] + "W")


def test_the_hash_of_a_template_changes_with_what_it_says_and_not_with_its_name():
    ours = option("chatml")
    assert short_hash(replace(ours, name="mine")) == short_hash(ours)
    assert len({short_hash(option(name)) for name in FAMILIES}) == len(FAMILIES)
    assert short_hash(replace(ours, default_system="Hi")) != short_hash(ours)


@pytest.mark.parametrize("token", ["<|end|>", "<|user|>"])
def test_a_plain_text_that_says_a_token_of_the_template_is_refused(template: Template, token: str):
    made = replace(template, user="<|user|>{content}", special_tokens=("<|user|>",))
    with pytest.raises(DataError, match=r"the text says .* a token of the template 'toy'"):
        made.render([Message("text", f"Once {token} upon")])
