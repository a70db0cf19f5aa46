"""How a text is drawn from a model's distributions, by a seed of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field, NonNegativeInt

from heed.core.component import component

if TYPE_CHECKING:
    from torch import Tensor


@component
class Sampling:
    """Draw each token, instead of taking the likeliest.

    A text hangs on the seed, its number and its prompt, and not on what is answered beside it: each
    prompt has a generator of its own.
    """

    temperature: Annotated[float, Field(gt=0)]
    """What logits are divided by: below 1 the likely tokens become likelier."""

    top_p: Annotated[float, Field(gt=0, le=1)]
    """Tokens are drawn from the smallest set whose probabilities reach this sum; 1: from all."""

    seed: NonNegativeInt
    """Of all draws."""

    number: NonNegativeInt = 0
    """Which of several answers to one prompt this is."""

    def numbered(self, number: int) -> Sampling:
        """The same for another answer to the same prompts."""
        return replace(self, number=number)

    def seed_of(self, ids: Sequence[int]) -> int:
        """Seed of the answer to a prompt: the same wherever and beside whatever it stands.

        Example:
            >>> one = Sampling(temperature=1.0, top_p=1.0, seed=0)
            >>> one.seed_of([5, 6]) == one.seed_of([5, 6]) != one.seed_of([6, 5])
            True
            >>> one.seed_of([5, 6]) != one.numbered(1).seed_of([5, 6])
            True
        """
        text = ",".join(map(str, (self.seed, self.number, *ids)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


Drawing = Sampling | Sequence[Sampling] | None
"""How the tokens of prompts are drawn: alike, or one way for each prompt, which differ in their
number alone; None: the likeliest is taken each time."""


def each(drawing: Drawing, prompts: int) -> Sequence[Sampling]:
    """The way of each prompt; none where the likeliest tokens are taken.

    Args:
        drawing: How tokens are drawn.
        prompts: How many there are.
    """
    if drawing is None:
        return ()
    if isinstance(drawing, Sampling):
        return [drawing] * prompts
    alike = {way.numbered(0) for way in drawing}
    assert len(drawing) == prompts, "one way for each prompt"
    assert len(alike) < 2, "ways of prompts that are drawn together differ in their number alone"
    return drawing


class Ways(NamedTuple):
    """How answers are said.

    Attributes:
        last_line: An answer ends with the first line that begins with this; an answer begins one.
        sampling: How tokens are drawn; None: the likeliest is taken each time.
    """

    last_line: str | None = None
    sampling: Drawing = None


PLAIN = Ways()
"""The likeliest tokens, to a stop token or the cap."""


class Picker:
    """Takes the next token of each row: the likeliest, or one that is drawn."""

    def __init__(self, drawing: Drawing, encoded: Sequence[Sequence[int]]):
        """Give each prompt a generator of its own, if tokens are drawn.

        Args:
            drawing: None for the likeliest token.
            encoded: Ids of each prompt.
        """
        ways = each(drawing, len(encoded))
        self.sampling = ways[0] if ways else None
        self._generators: dict[int, Any] = {
            place: np.random.default_rng(way.seed_of(ids))
            for place, (way, ids) in enumerate(zip(ways, encoded, strict=bool(ways)))
        }

    def __call__(self, logits: Tensor, places: Sequence[int]) -> Tensor:
        """The next token of each row.

        Args:
            logits: f[rows, vocabulary].
            places: The prompt of each row; one that is none of theirs has no draw.

        Returns:
            i64[rows].
        """
        if self.sampling is None:
            return logits.argmax(-1)
        known = self._generators
        uniform = [known[place].random() if place in known else 0.5 for place in places]
        return drawn(logits, uniform, self.sampling.temperature, self.sampling.top_p)


def drawn(logits: Tensor, uniform: Sequence[float], temperature: float, top_p: float) -> Tensor:
    """The token of each row at a place of its distribution's sum, in the vocabulary's order.

    In that order, and in double precision, rounding of the logits moves a border between two tokens
    by next to nothing, so that it hardly ever changes a token.

    Args:
        logits: f[rows, vocabulary].
        uniform: A number in [0, 1) for each row.
        temperature: What logits are divided by.
        top_p: Tokens outside of the smallest set that reaches this sum have no chance.

    Returns:
        i64[rows].

    Example:
        >>> import torch
        >>> logits = torch.tensor([[0.0, 1.0, 0.0]]).log_softmax(-1).expand(3, -1)
        >>> drawn(logits, [0.1, 0.5, 0.9], 1.0, 1.0).tolist()
        [0, 1, 2]
        >>> drawn(logits, [0.1, 0.5, 0.9], 1.0, 0.5).tolist()
        [1, 1, 1]
    """
    import torch

    from heed.models.precision import widest

    chances = (logits.to(widest(logits.device)) / temperature).softmax(-1)
    if top_p < 1:
        ordered, order = chances.sort(dim=-1, descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered
        kept = torch.zeros_like(chances, dtype=torch.bool).scatter(-1, order, before < top_p)
        chances = torch.where(kept, chances, 0.0)
    sums = chances.cumsum(-1)
    at = torch.tensor(uniform, dtype=sums.dtype, device=sums.device)[:, None] * sums[:, -1:]
    found = torch.searchsorted(sums, at, right=True)[:, 0]
    last = chances.shape[-1] - 1 - (chances.flip(-1) > 0).long().argmax(-1)
    return torch.minimum(found, last)
