"""What is perturbed while a student is tuned, and only then."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from pydantic import PositiveFloat

from heed.core.component import component


class Noise(ABC):
    """Disturbs a student in training mode; in evaluation it is as if it were not there."""

    @abstractmethod
    def attach(self, model: Any) -> None:
        """Prepare a transformers model, in place."""


@component
class NEFTune(Noise):
    """Uniform noise on the embedded tokens: each number gets up to alpha / sqrt(L d), either way.

    L is the length of a token's own document and d the width, so how documents share rows changes
    nothing. It is drawn from torch's global generator.

    Source: Jain et al. 2023, https://arxiv.org/abs/2310.05914, algorithm 1.
    """

    alpha: PositiveFloat
    """Scale of the noise; the paper tries 5, 10 and 15."""

    def attach(self, model: Any) -> None:
        """Let the embedding add noise in training mode.

        The positions that go into the model say where a row's documents begin; without them a row
        is one document.
        """
        noted: dict[str, Any] = {}

        def note(_: Any, args: Any, kwargs: dict[str, Any]) -> None:
            noted["positions"] = kwargs.get("position_ids")

        def disturb(embedding: Any, _: Any, embedded: Any) -> Any:
            positions = noted.pop("positions", None)
            return embedded + self.draw(embedded, positions) if embedding.training else None

        for part in {id(p): p for p in (model, model.base_model, model.get_decoder())}.values():
            part.register_forward_pre_hook(note, with_kwargs=True)
        model.get_input_embeddings().register_forward_hook(disturb)

    def draw(self, embedded: Any, positions: Any) -> Any:
        """Noise for embedded tokens.

        Args:
            embedded: Float[B, T, d].
            positions: I64[B, T], from 0 in each document; None if each row is one.

        Returns:
            Float[B, T, d].
        """
        import torch

        lengths = document_lengths(embedded.shape[:-1], positions).to(embedded.device)
        scale = self.alpha / torch.sqrt(lengths * embedded.shape[-1])
        noise = torch.empty_like(embedded, dtype=torch.float32).uniform_(-1.0, 1.0)
        return (noise * scale[..., None]).to(embedded.dtype)


def document_lengths(shape: Any, positions: Any) -> Any:
    """Tokens of the document that each token stands in, f32[B, T].

    Args:
        shape: B and T.
        positions: I64[B, T], from 0 in each document; None if each row is one.

    Example:
        >>> import torch
        >>> document_lengths((1, 5), torch.tensor([[0, 1, 0, 1, 2]])).tolist()
        [[2.0, 2.0, 3.0, 3.0, 3.0]]
    """
    import torch

    if positions is None:
        return torch.full(tuple(shape), float(shape[-1]))
    begins = positions.expand(tuple(shape)) == 0
    begins[:, 0] = True
    document = begins.flatten().cumsum(0) - 1
    return document.bincount()[document].float().view(tuple(shape))
