"""Properties of spelling: the loss stands on the responses exactly, whatever the text."""

import copy
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core.errors import DataError
from heed.core.types import Example, Message, Rendered, Span
from heed.data.encode import encode_all
from heed.data.spelling import check_mask, encode, flatten, prove, spell
from heed.data.template import Template

SAID = st.text(alphabet="ab é\n😀.", max_size=12)
SHAPES = st.sampled_from([("user",), ("system", "user"), ("user", "assistant", "user"), ()])
HEADERS = st.sampled_from(["Assistant: ", "Assistant:", "<|assistant|>\n", "", "a"])


@given(SHAPES, st.lists(SAID, min_size=4, max_size=4), HEADERS)
def test_tokens_with_loss_spell_the_responses_for_every_shape_and_template(
    tokenizer, template: Template, before: tuple, said: list, header: str
):
    messages = [Message(r, s) for r, s in zip((*before, "assistant"), said, strict=False)]
    rendered = replace(template, assistant=header).render(messages)
    found = encode(rendered, tokenizer, item="x")
    kept = [i for i, supervised in zip(found.ids, found.mask, strict=True) if supervised]
    answers = [m.content for m in messages if m.role == "assistant"]
    assert tokenizer.decode(kept) == "".join(f"{a}<|end|>" for a in answers)
    assert tokenizer.decode(found.ids) == rendered.text
    assert found.ids[-1] == tokenizer.eos_token_id
    assert found.mask[-1]


@given(SAID, SAID, HEADERS)
def test_the_tokens_of_a_prompt_open_its_conversation(
    tokenizer, template: Template, asked: str, said: str, header: str
):
    template = replace(template, assistant=header)
    whole = template.render([Message("user", asked), Message("assistant", said)])
    found = encode(whole, tokenizer, item="x")
    prompt = tokenizer.encode(template.prompt(asked), add_special_tokens=False)
    assert found.ids[: len(prompt)] == prompt
    assert found.mask == [False] * len(prompt) + [True] * (len(found.ids) - len(prompt))


TEXT = "Q: what?\nA: red blue<|end|>"
SPAN = Span(TEXT.index("red"), len(TEXT))


@pytest.mark.parametrize(("early", "late"), [(-1, 0), (1, 0), (0, -1), (-1, -1), (1, 1), (2, -1)])
def test_every_off_by_one_is_caught(tokenizer, early: int, late: int):
    ids, mask = encode(Rendered(TEXT, (SPAN,)), tokenizer, item="x")[1:]
    start, stop = mask.index(True) + early, len(mask) + late
    moved = [start <= place < stop for place in range(len(ids))]
    with pytest.raises(DataError, match=r"item toy/17: the tokens with loss spell .* response is"):
        check_mask(ids, moved, Rendered(TEXT, (SPAN,)), tokenizer.decode, item="toy/17")


def test_what_the_tokenizer_cannot_spell_is_refused(template: Template):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"?": 0, "yes": 1, "<|end|>": 2}, unk_token="?"))
    words.pre_tokenizer, words.decoder = pre_tokenizers.WhitespaceSplit(), decoders.Fuse()
    narrow = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|end|>", unk_token="?")
    rendered = template.render([Message("user", "ok?"), Message("assistant", "perhaps")])
    with pytest.raises(DataError, match=r"item a/1.*spell '\?<\|end\|>' but.*'perhaps<\|end\|>'"):
        encode(rendered, narrow, item="a/1")


def conversations(template: Template) -> list[Rendered]:
    return [
        template.render([Message("user", "why? " * n), Message("assistant", f"because {n}")])
        for n in range(5)
    ]


def test_a_batch_spells_what_each_conversation_spells_alone(tokenizer, template: Template):
    said = [*conversations(template), Rendered("nobody is trained here", ())]
    flat = flatten(said, tokenizer)
    start = 0
    for rendered, stop in zip(said, flat.ends.tolist(), strict=True):
        alone = encode(rendered, tokenizer, item="x")
        assert flat.ids[start:stop].tolist() == alone.ids
        assert flat.mask[start:stop].tolist() == alone.mask
        start = stop
    assert alone.ids == []


@given(st.lists(SAID, max_size=6))
def test_a_batch_of_texts_is_spelt_as_the_tokenizer_spells_each(tokenizer, texts: list[str]):
    tokenizer(["cut me short"], truncation=True, max_length=2)  # leaves its settings behind
    one_by_one = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    tokenizer(["cut me short"], truncation=True, max_length=2)
    assert spell(tokenizer, texts) == one_by_one


@pytest.mark.parametrize("moved", [-1, 1])
@pytest.mark.parametrize("which", range(5))
def test_one_moved_token_of_a_batch_is_caught_and_its_item_named(
    tokenizer, template: Template, which: int, moved: int
):
    said = conversations(template)
    flat = flatten(said, tokenizer)
    edge = [i for i in range(1, len(flat.mask)) if flat.mask[i] and not flat.mask[i - 1]][which]
    flat.mask[edge if moved == 1 else edge - 1] = moved == -1
    with pytest.raises(DataError, match=f"item row{which}: the tokens with loss spell"):
        prove(flat, said, tokenizer, [f"row{i}" for i in range(5)])


class Strips:
    """A tokenizer without a batch of its own, which drops the first space that it decodes."""

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return [ord(letter) for letter in " " + text]

    def decode(self, ids, **_) -> str:
        return "".join(map(chr, ids))[1:]


def test_a_tokenizer_that_drops_a_first_space_is_proved_span_by_span(template: Template):
    turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    rendered = template.render([Message(role, said) for role, said in turns])
    found = encode(rendered, Strips(), item="x")
    assert sum(found.mask) == 2 * len(" b<|end|>")


def conversation(asked: str, said: str, system: str = "ok") -> tuple[Message, ...]:
    return (Message("system", system), Message("user", asked), Message("assistant", said))


def source_of(teacher_of, *turns: tuple[Message, ...]):
    rows = tuple(Example(str(i), messages, "toy") for i, messages in enumerate(turns))
    return replace(teacher_of([]), examples=rows)


BAD = "old{} new"
SAYING = {
    "system": conversation("a", "b", BAD),
    "user": conversation(BAD, "b"),
    "assistant": conversation("a", BAD),
    "text": (Message("text", BAD),),
}


@pytest.mark.parametrize("token", ["<|pad|>", "<|end|>"])  # the template knows the second only
@pytest.mark.parametrize("who", SAYING)
def test_a_special_token_that_somebody_says_is_refused_or_counted(
    teacher_of, tokenizer, template, recipe_of, who: str, token: str
):
    assert token in tokenizer.all_special_tokens
    bad = tuple(m._replace(content=m.content.format(token)) for m in SAYING[who])
    source = source_of(teacher_of, conversation("a", "b"), bad)
    with pytest.raises(DataError) as caught:
        encode_all(source, template, tokenizer, recipe_of().data)
    assert all(part in str(caught.value) for part in ("item toy/1", repr(token), who))
    found = encode_all(source, template, tokenizer, recipe_of(on_bad_row="drop").data)
    assert found.examples.rows.tolist() == [0]
    assert found.events == {"rows read": 2, "dropped: row cannot be rendered": 1}


def test_added_tokens_are_refused_only_if_they_are_special(
    teacher_of, tokenizer, template, recipe_of
):
    from tokenizers import AddedToken

    other = copy.deepcopy(tokenizer)
    other.add_tokens([AddedToken("<tool>"), AddedToken("<|kept|>", special=True)])
    assert "<|kept|>" not in other.all_special_tokens
    source = teacher_of([("Hi", "a <tool> here"), ("Hi", "a <|kept|> here")])
    found = encode_all(source, template, other, recipe_of(on_bad_row="drop").data)
    assert found.examples.rows.tolist() == [0]


@pytest.fixture
def composing(tokenizer):
    """A tokenizer that puts a letter and its accent together."""
    from tokenizers import normalizers

    other = copy.deepcopy(tokenizer)
    other.backend_tokenizer.normalizer = normalizers.NFC()
    return other


def test_a_row_that_the_tokenizer_cannot_spell_is_refused_or_counted(
    teacher_of, composing, template, recipe_of
):
    source = teacher_of([("Hi", "fine"), ("Hi", "cafe\u0301"), ("Hi", "caf\xe9")])
    with pytest.raises(DataError) as caught:
        encode_all(source, template, composing, recipe_of().data)
    says = ("item toy/1", "character 4", r"'\xe9' instead of 'e'", "normalisation", "NFC")
    assert all(part in str(caught.value) for part in says), caught.value
    found = encode_all(source, template, composing, recipe_of(on_bad_row="drop").data)
    assert found.examples.rows.tolist() == [0, 2]
    assert found.events == {"rows read": 3, "dropped: tokenizer cannot spell it": 1}
    assert [r.text.count("caf") for r in found.sample] == [0, 1]


def test_a_cut_that_the_tokenizer_cannot_spell_is_counted_once(
    teacher_of, composing, template, recipe_of
):
    long = (*conversation("a", "cafe\u0301"), *conversation("c", "d " * 60)[1:])
    source = source_of(teacher_of, conversation("x", "y"), long)
    treatment = recipe_of(on_bad_row="drop", over_long="cut_at_turn", loss_on="last_turn").data
    found = encode_all(source, template, composing, treatment)
    assert found.events == {"rows read": 2, "dropped: tokenizer cannot spell it": 1}


def test_a_spelling_that_stops_early_differs_at_its_end(tokenizer):
    ids, mask = encode(Rendered(TEXT, (SPAN,)), tokenizer, item="x")[1:]
    with pytest.raises(DataError, match="character 9, the end instead of '<'"):
        check_mask(ids[:-1], mask[:-1], Rendered(TEXT, (SPAN,)), tokenizer.decode, item="x")


@pytest.mark.parametrize("said", ["a<|pad|>", "cafe\u0301"], ids=["special", "unspelt"])
def test_a_batch_of_which_nothing_is_left_is_counted(
    teacher_of, composing, template, recipe_of, said: str
):
    source = teacher_of([("Hi", said)] * 3)
    with pytest.raises(DataError, match=r"no example is left .*3 dropped: .*"):
        encode_all(source, template, composing, recipe_of(on_bad_row="drop").data)


@pytest.mark.parametrize("said", ["a<|pad|>", "cafe\u0301"], ids=["special", "unspelt"])
def test_a_row_behind_the_limit_ends_nothing_and_one_before_it_does(
    teacher_of, composing, template, recipe_of, said: str
):
    source = teacher_of([("1", "a"), ("2", "b"), ("3", "c"), ("4", said), ("5", "<|pad|>")])
    found = encode_all(source, template, composing, recipe_of(limit=3).data)
    assert found.examples.rows.tolist() == [0, 1, 2]
    assert found.events == {"rows read": 3}
    for limit in (4, None):
        with pytest.raises(DataError, match="item toy/3"):
            encode_all(source, template, composing, recipe_of(limit=limit).data)


def test_of_several_rows_that_cannot_be_encoded_the_first_is_named(
    teacher_of, composing, template, recipe_of
):
    source = teacher_of([("1", "a"), ("2", "cafe\u0301"), ("3", "<|pad|>")])
    with pytest.raises(DataError, match="item toy/1"):
        encode_all(source, template, composing, recipe_of().data)
