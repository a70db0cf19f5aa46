"""The whole training in advance: optimiser steps x ranks x micro-batches, with token counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from heed.data.encode import Encoded
from heed.data.treatment import Treatment


class StepPlan(NamedTuple):
    """One optimiser step.

    Attributes:
        micro: Indices of examples, by rank and micro-batch. Every rank has the same number of
            micro-batches; the missing ones are empty.
        tokens: Supervised tokens of the whole step, over all ranks.
    """

    micro: list[list[list[int]]]
    tokens: int

    @property
    def indices(self) -> list[int]:
        """All examples of the step."""
        return [index for rank in self.micro for row in rank for index in row]


def number_of_steps(examples: int, treatment: Treatment) -> int:
    """Optimiser steps of a whole training."""
    if treatment.steps is not None:
        return treatment.steps
    assert treatment.epochs is not None
    return -(-examples // treatment.examples_per_step) * treatment.epochs


def plan(
    examples: Sequence[Encoded], treatment: Treatment, *, ranks: int, seed: int
) -> Iterator[StepPlan]:
    """Yield every step of a training; what a step holds does not depend on the number of ranks."""
    for chosen in step_indices(len(examples), treatment, seed=seed):
        rows = pack([len(examples[i].ids) for i in chosen], treatment.micro_tokens)
        rows += [[]] * (-len(rows) % ranks)
        micro = [[[chosen[i] for i in row] for row in rows[rank::ranks]] for rank in range(ranks)]
        yield StepPlan(micro, sum(examples[i].supervised for i in chosen))


def step_indices(examples: int, treatment: Treatment, *, seed: int) -> Iterator[list[int]]:
    """Which examples each step holds: each epoch is a permutation that depends on seed and epoch.

    An epoch's last step takes what is left, so every example counts once an epoch.
    """
    left = number_of_steps(examples, treatment)
    epoch = 0
    while left:
        order = np.random.default_rng((seed, epoch)).permutation(examples).tolist()
        size = treatment.examples_per_step
        for start in range(0, examples, size)[:left]:
            yield order[start : start + size]
            left -= 1
        epoch += 1


def pack(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Pack examples into rows of at most `most` tokens: best fit, longest first.

    Returns:
        Indices into `lengths`, every one exactly once.

    Example:
        >>> pack([3, 5, 2, 6], most=8)
        [[3, 2], [1, 0]]
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fits = [row for row, free in enumerate(room) if free >= lengths[index]]
        if fits:
            row = min(fits, key=lambda r: room[r])
        else:
            row = len(rows)
            rows.append([])
            room.append(most)
        rows[row].append(index)
        room[row] -= lengths[index]
    return rows
