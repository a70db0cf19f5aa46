"""Chosen rows of embedding and head that an adapter trains, computed without the rest of them.

peft's trainable tokens copy the whole matrix in every forward, and their gradient is that of the
whole matrix. Here only the chosen rows are computed apart; what is saved is in peft's form.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MethodType
from typing import Any

from heed.core.errors import RunError


def row_indices(model: Any, tokens: Sequence[int]) -> dict[str, list[int]] | None:
    """Which rows of which matrices move, in peft's form; a tied head follows the embedding.

    Raises:
        RunError: the head has an offset of its own, which peft alone would leave out.
    """
    if not tokens:
        return None
    matrices = [model.get_input_embeddings()]
    if not model.config.tie_word_embeddings:
        matrices.append(model.get_output_embeddings())
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        raise RunError(
            f"{len(tokens)} tokens of the template must be learned, but the output head of this "
            f"model ({type(model).__name__}) has a bias, which peft would leave out of their "
            f"logits. Give method=full, or a template of tokens that the student knows."
        )
    names = {id(module): name for name, module in model.named_modules()}
    return {names[id(matrix)]: list(tokens) for matrix in matrices}


def compute_rows_apart(model: Any) -> None:
    """Let peft's trainable tokens compute their own rows only, in place."""
    import torch
    from peft.tuners.trainable_tokens import TrainableTokensLayer

    for module in model.modules():
        if isinstance(module, TrainableTokensLayer):
            (rows,) = module.token_indices.values()
            ids = torch.tensor(rows, device=module.get_base_layer().weight.device)
            module.register_buffer("rows", ids, persistent=False)
            module.forward = MethodType(_forward, module)


def _forward(layer: Any, x: Any) -> Any:
    """What `x` gives with the chosen rows in place of the base's.

    Args:
        layer: peft's layer around an embedding (x: i64[...]) or a head (x: float[..., D]).
        x: Its input.

    Returns:
        float[..., D] of an embedding, float[..., V] of a head.
    """
    import torch

    if layer.disable_adapters or layer.merged or not layer.active_adapters:
        return type(layer).forward(layer, x)
    (name,) = layer.active_adapters
    learned, base = layer.trainable_tokens_delta[name], layer.base_layer(x)
    if not isinstance(layer.base_layer, torch.nn.Embedding):
        logits = torch.nn.functional.linear(x, learned.to(x.dtype))
        return base.index_copy(-1, layer.rows, logits.to(base.dtype))
    scale = layer._get_embed_scale()
    chosen = x[..., None] == layer.rows  # [..., K]
    found = torch.nn.functional.embedding(chosen.int().argmax(-1), learned).to(base.dtype)
    found = found if scale is None else found * scale.to(base.dtype)
    return torch.where(chosen.any(-1, keepdim=True), found, base)
