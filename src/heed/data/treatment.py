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

    over_long: Literal["drop", "cut_at_turn", "window"]
    """Longer examples are dropped, cut after the last assistant's turn that fits whole (dropped if
    none does), or given as consecutive windows (of plain text; a conversation that is too long is
    then refused). Every one is counted in the report."""

    on_bad_row: Literal["error", "drop"]
    """A row that cannot be read as its layout says, that says a special token of the student, or
    that its tokenizer cannot spell, ends the run, or is dropped and counted."""

    duplicates: Literal["keep", "drop"]
    """Examples whose conversation has stood in the data before; counted either way."""

    loss_on: Literal["every_turn", "last_turn"]
    """Which of the assistant's turns are supervised."""

    validation_share: Annotated[float, Field(ge=0, lt=1)]
    """Chance of an example to be kept apart, and its loss logged; the hash of its prompt decides,
    so the split is the same for all teachers of an instruction."""

    drop_contaminated: bool
    """Whether examples that share long word sequences with the evaluation's prompts are dropped;
    they are counted either way."""

    packing: Literal["best_fit", "none"]
    """Several examples in a row that do not see each other, or one at a time."""

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
