"""How far two distributions over next tokens are apart, and where one ranks the other's choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

Choice = Literal["argmax", "emitted"]
"""The tuned student's most likely token, or the one that stands in its response."""


class Compared(NamedTuple):
    """Base and tuned student at N positions.

    Attributes:
        choice: i64[N], the tuned student's choice.
        rank: i64[N], tokens to which the base gives more than to that choice: 0 for its own first.
        probability: f64[N], what the base gives to that choice.
        kl_base_tuned: f64[N], KL(base || tuned) in nats.
        kl_tuned_base: f64[N], KL(tuned || base) in nats.
    """

    choice: Tensor
    rank: Tensor
    probability: Tensor
    kl_base_tuned: Tensor
    kl_tuned_base: Tensor


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) in nats, [N], of log-probabilities [N, V]; what p never says costs nothing.

    Example:
        >>> p, q = torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([[0.25, 0.5, 0.25]])
        >>> round(divergence(p.log(), q.log()).item(), 6)  # ln(2) / 2
        0.346574
    """
    terms = p.exp() * (p - q)
    return terms.masked_fill(p == -torch.inf, 0).sum(-1)


def compare(base: Tensor, tuned: Tensor, said: Tensor, choice: Choice) -> Compared:
    """Compare over the whole vocabulary.

    Tokens that the base holds for equally likely share the best of their ranks.

    Args:
        base: f64[N, V], log-probabilities of the base.
        tuned: f64[N, V], of the tuned student, over the same tokens.
        said: i64[N], the tokens of the response.
        choice: Which token is looked up in the base.
    """
    chosen = said if choice == "emitted" else tuned.argmax(-1)
    given = base.gather(-1, chosen[:, None])
    return Compared(
        choice=chosen,
        rank=(base > given).sum(-1),
        probability=given[:, 0].exp(),
        kl_base_tuned=divergence(base, tuned),
        kl_tuned_base=divergence(tuned, base),
    )


@dataclass(frozen=True)
class Shortlists:
    """Compare the k most likely tokens of each, as published token-shift code does.

    Each list is normalised to 1. KL sums over what stands in both lists, and may be negative. A
    choice that is not in the base's list has rank k and probability 0.

    Attributes:
        k: Length of the lists.
        spelling: i64[V]; tokens of equal numbers are the same. Of several in a list the first
            counts.

    Source: Re-Align/AlignTDS at 178a262, `src/compute_dist_diff.py`: `KL`, `top_rank`, `top_prob`.
    """

    k: int
    spelling: Tensor

    def compare(self, base: Tensor, tuned: Tensor, said: Tensor, choice: Choice) -> Compared:
        """Compare the lists; the arguments are those of `compare`."""
        chosen = said if choice == "emitted" else tuned.argmax(-1)
        listed, here = self._top(base)
        _, there = self._top(tuned)
        apart = (here - there).masked_fill(here.isinf() | there.isinf(), 0)
        given = here.gather(-1, self.spelling[chosen][:, None])
        rank = (listed > given).sum(-1)
        return Compared(
            choice=chosen,
            rank=rank.where(given[:, 0].isfinite(), torch.full_like(rank, self.k)),
            probability=given[:, 0].exp(),
            kl_base_tuned=(here.exp() * apart).sum(-1),
            kl_tuned_base=-(there.exp() * apart).sum(-1),
        )

    def _top(self, logs: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities within the list, [N, k], and by spelling, [N, V]; -inf if absent.

        The first of several of one spelling is the likeliest of them. Memory grows with V, as that
        of whole vocabularies, and not with the square of k.
        """
        kept = logs.topk(min(self.k, logs.shape[-1]), dim=-1)
        listed = kept.values.log_softmax(-1)
        spelt = torch.full_like(logs, -torch.inf)
        spelt.scatter_reduce_(-1, self.spelling[kept.indices], listed, "amax")
        return listed, spelt


def spellings(tokenizer: Any, size: int, by_text: bool) -> Tensor:
    """A number for each token id below `size`: its own, or that of the first of the same text."""
    if not by_text:
        return torch.arange(size)
    first: dict[str, int] = {}
    texts = (tokenizer.decode([i]) if i < len(tokenizer) else f"\0{i}" for i in range(size))
    return torch.tensor([first.setdefault(text, i) for i, text in enumerate(texts)])
