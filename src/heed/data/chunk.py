"""Parts of rows that become examples, and a chunk of them as flat arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heed.core.errors import DataError
from heed.core.types import Rendered
from heed.data.dataset import INDEX, Chunk
from heed.data.intake import Events, Row
from heed.data.spelling import Flat

HELD_OUT = "kept apart for validation"
NOTHING = "dropped: no supervised token"


class Part(NamedTuple):
    """A row's tokens [start, stop) that become an example, and a suffix for its name."""

    row: Row
    flat: Flat
    start: int
    stop: int
    suffix: str = ""


def windows(whole: Part, most: int) -> list[Part]:
    """A part cut into consecutive parts of at most so many tokens."""
    return [
        whole._replace(start=at, stop=min(at + most, whole.stop), suffix=f"@{at - whole.start}")
        for at in range(whole.start, whole.stop, most)
    ]


def refused_windows(row: Row, most: int) -> DataError | None:
    """Why a row of so many tokens cannot be cut into windows; None if it is plain text."""
    if row.messages[0].role == "text":
        return None
    return DataError(
        f"item {row.name}: a conversation of more than {most} tokens cannot be given as "
        f"windows (data.over_long=window): a later window would hold an answer without its "
        f"question. Windows are for plain text; give data.over_long=cut_at_turn or drop."
    )


def chunk_of(parts: Sequence[Part], events: Events, sample: list[tuple[int, Rendered]]) -> Chunk:
    """The parts that have something to learn, as flat arrays; the others are noted."""
    kept = []
    for part in parts:
        # a first token has no predecessor, so there is no loss on it
        supervised = np.count_nonzero(part.flat.mask[part.start + 1 : part.stop])
        if supervised:
            kept.append((part, int(supervised)))
        else:
            events.append((part.row.number, NOTHING))
    events += [(part.row.number, HELD_OUT) for part, _ in kept if part.row.held_out]
    names = [part.row.name + part.suffix for part, _ in kept]
    table = np.zeros(len(kept), dtype=INDEX)
    table["stop"] = np.cumsum([part.stop - part.start for part, _ in kept])
    table["name_stop"] = np.cumsum([len(name.encode()) for name in names])
    table["row"] = [part.row.number for part, _ in kept]
    table["supervised"] = [supervised for _, supervised in kept]
    table["held_out"] = [part.row.held_out for part, _ in kept]
    return Chunk(_joined("ids", kept), _joined("mask", kept), names, table, events, sample)


def _joined(what: str, kept: Sequence[tuple[Part, int]]) -> NDArray[Any]:
    found = [getattr(part.flat, what)[part.start : part.stop] for part, _ in kept]
    return np.concatenate(found) if found else np.zeros(0, dtype=bool if what == "mask" else int)


def first_of(chunk: Chunk, count: int) -> Chunk:
    """A chunk cut behind its first so many examples."""
    table = chunk.table[:count]
    stop = int(table["stop"][-1])
    return chunk._replace(
        ids=chunk.ids[:stop], mask=chunk.mask[:stop], names=chunk.names[:count], table=table
    )


def up_to(chunk: Chunk, left: float) -> Chunk:
    """A chunk cut behind the example that is the last one still wanted; whole if all are.

    Args:
        chunk: Any.
        left: How many examples to train on are wanted, at least one; those kept apart are extra.
    """
    trained = np.cumsum(~chunk.table["held_out"])
    if not len(trained) or trained[-1] < left:
        return chunk
    return first_of(chunk, int(np.searchsorted(trained, left)) + 1)
