"""Which instructions all compared teachers answered, and what each of them said to those.

A ranking compares what teachers make of the same instructions. So rows are matched by a hash of
what stands before the response, and an instruction that some teacher did not answer is left out
for all of them: counted, per teacher.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from heed.core.component import component
from heed.core.errors import ConfigError, DataError, Mistake
from heed.core.identity import FileName, Incidental
from heed.core.resample import first_half
from heed.core.types import Example
from heed.data.teacher import Teacher, id_of

MISSING = "no response to an instruction that another teacher answered"
EMPTY = "empty response, left out"
REPEATED = "instruction answered before, the first response kept"
SEVERAL_TURNS = "conversation of several responses, which answer no one instruction, left out"
UNREAD = "row that cannot be read, left out"
NOT_SHARED = "response to an instruction that not all teachers answered, left out"
OVER_LIMIT = "response to a shared instruction beyond the limit, left out"


@component
class TeacherSet:
    """Teachers that are compared; an option of `conf/teachers/<set>.yaml`."""

    name: Annotated[FileName, Incidental]
    """How the set is called."""

    teachers: Annotated[dict[str, Teacher], Field(min_length=2)]
    """Teachers by a word that a command line can hold; tables call each by its own name."""

    def __post_init__(self) -> None:
        names = Counter(teacher.name for teacher in self.teachers.values())
        if twice := sorted(name for name, times in names.items() if times > 1):
            why = "two teachers of one name cannot be told apart in a table."
            action = f"Give each its own: teachers.teachers.<which>.name=<name>, not {twice[0]!r}."
            raise ConfigError([Mistake("teachers", ", ".join(twice), why, action)])

    @property
    def by_name(self) -> dict[str, Teacher]:
        """Teachers by the names that stand in tables, in the order of the set."""
        return {teacher.name: teacher for teacher in self.teachers.values()}


@dataclass(frozen=True)
class Aligned:
    """Responses of several teachers to the same instructions.

    Attributes:
        ids: Of the instructions, in an order that depends on nothing but themselves.
        examples: Teacher -> one response for each id, in the order of ids.
        events: Teacher -> what was left out or lacked: name -> count.
        in_first_half: bool[ids]: a split by hash, the same for all teachers and studies.
    """

    ids: tuple[str, ...]
    examples: Mapping[str, tuple[Example, ...]]
    events: Mapping[str, Mapping[str, int]]
    in_first_half: NDArray[np.bool_]


def align(teachers: Mapping[str, Teacher], *, limit: int | None) -> Aligned:
    """Match what teachers said to the same instructions.

    Of several responses of a teacher to one instruction the first that is not empty counts. Ids are
    made here of what was asked, so that rows match wherever they come from.

    Args:
        teachers: Name -> teacher; their order decides nothing but that of the result's mappings.
        limit: Most instructions; those of the smallest ids are taken, a random part. None: all.

    Raises:
        DataError: fewer than two instructions are shared, or a teacher gives plain text.
    """
    read = {name: _read(name, teacher) for name, teacher in teachers.items()}
    answered = [frozenset(found) for found, _, _ in read.values()]
    shared = frozenset.intersection(*answered) if answered else frozenset()
    if len(shared) < 2:
        raise DataError(_nothing_shared(read, len(shared)))
    ids = tuple(sorted(shared)[:limit])
    every = frozenset().union(*answered)
    for found, empty, events in read.values():
        events[MISSING] = len(every - found.keys() - empty)
        events[NOT_SHARED] = len(found) - len(shared)
        events[OVER_LIMIT] = len(shared) - len(ids)
    return Aligned(
        ids=ids,
        examples={name: tuple(one.found[key] for key in ids) for name, one in read.items()},
        events={name: dict(+one.events) for name, one in read.items()},
        in_first_half=first_half(ids),
    )


class _Read(NamedTuple):
    """A teacher's responses by the id of what was asked, and what happened to the others."""

    found: dict[str, Example]
    empty: set[str]  # ids of what got an empty response only
    events: Counter[str]


def _read(name: str, teacher: Teacher) -> _Read:
    """All that a teacher said."""
    found, empty, events = _Read({}, set(), Counter(dict(teacher.events())))

    def unread(_: Exception) -> None:
        events[UNREAD] += 1

    for example in teacher.rows(unread):
        if example.messages[-1].role != "assistant":
            raise DataError(
                f"teacher {name!r} gives plain text, which answers no instruction, so it cannot be "
                f"compared with others. Leave it out of the set of teachers."
            )
        key = id_of(example.messages)
        if sum(message.role == "assistant" for message in example.messages) > 1:
            events[SEVERAL_TURNS] += 1
        elif not example.messages[-1].content.strip():
            events[EMPTY] += 1
            empty.add(key)
        elif key in found:
            events[REPEATED] += 1
        else:
            found[key] = replace(example, id=key, teacher=name)
    return _Read(found, empty - found.keys(), events)


def _nothing_shared(read: Mapping[str, _Read], shared: int) -> str:
    """What to say where teachers cannot be compared."""
    counts = ", ".join(f"{name} {len(one.found)}" for name, one in read.items()) or "none given"
    return (
        f"Only {shared} instructions are answered by all teachers (answered by each: {counts}), "
        f"and a comparison needs at least two. Teachers that answered others than the rest, or "
        f"spell them otherwise, cannot be compared: leave them out of the set, or make their "
        f"responses to the same instructions with python evaluate.py generate=<instructions.jsonl>."
    )
