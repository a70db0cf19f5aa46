"""Properties of a trained tokenizer: lossless on every text, and the same every time."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from heed.core.types import Message
from heed.data.encode import encode
from heed.models.tokenizer import prompt_ids


@given(st.text(max_size=40))
def test_every_text_is_spelt_losslessly(tokenizer, text: str):
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_the_same_corpus_gives_the_same_tokenizer(student, tokenizer):
    again = student.tokenizer.build()
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again.backend_tokenizer.model.__getstate__() == (
        tokenizer.backend_tokenizer.model.__getstate__()
    )


def test_another_corpus_gives_another_tokenizer(student, tokenizer, teacher_of):
    other = replace(student.tokenizer, corpus=teacher_of(["zebra zebra zebra zebras"]))
    assert other.build().get_vocab() != tokenizer.get_vocab()


def test_special_tokens_are_single_and_the_vocabulary_as_asked(student, tokenizer):
    assert len(tokenizer) == student.tokenizer.vocabulary
    for token in (tokenizer.eos_token, tokenizer.pad_token):
        assert len(tokenizer.encode(f"a{token}b")) == 3
    assert tokenizer.eos_token_id != tokenizer.pad_token_id


def test_a_vocabulary_without_room_for_every_byte_is_refused(student):
    with pytest.raises(ValidationError, match="greater than or equal to 260"):
        replace(student.tokenizer, vocabulary=200)


@pytest.fixture(scope="module")
def joining():
    """A tokenizer that spells the beginning of a text otherwise than its middle."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    letters = list("abcdefghijklmnopqrstuvwxyz<|>:AU\n ")
    trainer = trainers.BpeTrainer(
        vocab_size=120, special_tokens=["</s>"], initial_alphabet=letters, show_progress=False
    )
    made.train_from_iterator(["hello world how are you", "User: Assistant: \n"] * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", pad_token="</s>")


TURNS = [
    Message("user", "hello"), Message("assistant", "world"), Message("user", "how"),
    Message("assistant", "are", supervised=False), Message("user", "hi"),
    Message("assistant", "you"),
]  # fmt: skip


@pytest.mark.parametrize("loss_on", ["every_turn", "last_turn"])
@pytest.mark.parametrize("end", [1, 3, 5])
def test_a_prompt_of_several_turns_is_spelt_as_in_training(joining, template, loss_on, end):
    template = replace(template, end_of_turn="</s>")
    trained = encode(template.render(TURNS, loss_on=loss_on), joining, item="x").ids
    asked = prompt_ids(joining, template.prompt_pieces(TURNS[:end]))
    assert trained[: len(asked)] == asked
    joint = prompt_ids(joining, template.prompt_of(TURNS[:end]))
    assert (joint == asked) is (end == 1)  # what it would be asked, spelt as one text
