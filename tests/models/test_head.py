"""Properties of the head: the model's own logits, on chosen rows; the model is left as it was."""

import pytest
import torch
from families import ALONE, SHARING, make

from heed.core.errors import RunError
from heed.models.head import backbone_of, hidden_states, logits_of

IDS = torch.tensor([[5, 9, 33, 7, 60, 2, 11]])


@pytest.mark.parametrize("family", SHARING | ALONE)
def test_the_logits_of_rows_are_those_of_the_whole_model(family: str):
    model = make(family)
    with torch.no_grad():
        own = model(IDS).logits[0]
        output = backbone_of(model)(IDS, use_cache=False)
        for rows in ([0], [2, 5], [6, 0, 3, 3], range(7)):
            found = logits_of(model, output, output.last_hidden_state[0, list(rows)])
            torch.testing.assert_close(found, own[list(rows)], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("family", ["Gemma 2", "Granite", "Cohere"])
def test_it_matters_what_these_models_do_after_their_head(family: str):
    model = make(family)
    with torch.no_grad():
        output = backbone_of(model)(IDS, use_cache=False)
        hidden = output.last_hidden_state[0]
        bare = model.get_output_embeddings()(hidden)
        assert (logits_of(model, output, hidden) - bare).abs().max() > 0.5


def test_the_gradient_reaches_the_hidden_states_and_the_head():
    model = make("Gemma 2")
    output = backbone_of(model)(IDS, use_cache=False)
    logits_of(model, output, output.last_hidden_state[0, 2:4]).square().sum().backward()
    mine = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    model(IDS).logits[0, 2:4].square().sum().backward()
    for one, p in zip(mine, model.parameters(), strict=True):
        torch.testing.assert_close(one, p.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("patched", [False, True])
def test_the_model_is_as_before_also_after_an_error(patched: bool):
    model = make("Llama")
    backbone = backbone_of(model)
    if patched:
        backbone.forward = backbone.forward
    before = vars(backbone).get("forward")
    output = backbone(IDS, use_cache=False)
    model.lm_head.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        logits_of(model, output, output.last_hidden_state[0])
    assert vars(backbone).get("forward") is before


def test_a_model_that_makes_its_logits_of_something_else_is_refused():
    model = make("Llama")
    output = backbone_of(model)(IDS, use_cache=False)
    model.forward = lambda **_: type("Out", (), {"logits": torch.zeros(1, 7, 97)})()
    with pytest.raises(RunError, match=r"LlamaForCausalLM does not make its logits of what its Ll"):
        logits_of(model, output, output.last_hidden_state[0])


def test_a_model_without_a_backbone_of_its_own_is_refused():
    from transformers import Llama4ForCausalLM, Llama4TextConfig

    shape = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "vocab_size": 97,
             "num_key_value_heads": 2, "head_dim": 8, "num_local_experts": 2, "pad_token_id": 0,
             "intermediate_size": 16, "intermediate_size_mlp": 16}  # fmt: skip
    with pytest.raises(RunError, match=r"Llama4ForCausalLM keeps no backbone.*Choose another"):
        backbone_of(Llama4ForCausalLM(Llama4TextConfig(**shape)))


def test_a_backbone_that_gives_no_hidden_states_is_refused():
    model = make("Llama")
    with pytest.raises(RunError, match=r"gives no hidden states but .*Choose another model"):
        hidden_states(model, model(IDS))
