"""Where the documents of a packed row begin and end, and which of them are of like length."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor


class Group(NamedTuple):
    """Documents whose lengths differ by less than a factor of the square root of two.

    Attributes:
        gather: i64[D * L], the flat position of each padded place; behind the end of a document,
            its last one.
        documents: D.
        longest: L, in tokens.
    """

    gather: Tensor
    documents: int
    longest: int


class Groups(NamedTuple):
    """All documents of a row, by groups.

    Attributes:
        groups: Short documents first.
        places: i64[T], where each flat position stands among the padded places of all groups.
    """

    groups: list[Group]
    places: Tensor


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
    def grouped(self) -> Groups:
        """The documents by half powers of two of their length."""
        return group_documents(self.lengths)


def group_documents(lengths: Tensor) -> Groups:
    """Group the documents of a flat row by half powers of two of their length.

    The processor does it: a GPU would be waited for several times a group.

    Args:
        lengths: i64[D], tokens of each document.
    """
    device, lengths = lengths.device, lengths.cpu()
    starts = torch.cumsum(lengths, 0) - lengths
    power = torch.ceil(2 * torch.log2(lengths.double())).long()
    places = torch.empty(int(lengths.sum()), dtype=torch.long)
    groups, before = [], 0
    for level in power.unique():
        chosen = power == level
        start, size = starts[chosen, None], lengths[chosen, None]
        longest = int(size.max())
        place = torch.arange(longest)
        gather = (start + torch.minimum(place, size - 1)).flatten()
        real = (place < size).flatten().nonzero()[:, 0]
        places[gather[real]] = before + real
        before += len(gather)
        groups.append(Group(gather.to(device), len(size), longest))
    return Groups(groups, places.to(device))
