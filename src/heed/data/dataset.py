"""Encoded examples: one of them, and all of a source in flat arrays, in memory or on disk."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from heed.core.errors import DataError
from heed.core.types import Rendered

INDEX = np.dtype(
    [
        ("stop", "<i8"),  # end of the example's tokens
        ("name_stop", "<i8"),  # end of its name's bytes
        ("row", "<i8"),  # which row of the source it comes from, from 0
        ("supervised", "<i4"),  # tokens with loss
        ("held_out", "?"),  # kept apart for validation
    ]
)
"""What is known of each example beside its tokens."""


class Encoded(NamedTuple):
    """One example as tokens.

    Attributes:
        id: The example's id (windows of one text have a suffix).
        ids: Token ids, length T.
        mask: Whether each token is supervised, length T.
    """

    id: str
    ids: list[int]
    mask: list[bool]

    @property
    def supervised(self) -> int:
        """Tokens with loss: the first token has no predecessor, so it never counts."""
        return sum(self.mask[1:])


class Chunk(NamedTuple):
    """Some examples of consecutive rows, and what happened to those rows.

    Attributes:
        ids: i64[T], the examples' tokens end to end.
        mask: bool[T], which are supervised.
        names: Their ids.
        table: INDEX[n], with ends that count from the chunk's beginning.
        events: (row, what) of every drop and cut.
        sample: (row, text) of its first rendered examples.
        failure: What is wrong with the row behind the last of them, which ends the run if that
            row is wanted; None if nothing is.
    """

    ids: NDArray[Any]
    mask: NDArray[np.bool_]
    names: list[str]
    table: NDArray[Any]
    events: list[tuple[int, str]]
    sample: list[tuple[int, Rendered]]
    failure: DataError | None = None


class Tokens(NamedTuple):
    """All examples end to end.

    Attributes:
        ids: u16[T] or u32[T].
        bits: u8[ceil(T / 8)], the mask, eight tokens a byte, the first in the highest bit.
        names: u8, the examples' ids as UTF-8.
        table: INDEX[n].
    """

    ids: NDArray[Any]
    bits: NDArray[np.uint8]
    names: NDArray[np.uint8]
    table: NDArray[Any]


class Examples(Sequence[Encoded]):
    """Examples that are read from flat arrays when they are asked for.

    Attributes:
        tokens: The arrays.
        chosen: i64[n], which examples of the arrays these are, in order.
    """

    def __init__(self, tokens: Tokens, chosen: NDArray[np.int64]):
        self.tokens = tokens
        self.chosen = chosen

    def __len__(self) -> int:
        return len(self.chosen)

    @overload
    def __getitem__(self, place: int) -> Encoded: ...
    @overload
    def __getitem__(self, place: slice) -> Examples: ...
    def __getitem__(self, place: int | slice) -> Encoded | Examples:
        if isinstance(place, slice):
            return Examples(self.tokens, self.chosen[place])
        number = int(self.chosen[place])
        ids, bits, names, _ = self.tokens
        start, stop = self._span("stop", number)
        name = names[slice(*self._span("name_stop", number))].tobytes().decode()
        first = start // 8
        mask = np.unpackbits(bits[first : -(-stop // 8)])[start - 8 * first : stop - 8 * first]
        return Encoded(name, ids[start:stop].tolist(), mask.astype(bool).tolist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def _span(self, ends: str, number: int) -> tuple[int, int]:
        column = self.tokens.table[ends]
        return int(column[number - 1]) if number else 0, int(column[number])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """i64[n], tokens of each example."""
        return np.diff(self.tokens.table["stop"], prepend=0)[self.chosen]

    @property
    def supervised(self) -> NDArray[np.int64]:
        """i64[n], tokens with loss of each example."""
        return self.tokens.table["supervised"][self.chosen].astype(np.int64)

    @property
    def rows(self) -> NDArray[np.int64]:
        """i64[n], the row of the source that each example comes from."""
        return self.tokens.table["row"][self.chosen]

    def where(self, keep: NDArray[np.bool_]) -> Examples:
        """Those of the examples that are marked in bool[n]."""
        return Examples(self.tokens, self.chosen[keep])


class Dataset(NamedTuple):
    """All encoded examples of a source, and what happened on the way.

    Attributes:
        examples: To train on, in the order of the source.
        events: Everything that was dropped, cut or is out of the ordinary, by kind.
        sample: The first rendered examples, to be looked at.
        validation: Examples kept apart; none if no share is kept.
        sample_rows: Which rows of the source the sample shows.
    """

    examples: Examples
    events: Counter[str]
    sample: list[Rendered]
    validation: Examples
    sample_rows: list[int]


def dataset_of(
    tokens: Tokens, events: Counter[str], sample: Sequence[tuple[int, Rendered]]
) -> Dataset:
    """Part the examples of a source into those to train on and those kept apart."""
    apart = tokens.table["held_out"]
    return Dataset(
        Examples(tokens, np.flatnonzero(~apart)),
        events,
        [text for _, text in sample],
        Examples(tokens, np.flatnonzero(apart)),
        [row for row, _ in sample],
    )


def id_type(vocabulary: int) -> str:
    """The smallest type that holds every token id.

    Example:
        >>> id_type(32000), id_type(128256)
        ('<u2', '<u4')
    """
    return "<u2" if vocabulary <= 2**16 else "<u4"


class Gathered:
    """Appends chunks to four files, which may be in memory; holds no more than one chunk.

    Attributes:
        files: For ids, mask bits, names and index.
        examples: How many there are.
    """

    def __init__(self, files: Sequence[BinaryIO], vocabulary: int):
        self.files = files
        self.kind = id_type(vocabulary)
        self.examples = self._tokens = self._name_bytes = 0
        self._rest: NDArray[np.bool_] = np.zeros(0, dtype=bool)

    def append(self, chunk: Chunk) -> None:
        """Add a chunk's examples."""
        ids, bits, names, index = self.files
        ids.write(chunk.ids.astype(self.kind).tobytes())
        mask = np.concatenate([self._rest, chunk.mask])
        whole = len(mask) // 8 * 8
        bits.write(np.packbits(mask[:whole]).tobytes())
        self._rest = mask[whole:]
        said = "".join(chunk.names).encode()
        names.write(said)
        moved = chunk.table.copy()
        moved["stop"] += self._tokens
        moved["name_stop"] += self._name_bytes
        index.write(moved.tobytes())
        self.examples += len(moved)
        self._tokens += len(chunk.ids)
        self._name_bytes += len(said)

    def finish(self) -> None:
        """Write the last bits of the mask."""
        self.files[1].write(np.packbits(self._rest).tobytes())


def in_memory() -> Sequence[io.BytesIO]:
    """Four files for `Gathered` that are no files."""
    return [io.BytesIO() for _ in range(4)]


def tokens_of(buffers: Sequence[Any], kind: str) -> Tokens:
    """Read what `Gathered` wrote, without a copy; no write goes through.

    Args:
        buffers: The four files' contents, or maps of them.
        kind: Type of the ids.
    """
    types: Iterator[Any] = iter((kind, np.uint8, np.uint8, INDEX))
    ids, bits, names, index = (np.frombuffer(b, dtype=next(types)) for b in buffers)
    return Tokens(ids, bits, names, index)
