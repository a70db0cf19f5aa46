"""The playground's tokenizer spells every text of every world exactly."""

import pytest

from heed.playground.language import vocabulary
from heed.playground.students import ASSISTANT, END, PAD, UNKNOWN, USER, WordTokenizer
from heed.playground.teachers import PlayText, answers_of
from heed.playground.world import make_world

TOKENIZER = WordTokenizer().build()


def assert_lossless(texts: list[str]):
    for text in texts:
        ids = TOKENIZER.encode(text, add_special_tokens=False)
        assert TOKENIZER.decode(ids, skip_special_tokens=False) == text
        assert TOKENIZER.unk_token_id not in ids


@pytest.mark.parametrize("world", [7, 11])
def test_documents_round_trip(world: int):
    rows = PlayText(name="text", world=world, documents=5000).rows()
    assert_lossless([row.messages[0].content for row in rows])


@pytest.mark.parametrize("style", ["clear", "verbose", "sloppy", "ornate"])
def test_prompts_and_responses_round_trip(style: str):
    asked = make_world(11).instructions
    assert_lossless([i.prompt for i in asked] + [answers_of(style, 11)(i) for i in asked])


def test_a_newline_is_a_token_and_words_keep_the_space_before_them():
    tokens = TOKENIZER.tokenize("- Ada\n- red\nP.S. thanks.")
    assert tokens == ["-", " Ada", "\n", "-", " red", "\n", "P.S.", " thanks", "."]


def test_special_tokens_are_single_and_distinct():
    special = [PAD, UNKNOWN, END, USER, ASSISTANT]
    ids = [TOKENIZER.encode(token, add_special_tokens=False) for token in special]
    assert all(len(found) == 1 for found in ids)
    assert len({found[0] for found in ids}) == len(special)
    assert TOKENIZER.eos_token == END
    assert TOKENIZER.pad_token == PAD


def test_a_word_of_another_language_is_unknown_and_not_dropped():
    assert TOKENIZER.encode("Ada wears zinnober.")[2] == TOKENIZER.unk_token_id


def test_the_tokenizer_is_the_vocabulary_and_the_special_tokens():
    assert len(TOKENIZER) == len(vocabulary()) + 5


def test_a_saved_tokenizer_loads_without_heed_and_spells_the_same(tmp_path):
    from transformers import AutoTokenizer

    TOKENIZER.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = '<user>Tell me the pet of Ada.<assistant>"- Ada\n- cat"<end>'
    ids = loaded.encode(text, add_special_tokens=False)
    assert ids == TOKENIZER.encode(text, add_special_tokens=False)
    assert loaded.decode(ids) == text
