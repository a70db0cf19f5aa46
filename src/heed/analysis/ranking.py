"""How teachers are ranked for a student before anything is trained: every choice, and its check."""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from heed.analysis.car import Formula, Negative, Per
from heed.analysis.rewards import Reward
from heed.core.component import component
from heed.core.errors import ConfigError, Mistake
from heed.core.identity import Incidental
from heed.models.student import Student

Beta = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@component
class CAR:
    """Rank teachers by compatibility-adjusted reward, r / (1 + beta L), beside eight baselines.

    Source: Xu et al. 2024, https://arxiv.org/abs/2411.07133, section 4. It prints neither beta, nor
    which reward, nor whether L is per token and conditioned on the instruction.
    """

    reward: Reward | None
    """r: what says how good a response is; a choice that has to be made."""

    also: dict[str, Reward]
    """Further rewards: baselines of their own, and CAR is shown with each beside the chosen one."""

    beta: Beta
    """Weight of the loss; 0 ranks by the reward alone."""

    betas: tuple[Beta, ...]
    """Other weights that the ranking is shown for; 0 and infinity (rank by r / L) always are."""

    per: Per
    """What L is a mean over: `token`, all tokens alike; `response`, nats of a whole response, as
    the paper prints it; `response_mean`, nats per token of a response, responses alike."""

    conditioned: bool
    """Whether L is of the response after its instruction, or of the response alone."""

    negative: Negative
    """Of rewards below zero, in CAR: `refuse` teachers whose mean is, `keep` them, `shift_min`
    (less the smallest reward of all), or `sigmoid` (of each reward). The mean reward beside CAR is
    plain."""

    unrewarded: Literal["refuse", "leave_out"]
    """A teacher of whose responses none has a reward ends the command, or has no CAR and no rank,
    and is shown with all else. An instruction to which some other teacher's response has no reward
    counts in nobody's mean reward, and is counted."""

    rewarded: Literal["all", "first_half"]
    """Instructions that mean rewards are of; the halves are split by a hash, alike everywhere."""

    weighed: Literal["all", "second_half"]
    """Instructions that losses, IFD, perplexity and length are of."""

    max_tokens: PositiveInt | None
    """Longest example, prompt and template included, in tokens of the model that reads it; never
    more than its context. null: its context."""

    over_long: Literal["drop", "refuse"]
    """An instruction to which some teacher's response is longer is left out for all teachers and
    counted, or ends the command."""

    on_bad_row: Literal["drop", "error"]
    """The same of a response that the template cannot render or the tokenizer cannot spell."""

    precision: Literal["weights", "bf16-mixed"]
    """Numbers of the reading: in the type of the student's weights, or matrix products in bfloat16,
    as in a training of that precision."""

    reference: Student | None
    """A small model for IFD and perplexity beside the student's own; the paper takes GPT-2."""

    limit: PositiveInt | None
    """Most instructions, a random part of those that all teachers answered; null: all."""

    batch_tokens: Annotated[PositiveInt, Incidental]
    """Most tokens of a packed row: memory and speed."""

    def __post_init__(self) -> None:
        if self.reward is None:
            why = "which score is the reward is a choice, and the paper does not say its own."
            action = (
                "Give reward@analysis.reward=<reward>, an option of conf/reward; for a study "
                "reward@study.teaching.reward=<reward>."
            )
            raise ConfigError([Mistake("reward", "nothing", why, action)])
        names = Counter(reward.name for reward in (self.reward, *self.also.values()))
        if twice := [name for name, times in names.items() if times > 1]:
            why = "two rewards of one name cannot be told apart in a table."
            action = (
                f"Give each its own: analysis.also.<which>.name=<name>, not {twice[0]!r}; for a "
                f"study study.teaching.also.<which>.name=<name>."
            )
            raise ConfigError([Mistake("also", twice[0], why, action)])

    name = "car"

    @property
    def rewards(self) -> dict[str, Reward]:
        """All rewards by name, CAR's first."""
        assert self.reward is not None, "refused above"
        return {reward.name: reward for reward in (self.reward, *self.also.values())}

    @property
    def formula(self) -> Formula:
        """CAR's open choices."""
        return Formula(self.beta, self.per, self.conditioned, self.negative)

    @property
    def grid(self) -> tuple[float, ...]:
        """Every beta that the ranking is shown for, in order."""
        return tuple(sorted({0.0, inf, self.beta, *self.betas}))
