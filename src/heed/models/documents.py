"""Where the documents of a packed row begin and end, and which of them are of like length."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor


class Group(NamedTuple):
    """Documents whose lengths differ by less than a factor of the square root of two.

    Attributes:
        gather: i64[D * L], the flat position of each padded place (0 where there is none).
        scatter: i64[S], the padded place of each of the group's flat positions.
        flat: i64[S], the group's flat positions.
        documents: D.
        longest: L, in tokens.
    """

    gather: Tensor
    scatter: Tensor
    flat: Tensor
    documents: int
    longest: int


class Documents:
    """Where the documents of a flat row begin and end, in the forms that kernels ask for.

    Args:
        lengths: i64[D], tokens of each document.
    """

    def __init__(self, lengths: Tensor):
        self.lengths = lengths

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest document."""
        return int(self.lengths.max())

    @cached_property
    def counts(self) -> list[int]:
        """Tokens of each document, as Python has them."""
        return [int(tokens) for tokens in self.lengths.tolist()]

    @cached_property
    def edges(self) -> Tensor:
        """i32[D + 1], the flat position where each document begins, and the end of the row."""
        ends = torch.cumsum(self.lengths, 0, dtype=torch.int32)
        return torch.nn.functional.pad(ends, (1, 0))

    @cached_property
    def groups(self) -> list[Group]:
        """The documents by half powers of two of their length."""
        return group_documents(self.lengths)


def group_documents(lengths: Tensor) -> list[Group]:
    """Group the documents of a flat row by half powers of two of their length.

    Args:
        lengths: i64[D], tokens of each document.
    """
    ends = torch.cumsum(lengths, 0)
    starts = ends - lengths
    power = torch.ceil(2 * torch.log2(lengths.double())).long()
    groups = []
    for level in power.unique():
        chosen = (power == level).nonzero(as_tuple=True)[0]
        size = lengths[chosen]
        longest = int(size.max())
        place = torch.arange(longest, device=lengths.device)
        real = place[None, :] < size[:, None]
        flat = starts[chosen][:, None] + place[None, :]
        groups.append(
            Group(
                gather=torch.where(real, flat, 0).flatten(),
                scatter=real.flatten().nonzero(as_tuple=True)[0],
                flat=flat[real],
                documents=len(chosen),
                longest=longest,
            )
        )
    return groups
