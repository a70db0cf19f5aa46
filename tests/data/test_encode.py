"""Properties of encoding: the loss stands on the responses exactly, and no row vanishes unseen."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core.errors import DataError
from heed.core.types import Example, Message, Rendered, Span
from heed.data.encode import Encoded, check_mask, encode, encode_all, fit_length
from heed.data.template import Template
from heed.data.treatment import Treatment

SAID = st.text(alphabet="ab é\n😀.", max_size=12)
SHAPES = st.sampled_from([("user",), ("system", "user"), ("user", "assistant", "user"), ()])
HEADERS = st.sampled_from(["Assistant: ", "Assistant:", "<|assistant|>\n", "", "a"])
TREATMENT = Treatment(
    max_tokens=8, over_long="drop", limit=None, on_bad_row="error", duplicates="keep", loss_on="every_turn",
    validation_share=0.0, drop_contaminated=False, packing="best_fit", examples_per_step=4, epochs=1, steps=None,
    micro_tokens=8,
)  # fmt: skip


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


def example(length: int, prompt: int) -> Encoded:
    return Encoded("a", list(range(length)), [place >= prompt for place in range(length)])


@given(st.integers(1, 40), st.integers(0, 40), st.sampled_from(["drop", "cut", "window"]))
def test_no_example_is_too_long_and_none_vanishes_uncounted(length: int, prompt: int, rule: str):
    events: Counter[str] = Counter()
    whole = example(length, min(prompt, length))
    kept = fit_length(whole, replace(TREATMENT, over_long=rule), events)
    assert all(0 < len(part.ids) <= 8 and part.supervised for part in kept)
    given_up = events["dropped: over-long"] + events["dropped: no supervised token"]
    windows = events["windows made of over-long rows"] or 1
    assert len(kept) == windows - given_up
    assert (length > 8) == (sum(events.values()) - events["dropped: no supervised token"] > 0)


@pytest.mark.parametrize(
    ("rule", "lengths", "event"),
    [
        ("drop", [], {"dropped: over-long": 1}),
        ("cut", [8], {"cut: over-long, no end of turn": 1}),
        ("window", [8, 8, 4], {"windows made of over-long rows": 3}),
    ],
)
def test_an_over_long_example_is_treated_as_told_and_counted(rule, lengths, event):
    events: Counter[str] = Counter()
    kept = fit_length(example(20, 3), replace(TREATMENT, over_long=rule), events)
    assert [len(part.ids) for part in kept] == lengths
    assert [i for part in kept for i in part.ids] == list(range(sum(lengths)))
    assert events == event
    assert len({part.id for part in kept}) == len(kept)


def rows(*said: str) -> list[tuple[str, str]]:
    return [("Hi", response) for response in said]


def encoded(source, tokenizer, template, **changes):
    treatment = replace(TREATMENT, **({"max_tokens": 64, "micro_tokens": 64} | changes))
    return encode_all(source, template, tokenizer, treatment)


def test_empty_responses_and_over_long_ones_are_counted(teacher_of, tokenizer, template):
    source = teacher_of(rows("red", "", " \n", "blue", "very " * 60))
    examples, events, sample = encoded(source, tokenizer, template)
    assert [e.id for e in examples] == ["toy/0", "toy/3"]
    assert events == {"rows read": 5, "dropped: empty response": 2, "dropped: over-long": 1}
    assert [r.text.split("Assistant: ")[1] for r in sample] == ["red<|end|>", "blue<|end|>"]


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_a_limit_takes_the_first_examples_and_no_more(teacher_of, tokenizer, template, limit: int):
    source = teacher_of(["xyz " * 60, "lamp", "xyz " * 60])
    whole = encoded(source, tokenizer, template, over_long="window").examples
    some = encoded(source, tokenizer, template, over_long="window", limit=limit).examples
    assert len(whole) > 5
    assert some == whole[:limit]


def test_a_source_without_anything_to_learn_is_refused(teacher_of, tokenizer, template):
    with pytest.raises(DataError, match=r"teacher 'mute': no example is left .*'rows read': 2"):
        encoded(teacher_of(rows("", " "), name="mute"), tokenizer, template)


def test_every_response_of_a_long_conversation_is_supervised(tokenizer, template):
    said = [Message("user", "a"), Message("assistant", "b"), Message("user", "c")]
    row = Example("1", (*said, Message("assistant", "d")), "x")
    found = encode(template.render(row.messages), tokenizer, item="x/1")
    assert found.supervised == 2 * 2  # a letter and an end each
