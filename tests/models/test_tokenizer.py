"""Properties of a trained tokenizer: lossless on every text, and the same every time."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError


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
