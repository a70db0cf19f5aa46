"""Whether what is wanted of a cell is there, by the ledger and by what is on disk."""

from __future__ import annotations

from heed.core.identity import short_hash
from heed.study.also import holds_beside
from heed.study.cell import Cell
from heed.study.export import lacks_export
from heed.study.ledger import Key, is_lost, last_word

NOT_EXPORTED = "its result stays, but it was not exported: {}"


def key_of(cell: Cell) -> Key:
    """How the ledger knows a cell."""
    return cell.run.id, short_hash(cell.suite)


def keeps_result(cell: Cell) -> bool:
    """Whether a cell has a result, which stays whatever becomes of what more is wanted of it."""
    entry = last_word(cell.root, key_of(cell))
    return entry is not None and entry["event"] == "done" and not is_lost(cell.root, entry)


def has_result(cell: Cell) -> bool:
    """Whether a cell has the result that is wanted of it, exported or not."""
    entry = last_word(cell.root, key_of(cell))
    return keeps_result(cell) and entry is not None and holds_beside(cell.suite, entry)


def has_all(cell: Cell) -> bool:
    """Whether nothing is left to be done of a cell: its result is there, and exported."""
    return has_result(cell) and lacks_export(cell.directory, cell.export) is None
