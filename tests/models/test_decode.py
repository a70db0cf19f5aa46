"""Attention row by row is the library's attention, and is used where it pays only."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from heed.models import decode
from heed.models.decode import RowAttention, row_attention


class Layer(torch.nn.Module):
    """What of an attention layer the library looks at."""

    num_key_value_groups = 2
    is_causal = True


@pytest.mark.parametrize("window", [None, 4])
def test_a_step_attends_as_the_library_does(window: int | None):
    torch.manual_seed(0)
    first = torch.tensor([0, 7, 11, 3])
    columns = torch.arange(12)
    mask = columns >= first[:, None]
    if window is not None:
        mask &= columns > 11 - window
    query, key, value = (torch.randn(4, heads, n, 8) for heads, n in ((6, 1), (3, 12), (3, 12)))
    given = {"scaling": 0.3}
    want, _ = sdpa_attention_forward(Layer(), query, key, value, mask[:, None, None], **given)
    got, _ = RowAttention()(Layer(), query, key, value, mask[:, None, None], **given)
    assert got.shape == want.shape
    assert torch.allclose(got, want, atol=1e-6)


def test_another_mask_is_another_set_of_columns():
    """Layers with and without a window alternate, and masks change with every step."""
    attention = RowAttention()
    query, key, value = torch.randn(1, 2, 1, 4), torch.randn(1, 1, 5, 4), torch.randn(1, 1, 5, 4)
    for start in (0, 3, 1):
        mask = (torch.arange(5) >= start)[None, None, None]
        alone, _ = attention(Layer(), query, key, value, mask)
        whole = mask.new_ones(1, 1, 1, 5 - start)
        cut, _ = attention(Layer(), query, key[:, :, start:], value[:, :, start:], whole)
        assert torch.equal(alone, cut)


def tiny() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def test_the_model_attends_as_before_after_the_block():
    model = tiny()
    with row_attention(model):
        assert model.config._attn_implementation == decode.NAME
    assert model.config._attn_implementation == "sdpa"


def test_a_model_with_another_attention_keeps_it():
    model = tiny()
    model.set_attn_implementation("eager")
    with row_attention(model):
        assert model.config._attn_implementation == "eager"


def test_what_changes_attention_beyond_a_scale_is_left_to_the_library():
    with pytest.raises(ValueError, match="softcap"):  # the library's own refusal
        RowAttention()(
            Layer(), torch.randn(1, 2, 1, 4), torch.randn(1, 1, 3, 4), torch.randn(1, 1, 3, 4),
            torch.ones(1, 1, 1, 3, dtype=torch.bool), softcap=5.0,
        )  # fmt: skip
