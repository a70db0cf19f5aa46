"""Examples to the flat packed row that a student is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from heed.data.encode import Encoded


class Batch(NamedTuple):
    """One micro-batch: documents end to end in a single row, nothing padded.

    Attributes:
        input_ids: i64[T], the documents' tokens one after the other.
        position_ids: i64[T], starting from 0 in each document.
        lengths: i64[D], tokens of each document; they sum to T.
        where: i64[N], positions whose *next* token is supervised.
        targets: i64[N], those next tokens.
    """

    input_ids: Tensor
    position_ids: Tensor
    lengths: Tensor
    where: Tensor
    targets: Tensor


def flat_row(examples: Sequence[Encoded], *, pad: int) -> Batch:
    """Lay examples end to end.

    No examples give a batch of one token and no target: its loss is zero and still has a graph,
    which a rank needs that has less to do than the others.

    Example:
        >>> batch = flat_row([Encoded("a", [5, 6, 7], [False, False, True])], pad=0)
        >>> batch.where.tolist(), batch.targets.tolist()
        ([1], [7])
    """
    documents = [example.ids for example in examples] or [[pad]]
    where: list[int] = []
    targets: list[int] = []
    start = 0
    for example in examples:
        for place in range(1, len(example.ids)):
            if example.mask[place]:
                where.append(start + place - 1)
                targets.append(example.ids[place])
        start += len(example.ids)
    return Batch(
        input_ids=torch.tensor([token for ids in documents for token in ids]),
        position_ids=torch.cat([torch.arange(len(ids)) for ids in documents]),
        lengths=torch.tensor([len(ids) for ids in documents]),
        where=torch.tensor(where, dtype=torch.long),
        targets=torch.tensor(targets, dtype=torch.long),
    )
