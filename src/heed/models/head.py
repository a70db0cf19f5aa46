"""From hidden states to logits by the model's own code, on chosen positions only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from heed.core.errors import RunError


def backbone_of(model: Any) -> Any:
    """The part of a causal language model that gives the hidden states of its head.

    Raises:
        RunError: it has no such part.
    """
    found = model.get_decoder()
    if found is model.get_output_embeddings():  # a head that is called decoder
        found = model.base_model
    if found is model:
        raise RunError(
            f"{type(model).__name__} keeps no backbone apart from its head, so its loss cannot be "
            f"computed on the supervised tokens alone. Choose another model."
        )
    return found


def hidden_states(model: Any, output: Any) -> Tensor:
    """The last hidden states that a backbone gave, [B, T, H].

    Raises:
        RunError: it gave something else.
    """
    found = getattr(output, "last_hidden_state", None)
    if not isinstance(found, Tensor):
        raise RunError(
            f"the {type(backbone_of(model)).__name__} of {type(model).__name__} gives no hidden "
            f"states but {type(output).__name__}, so its loss cannot be computed on the supervised "
            f"tokens alone. Choose another model."
        )
    return found


def logits_of(model: Any, output: Any, hidden: Tensor) -> Tensor:
    """Logits of chosen hidden states, with whatever the model does after its head.

    Some models bound their logits (Gemma 2), divide them (Granite) or multiply them (Cohere). The
    model's own forward is run, and is handed the hidden states where it asks its backbone, so
    nothing of this is known or written again here.

    Args:
        model: A transformers causal language model.
        output: What its backbone gave.
        hidden: [N, H], rows of the output's last hidden states.

    Returns:
        [N, V], in the model's type.

    Raises:
        RunError: the model's forward does not take its hidden states from its backbone.
    """
    given = replace(output, last_hidden_state=hidden[None])
    ids = torch.zeros(1, 1, dtype=torch.long, device=hidden.device)
    with _backbone_gives(model, given) as asked:
        logits: Tensor = model(input_ids=ids, use_cache=False).logits
    if len(asked) != 1 or logits.shape[:2] != (1, len(hidden)):
        raise RunError(
            f"{type(model).__name__} does not make its logits of what its "
            f"{type(backbone_of(model)).__name__} gives, so its loss cannot be computed on the "
            f"supervised tokens alone. Choose another model."
        )
    return logits.squeeze(0)  # a view: the gradient of an index would be written to zeros first


@contextmanager
def _backbone_gives(model: Any, given: Any) -> Iterator[list[None]]:
    """Inside the block the backbone computes nothing; yields one entry for each time it is run."""
    backbone, asked = backbone_of(model), list[None]()

    def answer(*_: Any, **__: Any) -> Any:
        asked.append(None)
        return given

    before = vars(backbone).get("forward")
    backbone.forward = answer
    try:
        yield asked
    finally:
        if before is None:
            del backbone.forward
        else:
            backbone.forward = before
