"""The chosen rows, computed apart, are what peft computes with the whole matrix."""

from dataclasses import replace

import peft
import pytest
import torch

from heed.methods.token_rows import compute_rows_apart, row_indices

IDS = torch.tensor([[5, 6, 7, 8, 7, 270, 299], [7, 1, 2, 3, 4, 5, 6]])
ROWS = [270, 7]


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def pair(request, student):
    """The same student twice, its rows moved: as peft computes them, and computed apart."""
    shape = replace(student.architecture, tied=request.param)
    made = []
    for apart in (False, True):
        model = replace(student, architecture=shape).fresh().model
        config = peft.LoraConfig(
            target_modules=["q_proj"], trainable_token_indices=row_indices(model, ROWS)
        )
        torch.manual_seed(0)
        peft.get_peft_model(model, config)
        with torch.no_grad():
            for name, p in model.named_parameters():
                if "trainable_tokens" in name:
                    p.copy_(
                        torch.randn(p.shape, generator=torch.Generator().manual_seed(len(name)))
                    )
        if apart:
            compute_rows_apart(model)
        made.append(model.train())
    return made


def gradients(model) -> dict[str, torch.Tensor]:
    model(IDS, labels=IDS).loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_logits_and_gradients_are_those_of_peft(pair):
    peft_s, ours = pair
    torch.testing.assert_close(ours(IDS).logits, peft_s(IDS).logits, atol=1e-5, rtol=1e-5)
    want, got = gradients(peft_s), gradients(ours)
    assert want.keys() == got.keys()
    assert any("trainable_tokens" in name for name in got)
    for name, gradient in want.items():
        torch.testing.assert_close(got[name], gradient, atol=1e-5, rtol=1e-4)


def test_rows_apart_work_in_lower_precision(pair):
    peft_s, ours = pair
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(ours(IDS).logits, peft_s(IDS).logits, atol=5e-2, rtol=5e-2)
    got = ours.bfloat16()(IDS).logits
    torch.testing.assert_close(got, peft_s.bfloat16()(IDS).logits, atol=5e-2, rtol=5e-2)


def test_an_embedding_that_scales_what_it_gives_scales_the_chosen_rows_too(loaded):
    from transformers.models.gemma3.modeling_gemma3 import Gemma3TextScaledWordEmbedding

    scaled = Gemma3TextScaledWordEmbedding(300, 32, padding_idx=None, embed_scale=3.0)
    loaded.model.model.embed_tokens = scaled
    before = scaled(IDS)
    config = peft.LoraConfig(
        target_modules=["q_proj"], trainable_token_indices=row_indices(loaded.model, ROWS)
    )
    peft.get_peft_model(loaded.model, config)
    compute_rows_apart(loaded.model)
    torch.testing.assert_close(loaded.model.get_input_embeddings()(IDS), before)


def test_nothing_is_saved_but_the_rows(pair):
    peft_s, ours = pair
    assert ours.state_dict().keys() == peft_s.state_dict().keys()


def test_no_tokens_no_rows(loaded):
    assert row_indices(loaded.model, []) is None
