"""Proofs on the student at hand, before it is trained: cheap, and a failure stops the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from heed.core.errors import RunError
from heed.data.encode import Encoded
from heed.data.pack import flat_row
from heed.models.likelihood import StudentLoss
from heed.models.student import Loaded, refuse_too_long
from heed.training.run import Recipe

TOLERANCE = 1e-3
"""Largest relative difference of two ways to compute one loss in float32."""


class Preflight(NamedTuple):
    """What was proved.

    Attributes:
        packed_difference: Relative difference between the packed loss and the model's own,
            document by document.
        ends_supervised: Share of the examples whose last token is a supervised stop token.
        base_loss: Nats per supervised token of the first examples, before training.
    """

    packed_difference: float
    ends_supervised: float
    base_loss: float


def preflight(loaded: Loaded, examples: Sequence[Encoded], recipe: Recipe) -> Preflight:
    """Check that examples fit, packed = unpacked on this model, and that it can learn to stop.

    Raises:
        RunError: one of them does not hold.
    """
    longest = max(len(example.ids) for example in examples)
    refuse_too_long(loaded, longest, "the longest example", "data.max_tokens")
    by_length = sorted(examples[:32], key=lambda e: len(e.ids))
    few = [*by_length[:3], by_length[-1]] if len(by_length) > 3 else by_length
    packed, alone, tokens = both_losses(loaded, few)
    difference = abs(packed - alone) / max(abs(alone), 1e-9)
    if not difference < TOLERANCE:
        raise RunError(
            f"student {loaded.name!r}: the packed loss is {packed:.4f} nats but the model's own is "
            f"{alone:.4f} on the same {len(few)} examples: documents would see each other, or the "
            f"model changes its logits after the head. It cannot be trained exactly; choose "
            f"another model."
        )
    stops = set(loaded.stop_ids)
    ends = sum(e.mask[-1] and e.ids[-1] in stops for e in examples) / len(examples)
    if recipe.data.over_long == "drop" and ends < 1:
        raise RunError(
            f"teacher {recipe.teacher.name!r}: only {ends:.1%} of the examples end with a "
            f"supervised stop token ({loaded.template.end_of_turn!r}): the student would learn to "
            f"ramble. Check model.template.end_of_turn."
        )
    adapter = recipe.method.adapter
    if not adapter.trains_embeddings and loaded.stop_ids[0] != loaded.tokenizer.eos_token_id:
        raise RunError(
            f"student {loaded.name!r}: a turn ends with {loaded.template.end_of_turn!r}, which is "
            f"not its end-of-text token, and method {type(adapter).__name__} leaves embeddings "
            f"frozen: if the base never saw that token, the student cannot learn to stop. Use "
            f"method=full, or model.template.end_of_turn={loaded.tokenizer.eos_token!r}."
        )
    return Preflight(difference, ends, packed / tokens)


def both_losses(loaded: Loaded, examples: Sequence[Encoded]) -> tuple[float, float, int]:
    """Nats of the packed row, nats of the model's own forward per document, supervised tokens."""
    device = loaded.model.device
    batch = flat_row(examples, pad=loaded.tokenizer.pad_token_id or 0)
    batch = type(batch)(*(tensor.to(device) for tensor in batch))
    alone = 0.0
    with torch.inference_mode(), loaded.evaluating():
        packed, tokens = StudentLoss(loaded.model)(batch)
        for example in examples:
            ids = torch.tensor([example.ids], device=device)
            logits = loaded.model(input_ids=ids, use_cache=False).logits[0].float()
            nll = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:], reduction="none")
            alone += float(nll[torch.tensor(example.mask[1:], device=device)].sum())
    return float(packed), alone, int(tokens)
