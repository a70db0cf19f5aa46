"""Tiny random students of many families, as their own library builds them."""

from typing import Any

SHAPE = {
    "vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 128,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.3,
}  # fmt: skip
OLD = {"vocab_size": 97, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128,
       "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.3,
       "attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}  # fmt: skip
GEMMA = SHAPE | {"head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 8}
SHARING: dict[str, tuple[str, dict[str, Any]]] = {  # documents can share a row
    "Llama": ("Llama", SHAPE),
    "Qwen2": ("Qwen2", SHAPE),
    "Mistral, window 5": ("Mistral", SHAPE | {"sliding_window": 5}),
    "Gemma 2": ("Gemma2", GEMMA | {"attn_logit_softcapping": 0.7, "final_logit_softcapping": 0.9}),
    "Gemma 3": ("Gemma3", GEMMA | {"layer_types": ["sliding_attention", "full_attention"]}),
    "GPT-2": ("GPT2", OLD),
    "GPT-NeoX": ("GPTNeoX", SHAPE),
    "OPT": ("OPT", SHAPE | {"ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0}),
    "Granite": ("Granite", SHAPE | {"logits_scaling": 3.0, "attention_multiplier": 0.7}),
    "Cohere": ("Cohere", SHAPE | {"logit_scale": 0.3}),
    "Qwen2, tied": ("Qwen2", SHAPE | {"tie_word_embeddings": True}),
    "ModernBERT decoder": (
        "ModernBertDecoder",
        SHAPE | {"cls_token_id": 1, "sep_token_id": 2, "local_attention": 8},
    ),
}
ALONE: dict[str, tuple[str, dict[str, Any]]] = {  # they cannot
    "StableLM": ("StableLm", SHAPE),
    "GPT-J": ("GPTJ", OLD | {"rotary_dim": 4}),
    "BLOOM": ("Bloom", SHAPE | {"n_layer": 2, "n_head": 4}),
    "LFM2": ("Lfm2", SHAPE | {"layer_types": ["conv", "full_attention"]}),
    "Nemotron": ("Nemotron", SHAPE),
    "Doge": ("Doge", SHAPE),
    "PhiMoE, window 5": ("Phimoe", SHAPE | {"sliding_window": 5, "num_local_experts": 2}),
}


def make(family: str, **changes: Any) -> Any:
    """A model with random weights, the same each time, ready to be asked."""
    import torch
    import transformers

    name, settings = (SHARING | ALONE)[family]
    text = {"Gemma3": "Gemma3TextConfig"}
    head = {"GPT2": "GPT2LMHeadModel"}
    config = getattr(transformers, text.get(name, f"{name}Config"))(**(settings | changes))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return getattr(transformers, head.get(name, f"{name}ForCausalLM"))(config).eval()
