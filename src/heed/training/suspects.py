"""Which examples of a step make its loss or its gradient not finite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.distributed.tensor import DTensor

from heed.core.ranks import everybody
from heed.data.pack import Batch
from heed.models.likelihood import StudentLoss
from heed.training.strategy import gathered

FEW = 5
"""Ids that a message names."""


def suspects(
    student: StudentLoss, micro: Sequence[Batch], ids: Sequence[Sequence[str]]
) -> tuple[list[str], int]:
    """Ids of the examples whose own loss, or else whose micro-batch's gradient, is not finite.

    Every micro-batch is run once more. No gradient is kept, and the random numbers of the training
    are left as they were; with several ranks the suspects of all come together. Of a student that
    is divided among them, losses are looked at and gradients are not.

    Args:
        student: With the weights before the step.
        micro: Its micro-batches on this rank.
        ids: Of their examples, in the order of the documents.

    Returns:
        The suspects, and the number of all examples of the step.
    """
    moving = [p for p in student.parameters() if p.requires_grad]
    divided = any(isinstance(p, DTensor) for p in moving)
    found: list[str] = []
    with gathered(student), _own_random_numbers(moving[0].device):
        for batch, names in zip(micro, ids, strict=True):
            steep = not (divided or _finite_gradient(student, batch, moving))
            with torch.no_grad():
                nats = student.token_nats(batch)
            document = torch.bucketize(batch.where, batch.lengths.cumsum(0), right=True)
            bad = document[~nats.isfinite()].unique().tolist()
            found += [names[i] for i in (range(len(names)) if steep and not bad else bad)]
    ranks = everybody((found, sum(map(len, ids))))
    return [name for one, _ in ranks for name in one], sum(count for _, count in ranks)


def _finite_gradient(student: StudentLoss, batch: Batch, moving: Sequence[torch.Tensor]) -> bool:
    slopes = torch.autograd.grad(student(batch)[0], moving, allow_unused=True)
    return all(bool(s.isfinite().all()) for s in slopes if s is not None)


def called(found: Sequence[str], examples: int, *, divided: bool = False) -> str:
    """A sentence that names them.

    Args:
        found: The suspects.
        examples: How many the step has.
        divided: Whether the student's weights are divided among ranks.

    Example:
        >>> called(["a", "b"], 8)
        "It comes from 2 of the step's examples: 'a', 'b'."
        >>> called(["a", "b"], 2)
        "It comes from each of the step's examples: 'a', 'b'."
        >>> called([], 8)
        'Run alone, each of its examples is finite.'
    """
    if not found and divided:
        return (
            "Run alone, each of its examples has a finite loss; gradients of single examples are "
            "not looked at where weights are divided."
        )
    if not found:
        return "Run alone, each of its examples is finite."
    share = "each" if len(found) >= examples else str(len(found))
    more = ", ..." if len(found) > FEW else ""
    return f"It comes from {share} of the step's examples: {str(list(found[:FEW]))[1:-1]}{more}."


@contextmanager
def _own_random_numbers(device: torch.device) -> Iterator[None]:
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
