r"""How well a teacher suits a student before anything is trained: reward, loss, and CAR of both.

CAR(D, theta) = r(D) / (1 + beta L(D, theta)): r is the mean reward of a teacher's responses D, L
their loss on the untuned student theta. Source: Xu et al. 2024, "Stronger Models are NOT Stronger
Teachers for Instruction Tuning", https://arxiv.org/abs/2411.07133, section 4. The paper states
neither beta, nor the reward, nor how L is normalised: each is a required choice here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isinf
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from heed.core.errors import DataError
from heed.core.resample import Floats, chunks

Per = Literal["token", "response", "response_mean"]
"""What a loss L is a mean over.

- `token`: nats of all response tokens over their number, as the loss of training: long responses
  weigh more.
- `response`: nats of a whole response, on average over responses: the formula as the paper prints
  it. It grows with length.
- `response_mean`: nats per token of a response, on average over responses: each weighs alike.
"""

Negative = Literal["refuse", "keep", "shift_min", "sigmoid"]
"""What is done about rewards that may be negative, before they are averaged for CAR.

The mean reward as a baseline of its own stays that of the rewards as they are.

- `refuse`: a teacher with a negative mean ends the command.
- `keep`: nothing; of a teacher with a negative mean, a *higher* loss then makes a *higher* CAR.
- `shift_min`: the smallest reward of all teachers' responses is taken off each, so that it is 0.
  (Scaled to a largest of 1 beside, as min-max does, the ranking would be the same one.)
- `sigmoid`: 1 / (1 + exp(-reward)), the chance to be preferred to a response of reward 0, if the
  reward model was trained on pairs.

Standardised rewards (z-scores) are not offered: half of them are negative by construction.
"""

CHANGED = ("shift_min", "sigmoid")
"""What makes other rewards of all, also of those that are not negative."""

SELF, REFERENCE = "self", "reference"
"""Who reads: the student itself, or the small reference model."""


@dataclass(frozen=True)
class Read:
    """What a model found of every teacher's response to every instruction.

    Attributes:
        given: f64[T, n], nats of the response after its instruction.
        alone: f64[T, n], nats of the response without it.
        tokens: f64[T, n], tokens of the response, in this model's own.
    """

    given: Floats
    alone: Floats
    tokens: Floats


@dataclass(frozen=True)
class Measured:
    """All that a ranking is made of: T teachers answered the same n instructions.

    Attributes:
        teachers: Their names.
        ids: Of the instructions.
        rewards: Name -> f64[T, n], nan where a response has none; the first one is CAR's.
        read: `self`, and `reference` if there is one -> what that model found.
        rewarded: bool[n], instructions whose responses count in mean rewards.
        weighed: bool[n], those whose responses count in losses, IFD, perplexity and length.
        where: Key of the choices as it is typed, for messages.
    """

    teachers: tuple[str, ...]
    ids: tuple[str, ...]
    rewards: Mapping[str, Floats]
    read: Mapping[str, Read]
    rewarded: NDArray[np.bool_]
    weighed: NDArray[np.bool_]
    where: str = "analysis"

    def __post_init__(self) -> None:
        refuse_too_few(self.rewarded, self.weighed, self.where)

    @property
    def reward(self) -> str:
        """Name of CAR's reward."""
        return next(iter(self.rewards))


def refuse_too_few(rewarded: NDArray[np.bool_], weighed: NDArray[np.bool_], where: str) -> None:
    """Refuse a ranking of instructions too few for an interval; arguments as in `Measured`.

    Raises:
        DataError: fewer than two count in the rewards, or in the losses.
    """
    for what, half in (("rewards", rewarded), ("losses", weighed)):
        if int(half.sum()) < 2:
            raise DataError(
                f"{int(half.sum())} of {len(half)} shared instructions are left for the {what} of "
                f"the teachers, and an interval needs at least two. Raise {where}.max_tokens or "
                f"{where}.limit, or leave out the teacher that misses most instructions."
            )


@dataclass(frozen=True)
class Formula:
    """CAR's open choices.

    Attributes:
        beta: Weight of the loss, from 0 (rank by reward) to inf (rank by reward over loss).
        per: What the loss is a mean over.
        conditioned: Whether the student reads the instruction before the response.
        negative: What is done about rewards that may be negative.
    """

    beta: float
    per: Per
    conditioned: bool
    negative: Negative = "refuse"


def car(reward: Any, loss: Any, beta: float) -> Any:
    """Compatibility-adjusted reward, r / (1 + beta L), of numbers or arrays.

    Args:
        reward: r, mean rewards.
        loss: L, losses in nats.
        beta: Weight of the loss; `inf` gives r / L, whose order is that of ever larger ones.

    Raises:
        ValueError: beta is negative or not a number.

    Example:
        >>> car(0.6, 2.0, 0.0), round(car(0.6, 2.0, 1.0), 3), car(0.6, 2.0, float("inf"))
        (0.6, 0.2, 0.3)
    """
    if not beta >= 0:
        raise ValueError(f"beta is {beta}, but it must be 0 or more")
    return reward / loss if isinf(beta) else reward / (1 + beta * loss)


def metrics_of(
    measured: Measured, formula: Formula, weights: Floats | None = None
) -> dict[str, Floats]:
    """Every metric of every teacher: CAR and the baselines that it is compared with.

    IFD of a response is its perplexity after its instruction over its perplexity alone,
    exp(nats given / tokens - nats alone / tokens); perplexity is taken after the instruction; both
    are means over responses. Length is in tokens of the student, the end of the turn included.

    Args:
        measured: The numbers of each response.
        formula: CAR's choices.
        weights: f64[B, n], how often each instruction is drawn in each of B resamples; None: each
            once.

    Returns:
        Metric -> f64[B, T]: `car`, `reward`, `reward <name>` of each further one, `loss` (as CAR
        takes it), `reward_taken` (its reward as CAR takes it, where that is another one than
        `reward`), `ifd_self`, `ppl_self`, `ifd_reference` and `ppl_reference` where there is a
        reference, and `length`. Nan for a teacher whose responses have no reward.
    """
    weights = np.ones((1, len(measured.ids))) if weights is None else weights
    found: dict[str, Floats] = {}
    loss = losses(measured.read[SELF], formula.per, formula.conditioned, weights * measured.weighed)
    taken = mean_rewards(measured, formula.negative, weights)[measured.reward]
    rewards = mean_rewards(measured, "keep", weights)
    found["car"] = car(taken, loss, formula.beta)
    found["reward"] = rewards.pop(measured.reward)
    if formula.negative in CHANGED:
        found["reward_taken"] = taken
    found |= {f"reward {name}": values for name, values in rewards.items()}
    found["loss"] = loss
    chosen = weights * measured.weighed
    for who, read in measured.read.items():
        given, apart = read.given / read.tokens, read.alone / read.tokens
        found[f"ifd_{who}"] = _mean(np.exp(given - apart), chosen)
        found[f"ppl_{who}"] = _mean(np.exp(given), chosen)
    found["length"] = _mean(measured.read[SELF].tokens, chosen)
    return found


def losses(read: Read, per: Per, conditioned: bool, weights: Floats) -> Floats:
    """L of every teacher under one definition.

    Args:
        read: What the model found.
        per: What it is a mean over.
        conditioned: Whether after the instruction.
        weights: f64[B, n].

    Returns:
        f64[B, T], in nats.
    """
    nats = read.given if conditioned else read.alone
    if per == "token":
        return (weights @ nats.T) / (weights @ read.tokens.T)
    return _mean(nats if per == "response" else nats / read.tokens, weights)


def mean_rewards(measured: Measured, negative: Negative, weights: Floats) -> dict[str, Floats]:
    """Mean reward of every teacher by each reward, f64[B, T]; nan for one that has none."""
    counted, kept = measured.rewarded, weights[:, measured.rewarded]
    return {
        name: _mean(without_negatives(rewards[:, counted], negative), kept)
        for name, rewards in measured.rewards.items()
    }


def without_negatives(rewards: Floats, negative: Negative) -> Floats:
    """Rewards f64[T, n] as they are averaged; all that is given has a part in the shift.

    Example:
        >>> without_negatives(np.array([[-1.0, 0.5], [2.0, np.nan]]), "shift_min")
        array([[0. , 1.5],
               [3. , nan]])
    """
    if negative == "shift_min":
        shifted: Floats = rewards - np.nanmin(rewards)
        return shifted
    if negative == "sigmoid":
        from scipy.special import expit

        squeezed: Floats = expit(rewards)
        return squeezed
    return rewards


def negatives(measured: Measured) -> dict[str, tuple[int, int, tuple[str, ...]]]:
    """What is negative of each reward.

    Returns:
        Name -> number of negative rewards, number of all, and teachers whose mean is negative; only
        names of which something is negative.
    """
    means = mean_rewards(measured, "keep", np.ones((1, len(measured.ids))))
    found = {}
    for name, rewards in measured.rewards.items():
        counted = rewards[:, measured.rewarded]
        below = int((counted < 0).sum())
        named = (t for t, mean in zip(measured.teachers, means[name][0], strict=True) if mean < 0)
        if below:
            found[name] = (below, int((~np.isnan(counted)).sum()), tuple(named))
    return found


def resampled(measured: Measured, formula: Formula, resamples: int, seed: int) -> dict[str, Floats]:
    """Every metric over bootstrap resamples of the instructions.

    A resample draws instructions once for all teachers, rewards, models and metrics: what makes one
    instruction easier for all cancels in their order.

    Returns:
        Metric -> f64[B, T], as `metrics_of` names them.
    """
    generator = np.random.default_rng(seed)
    n = len(measured.ids)
    parts = []
    for size in chunks(resamples, n):
        drawn = generator.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float64)
        parts.append(metrics_of(measured, formula, drawn))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _mean(values: Floats, weights: Floats) -> Floats:
    """Means of f64[T, n] under weights f64[B, n] over what is no nan; nan where that is nothing."""
    known = ~np.isnan(values)
    sums = weights @ np.where(known, values, 0.0).T
    with np.errstate(invalid="ignore"):
        means: Floats = sums / (weights @ known.T.astype(np.float64))
    return means
