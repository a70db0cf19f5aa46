"""What a ranking of teachers says, as plain data: values, ranks, how sure they are, and by what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isinf
from typing import Any

import numpy as np

from heed.analysis.car import (
    SELF,
    Formula,
    Measured,
    Negative,
    car,
    losses,
    mean_rewards,
    metrics_of,
    negatives,
    resampled,
)
from heed.analysis.spearman import spearman
from heed.core.errors import DataError
from heed.core.resample import Floats, ends

TOP = 3
"""The share of resamples is told in which a teacher is among the first so many."""

DEFINITIONS = tuple(
    (per, given) for per in ("token", "response", "response_mean") for given in (True, False)
)
"""Every loss that CAR can be made of: what it is a mean over, and whether after the instruction."""


def summary_of(
    measured: Measured, formula: Formula, betas: Sequence[float], bootstrap: Mapping[str, Any]
) -> dict[str, Any]:
    """Values, ranks and their uncertainty, and what else the ranking could have been.

    Args:
        measured: The numbers of each response.
        formula: CAR's choices.
        betas: Other weights of the loss that the ranking is shown for.
        bootstrap: `level`, `resamples` and `seed`.

    Returns:
        `teachers` in order of CAR, those without a reward last, each with `name`, `metrics` (value,
        low, high), `rank` (value, low, high), `first` and `top` (shares of resamples); `lead`, the
        share of resamples in which the first is ahead of the second; `sensitivity` to `beta`,
        `reward` and `definition`; `negative`; `resamples_left_out`.

    Raises:
        DataError: a teacher's mean reward is negative, and that is refused.
    """
    refuse_negative(measured, formula)
    values = {name: found[0] for name, found in metrics_of(measured, formula).items()}
    drawn = resampled(measured, formula, int(bootstrap["resamples"]), int(bootstrap["seed"]))
    rewarded = ~np.isnan(values["car"])
    whole = ~np.logical_or.reduce(np.isnan(drawn["car"][:, rewarded]), axis=1)
    drawn = {name: draws[whole] for name, draws in drawn.items()}
    found = _teachers(measured.teachers, values, drawn, float(bootstrap["level"]))
    taken = drawn.get("reward_taken", drawn["reward"])
    one, two = (measured.teachers.index(teacher["name"]) for teacher in found[:2])
    ahead = drawn["car"][:, one] > drawn["car"][:, two]
    return {
        "teachers": found,
        "lead": float(ahead.mean()) if rewarded[two] else None,
        "sensitivity": sensitivity(measured, formula, betas),
        "negative": {
            name: {"below": below, "of": of, "means": list(teachers)}
            for name, (below, of, teachers) in negatives(measured).items()
        },
        "negative_resamples": int((taken < 0).any(axis=1).sum()),
        "resamples": len(whole),
        "resamples_left_out": int((~whole).sum()),
    }


def _teachers(
    names: Sequence[str], values: Mapping[str, Floats], drawn: Mapping[str, Floats], level: float
) -> list[dict[str, Any]]:
    """What is told of each teacher, in order of CAR, those without a reward last."""
    rewarded = ~np.isnan(values["car"])
    ranks, own = ranks_of(drawn["car"]), ranks_of(values["car"][None])[0]
    shares = np.full(len(rewarded), np.nan)
    shares[rewarded] = firsts(drawn["car"][:, rewarded]).mean(axis=0)
    order = np.lexsort((values["loss"], np.where(rewarded, own, np.inf)))
    found = []
    for place in order.tolist():
        ranked = bool(rewarded[place])
        metrics = {
            metric: _interval(values[metric][place], draws[:, place], level)
            for metric, draws in drawn.items()
        }
        found.append(
            {
                "name": names[place],
                "metrics": metrics,
                "rank": _interval(own[place], ranks[:, place], level),
                "first": float(shares[place]) if ranked else None,
                "top": float((ranks[:, place] <= TOP).mean()) if ranked else None,
            }
        )
    return found


def ranks_of(values: Floats) -> Floats:
    """Rank of each teacher, f64[B, T]: 1 plus how many have more; nan for one without a value.

    Example:
        >>> ranks_of(np.array([[0.2, 0.5, np.nan, 0.2]])).tolist()
        [[2.0, 1.0, nan, 2.0]]
    """
    more = (values[:, None, :] > values[:, :, None]).sum(axis=2)
    ranked: Floats = np.where(np.isnan(values), np.nan, 1.0 + more)
    return ranked


def firsts(values: Floats) -> Floats:
    """f64[B, T]: 1 for the teacher that is first; several that are share it.

    Example:
        >>> firsts(np.array([[0.2, 0.5], [0.5, 0.5]])).tolist()
        [[0.0, 1.0], [0.5, 0.5]]
    """
    best = values == values.max(axis=1, keepdims=True)
    shared: Floats = best / best.sum(axis=1, keepdims=True)
    return shared


def refuse_negative(measured: Measured, formula: Formula) -> None:
    """Refuse means below zero where that was chosen.

    Raises:
        DataError: naming the teachers.
    """
    for name, (below, of, teachers) in negatives(measured).items():
        if teachers and formula.negative == "refuse":
            raise DataError(
                f"reward {name}: the mean of {', '.join(teachers)} is negative ({below} of {of} "
                f"rewards are), and for such a teacher r / (1 + beta L) grows with the loss: the "
                f"worse a student knows its responses, the better it would rank. Give "
                f"{measured.where}.negative=shift_min (rewards less the smallest of all), sigmoid "
                f"(of each reward), or keep (the formula as printed)."
            )


def negative_lines(
    found: Mapping[str, tuple[int, int, Sequence[str]]], negative: Negative, where: str
) -> list[str]:
    """What is negative of each reward, and what was done about it, as sentences.

    Args:
        found: As `heed.analysis.car.negatives` gives it.
        negative: What was chosen.
        where: Key of the choices.
    """
    done = {
        "refuse": "no mean is, so CAR is taken as printed",
        "keep": "kept: where a mean is negative, a higher loss makes a higher CAR",
        "shift_min": "for CAR each is taken less the smallest of all",
        "sigmoid": "for CAR the sigmoid of each is taken, also of those that are not negative",
    }[negative]
    said = []
    for name, (below, of, means) in found.items():
        text = f"{below} of {of} rewards {name} are negative"
        text += f", and so are the means of {', '.join(means)}" if means else ""
        said.append(f"{text}; {done} ({where}.negative={negative}).")
    return said


def sensitivity(measured: Measured, formula: Formula, betas: Sequence[float]) -> dict[str, Any]:
    """What the ranking would be with another beta, another reward, another loss.

    Each entry has `name`, `chosen` (whether it is the ranking above), `order` (teachers with a
    reward, first to last), `ranks` (teacher -> rank) and `rho` (Spearman with the ranking above).
    """
    ones = np.ones((1, len(measured.ids)))
    rewards = {n: v[0] for n, v in mean_rewards(measured, formula.negative, ones).items()}
    main, read = rewards[measured.reward], measured.read[SELF]
    weights = ones * measured.weighed

    def loss(per: Any, conditioned: bool) -> Floats:
        return losses(read, per, conditioned, weights)[0]

    own_loss, own = loss(formula.per, formula.conditioned), formula.beta
    chosen = car(main, own_loss, own)

    def told(name: str, values: Floats, is_chosen: bool) -> dict[str, Any]:
        return {"name": name, "chosen": is_chosen} | _order(measured.teachers, values, chosen)

    grid = sorted({0.0, float("inf"), own, *betas})
    return {
        "beta": [told(beta_text(b), car(main, own_loss, b), b == own) for b in grid],
        "reward": [
            told(name, car(values, own_loss, own), name == measured.reward)
            for name, values in rewards.items()
        ],
        "definition": [
            told(
                definition_text(per, given),
                car(main, loss(per, given), own),
                (per, given) == (formula.per, formula.conditioned),
            )
            for per, given in DEFINITIONS
        ],
    }


def beta_text(beta: float) -> str:
    """A weight of the loss in words.

    Example:
        >>> beta_text(0.0), beta_text(0.3), beta_text(float("inf"))
        ('0 (reward alone)', '0.3', 'infinity (r / L)')
    """
    if isinf(beta):
        return "infinity (r / L)"
    return f"{beta:g}" if beta else "0 (reward alone)"


def definition_text(per: str, conditioned: bool) -> str:
    """A loss in words.

    Example:
        >>> definition_text("response_mean", False)
        'response_mean, response alone'
    """
    return f"{per}, {'after the instruction' if conditioned else 'response alone'}"


def _order(teachers: Sequence[str], values: Floats, chosen: Floats) -> dict[str, Any]:
    """Teachers in the order of some values, and how far it is that of the chosen ones."""
    known = ~np.isnan(values)
    ranks = ranks_of(values[None])[0]
    places = [i for i in np.argsort(ranks, kind="stable").tolist() if known[i]]
    both = known & ~np.isnan(chosen)
    rho = float(spearman(values[both], chosen[both])) if both.sum() > 1 else float("nan")
    return {
        "order": [teachers[i] for i in places],
        "ranks": {teachers[i]: int(ranks[i]) for i in places},
        "rho": None if np.isnan(rho) else rho,
    }


def _interval(value: float, draws: Floats, level: float) -> dict[str, float] | None:
    """A value and its percentile interval; None where there is no value."""
    if np.isnan(value):
        return None
    low, high = ends(draws, level)
    return {"value": float(value), "low": low, "high": high}


def recommendation(summary: Mapping[str, Any], level: float) -> str:
    """One sentence: who is first, and how sure that is.

    Example:
        >>> sure = {"name": "a", "first": 0.99}, {"name": "b", "first": 0.01}
        >>> recommendation({"teachers": sure, "lead": 0.99, "resamples": 100}, 0.95)
        'a is ranked first in 99 % of resamples (b in 1 %).'
        >>> near = {"name": "a", "first": 0.62}, {"name": "b", "first": 0.3}
        >>> recommendation({"teachers": near, "lead": 0.66, "resamples": 100}, 0.95)
        'a is ranked first in 62 % of resamples; b in 30 %: these cannot be told apart.'
    """
    ranked = [one for one in summary["teachers"] if one["first"] is not None]
    best = ranked[0]
    others = sorted(ranked[1:], key=lambda one: -one["first"])
    text = f"{best['name']} is ranked first in {share_text(best['first'])} of resamples"
    if not others:
        return f"{best['name']} is the only teacher with a reward: there is nothing to choose from."
    if best["first"] >= level:
        return f"{text} ({others[0]['name']} in {share_text(others[0]['first'])})."
    rivals = [one for one in others if one["first"] >= 1 - level] or others[:1]
    listed = [f"{one['name']} in {share_text(one['first'])}" for one in rivals[:TOP]]
    least = share_text(1 - level)
    more = f", {len(rivals) - TOP} more in {least} or more each" if len(rivals) > TOP else ""
    return f"{text}; {', '.join(listed)}{more}: these cannot be told apart."


def share_text(share: float, places: int = 0) -> str:
    """A share in per cent; what is not all or nothing is not written so.

    Example:
        >>> share_text(0.0004), share_text(0.0004, 2), share_text(0.9996, 1), share_text(1.0, 1)
        ('less than 1 %', '0.04 %', 'more than 99.9 %', '100.0 %')
    """
    percent, step = 100 * share, 10.0**-places
    if 0 < percent < step:
        return f"less than {step:g} %"
    if 100 - step < percent < 100:
        return f"more than {100 - step:g} %"
    return f"{percent:.{places}f} %"
