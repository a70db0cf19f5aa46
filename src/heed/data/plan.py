"""The whole training in advance: optimiser steps x ranks x micro-batches, with token counts."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from typing import Any, NamedTuple

import numpy as np

from heed.data.balance import EVEN, balance, none_is_even, uneven
from heed.data.dataset import Encoded, Examples
from heed.data.treatment import Treatment


class StepPlan(NamedTuple):
    """One optimiser step.

    Attributes:
        micro: Indices of examples, by rank and micro-batch. Every rank has the same number of
            micro-batches; the missing ones are empty.
        tokens: Supervised tokens of the whole step, over all ranks.
        loads: Tokens of each rank, supervised or not.
    """

    micro: list[list[list[int]]]
    tokens: int
    loads: list[int]

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
    examples: Sequence[Encoded],
    treatment: Treatment,
    *,
    ranks: int,
    seed: int,
    start: tuple[int, int] = (0, 0),
) -> Iterator[StepPlan]:
    """Yield every step of a training; what a step holds does not depend on the number of ranks.

    Args:
        examples: What is trained on.
        treatment: How.
        ranks: Processes that share each step.
        seed: Of the order of the examples.
        start: Steps that are done, and micro-batches of the next one that are done: the rest of
            the plan follows. The tokens of that step stay those of the whole step. If all its
            micro-batches are done, it comes without any, because its weights have still to move.
    """
    lengths, supervised = sizes(examples)
    done, skipped = start
    for number, chosen in enumerate(step_indices(len(examples), treatment, seed=seed)):
        if number < done:
            continue
        micro = divide([lengths[i] for i in chosen], treatment, ranks=ranks)
        loads = [sum(lengths[chosen[i]] for row in rank for i in row) for rank in micro]
        if number == done:
            assert skipped <= len(micro[0]), f"step {done} has no micro-batch {skipped - 1}"
            micro = [rank[skipped:] for rank in micro]
        named = [[[chosen[i] for i in row] for row in rank] for rank in micro]
        yield StepPlan(named, sum(supervised[i] for i in chosen), loads)


def sizes(examples: Sequence[Encoded]) -> tuple[list[int], list[int]]:
    """Tokens and supervised tokens of each example, without reading those that lie on disk."""
    if isinstance(examples, Examples):
        return examples.lengths.tolist(), examples.supervised.tolist()
    return [len(example.ids) for example in examples], [e.supervised for e in examples]


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


def divide(lengths: Sequence[int], treatment: Treatment, *, ranks: int) -> list[list[list[int]]]:
    """Divide a step's examples among ranks, and each rank's into rows.

    Returns:
        Indices into `lengths` by rank and row; ranks with fewer rows end with empty ones.
    """
    micro = []
    for share in balance(lengths, ranks):
        if treatment.packing == "none":
            micro.append([[index] for index in share])
        else:
            rows = pack([lengths[i] for i in share], treatment.micro_tokens)
            micro.append([[share[i] for i in row] for row in rows])
    most = max(len(rows) for rows in micro)
    return [rows + [[] for _ in range(most - len(rows))] for rows in micro]


def pack(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Pack examples into rows of at most `most` tokens: best fit, longest first.

    Rows with the same room wait in one heap, so an example costs about log(rows) + log(most).

    Returns:
        Indices into `lengths`, every one exactly once.

    Example:
        >>> pack([3, 5, 2, 6], most=8)
        [[3, 2], [1, 0]]
    """
    rows: list[list[int]] = []
    with_room: dict[int, list[int]] = {}
    rooms: list[int] = []
    for index in _longest_first(lengths):
        length = lengths[index]
        place = bisect_left(rooms, length)
        if place < len(rooms):
            room = rooms[place]
            row = heappop(with_room[room])
            if not with_room[room]:
                del with_room[room], rooms[place]
        else:
            room, row = most, len(rows)
            rows.append([])
        rows[row].append(index)
        left = room - length
        if left not in with_room:
            with_room[left] = []
            insort(rooms, left)
        heappush(with_room[left], row)
    return rows


def _longest_first(lengths: Sequence[int]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda index: -lengths[index])


def plan_digest(steps: Iterable[StepPlan], examples: Sequence[Encoded]) -> str:
    """12 hex digits that are equal on every rank, and change with anything in plan or tokens."""
    digest = hashlib.sha256(tokens_digest(examples))
    for step in steps:
        digest.update(json.dumps(step, separators=(",", ":")).encode())
    return digest.hexdigest()[:12]


def order_digest(steps: Iterable[StepPlan], examples: Sequence[Encoded]) -> str:
    """12 hex digits that change with what a step holds, not with how ranks and rows share it."""
    digest = hashlib.sha256(tokens_digest(examples))
    for step in steps:
        digest.update(json.dumps(sorted(step.indices), separators=(",", ":")).encode())
    return digest.hexdigest()[:12]


def tokens_digest(examples: Sequence[Encoded]) -> bytes:
    """32 bytes that change with any token, with what is supervised, and with the order."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(len(example.ids).to_bytes(8, "little"))
        digest.update(np.asarray(example.ids, dtype="<u4").tobytes())
        digest.update(np.asarray(example.mask, dtype=bool).tobytes())
    return digest.digest()


def plan_record(
    steps: Sequence[StepPlan], treatment: Treatment, examples: Sequence[Encoded]
) -> dict[str, Any]:
    """What the manifest says of a plan.

    Returns:
        `digest`; `order`, a digest that the number of ranks leaves alone; `steps`; `ranks`;
        `micro_batches` of one rank over all steps; `supervised_tokens` over all steps and ranks;
        `row_fill`, mean share of `micro_tokens` that a row that is not empty holds; `rank_balance`
        and `rank_balance_partial`, see `rank_balance`.
    """
    rows = sum(bool(row) for step in steps for rank in step.micro for row in rank)
    size, lengths = treatment.examples_per_step, sizes(examples)[0]
    whole = [step for step in steps if len(step.indices) == size]
    partial = [step for step in steps if len(step.indices) < size]
    return {
        "digest": plan_digest(steps, examples),
        "order": order_digest(steps, examples),
        "steps": len(steps),
        "ranks": len(steps[0].micro),
        "micro_batches": sum(len(step.micro[0]) for step in steps),
        "supervised_tokens": sum(step.tokens for step in steps),
        "row_fill": sum(sum(step.loads) for step in steps) / (rows * treatment.micro_tokens),
        "rank_balance": rank_balance(whole, lengths),
        "rank_balance_partial": rank_balance(partial, lengths),
    }


def rank_balance(steps: Sequence[StepPlan], lengths: Sequence[int]) -> dict[str, float]:
    """Tokens of a step's heaviest rank over the mean of its ranks; 1 is even.

    Args:
        steps: Whole ones, none of which is begun.
        lengths: Tokens of each example.

    Returns:
        `steps`, their `median` and `worst`, and how many are `above` 1.05: of these, `no_division`
        would be so however they were divided, which is proved, and of `not_known` an exact search
        was given up. An epoch's last step may hold few examples, which no division makes
        even: it is told apart from the others.
    """
    found = [uneven(step.loads) for step in steps]
    if not found:
        return {"steps": 0}
    above = [step for step, one in zip(steps, found, strict=True) if one > EVEN]
    proved = sum(none_is_even([lengths[i] for i in s.indices], len(s.loads)) for s in above)
    return {
        "steps": len(found),
        "median": float(np.median(found)),
        "worst": max(found),
        "above": len(above),
        "no_division": proved,
        "not_known": len(above) - proved,
    }
