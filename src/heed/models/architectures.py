"""From-scratch architectures: shapes only, the weights are drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import PositiveFloat, PositiveInt

from heed.core.component import component


@dataclass(frozen=True)
class Vocabulary:
    """What an architecture must know of a tokenizer, where there is none yet."""

    size: int
    eos_token_id: int | None = None
    pad_token_id: int | None = None

    def __len__(self) -> int:
        return self.size


@component
class Llama:
    """A Llama-style decoder: RMSNorm, rotary positions, grouped-query attention, SwiGLU.

    Source: Touvron et al. 2023, https://arxiv.org/abs/2302.13971, section 2.2.
    """

    hidden: PositiveInt
    """Width of the residual stream."""

    layers: PositiveInt
    """Number of decoder blocks."""

    heads: PositiveInt
    """Query heads; hidden / heads is the head's width."""

    kv_heads: PositiveInt
    """Key and value heads, each shared by heads / kv_heads queries."""

    ffn: PositiveInt
    """Inner width of the SwiGLU."""

    context: PositiveInt
    """Most positions, in tokens."""

    rope_theta: PositiveFloat
    """Base of the rotary frequencies."""

    tied: bool
    """Whether the output head is the transposed embedding."""

    init_std: PositiveFloat
    """Standard deviation of the initial weights."""

    def build(self, tokenizer: Any) -> Any:
        """A randomly initialised model for a tokenizer (draws from torch's global generator)."""
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            intermediate_size=self.ffn,
            max_position_embeddings=self.context,
            rope_parameters={"rope_type": "default", "rope_theta": self.rope_theta},
            tie_word_embeddings=self.tied,
            initializer_range=self.init_std,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            use_cache=True,
        )
        return LlamaForCausalLM(config)
