"""How the frozen weights of a student are stored while it is tuned."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, ClassVar

from heed.core.component import component
from heed.core.errors import RunError


class Weights(ABC):
    """Says in which form weights that do not move are kept in memory."""

    fixed: bool
    """Whether weights of this form cannot move."""

    words: ClassVar[Sequence[str]] = ()
    """What the name of a method says where it means this form."""

    @abstractmethod
    def store(self, model: Any) -> int:
        """Bring a transformers model into this form, in place; returns matrices that changed."""

    def events(self, model: Any) -> dict[str, int]:
        """What a reader must know of how a model's weights are stored, counted."""
        if not self.fixed:
            return {}
        from heed.methods.stored import stored_layers

        return {f"matrices of the base rounded to {type(self).__name__}": len(stored_layers(model))}


@component
class Plain(Weights):
    """As they were loaded."""

    fixed = False

    def store(self, model: Any) -> int:
        """Leave them."""
        return 0


@component
class NF4(Weights):
    """Matrices in 4 bits, all but embedding and head: quantiles of a normal, in blocks of 64.

    The tuned student is the base so rounded, with its adapter: that is what is trained, scored and
    reloaded. What is computed with is the dequantised matrix, in the precision of the training.

    Source: Dettmers et al. 2023, https://arxiv.org/abs/2305.14314, section 3.
    """

    double_quantise: bool
    """Whether the scales of the blocks are stored in 8 bits (0.37 bits a weight less)."""

    fixed = True
    words = ("nf4", "qlora")

    def store(self, model: Any) -> int:
        """Round every matrix."""
        from heed.methods.stored import four_bit, store

        return store(model, partial(four_bit, double_quantise=self.double_quantise))

    def digest(self) -> str:
        """The library that rounds is a part of the identity."""
        return _library()


@component
class Int8(Weights):
    """Matrices in 8 bits, all but embedding and head: whole numbers to 127, one scale an output.

    Activations are not rounded (in LLM.int8() they are): there, whether an input is an outlier is
    decided for all tokens of a row together, so documents that share one would change each other.

    Source: the matrices are as in Dettmers et al. 2022, https://arxiv.org/abs/2208.07339,
    section 3.1.
    """

    fixed = True
    words = ("int8",)

    def store(self, model: Any) -> int:
        """Round every matrix."""
        from heed.methods.stored import eight_bit, store

        return store(model, eight_bit)

    def digest(self) -> str:
        """The library that rounds is a part of the identity."""
        return _library()


def _library() -> str:
    return f"bitsandbytes {version('bitsandbytes')}"


def weights_from(settings: Mapping[str, Any]) -> Weights:
    """The form of weights that transformers' settings of a quantisation say.

    Raises:
        RunError: heed has no such form.
    """
    if settings.get("load_in_8bit"):
        return Int8()
    if settings.get("load_in_4bit") and settings.get("bnb_4bit_quant_type") == "nf4":
        return NF4(double_quantise=settings["bnb_4bit_use_double_quant"])
    raise RunError(
        f"an adapter's base is stored in a form that heed does not know ({dict(settings)}), so the "
        f"student would be another one. Load it where it was trained, or train again."
    )


def original_sizes(parameters: Iterable[Any]) -> list[int]:
    """Numbers in each parameter, as many as before it was stored in few bits."""
    states = [(p, getattr(p, "quant_state", None)) for p in parameters]
    return [p.numel() if state is None else math.prod(state.shape) for p, state in states]
