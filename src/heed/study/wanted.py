"""Whether what is wanted of a cell is there, by the ledger and by what is on disk."""

from __future__ import annotations

from heed.core.identity import short_hash
from heed.study.also import holds_beside
from heed.study.cell import Cell
from heed.study.export import lacks_export
from heed.study.ledger import Key, is_kept, last_word

BESIDE = "its result stays, but what more was wanted of it has failed"
NOT_EXPORTED = "its result stays, but it was not exported: {}"


def key_of(cell: Cell) -> Key:
    """How the ledger knows a cell."""
    return cell.run.id, short_hash(cell.suite)


def keeps_result(cell: Cell) -> bool:
    """Whether a cell has a result, which stays whatever becomes of what more is wanted of it."""
    return is_kept(cell.root, last_word(cell.root, key_of(cell)))


def has_result(cell: Cell) -> bool:
    """Whether a cell has the result that is wanted of it, exported or not."""
    entry = last_word(cell.root, key_of(cell))
    return entry is not None and is_kept(cell.root, entry) and holds_beside(cell.suite, entry)


def has_all(cell: Cell) -> bool:
    """Whether nothing is left to be done of a cell: its result is there, and exported."""
    return why_not(cell) is None


def why_not(cell: Cell) -> str | None:
    """Why a cell that was begun lacks some of what is wanted of it; None: it has all."""
    nothing = {"event": "missing", "reason": "nothing was recorded"}
    entry = last_word(cell.root, key_of(cell)) or nothing
    if not is_kept(cell.root, entry):
        return str(entry.get("reason", "its result is lost"))
    if not holds_beside(cell.suite, entry):
        return BESIDE
    why = lacks_export(cell.directory, cell.export)
    return None if why is None else NOT_EXPORTED.format(why)
