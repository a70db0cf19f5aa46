"""What rankings of teachers are made of: responses that a student read, and their rewards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import compress, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heed.analysis.car import REFERENCE, SELF, Measured, Read
from heed.analysis.car_summary import refuse_negative
from heed.analysis.ranking import CAR
from heed.analysis.reader import Reader, Rows
from heed.analysis.response_loss import OVER_LONG, ResponseLoss
from heed.analysis.rewards import NO_REWARD, Column, Reward, rewarding
from heed.core.component import is_component
from heed.core.errors import DataError
from heed.core.resample import Floats
from heed.core.types import Example
from heed.data.align import OVER_LIMIT, Aligned, align
from heed.data.layout import Columns
from heed.data.teacher import Teacher
from heed.models.student import Student
from heed.study.bases import Untuned, make_base
from heed.training.run import base_run

if TYPE_CHECKING:
    from heed.training.fit import Surroundings

UNREWARDED = "response without a reward, its instruction in no mean reward"

Events = Mapping[str, Counter[str]]
"""Teacher -> what happened to its responses -> how often."""

Around = Callable[[], "Surroundings"]
"""Gives devices and watchers when they are needed: their import takes seconds."""


@dataclass(frozen=True)
class Found:
    """What a ranking is made of.

    Attributes:
        measured: The numbers of every response that is kept.
        events: Teacher -> what was left out, cut, lacked -> how often.
        counts: Instructions: `shared` by all teachers, of these `asked` for (a limit leaves out the
            others), of these `kept`, and of these `rewarded` and `weighed`.
    """

    measured: Measured
    events: Mapping[str, Mapping[str, int]]
    counts: Mapping[str, int]


def measure(
    analysis: CAR,
    student: Student,
    teachers: Mapping[str, Teacher],
    around: Around,
    root: Path,
    where: str = "analysis",
) -> Found:
    """Everything that the metrics of teachers are made of, for one student.

    Args:
        analysis: Rewards, how responses are read, and what becomes of those that cannot be.
        student: Who reads them, untuned; pre-trained if this is its first use.
        teachers: Name -> teacher.
        around: Gives devices and watchers.
        root: Of the outputs, where losses and rewards are kept.
        where: Key of the analysis as it is typed, for messages.

    Raises:
        HeedError: nothing is shared, something cannot be read, or what is to be refused is there.
    """
    aligned = align(teachers, limit=analysis.limit)
    events = {name: Counter(dict(aligned.events.get(name, {}))) for name in teachers}
    rewards = _rewards(analysis, aligned, around, root, events)  # what may be refused comes first
    have = np.logical_and.reduce([_rewarded(analysis, where, *r, events) for r in rewards.items()])
    who_reads = {SELF: student, REFERENCE: analysis.reference}
    readers = {k: reader_of(analysis, one, around, root) for k, one in who_reads.items() if one}
    rows = [Rows(t, teachers[t].digest(), said) for t, said in aligned.examples.items()]
    kept = _kept(analysis, where, readers.values(), rows, events)
    rows = [one._replace(examples=list(compress(one.examples, kept))) for one in rows]
    rewarded = have & (aligned.in_first_half if analysis.rewarded == "first_half" else True)
    weighed = ~aligned.in_first_half if analysis.weighed == "second_half" else np.ones_like(kept)
    measured = Measured(  # refused here, before hours of reading
        teachers=tuple(teachers),
        ids=tuple(compress(aligned.ids, kept)),
        rewards={name: values[:, kept] for name, values in rewards.items()},
        read={},
        rewarded=rewarded[kept],
        weighed=weighed[kept],
        where=where,
    )
    refuse_negative(measured, analysis.formula)
    read = {who: _read(reader, rows) for who, reader in readers.items()}
    told = {name: dict(+count) for name, count in events.items()}
    return Found(replace(measured, read=read), told, _counts(aligned, measured))


def _counts(aligned: Aligned, measured: Measured) -> dict[str, int]:
    """How many instructions there are, as `Found` tells it."""
    return {
        "shared": len(aligned.ids) + max(one.get(OVER_LIMIT, 0) for one in aligned.events.values()),
        "asked": len(aligned.ids),
        "kept": len(measured.ids),
        "rewarded": int(measured.rewarded.sum()),
        "weighed": int(measured.weighed.sum()),
    }


def reader_of(analysis: CAR, student: Student, around: Around, root: Path) -> Reader:
    """A student that reads responses, made and loaded when it is first needed."""
    make(student, around, root)

    def load() -> Any:
        surroundings = around()
        return Untuned(student, surroundings, root).load()

    return Reader(
        name=student.name,
        decides=identity(student, root),
        load=load,
        root=root,
        batch_tokens=analysis.batch_tokens,
        max_tokens=analysis.max_tokens,
        precision=analysis.precision,
    )


def make(student: Student, around: Around, root: Path) -> None:
    """Pre-train a student on its first use; what is needed for that is imported only then."""
    run = base_run(student)
    if run is not None and not (root / "runs" / run.directory / "DONE").is_file():
        make_base(student, around(), root)


def identity(student: Student, root: Path) -> dict[str, Any]:
    """What tells an untuned student from any other: its config, and its weights."""
    return Untuned(student, None, root).identity  # type: ignore[arg-type]


def _kept(
    analysis: CAR, where: str, readers: Iterable[Reader], rows: Sequence[Rows], events: Events
) -> NDArray[np.bool_]:
    """bool[n]: instructions of which every model can read every teacher's response.

    Raises:
        DataError: a response cannot be read, and that is refused.
    """
    columns = []
    for reader, one in product(readers, rows):
        unreadable = reader.unreadable(one)
        columns.append([not why for why in unreadable])
        for why, times in Counter(why for why in unreadable if why).items():
            _refuse_unread(analysis, where, reader.name, one.teacher, (why, times))
            events[one.teacher][f"{why} (read by {reader.name})"] += times
    kept: NDArray[np.bool_] = np.logical_and.reduce(np.asarray(columns), axis=0)
    return kept


def _refuse_unread(
    analysis: CAR, where: str, reader: str, teacher: str, unread: tuple[str, int]
) -> None:
    why, times = unread
    long = why == OVER_LONG
    if (analysis.over_long if long else analysis.on_bad_row) == "drop":
        return
    field = "over_long" if long else "on_bad_row"
    more = f", or a larger {where}.max_tokens" if long and analysis.max_tokens else ""
    raise DataError(
        f"teacher {teacher!r}: {times} responses cannot be read by {reader} ({why}), so teachers "
        f"cannot be compared on them. Give {where}.{field}=drop{more}: such instructions are then "
        f"left out for all teachers alike, and counted."
    )


def _read(reader: Reader, rows: Sequence[Rows]) -> Read:
    """What a model found, as arrays.

    Raises:
        DataError: a record says of a response that it cannot be read, and another that it can.
    """
    given, apart = ([reader.losses(one, conditioned=how) for one in rows] for how in (True, False))
    for one, *found in zip(rows, given, apart, strict=True):
        if whys := {loss.left_out for losses in found for loss in losses if loss.left_out}:
            raise DataError(
                f"teacher {one.teacher!r}: {reader.name} could read all responses that are left, "
                f"and then could not ({', '.join(sorted(whys))}): records of different code of "
                f"heed. Remove {reader.folder}; the same command weighs them again."
            )

    def table(found: Sequence[Sequence[ResponseLoss]], what: str) -> Floats:
        return np.array([[getattr(one, what) for one in row] for row in found], dtype=float)

    return Read(table(given, "nats"), table(apart, "nats"), table(given, "tokens"))


def further_columns(analysis: CAR, teachers: Mapping[str, Teacher]) -> dict[str, Any]:
    """Teacher -> name and column of the further scores that the analysis reads of it.

    They decide a ranking, and are in no teacher's digest, because no training reads them.

    Args:
        analysis: Its rewards may be columns.
        teachers: Name -> teacher.
    """
    rewards = analysis.rewards.values()
    keys = {one.key for one in rewards if isinstance(one, Column) and one.key is not None}
    found = {}
    for name, teacher in teachers.items():
        columns = [{k: v for k, v in one.items() if k in keys} for one in _further(teacher)]
        found[name] = [one for one in columns if one]
    return found


def _further(part: Any) -> Iterator[Mapping[str, str]]:
    """The further scores of every layout in a component."""
    if isinstance(part, Columns):
        yield part.rewards
    elif is_component(part):
        for field in fields(part):
            yield from _further(getattr(part, field.name))
    elif isinstance(part, Mapping | list | tuple):
        for one in part.values() if isinstance(part, Mapping) else part:
            yield from _further(one)


def _rewards(
    analysis: CAR,
    aligned: Aligned,
    around: Around,
    root: Path,
    events: Events,
) -> dict[str, Floats]:
    """Name -> f64[T, n], every reward of every response; nan where there is none."""

    def scores(reward: Reward, teacher: str, examples: Sequence[Example]) -> list[float]:
        here.events.clear()
        found = reward.of(examples, here)
        for what, times in here.events.items():
            events[teacher][f"{reward.name}: {what.removeprefix(f'{teacher}: ')}"] += times
        told = sum(times for what, times in here.events.items() if what.endswith(NO_REWARD))
        events[teacher][f"{reward.name}: {UNREWARDED}"] += found.count(None) - told
        return [np.nan if score is None else score for score in found]

    with rewarding(root, around().trainer.device) as here:
        return {
            name: np.array([scores(reward, *one) for one in aligned.examples.items()], dtype=float)
            for name, reward in analysis.rewards.items()
        }


def _told(name: str, events: Mapping[str, int]) -> str:
    """What a reward told of a teacher."""
    return ", ".join(what for what, n in events.items() if n and what.startswith(f"{name}: "))


def _rewarded(
    analysis: CAR,
    where: str,
    name: str,
    values: Floats,
    events: Events,
) -> NDArray[np.bool_]:
    """bool[n]: instructions to which every teacher that has rewards at all has one.

    Raises:
        DataError: a teacher has none at all and that is refused, or nobody has any.
    """
    missing = np.isnan(values)
    without: NDArray[np.bool_] = np.logical_and.reduce(missing, axis=1)
    bare = [teacher for teacher, none in zip(events, without, strict=True) if none]
    if bare and (analysis.unrewarded == "refuse" or len(bare) == len(events)):
        raise DataError(
            f"reward {name}: no response of {', '.join(bare)} has one, so there is no CAR of "
            f"{'them' if len(bare) > 1 else 'it'}. Choose another reward, leave such teachers out "
            f"of the set, or give {where}.unrewarded=leave_out if some others have rewards: they "
            f"are then shown without CAR and rank. Of {bare[0]}: {_told(name, events[bare[0]])}."
        )
    for teacher in bare:
        events[teacher][f"{name}: no reward at all, so no CAR and no rank"] = 1
    complete: NDArray[np.bool_] = np.logical_and.reduce(~missing[~without], axis=0)
    return complete
