"""Full tuning of some parts of a student, with the rest of it frozen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import NonNegativeInt

from heed.core.component import component
from heed.core.errors import ConfigError, Mistake, RunError
from heed.methods.adapters import Adapter
from heed.methods.targets import blocks_of


@component
class Freeze(Adapter):
    """Everything is frozen but the parts that are named here, and these move whole."""

    first_blocks: NonNegativeInt
    """Blocks that move, counted from the embedding."""

    last_blocks: NonNegativeInt
    """Blocks that move, counted from the head."""

    embeddings: bool
    """Whether embeddings move: those of tokens, and of positions if these are learned. A tied head
    is the same matrix and moves too."""

    head: bool
    """Whether the output head moves, if it is a matrix of its own."""

    rest: bool
    """Whether what stands outside of blocks, embeddings and head moves: the last norm."""

    moves_base = True
    needs_plain = True

    def __post_init__(self) -> None:
        if not (self.first_blocks or self.last_blocks or self.embeddings or self.head or self.rest):
            why = "every part of the student is frozen, so nothing could be learned."
            raise ConfigError([Mistake("last_blocks", "0", why, "Give last_blocks=2.")])

    @property
    def trains_embeddings(self) -> bool:  # type: ignore[override]
        """Whether the rows of all tokens move, in embedding and head."""
        return self.embeddings and self.head

    def attach(self, model: Any, tokens: Sequence[int] = ()) -> Any:
        """Freeze all but the named parts.

        Raises:
            RunError: the model has fewer blocks, or frozen matrices lack tokens to be learned.
        """
        _, blocks = blocks_of(model)
        if self.first_blocks + self.last_blocks > len(blocks):
            raise RunError(
                f"method.adapter.first_blocks={self.first_blocks} and last_blocks="
                f"{self.last_blocks}: {type(model).__name__} has {len(blocks)} blocks. Give fewer, "
                f"or method=full."
            )
        if tokens and not (self.embeddings and (self.head or _tied(model))):
            raise RunError(
                f"{len(tokens)} tokens of the template must be learned, but this method freezes "
                f"the embedding or the head. Give method.adapter.embeddings=true "
                f"method.adapter.head=true, or a template of tokens that the student knows."
            )
        model.requires_grad_(False)
        for part in self._moving(model, blocks):
            part.requires_grad_(True)
        return model

    def _moving(self, model: Any, blocks: Sequence[Any]) -> list[Any]:
        """Parameters and modules that move."""
        import torch

        last = len(blocks) - self.last_blocks
        found = [b for i, b in enumerate(blocks) if i < self.first_blocks or i >= last]
        inside = {id(part) for block in blocks for part in (*block.modules(), *block.parameters())}
        head = model.get_output_embeddings()
        embeddings = [
            module
            for module in model.modules()
            if isinstance(module, torch.nn.Embedding) and id(module) not in inside
        ]
        named = {id(p) for module in (*embeddings, head) for p in module.parameters()}
        others = [p for p in model.parameters() if id(p) not in inside | named]
        if self.embeddings:
            found += embeddings
        if self.head and not _tied(model):
            found.append(head)
        return found + (others if self.rest else [])

    def events(self, model: Any) -> dict[str, int]:
        """A head that moves, or does not, as its embedding does is told."""
        tied = _tied(model) and self.embeddings != self.head
        said = "moves with" if self.embeddings else "is frozen with"
        return super().events(model) | (
            {f"tied head, which {said} the embedding": 1} if tied else {}
        )

    def save(self, attached: Any, directory: Path, *, base: str, revision: str | None) -> None:
        """Write the whole model."""
        attached.save_pretrained(directory)


def _tied(model: Any) -> bool:
    """Whether head and embedding are one matrix."""
    return model.get_output_embeddings().weight is model.get_input_embeddings().weight
