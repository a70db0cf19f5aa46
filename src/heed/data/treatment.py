"""The data treatment: how a teacher's rows become optimiser steps."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from heed.core.component import component
from heed.core.errors import ConfigError, Mistake
from heed.core.identity import Incidental


@component
class Treatment:
    """Lengths, batch size and duration; all of it decides the result, except `micro_tokens`."""

    max_tokens: Annotated[int, Field(ge=2)]
    """Longest example in tokens, prompt and template included."""

    over_long: Literal["drop", "cut", "window"]
    """Longer examples are dropped, cut at the end (the student then sees no end of turn), or
    given as consecutive windows (for plain text). Every one is counted in the report."""

    limit: PositiveInt | None
    """Train on the first so many examples only; null for all."""

    examples_per_step: PositiveInt
    """Examples per optimiser step, over all micro-batches and ranks."""

    epochs: PositiveInt | None
    """Passes over the examples; null if `steps` says how long."""

    steps: PositiveInt | None
    """Optimiser steps; null if `epochs` says how long."""

    micro_tokens: Annotated[PositiveInt, Incidental]
    """Most tokens of one packed row. Memory and speed only: a step's loss is the sum over its
    micro-batches divided by the tokens of the whole step."""

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise ConfigError(
                [Mistake("epochs", f"epochs={self.epochs}, steps={self.steps}",
                         "exactly one of them says how long to train.",
                         "Set one and give the other null.")]
            )  # fmt: skip
        if self.micro_tokens < self.max_tokens:
            raise ConfigError(
                [Mistake("micro_tokens", str(self.micro_tokens),
                         f"the longest example ({self.max_tokens} tokens) must fit in one row.",
                         f"Give data.micro_tokens at least {self.max_tokens}.")]
            )  # fmt: skip
