"""Proofs on the student at hand, before it is trained: cheap, and a failure stops the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from heed.core.errors import RunError
from heed.data.dataset import Encoded
from heed.data.pack import Batch, flat_row
from heed.data.plan import sizes
from heed.models.embeddings import tokens_to_learn
from heed.models.likelihood import StudentLoss
from heed.models.sharing import why_alone
from heed.models.student import Loaded, refuse_too_long
from heed.training.run import Recipe

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.5, torch.float16: 0.1}
"""Largest difference, in nats, of one token's loss between two ways to compute it, by the type of
the weights: what a window or another's document does to a few tokens would be lost in a mean."""

NEIGHBOUR = 1e-5
"""Largest change, in nats, of a token's loss when only the documents beside it change. Shapes stay
as they are, so it is 0 to the last bit, but for experts that sort tokens of all documents into
batches: these may round otherwise, by ten times the type's precision at most."""


class Preflight(NamedTuple):
    """What was proved.

    Attributes:
        packed_difference: Largest difference of a token's loss, in nats, between what is trained
            and the model's own, document by document.
        neighbour_effect: Largest change of a token's loss, in nats, when the documents beside it
            in its row change; 0 where each has a row of its own.
        alone: Why each document has a row of its own; None if documents share rows.
        ends_supervised: Share of the examples whose last supervised token is a stop token.
        base_loss: Nats per supervised token of the first examples, before training.
        learned: Tokens of the template that the student cannot be trusted to know, and why; their
            rows move.
    """

    packed_difference: float
    neighbour_effect: float
    alone: str | None
    ends_supervised: float
    base_loss: float
    learned: dict[str, str]

    def events(self, examples: int, recipe: Recipe) -> dict[str, int]:
        """What is not as the recipe asks, counted."""
        found = (
            {"tokens of the template that are learned": len(self.learned)} if self.learned else {}
        )
        if self.alone is not None and recipe.data.packing != "none":
            found[f"trained unpacked: {self.alone}"] = examples
        return found


def preflight(loaded: Loaded, examples: Sequence[Encoded], recipe: Recipe) -> Preflight:
    """Check that examples fit, packed = unpacked on this model, and that it can learn to stop.

    Raises:
        RunError: one of them does not hold.
    """
    by_length = sorted(examples[:32], key=lambda e: len(e.ids))
    longest = examples[int(np.argmax(sizes(examples)[0]))]
    refuse_too_long(loaded, len(longest.ids), "the longest example", "data.max_tokens")
    few = [*by_length[:3], longest] if len(by_length) > 3 else by_length
    refuse_looking_ahead(loaded, longest)
    alone = why_alone(loaded.model)
    if recipe.data.packing == "none":
        alone = "data.packing=none"
    difference, effect, base_loss = compared(loaded, few, alone=alone is not None)
    ends = share_that_ends(loaded, examples)
    if recipe.data.over_long != "window" and ends < 1:
        raise RunError(
            f"teacher {recipe.teacher.name!r}: only {ends:.1%} of the examples end with a "
            f"supervised stop token ({loaded.template.end_of_turn!r}): the student would learn to "
            f"ramble. Check model.template.end_of_turn."
        )
    adapter = recipe.method.adapter
    learned = tokens_to_learn(
        loaded, trains_embeddings=adapter.trains_embeddings, method=type(adapter).__name__
    )
    return Preflight(difference, effect, alone, ends, base_loss, learned)


def compared(
    loaded: Loaded, examples: Sequence[Encoded], *, alone: bool
) -> tuple[float, float, float]:
    """The loss that would be trained, beside the model's own.

    Args:
        loaded: The student.
        examples: A few.
        alone: Whether each has a row of its own; else they share one.

    Returns:
        Largest difference and largest change with its neighbours of one token's loss, and the mean
        loss, all in nats.

    Raises:
        RunError: the two are not the same loss; the advice is what would mend it, as far as seen.
    """
    effect = 0.0 if alone else neighbour_effect(loaded, examples)
    trained, own = both_losses(loaded, examples, alone=alone)
    difference, kind = float((trained - own).abs().max()), loaded.model.dtype
    if difference < TOLERANCE[kind] and effect < _allowed(kind):
        return difference, effect, float(trained.mean())
    single, _ = (trained, own) if alone else both_losses(loaded, examples, alone=True)
    mends = not alone and float((single - own).abs().max()) < TOLERANCE[kind]
    raise RunError(
        f"student {loaded.name!r}: the {'unpacked' if alone else 'packed'} loss is "
        f"{float(trained.sum()):.4f} nats but the model's own is {float(own.sum()):.4f} on the "
        f"same {len(examples)} examples; one token's differs by up to {difference:.1e} (allowed "
        f"{TOLERANCE[kind]:g}), and a document's tokens change by up to {effect:.1e} nats with "
        f"its neighbours: it would be trained on another loss than it has. "
        + ("Give data.packing=none." if mends else "Choose another model.")
    )


def refuse_looking_ahead(loaded: Loaded, example: Encoded) -> None:
    """Refuse a model that sees the tokens it is to predict: its loss would fall and mean nothing.

    The second half of an example is changed; nothing may move in the first.

    Raises:
        RunError: the model is not causal.
    """
    middle = len(example.ids) // 2
    vocabulary = loaded.model.config.vocab_size
    whole = torch.tensor([int(i) for i in example.ids], device=loaded.model.device)
    changed = torch.cat([whole[:middle], (whole[middle:] + 1) % vocabulary])
    nats = []
    with torch.inference_mode(), loaded.evaluating():
        for ids in (whole, changed):
            logits = loaded.model(input_ids=ids[None], use_cache=False).logits[0, :middle].float()
            targets = whole[1 : middle + 1]
            nats.append(torch.nn.functional.cross_entropy(logits, targets, reduction="none"))
    moved = float((nats[0] - nats[1]).abs().max())
    if moved > _allowed(loaded.model.dtype):
        raise RunError(
            f"student {loaded.name!r} ({type(loaded.model).__name__}) is not causal: a token's "
            f"loss changes by up to {moved:.1e} nats with the tokens behind it, so it would be "
            f"trained on tokens that it sees, and could not write any. Choose another model; no "
            f"way of packing mends this."
        )


def _allowed(kind: torch.dtype) -> float:
    """Largest change of a token's loss, in nats, that rounding explains."""
    return max(NEIGHBOUR, 10 * torch.finfo(kind).eps)


def share_that_ends(loaded: Loaded, examples: Sequence[Encoded]) -> float:
    """Share of the examples whose last supervised token is a stop token."""
    stops = set(loaded.stop_ids)
    last = (int(np.flatnonzero(np.asarray(e.mask))[-1]) for e in examples)
    return sum(int(e.ids[i]) in stops for e, i in zip(examples, last, strict=True)) / len(examples)


def both_losses(
    loaded: Loaded, examples: Sequence[Encoded], *, alone: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each supervised token's loss as it is trained, and by the model's own forward per document.

    Args:
        loaded: The student.
        examples: A few.
        alone: Whether each has a row of its own; else they share one.

    Returns:
        Two f32[N], in nats, in the order of the examples.
    """
    trained, own = [], []
    with torch.inference_mode(), loaded.evaluating():
        for row in [[e] for e in examples] if alone else [examples]:
            trained.append(StudentLoss(loaded.model).token_nats(_row(loaded, row)))
        for example in examples:
            batch = _row(loaded, [example])
            logits = loaded.model(input_ids=batch.input_ids[None], use_cache=False).logits[0]
            rows = logits.float()[batch.where]
            own.append(torch.nn.functional.cross_entropy(rows, batch.targets, reduction="none"))
    return torch.cat(trained), torch.cat(own)


def neighbour_effect(loaded: Loaded, examples: Sequence[Encoded]) -> float:
    """Largest change of a token's loss, in nats, when all other documents of its row change.

    The first and the last document are looked at, with other tokens in the documents between them
    and in each other: nothing may reach them from before or from after.
    """
    vocabulary = loaded.model.config.vocab_size
    changed = [e._replace(ids=[(int(i) + 1) % vocabulary for i in e.ids]) for e in examples]
    loss = StudentLoss(loaded.model)
    with torch.inference_mode(), loaded.evaluating():
        whole = loss.token_nats(_row(loaded, examples))
        first = loss.token_nats(_row(loaded, [examples[0], *changed[1:]]))
        last = loss.token_nats(_row(loaded, [*changed[:-1], examples[-1]]))
    ahead, behind = examples[0].supervised, examples[-1].supervised
    moved = [(whole - first)[:ahead], (whole - last)[len(whole) - behind :]]
    return float(torch.cat(moved).abs().max())


def _row(loaded: Loaded, examples: Sequence[Encoded]) -> Batch:
    batch = flat_row(examples, pad=loaded.tokenizer.pad_token_id or 0)
    return Batch(*(tensor.to(loaded.model.device) for tensor in batch))
