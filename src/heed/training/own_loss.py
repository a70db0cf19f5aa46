"""The loss that is trained beside the model's own: packed = unpacked, apart, and causal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from heed.data.dataset import Encoded
from heed.data.pack import Batch, flat_row
from heed.models.likelihood import StudentLoss
from heed.models.precision import compute_type
from heed.models.student import Loaded
from heed.training.checks import Check

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.5, torch.float16: 0.1}
"""Largest difference, in nats, of one token's loss between two ways to compute it, by the format
in which matrices are multiplied: what a window or another's document does to a few tokens would be
lost in a mean."""

NEIGHBOUR = 1e-5
"""Largest change, in nats, of a token's loss when only the documents beside it change. Shapes stay
as they are, so it is 0 to the last bit, but for experts that sort tokens of all documents into
batches: these may round otherwise, by ten times the type's precision at most."""

ONE_LOSS = "packed = unpacked = the model's own loss"
AS_TRAINED = f"{ONE_LOSS}, in the training's precision"
CAUSAL = "the model is causal"


class Compared(NamedTuple):
    """Two ways to one loss, in nats.

    Attributes:
        check: Whether they agree.
        difference: Largest difference of one token's loss.
        effect: Largest change of one token's loss with its neighbours.
        mean: Nats per supervised token.
    """

    check: Check
    difference: float
    effect: float
    mean: float


def compared(
    loaded: Loaded, examples: Sequence[Encoded], *, alone: bool, name: str = ONE_LOSS
) -> Compared:
    """The loss that would be trained, beside the model's own, on its device and in its precision.

    Args:
        loaded: The student.
        examples: A few.
        alone: Whether each has a row of its own; else they share one.
        name: Of the check.
    """
    effect = 0.0 if alone else neighbour_effect(loaded, examples)
    trained, own = both_losses(loaded, examples, alone=alone)
    difference = float((trained - own).abs().max())
    mean, fine = float(trained.mean()), TOLERANCE[multiplied(loaded)]
    if difference < fine and effect < rounding(loaded):
        told = "each has a row of its own" if alone else f"neighbours move it by {effect:.0e}"
        kind = f"{multiplied(loaded)} on {loaded.model.device.type}".removeprefix("torch.")
        line = f"one token's differs by up to {difference:.0e} nats in {kind}, {told}"
        return Compared(Check(name, "ok", line), difference, effect, mean)
    single, _ = (trained, own) if alone else both_losses(loaded, examples, alone=True)
    mends = not alone and float((single - own).abs().max()) < fine
    line = (
        f"student {loaded.name!r}: the {'unpacked' if alone else 'packed'} loss is "
        f"{float(trained.sum()):.4f} nats but the model's own is {float(own.sum()):.4f} on the "
        f"same {len(examples)} examples; one token's differs by up to {difference:.1e} (allowed "
        f"{fine:g}), and a document's tokens change by up to {effect:.1e} nats with "
        f"its neighbours: it would be trained on another loss than it has."
    )
    advice = "Give data.packing=none." if mends else "Choose another model."
    return Compared(Check(name, "block", line, advice), difference, effect, mean)


def looking_ahead(loaded: Loaded, example: Encoded) -> Check:
    """Whether a model sees the tokens it is to predict: its loss would fall and mean nothing.

    The second half of an example is changed; nothing may move in the first.
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
    if moved <= rounding(loaded):
        return Check(CAUSAL, "ok", f"later tokens move a token's loss by {moved:.0e} nats")
    line = (
        f"student {loaded.name!r} ({type(loaded.model).__name__}) is not causal: a token's "
        f"loss changes by up to {moved:.1e} nats with the tokens behind it, so it would be "
        f"trained on tokens that it sees, and could not write any."
    )
    return Check(CAUSAL, "block", line, "Choose another model; no way of packing mends this.")


def multiplied(loaded: Loaded) -> torch.dtype:
    """In which format the student multiplies here."""
    return compute_type(loaded.model.get_input_embeddings().weight)


def rounding(loaded: Loaded) -> float:
    """Largest change of a token's loss, in nats, that rounding explains."""
    return max(NEIGHBOUR, 10 * torch.finfo(multiplied(loaded)).eps)


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
        for some in [[e] for e in examples] if alone else [examples]:
            trained.append(StudentLoss(loaded.model).token_nats(row(loaded, some)))
        for example in examples:
            own.append(own_nats(loaded, row(loaded, [example])))
    return torch.cat(trained), torch.cat(own)


def own_nats(loaded: Loaded, document: Batch) -> torch.Tensor:
    """Negative log-likelihood of a document's supervised tokens by the model's own forward.

    Returns:
        f32[N], in nats, with a graph if gradients are on.
    """
    logits = loaded.model(input_ids=document.input_ids[None], use_cache=False).logits[0]
    rows = logits.float()[document.where]
    return torch.nn.functional.cross_entropy(rows, document.targets, reduction="none")


def neighbour_effect(loaded: Loaded, examples: Sequence[Encoded]) -> float:
    """Largest change of a token's loss, in nats, when all other documents of its row change.

    The first and the last document are looked at, with other tokens in the documents between them
    and in each other: nothing may reach them from before or from after.
    """
    vocabulary = loaded.model.config.vocab_size
    changed = [e._replace(ids=[(int(i) + 1) % vocabulary for i in e.ids]) for e in examples]
    loss = StudentLoss(loaded.model)
    with torch.inference_mode(), loaded.evaluating():
        whole = loss.token_nats(row(loaded, examples))
        first = loss.token_nats(row(loaded, [examples[0], *changed[1:]]))
        last = loss.token_nats(row(loaded, [*changed[:-1], examples[-1]]))
    ahead, behind = examples[0].supervised, examples[-1].supervised
    moved = [(whole - first)[:ahead], (whole - last)[len(whole) - behind :]]
    return float(torch.cat(moved).abs().max())


def row(loaded: Loaded, examples: Sequence[Encoded]) -> Batch:
    """Examples as one packed row, where the student is."""
    batch = flat_row(examples, pad=loaded.tokenizer.pad_token_id or 0)
    return Batch(*(tensor.to(loaded.model.device) for tensor in batch))
