"""Examples to the flat packed row that a student is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from heed.data.dataset import Encoded


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
    documents = [np.asarray(e.ids, dtype=np.int64) for e in examples] or [np.array([pad])]
    masks = [np.asarray(e.mask, dtype=bool) for e in examples] or [np.array([False])]
    ids = np.concatenate(documents)
    # A document's first token has no predecessor: nothing predicts it, whatever its mask says.
    after = np.concatenate([np.append(mask[1:], False) for mask in masks])
    where = np.flatnonzero(after)
    return Batch(
        input_ids=torch.from_numpy(ids),
        position_ids=torch.from_numpy(np.concatenate([np.arange(len(d)) for d in documents])),
        lengths=torch.tensor([len(d) for d in documents]),
        where=torch.from_numpy(where),
        targets=torch.from_numpy(ids[where + 1]),
    )
