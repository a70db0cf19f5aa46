"""Documents share a row only where the model hands on all that keeps them apart."""

import pytest
import torch
from families import ALONE, SHARING, make

from heed.models.sharing import expects_windows, handed, lost, why_alone


@pytest.mark.parametrize("family", SHARING)
def test_documents_share_a_row_where_the_attention_can_be_replaced(family: str):
    assert why_alone(make(family)) is None


@pytest.mark.parametrize(
    ("family", "why"),
    [
        ("StableLM", "does not let its attention be replaced"),
        ("GPT-J", "does not let its attention be replaced"),
        ("BLOOM", "does not let its attention be replaced"),
        ("LFM2", "has layers of the kind conv"),
        ("Nemotron", "does not tell its attention where documents end"),
        ("Doge", "makes a mask of its own"),
        ("PhiMoE, window 5", "has a window that it does not hand to its attention"),
    ],
)
def test_documents_stand_alone_where_it_cannot_and_the_reason_is_told(family: str, why: str):
    assert why in (why_alone(make(family)) or "")
    assert family in ALONE


def test_documents_stand_alone_where_a_state_goes_on_from_token_to_token():
    model = make("Llama")
    model._is_stateful = True
    assert why_alone(model) == "LlamaForCausalLM carries a state from token to token"


@pytest.mark.parametrize(
    ("window", "kinds", "expected"),
    [
        (None, None, False),
        (5, None, True),
        (5, ["full_attention", "sliding_attention"], True),
        (5, ["full_attention"], False),
    ],
)
def test_a_window_is_expected_where_a_layer_should_have_one(window, kinds, expected):
    config = make("Llama").config
    config.sliding_window, config.layer_types = window, kinds
    assert expects_windows(config) is expected


def test_a_window_in_the_config_that_no_layer_hands_on_is_found():
    model = make("Llama")
    model.config.sliding_window = 5
    assert "has a window" in (why_alone(model) or "")


@pytest.mark.parametrize("name", ["s_aux", "position_bias"])
def test_attention_that_is_not_computed_here_is_trained_alone(name: str):
    plain, special = {"documents": 1, "mask": None}, {"documents": 1, "mask": None, name: 1}
    assert lost("X", [plain], windows=False) is None
    assert lost("X", [plain, special], windows=False) == f"X has attention with {name}"


def test_a_backbone_that_takes_no_further_keywords_keeps_its_documents_alone():
    model = make("Llama")
    forward = model.model.forward
    model.model.forward = lambda input_ids, position_ids, use_cache: forward(input_ids)
    assert why_alone(model) == "LlamaForCausalLM does not tell its attention where documents end"


def test_a_mistake_of_the_model_itself_is_not_taken_for_an_answer():
    model = make("Llama")

    def fails(**_):
        raise TypeError("no such thing")

    model.model.forward = fails
    with pytest.raises(TypeError, match="no such thing"):
        why_alone(model)


def test_a_model_is_asked_once_and_left_as_it_was():
    model = make("Mistral, window 5").train()
    state = torch.random.get_rng_state()
    first = handed(model)
    assert handed(model) is first
    assert [layer["sliding_window"] for layer in first] == [5, 5]
    assert model.training
    assert model.config._attn_implementation == "sdpa"
    assert torch.equal(torch.random.get_rng_state(), state)
