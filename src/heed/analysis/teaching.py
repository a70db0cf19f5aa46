"""Does what is known of a teacher before training predict what its responses teach?

For each student and metric: Spearman's rho with the measured delta over the teachers, and whether
one metric predicts better than another, over the same teachers drawn together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heed.analysis.agreement import Agreement, Sample, agreement
from heed.analysis.car import Formula, Measured, metrics_of, negatives, resampled
from heed.analysis.car_summary import negative_lines, refuse_negative
from heed.analysis.published_teachers import beside
from heed.analysis.spearman import FEWEST
from heed.analysis.teaching_choices import betas_of, definitions_of, interval_of
from heed.core.errors import DataError
from heed.core.resample import Floats, ends
from heed.core.types import Interval

LOW_FIRST = ("loss", "ppl_self", "ppl_reference")
"""Metrics of which less is taken for better where a teacher is picked, or two metrics compared."""

AGAINST = (
    "reward", "reward_taken", "loss", "ifd_self", "ifd_reference", "ppl_self", "ppl_reference",
    "length",
)  # fmt: skip
"""What CAR is set against."""


@dataclass(frozen=True)
class Tried:
    """One student that was tuned on every teacher.

    Attributes:
        student: How it is called.
        measured: What was known of the teachers before.
        deltas: After minus before of each of these teachers, with draws over the suite's items;
            more is better.
        model: The student's own name, where it was tuned on every teacher in several settings and
            each of these has an entry; None: `student`.
    """

    student: str
    measured: Measured
    deltas: Sample
    model: str | None = None

    @property
    def owner(self) -> str:
        """The student's own name."""
        return self.model or self.student


def teaching_numbers(
    students: Sequence[Tried],
    formula: Formula,
    betas: Sequence[float],
    bootstrap: Mapping[str, Any],
) -> dict[str, Any]:
    """All that the page says of metrics and deltas.

    Intervals over teachers say what to expect of other teachers of the kind, and hold the noise of
    what was measured of each; those over instructions, of these very teachers, if other
    instructions had been answered and other items asked. Rho is of the values as they are: that of
    a loss is negative where the likelier responses teach better.

    Args:
        students: All with the same teachers in the same order.
        formula: CAR's choices.
        betas: Weights of the loss that are tried, beside 0, the reward alone.
        bootstrap: `level`, `resamples` and `seed`.

    Returns:
        `students` (each with `name`, `teachers` (with its delta and metrics), `rhos` (metric ->
        `teachers` and `instructions`, each `value low high` or None), `picks`), `mean` (metric ->
        rho over students), `differences`, `beta`, `definitions`, `unranked` (metric -> reason),
        `resamples_left_out` and `negative` (sentences), `published` (metric -> of the source).

    Raises:
        DataError: too few teachers, students with others, or a refused negative mean reward.
    """
    _refuse(students)
    samples, unranked, left_out = _samples(students, formula, bootstrap)
    pairs = list(zip(students, samples, strict=True))
    over = {
        what: [agreement(mine, one.deltas, what, **bootstrap) for one, mine in pairs]
        for what in ("teachers", "instructions")
    }
    level = float(bootstrap["level"])
    return {
        "students": [
            _student(one, mine, over["teachers"][i], over["instructions"][i])
            for i, (one, mine) in enumerate(pairs)
        ],
        "mean": {name: _said(_mean(over["teachers"], name, level)) for name in samples[0]},
        "differences": list(_differences(students, over["teachers"], level)),
        "beta": betas_of(students, formula, betas, bootstrap),
        "definitions": definitions_of(students, formula),
        "unranked": unranked,
        "resamples_left_out": left_out,
        "negative": _negative(students, formula),
        "published": {name: found for name in samples[0] if (found := beside(name))},
    }


def _refuse(students: Sequence[Tried]) -> None:
    """Refuse what cannot be ranked together.

    Raises:
        DataError: too few teachers, or students with others.
    """
    names = students[0].measured.teachers
    if any(one.measured.teachers != names for one in students):
        raise DataError(
            "Students were tuned on other teachers, so their correlations are not of one thing. "
            "Take the teachers that all of them were tuned on."
        )
    if len(names) < FEWEST:
        raise DataError(
            f"{len(names)} teachers are too few to say how well a metric ranks them. Tune on "
            f"{FEWEST} or more."
        )


def _negative(students: Sequence[Tried], formula: Formula) -> list[str]:
    """What is negative of the rewards; each line once, where students read the same responses.

    Raises:
        DataError: a mean is, and that is refused.
    """
    found: dict[str, None] = {}
    for one in students:
        refuse_negative(one.measured, formula)
        below, where = negatives(one.measured), one.measured.where
        found |= dict.fromkeys(negative_lines(below, formula.negative, where))
    return list(found)


def _samples(
    students: Sequence[Tried], formula: Formula, bootstrap: Mapping[str, Any]
) -> tuple[list[dict[str, Sample]], dict[str, str], list[str]]:
    """The metrics that all teachers have, with draws; why others are not ranked; what is left out.

    A resample without any reward is made one without an order, which no interval holds.
    """
    found: list[dict[str, Sample]] = []
    unranked: dict[str, str] = {}
    left_out: list[str] = []
    for one in students:
        values = metrics_of(one.measured, formula)
        draws = resampled(one.measured, formula, bootstrap["resamples"], bootstrap["seed"])
        found.append({})
        broken = {}
        for name, (own,) in values.items():
            if lacking := int((~np.isfinite(own)).sum()):
                unranked[name] = f"{lacking} of {len(own)} teachers have none"
                continue
            whole = np.logical_and.reduce(np.isfinite(draws[name]), axis=1)
            found[-1][name] = Sample(own, np.where(whole[:, None], draws[name], 0.0))
            if not whole.all():
                broken[name] = int((~whole).sum())
        left_out += _left_out(one.student, broken, int(bootstrap["resamples"]))
    known = [{k: v for k, v in mine.items() if k not in unranked} for mine in found]
    return known, unranked, left_out


def _left_out(student: str, broken: Mapping[str, int], resamples: int) -> list[str]:
    """A sentence on resamples in which some metrics have no value; none where there are none."""
    said = (
        f"{student}: {max(broken.values(), default=0)} of {resamples} resamples drew no "
        f"instruction that {', '.join(broken)} can be taken from, and are left out of the "
        f"intervals over instructions."
    )
    return [said] if broken else []


def _student(
    one: Tried, metrics: Mapping[str, Sample], teachers: Agreement, instructions: Agreement
) -> dict[str, Any]:
    rows = []
    low, high = _bounds(one.deltas, teachers.level)
    for place, name in enumerate(one.measured.teachers):
        delta = {"delta": float(one.deltas.values[place])}
        delta |= {"low": float(low[place]), "high": float(high[place])}
        values = {metric: float(sample.values[place]) for metric, sample in metrics.items()}
        rows.append({"teacher": name, **delta, "metrics": values})
    return {
        "name": one.student,
        "model": one.owner,
        "teachers": rows,
        "rhos": {
            name: {
                "teachers": _said(teachers.rhos[name]),
                "instructions": _said(instructions.rhos[name]),
                "without_order": teachers.undefined[name],
            }
            for name in metrics
        },
        "picks": {name: _pick(name, sample, one) for name, sample in metrics.items()},
    }


def _bounds(deltas: Sample, level: float) -> tuple[Floats, Floats]:
    """Intervals of the deltas over items; without draws they have no width."""
    if deltas.draws is None:
        return deltas.values, deltas.values
    low, high = np.quantile(deltas.draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.minimum(low, deltas.values), np.maximum(high, deltas.values)


def _pick(name: str, sample: Sample, one: Tried) -> dict[str, Any]:
    """The teachers that a metric puts first, and what such a choice costs on average over them."""
    values = -sample.values if name in LOW_FIRST else sample.values
    places = np.flatnonzero(np.isclose(values, values.max(), rtol=1e-12, atol=0))
    delta, best = float(one.deltas.values[places].mean()), float(one.deltas.values.max())
    first = [one.measured.teachers[place] for place in places]
    return {"teachers": first, "delta": delta, "lost": best - delta}


def _mean(found: Sequence[Agreement], name: str, level: float) -> Interval | None:
    """Mean rho over students; each draw holds the same teachers for all of them."""
    rhos = [one.rhos[name] for one in found]
    if any(rho is None for rho in rhos):
        return None
    value = float(np.mean([rho.value for rho in rhos if rho is not None]))
    return _interval(value, np.mean([one.draws[name] for one in found], axis=0), rhos[0], level)


def _interval(value: float, draws: Floats, like: Interval | None, level: float) -> Interval | None:
    known = draws[~np.isnan(draws)]
    if like is None or not len(known):
        return None
    low, high = ends(known, level)
    return Interval(value, min(low, value), max(high, value), like.items)


def _differences(
    students: Sequence[Tried], found: Sequence[Agreement], level: float
) -> Iterator[dict[str, Any]]:
    """CAR's rho minus that of another metric: of each student, and of their mean."""
    others = [name for name in AGAINST if "car" in found[0].rhos and name in found[0].rhos]
    others += [name for name in found[0].rhos if name.startswith("reward ") and others]
    for name in others:
        sign = -1 if name in LOW_FIRST else 1
        values, draws = [], []
        for one, made in zip(students, found, strict=True):
            rhos = made.rhos["car"], made.rhos[name]
            value = np.nan if None in rhos else rhos[0].value - sign * rhos[1].value  # type: ignore[union-attr]
            values.append(value)
            draws.append(made.draws["car"] - sign * made.draws[name])
            yield _difference(one.student, name, value, draws[-1], rhos[0], level)
        if len(students) > 1:
            mean = float(np.mean(values)), np.mean(draws, axis=0)
            yield _difference(None, name, *mean, found[0].rhos["car"], level)


def _difference(
    student: str | None,
    other: str,
    value: float,
    draws: Floats,
    like: Interval | None,
    level: float,
) -> dict[str, Any]:
    made = None if np.isnan(value) else _interval(value, draws, like, level)
    about = {"student": student, "one": "car", "two": other}
    if made is None:
        return about | {"value": None, "low": None, "high": None, "verdict": "no order"}
    apart = made.low > 0 or made.high < 0
    return about | _said(made) | {"verdict": "differs" if apart else "no difference shown"}  # type: ignore[operator]


def _said(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else interval_of(interval)
