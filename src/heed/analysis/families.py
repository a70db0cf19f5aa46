"""Do teachers of a student's own family teach it better, and larger ones than smaller ones?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby, pairwise, product
from math import comb, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heed.analysis.spearman import ranks, spearman
from heed.core.resample import Floats

MOST_GROUPS = 200_000
"""Groups of teachers that are looked at one by one; of more, so many are drawn."""


@dataclass(frozen=True)
class Taught:
    """What each teacher's responses made of each student.

    Attributes:
        students: Names.
        teachers: Names.
        outcomes: f64[students, teachers], more is better.
        families: Of each teacher; None where it has none.
        sizes: Of each teacher, in billions of parameters; None where it is not public.
    """

    students: tuple[str, ...]
    teachers: tuple[str, ...]
    outcomes: Floats
    families: tuple[str | None, ...]
    sizes: tuple[float | None, ...]

    @property
    def places(self) -> Floats:
        """f64[students, teachers]: the rank of each teacher, 1 for the best."""
        return ranks(-self.outcomes)


def own_family(
    taught: Taught, own: Mapping[str, Sequence[str]], *, level: float
) -> list[dict[str, Any]]:
    """How the teachers of each student's own family rank, against chance and against elsewhere.

    `p` is the share of all groups of as many teachers whose mean rank is as good or better. A
    family may rank well because its teachers are good for everybody; `gain` is free of that: how
    many places better they rank with this student than, on average, with the students whose own
    families are others, minus the same of the teachers of other families, with Welch's t interval
    over teachers.

    Args:
        taught: The outcomes.
        own: Student -> the families of teachers that are its own.
        level: Nominal coverage of the interval.

    Returns:
        For each student of a family: `student family teachers of best_rank mean_rank p gain low
        high`; the last three are None, with a `reason`, where there are too few teachers or no
        student of another family, and the last two where all gains are alike.
    """
    found = []
    for row, student in enumerate(taught.students):
        inside = np.array([family in own.get(student, ()) for family in taught.families])
        if not inside.any():
            continue
        places = taught.places[row]
        found.append(
            {
                "student": student,
                "family": " and ".join(own[student]),
                "teachers": int(inside.sum()),
                "of": len(inside),
                "best_rank": float(places[inside].min()),
                "mean_rank": float(places[inside].mean()),
                "p": _as_good(places, inside),
                **_gain(places, taught.places[_strangers(taught, own, student)], inside, level),
            }
        )
    return found


def _as_good(places: Floats, inside: NDArray[np.bool_]) -> float:
    """Share of all groups of as many teachers with as good a mean rank."""
    size, total = int(inside.sum()), len(places)
    limit = places[inside].sum() + 1e-9
    if comb(total, size) <= MOST_GROUPS:
        sums = [sum(group) for group in combinations(places.tolist(), size)]
        return float(np.mean(np.array(sums) <= limit))
    generator = np.random.default_rng(0)
    drawn = generator.permuted(np.tile(places, (MOST_GROUPS, 1)), axis=1)[:, :size].sum(axis=1)
    return float((1 + (drawn <= limit).sum()) / (1 + MOST_GROUPS))


def _strangers(taught: Taught, own: Mapping[str, Sequence[str]], student: str) -> list[int]:
    """Places of the students that share no own family with one."""
    mine = set(own[student])
    return [i for i, name in enumerate(taught.students) if mine.isdisjoint(own.get(name, ()))]


def _gain(
    places: Floats, elsewhere: Floats, inside: NDArray[np.bool_], level: float
) -> dict[str, Any]:
    """Places gained by a student's own family beyond those gained by the others.

    Args:
        places: f64[teachers], with the student.
        elsewhere: f64[students, teachers], with those whose own families are others.
        inside: Which of the teachers are of the own family.
        level: Nominal coverage.
    """
    none: dict[str, Any] = dict.fromkeys(("gain", "low", "high"))
    if not len(elsewhere):
        return none | {"reason": "there is no student of another family to compare with."}
    gains = elsewhere.mean(axis=0) - places
    sides = [gains[inside], gains[~inside]]
    if min(map(len, sides)) < 2:
        return none | {"reason": "one teacher of a kind shows no spread."}
    value, half = _welch(sides[0], sides[1], level)
    if half is None:
        ends: dict[str, Any] = dict.fromkeys(("low", "high"))
        return {"gain": value, **ends, "reason": "gains all alike: no interval"}
    return {"gain": value, "low": value - half, "high": value + half}


def _welch(one: Floats, two: Floats, level: float) -> tuple[float, float | None]:
    """Difference of two means, and half of its t interval with unequal spreads; None without any.

    Source: Welch 1947, https://doi.org/10.2307/2332510.
    """
    from scipy.stats import t

    parts = [side.var(ddof=1) / len(side) for side in (one, two)]
    value = float(one.mean() - two.mean())
    if sum(parts) <= 1e-24:
        return value, None
    free = sum(parts) ** 2 / sum(
        part**2 / (len(side) - 1) for part, side in zip(parts, (one, two), strict=True)
    )
    return value, float(t.ppf((1 + level) / 2, free)) * sqrt(sum(parts))


def larger_in_family(taught: Taught, *, level: float) -> list[dict[str, Any]]:
    """Each teacher against those of the next larger size in its family.

    Teachers of one size are not set against each other: `of_one_size` names them.

    Args:
        taught: The outcomes.
        level: Nominal coverage of the t interval over students. They are few, and have the same
            teachers: it says what to expect of another student of the kind, not of other teachers.

    Returns:
        For each two neighbours in size: `family smaller larger students smaller_wins difference`
        (larger minus smaller, mean over students), `low` and `high`; these are None, with a
        `reason`, with one student or where all students are alike.
    """
    found = []
    for family, members in _by_size(taught):
        for one, two in _neighbours(taught, members):
            apart = taught.outcomes[:, two] - taught.outcomes[:, one]
            found.append(
                {
                    "family": family,
                    "smaller": taught.teachers[one],
                    "larger": taught.teachers[two],
                    "students": len(apart),
                    "smaller_wins": int((apart < 0).sum()),
                    "difference": float(apart.mean()),
                    **_t_interval(apart, level),
                }
            )
    return found


def _neighbours(taught: Taught, members: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Every teacher of a size with every teacher of the next larger one."""
    for smaller, larger in pairwise(_sizes(taught, members)):
        yield from product(smaller, larger)


def _sizes(taught: Taught, members: Sequence[int]) -> list[list[int]]:
    """Teachers in order of size, those of one size together."""
    return [list(same) for _, same in groupby(members, key=lambda place: taught.sizes[place])]


def of_one_size(taught: Taught) -> list[tuple[str, ...]]:
    """Teachers of one family and size, which `larger_in_family` sets against no other of them."""
    return [
        tuple(taught.teachers[place] for place in same)
        for _, members in _by_size(taught)
        for same in _sizes(taught, members)
        if len(same) > 1
    ]


def size_in_family(taught: Taught, *, level: float) -> list[dict[str, Any]]:
    """Spearman's rho of size and outcome within each family of three sizes or more.

    Args:
        taught: The outcomes.
        level: Nominal coverage of the t interval over students.

    Returns:
        `family teachers rhos` (one a student), `mean`, `low` and `high` (None, with a `reason`,
        with one student or where all rhos are alike), and last the same over all teachers whose
        size is known, with family None.
    """
    groups: list[tuple[str | None, list[int]]] = [
        (family, members) for family, members in _by_size(taught) if len(members) > 2
    ]
    known = [place for place, size in enumerate(taught.sizes) if size is not None]
    groups += [(None, known)] if len(known) > 2 else []
    found = []
    for family, members in groups:
        sizes = [taught.sizes[place] for place in members]
        rhos = spearman(taught.outcomes[:, members], np.array(sizes, dtype=np.float64))
        ordered = rhos[~np.isnan(rhos)]
        if not len(ordered):
            continue
        found.append(
            {
                "family": family,
                "teachers": len(members),
                "rhos": [None if np.isnan(rho) else float(rho) for rho in rhos],
                "mean": float(ordered.mean()),
                **_within_one(_t_interval(ordered, level)),
            }
        )
    return found


def _within_one(interval: dict[str, Any]) -> dict[str, Any]:
    """The same where no rho lies beyond."""
    if interval["low"] is None:
        return interval
    return {end: min(1.0, max(-1.0, at)) for end, at in interval.items()}


def _t_interval(values: Floats, level: float) -> dict[str, Any]:
    """Student's t interval of a mean over students; none, with a reason, without a spread.

    Values that happen to be alike do not say that the next one will be.
    """
    from scipy.stats import t

    none: dict[str, Any] = {"low": None, "high": None}
    if len(values) < 2:
        return none | {"reason": "one student: no interval"}
    if np.ptp(values) <= 1e-12:
        return none | {"reason": f"{len(values)} students, all alike: no interval"}
    half = float(t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / sqrt(len(values)))
    return {"low": float(values.mean()) - half, "high": float(values.mean()) + half}


def _by_size(taught: Taught) -> Iterator[tuple[str, list[int]]]:
    """Each family of several known sizes, and the places of its teachers, the smallest first."""
    families: dict[str, list[int]] = {}
    for place, (family, size) in enumerate(zip(taught.families, taught.sizes, strict=True)):
        if family is not None and size is not None:
            families.setdefault(family, []).append(place)
    for family, members in families.items():
        if len(members) > 1:
            yield family, sorted(members, key=lambda place: taught.sizes[place] or 0.0)


def means(taught: Taught) -> Sequence[tuple[str, float]]:
    """Teachers by their mean outcome over students, the best first."""
    found = zip(taught.teachers, taught.outcomes.mean(axis=0).tolist(), strict=True)
    return sorted(found, key=lambda pair: -pair[1])
