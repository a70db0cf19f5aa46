"""Does what is known of a teacher before training predict what its responses teach?

For each student and metric: Spearman's rho with the measured delta over the teachers, and whether
one metric predicts better than another, over the same teachers drawn together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import isinf
from typing import Any, get_args

import numpy as np

from heed.analysis.agreement import Agreement, Sample, agreement, leave_one_out
from heed.analysis.car import (
    SELF,
    Formula,
    Measured,
    Per,
    car,
    losses,
    mean_rewards,
    metrics_of,
    negatives,
    resampled,
)
from heed.analysis.car_summary import negative_lines, refuse_negative
from heed.analysis.published_teachers import beside
from heed.analysis.spearman import FEWEST, spearman
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
        `negative` (sentences) and `published` (metric -> what the source has).

    Raises:
        DataError: too few teachers, students with others, or a refused negative mean reward.
    """
    _refuse(students)
    samples, unranked = _samples(students, formula, bootstrap)
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
        "beta": _betas(students, formula, betas, bootstrap),
        "definitions": _definitions(students, formula),
        "unranked": unranked,
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
        found |= dict.fromkeys(negative_lines(negatives(one.measured), formula.negative))
    return list(found)


def _samples(
    students: Sequence[Tried], formula: Formula, bootstrap: Mapping[str, Any]
) -> tuple[list[dict[str, Sample]], dict[str, str]]:
    """The metrics that all teachers have, with draws; and why others are not ranked."""
    found: list[dict[str, Sample]] = []
    unranked: dict[str, str] = {}
    for one in students:
        values = metrics_of(one.measured, formula)
        draws = resampled(one.measured, formula, bootstrap["resamples"], bootstrap["seed"])
        found.append({name: Sample(values[name][0], draws[name]) for name in values})
        for name, sample in found[-1].items():
            lacking = int((~np.isfinite(sample.values)).sum())
            broken = sample.draws is not None and not np.isfinite(sample.draws).all()
            if lacking or broken:
                unranked[name] = (
                    f"{lacking} of {len(sample.values)} teachers have none"
                    if lacking
                    else "some resamples of the instructions hold none of it"
                )
    return [{k: v for k, v in mine.items() if k not in unranked} for mine in found], unranked


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


def _betas(
    students: Sequence[Tried],
    formula: Formula,
    betas: Sequence[float],
    bootstrap: Mapping[str, Any],
) -> dict[str, Any]:
    """Rho of CAR along a grid of beta, and what a beta is worth that other students chose."""
    grid = [0.0, *sorted({float(beta) for beta in betas} - {0.0})]
    sides = [_reward_and_loss(one.measured, formula) for one in students]
    grids = [np.stack([car(reward, loss, beta) for beta in grid]) for reward, loss in sides]
    names = ["inf" if isinf(beta) else beta for beta in grid]  # JSON has no infinity
    found: dict[str, Any] = {"grid": names, "rhos": {}}
    if not all(np.isfinite(table).all() for table in grids):
        return found | {"reason": "not all teachers have a reward."}
    outcomes = [one.deltas.values for one in students]
    for one, table, outcome in zip(students, grids, outcomes, strict=True):
        rhos = spearman(table, outcome).tolist()
        found["rhos"][one.student] = [None if np.isnan(rho) else rho for rho in rhos]
    try:
        made = leave_one_out(grids, outcomes, [one.owner for one in students], **bootstrap)
    except DataError as error:
        return found | {"reason": str(error)}
    by_student = zip(students, made.chosen, made.rhos, strict=True)
    return found | {
        "left_out": [
            {"student": one.student, "beta": names[place], **_known(rho)}
            for one, place, rho in by_student
        ],
        "mean": _known(made.mean),
        "over_reward": _known(made.over_first),
    }


def _reward_and_loss(measured: Measured, formula: Formula) -> tuple[Floats, Floats]:
    """Mean reward and loss of each teacher, as CAR takes them."""
    every = np.ones((1, len(measured.ids)))
    read = measured.read[SELF]
    loss = losses(read, formula.per, formula.conditioned, every * measured.weighed)[0]
    return mean_rewards(measured, formula.negative, every)[measured.reward][0], loss


def _definitions(students: Sequence[Tried], formula: Formula) -> list[dict[str, Any]]:
    """Rho of loss and of CAR under each reading of the formula that the source leaves open."""
    found = []
    for per, conditioned in product(get_args(Per), (True, False)):
        other = replace(formula, per=per, conditioned=conditioned)
        line: dict[str, Any] = {"per": per, "conditioned": conditioned, "loss": {}, "car": {}}
        for one in students:
            reward, loss = _reward_and_loss(one.measured, other)
            for name, values in (("loss", loss), ("car", car(reward, loss, other.beta))):
                known = bool(np.isfinite(values).all())
                rho = float(spearman(values, one.deltas.values)) if known else np.nan
                line[name][one.student] = None if np.isnan(rho) else rho
        found.append(line)
    return found


def _said(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else _known(interval)


def _known(interval: Interval) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}
