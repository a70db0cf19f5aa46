"""Full tuning of some parts: these move, and nothing else does."""

from dataclasses import replace

import pytest
import torch

from heed.core.errors import ConfigError, RunError
from heed.methods.freeze import Freeze

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])
NOTHING = {
    "first_blocks": 0, "last_blocks": 0, "embeddings": False, "head": False, "rest": False,
}  # fmt: skip
PARTS = {  # what is asked for -> beginnings of the names that move, with a head of its own
    "first": ({"first_blocks": 1}, ["model.layers.0."]),
    "last": ({"last_blocks": 1}, ["model.layers.1."]),
    "both": ({"first_blocks": 1, "last_blocks": 1}, ["model.layers.0.", "model.layers.1."]),
    "embeddings": ({"embeddings": True}, ["model.embed_tokens."]),
    "head": ({"head": True}, ["lm_head."]),
    "rest": ({"rest": True}, ["model.norm."]),
    "last and rest": ({"last_blocks": 1, "rest": True}, ["model.layers.1.", "model.norm."]),
}


def freeze(**parts) -> Freeze:
    return Freeze(**NOTHING | parts)


@pytest.fixture
def untied(student):
    return replace(student, architecture=replace(student.architecture, tied=False)).fresh().model


@pytest.mark.parametrize("name", PARTS)
def test_a_step_moves_the_named_parts_and_no_others(untied, name: str):
    parts, begins = PARTS[name]
    before = {n: p.clone() for n, p in untied.named_parameters()}
    freeze(**parts).attach(untied)
    untied.train()(IDS, labels=IDS).loss.backward()
    moving = [p for p in untied.parameters() if p.requires_grad]
    torch.optim.AdamW(moving, lr=0.1, weight_decay=0.5).step()
    for n, p in untied.named_parameters():
        assert torch.equal(p, before[n]) is not n.startswith(tuple(begins)), n


def test_all_parts_together_are_the_whole_model(untied):
    whole = freeze(first_blocks=1, last_blocks=1, embeddings=True, head=True, rest=True)
    untied.requires_grad_(False)
    whole.attach(untied)
    assert all(p.requires_grad for p in untied.parameters())


def test_a_model_that_was_trainable_is_frozen_first(untied):
    untied.requires_grad_(True)
    freeze(rest=True).attach(untied)
    assert [n for n, p in untied.named_parameters() if p.requires_grad] == ["model.norm.weight"]


@pytest.mark.parametrize(
    ("parts", "moves", "said"),
    [
        ({"embeddings": True}, True, "tied head, which moves with the embedding"),
        ({"embeddings": True, "head": True}, True, None),
        ({"head": True, "rest": True}, False, "tied head, which is frozen with the embedding"),
        ({"last_blocks": 1}, False, None),
    ],
)
def test_a_tied_head_does_as_its_embedding_and_that_is_told(loaded, parts, moves, said):
    adapter = freeze(**parts)
    adapter.attach(loaded.model)
    assert loaded.model.lm_head.weight.requires_grad is moves
    assert adapter.events(loaded.model) == ({said: 1} if said else {})


def test_a_head_of_its_own_is_no_event(untied):
    adapter = freeze(embeddings=True)
    adapter.attach(untied)
    assert adapter.events(untied) == {}
    assert not untied.lm_head.weight.requires_grad


@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_more_blocks_than_there_are_is_refused(loaded, first: int):
    adapter = freeze(first_blocks=first, last_blocks=3 - first)
    with pytest.raises(
        RunError, match=r"LlamaForCausalLM has 2 blocks. Give fewer, or method=full"
    ):
        adapter.attach(loaded.model)


def test_nothing_that_moves_is_refused_before_anything_is_loaded():
    with pytest.raises(ConfigError, match=r"nothing could be learned. Give last_blocks=2"):
        freeze()


def test_new_tokens_need_embedding_and_head(loaded, untied):
    with pytest.raises(RunError, match=r"2 tokens .*adapter.embeddings=true method.adapter.head"):
        freeze(last_blocks=1).attach(loaded.model, [7, 270])
    freeze(embeddings=True).attach(loaded.model, [7, 270])  # its head is tied
    with pytest.raises(RunError, match="freezes the embedding or the head"):
        freeze(embeddings=True).attach(untied, [7, 270])
    freeze(embeddings=True, head=True).attach(untied, [7, 270])


@pytest.mark.parametrize(("embeddings", "head"), [(True, True), (True, False), (False, True)])
def test_all_rows_move_only_with_embedding_and_head(embeddings, head):
    assert freeze(embeddings=embeddings, head=head).trains_embeddings is (embeddings and head)
