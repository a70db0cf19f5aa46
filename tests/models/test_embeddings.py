"""Tokens of a template that a student lacks or never saw are found, named, and given rows."""

from dataclasses import replace

import pytest
import torch

from heed.core.errors import RunError
from heed.models.embeddings import (
    lacking,
    pieces,
    place_rows,
    template_tokens,
    tokens_to_learn,
    unseen_tokens,
    untrained_rows,
)
from heed.models.student import Loaded

LADDER = ("<|im_start|>", "<|im_end|>", "<|system|>", "<|user|>", "<|assistant|>")
"""The five tokens of the size ladder's students: in the vocabulary, perhaps in no text."""


@pytest.fixture(scope="module")
def ladder(student):
    """A student whose tokenizer holds the five, spoken to with them; the fifth ends a turn."""
    speech = replace(
        student.template,
        system="<|system|>{content}",
        user="<|im_start|><|user|>{content}",
        assistant="<|im_end|><|assistant|>",
        special_tokens=LADDER,
    )

    def make(tied: bool, end: str = student.template.end_of_turn) -> Loaded:
        shape = replace(student.architecture, tied=tied, init_std=0.02)
        spoken = replace(speech, end_of_turn=end)
        made = replace(student, architecture=shape, template=spoken, new_tokens="train").fresh()
        return replace(made, added=())  # as one that was saved and loaded

    return make


def pretrain(loaded: Loaded, steps: int = 120) -> None:
    """Learn texts that hold every token but the five and the padding."""
    size = len(loaded.tokenizer)
    unused = loaded.tokenizer.convert_tokens_to_ids([*LADDER, "<|pad|>"])
    used = torch.tensor([i for i in range(size) if i not in unused])
    rule = torch.optim.AdamW(loaded.model.parameters(), lr=1e-2, weight_decay=1.0)
    for seed in range(steps):
        drawn = torch.randint(len(used), (8, 64), generator=torch.Generator().manual_seed(seed))
        ids = used[drawn]
        loaded.model.train()(ids, labels=ids).loss.backward()
        rule.step()
        rule.zero_grad()


def test_a_token_of_its_own_is_told_from_text_that_is_spelt(tokenizer):
    assert pieces(tokenizer, "<|end|>") == 1
    assert pieces(tokenizer, "STOP!") > 1
    assert pieces(tokenizer, "") == 0


def test_a_token_that_merges_with_its_neighbours_is_no_token_of_its_own(tokenizer):
    tokenizer.encode("a")
    alone = [t for t in "abcdefghijklmnopqrstuvwxyz" if len(tokenizer.encode(t)) == 1]
    merging = [t for t in alone if tokenizer.encode(t)[0] not in tokenizer.encode(f"a{t}a")]
    assert merging
    assert all(pieces(tokenizer, token) > 1 for token in merging)


def test_a_word_that_a_tokenizer_cannot_spell_is_lacking(template):
    from heed.playground.students import WordTokenizer

    words = WordTokenizer().build()
    spoken = replace(template, user="<user>{content}<|u|>", special_tokens=("<user>", "<|u|>"))
    assert template_tokens(spoken) == ("<|end|>", "<user>", "<|u|>")
    assert "<|u|>" in lacking(words, spoken)
    assert "<user>" not in lacking(words, spoken)


@pytest.mark.parametrize("tied", [True, False])
def test_new_tokens_start_as_the_mean_and_nothing_else_changes(ladder, tied: bool):
    model = ladder(tied).model
    before = model.get_input_embeddings().weight.clone(), model.get_output_embeddings().weight
    before = before[0], before[1].clone()
    size = len(before[0])
    drawn = torch.random.get_rng_state()
    place_rows(model, [size + 1, size])
    after = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    for old, new in zip(before, after, strict=True):
        assert torch.equal(new[:size], old)
        torch.testing.assert_close(new[size:], old.mean(0).expand(2, -1))
    assert (after[0] is after[1]) is tied
    assert model.config.vocab_size == size + 2
    assert torch.equal(torch.random.get_rng_state(), drawn)


def test_a_matrix_that_has_room_does_not_grow(ladder):
    model = ladder(False).model
    matrix = model.get_input_embeddings().weight
    place_rows(model, [len(matrix) - 2, len(matrix) - 1])
    assert model.get_input_embeddings().weight is matrix
    torch.testing.assert_close(matrix[-1], matrix[:-2].mean(0))


def test_rows_far_below_the_others_or_beside_another_look_untrained():
    torch.manual_seed(0)
    matrix = torch.randn(400, 64)
    matrix[1], matrix[2], matrix[3] = 0, matrix[2] * 20, matrix[3] / 20  # large is not far
    matrix[4] = 2 * matrix[5] + 0.01 * torch.randn(64)
    matrix[399] = matrix[6]  # belongs to no token
    said = untrained_rows(matrix, [0, 1, 2, 3, 4, 5, 6], used=399)
    assert ["norm" in s for s in said] == [False, True, False, True, False, False, False]
    assert ["another token" in s for s in said] == [False] * 4 + [True, True, False]
    assert untrained_rows(matrix.bfloat16(), [0, 4], used=399)[0] == ""
    assert "another" in untrained_rows(matrix.bfloat16(), [0, 4], used=399)[1]


def test_a_row_that_is_no_number_looks_untrained():
    matrix = torch.randn(50, 8)
    matrix[7] = float("nan")
    assert untrained_rows(matrix, [7], used=50) != [""]


@pytest.mark.parametrize("tied", [True, False])
def test_the_five_tokens_that_pretraining_never_saw_are_found_and_the_end_of_text_is_not(
    ladder, tied: bool
):
    loaded = ladder(tied)
    pretrain(loaded)
    found = unseen_tokens(loaded)
    assert set(found) == set(LADDER) - {"<|system|>"}  # no prompt without a system turn reads it
    everywhere = replace(loaded.template, begin="<|system|>x")
    assert set(unseen_tokens(replace(loaded, template=everywhere))) == set(LADDER)


def test_an_end_of_text_that_pretraining_never_saw_is_found(ladder):
    loaded = ladder(True, end="<|im_end|>")
    loaded.tokenizer.eos_token = "<|im_end|>"
    pretrain(loaded)
    assert "<|im_end|>" in unseen_tokens(loaded)


def test_what_begins_every_text_is_trusted(ladder):
    loaded = ladder(True)
    pretrain(loaded)
    begun = replace(loaded.template, begin="<|im_start|>")
    assert "<|im_start|>" in unseen_tokens(loaded)
    assert "<|im_start|>" not in unseen_tokens(replace(loaded, template=begun))


def test_an_end_of_turn_that_is_not_the_end_of_text_is_not_trusted(ladder):
    assert unseen_tokens(ladder(True)) == {}
    why = "it ends a turn, and is not the student's end of text"
    assert unseen_tokens(ladder(True, end="<|im_end|>")) == {"<|im_end|>": why}


def test_frozen_embeddings_and_unknown_tokens_are_refused_by_name_or_learned(ladder):
    loaded = replace(ladder(True), added=("<|user|>", "<|im_end|>"), new_tokens="refuse")
    pattern = (
        r"'tiny': .* 2 of the tokens .*'<\|im_end\|>': it was added.*'<\|user\|>': it was added.*"
        r"method LoRA leaves embeddings frozen.*model\.new_tokens=train.*method=full"
    )
    with pytest.raises(RunError, match=pattern):
        tokens_to_learn(loaded, trains_embeddings=False, method="LoRA")
    willing = replace(loaded, new_tokens="train")
    for found in (
        tokens_to_learn(loaded, trains_embeddings=True, method="Full"),
        tokens_to_learn(willing, trains_embeddings=False, method="LoRA"),
    ):
        assert set(found) == {"<|user|>", "<|im_end|>"}
