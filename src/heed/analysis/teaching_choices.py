"""What CAR's open choices do to its agreement with deltas: the weight and reading of the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import isinf
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from heed.analysis.agreement import leave_one_out
from heed.analysis.car import SELF, Formula, Measured, Per, car, losses, mean_rewards
from heed.analysis.spearman import spearman
from heed.core.errors import DataError
from heed.core.resample import Floats
from heed.core.types import Interval

if TYPE_CHECKING:
    from heed.analysis.teaching import Tried


def betas_of(
    students: Sequence[Tried],
    formula: Formula,
    betas: Sequence[float],
    bootstrap: Mapping[str, Any],
) -> dict[str, Any]:
    """Rho of CAR along a grid of beta, and what a beta is worth that other students chose.

    Args:
        students: All with the same teachers in the same order.
        formula: CAR's choices; its beta is not used.
        betas: The grid, beside 0, the reward alone.
        bootstrap: `level`, `resamples` and `seed`.

    Returns:
        `grid`, `rhos` (student -> one for each place), and `left_out`, `mean` and `over_reward`, or
        the `reason` why these are not known.
    """
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
            {"student": one.student, "beta": names[place], **interval_of(rho)}
            for one, place, rho in by_student
        ],
        "mean": interval_of(made.mean),
        "over_reward": interval_of(made.over_first),
    }


def _reward_and_loss(measured: Measured, formula: Formula) -> tuple[Floats, Floats]:
    """Mean reward and loss of each teacher, as CAR takes them."""
    every = np.ones((1, len(measured.ids)))
    read = measured.read[SELF]
    loss = losses(read, formula.per, formula.conditioned, every * measured.weighed)[0]
    return mean_rewards(measured, formula.negative, every)[measured.reward][0], loss


def definitions_of(students: Sequence[Tried], formula: Formula) -> list[dict[str, Any]]:
    """Rho of loss and of CAR under each reading of the formula that the source leaves open.

    Args:
        students: All with the same teachers in the same order.
        formula: CAR's choices; of the loss, every one is tried.

    Returns:
        For each `per` and `conditioned`, `loss` and `car`: student -> rho, or None.
    """
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


def interval_of(interval: Interval) -> dict[str, float]:
    """A value and its interval as plain data."""
    return {"value": interval.value, "low": interval.low, "high": interval.high}
