"""Whether documents can share a row of a model: what its layers are, and what they hand on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from heed.models.attention import UNKNOWN, Documents, document_attention
from heed.models.head import backbone_of

ATTENTION_LAYERS = {"full_attention", "sliding_attention"}
"""Kinds of layers that `attend` computes, in the words of a transformers config."""


def why_alone(model: Any) -> str | None:
    """Why documents of this model cannot share a row; None if they can.

    Such a model hands its attention to nobody, or not all that decides it, or carries a state from
    one token to the next that would go on into the next document.
    """
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or ()
    other = sorted(set(kinds) - ATTENTION_LAYERS)
    name = type(model).__name__
    if getattr(model, "_is_stateful", False):
        return f"{name} carries a state from token to token"
    if not getattr(model, "_supports_attention_backend", False):
        return f"{name} does not let its attention be replaced"
    if other:
        return f"{name} has layers of the kind {', '.join(other)}"
    return lost(name, handed(model), windows=expects_windows(model.config.get_text_config()))


def expects_windows(config: Any) -> bool:
    """Whether some layer of a model should see a window only, as far as its config says."""
    kinds = getattr(config, "layer_types", None)
    return getattr(config, "sliding_window", None) is not None and (
        not kinds or "sliding_attention" in kinds
    )


def lost(name: str, layers: Sequence[Mapping[str, Any]] | None, *, windows: bool) -> str | None:
    """What gets lost on the way to the attention of a model; None if nothing does.

    Args:
        name: How the model is called.
        layers: What each layer hands to its attention; None if it takes no such thing.
        windows: Whether some layer should see a window only.
    """
    if not layers or any(layer.get("documents") is None for layer in layers):
        return f"{name} does not tell its attention where documents end"
    if any(layer["mask"] is not None for layer in layers):
        return f"{name} makes a mask of its own for its attention"
    special = [key for key in UNKNOWN if any(layer.get(key) is not None for layer in layers)]
    if special:
        return f"{name} has attention with {', '.join(special)}"
    if windows and all(layer.get("sliding_window") is None for layer in layers):
        return f"{name} has a window that it does not hand to its attention"
    return None


_HANDED: WeakKeyDictionary[Any, list[dict[str, Any]] | None] = WeakKeyDictionary()


def handed(model: Any) -> list[dict[str, Any]] | None:
    """What each layer of a model hands to its attention beside queries, keys and values.

    Two tokens are run through it, once in its life, with an attention that notes and gives zeros.

    Returns:
        One mapping for each call; None if the model takes no other keywords.
    """
    if model not in _HANDED:
        noted: list[dict[str, Any]] = []

        def note(
            _: Any, query: Tensor, __: Tensor, value: Tensor, attention_mask: Any, **other: Any
        ) -> Any:
            noted.append({"mask": attention_mask} | other)
            heads, tokens = query.shape[1:3]
            return value.new_zeros(1, tokens, heads, value.shape[-1]), None

        _HANDED[model] = noted if _runs(model, note) else None
    return _HANDED[model]


def _runs(model: Any, attention: Callable[..., Any]) -> bool:
    """Whether a model's backbone takes two documents of one token, with another attention."""
    ids = torch.zeros(1, 2, dtype=torch.long, device=model.device)
    documents = Documents(torch.ones(2, dtype=torch.long, device=model.device))
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), document_attention(model, attention):
            backbone = backbone_of(model)
            backbone(input_ids=ids, position_ids=ids, use_cache=False, documents=documents)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        return False
    finally:
        model.train(training)
    return True
