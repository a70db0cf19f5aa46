"""The memory of a recipe's training step, before anything is loaded; and what would need less."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor

from heed.methods.adapters import LoRA
from heed.methods.method import Method
from heed.methods.weights import NF4, Plain
from heed.models.embeddings import template_tokens
from heed.models.memory import Estimate, estimate, hold_in_few_bits, nbytes, without_numbers
from heed.models.sharing import why_alone
from heed.models.student import Student
from heed.training.optim import Adafactor, AdamW8bit, Optimizer
from heed.training.run import Recipe
from heed.training.trainer import TrainerSettings

BLOCK = 256
"""Numbers of an 8-bit moment that share a scale."""

PLACED = LoRA(rank=16, alpha=32.0, dropout=0.0, layers="all-linear")
"""Updates whose memory an advice is about; their rank hardly matters to it."""


def footprint(student: Student, recipe: Recipe, trainer: TrainerSettings) -> Estimate:
    """Bytes of one training step.

    Args:
        student: What is trained; its config is read, and no weights.
        recipe: How.
        trainer: Whether blocks are computed again for the gradient.

    Raises:
        RunError: the student's architecture cannot be read.
    """
    import torch

    model = student.skeleton()
    if recipe.precision == "bf16-true":
        model.to(torch.bfloat16)
    if recipe.method.weights.fixed:
        hold_in_few_bits(model, type(recipe.method.weights).__name__)
    learned = student.new_tokens == "train" and isinstance(recipe.method.adapter, LoRA)
    rows = range(len(template_tokens(student.template))) if learned else ()
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        recipe.method.adapter.attach(model, list(rows))
    with without_numbers(model), replace(trainer, compile=False).engaged(model):
        longest, tokens = row_size(recipe, alone=why_alone(model) is not None)
        return estimate(
            model,
            tokens=tokens,
            longest=longest,
            autocast=recipe.precision == "bf16-mixed",
            optimiser=lambda tensor: kept_bytes(recipe.optim, tensor),
        )


def row_size(recipe: Recipe, *, alone: bool) -> tuple[int, int]:
    """Tokens of the longest document and of the longest row.

    Args:
        recipe: Has the treatment.
        alone: Whether each document must have its own row.
    """
    data = recipe.data
    longest = data.max_tokens
    if alone or data.packing == "none":
        return longest, longest
    return longest, min(data.micro_tokens, longest * data.examples_per_step)


def kept_bytes(optim: Optimizer, tensor: Tensor) -> int:
    """What an optimiser keeps for a tensor that trains; any that is not known here, as AdamW."""
    numbers = tensor.numel()
    if isinstance(optim, AdamW8bit):
        few = numbers < optim.min_8bit_size
        return 8 * numbers if few else 2 * (numbers + 4 * -(-numbers // BLOCK))
    if isinstance(optim, Adafactor):
        matrix = tensor.ndim > 1
        second = sum(numbers // size for size in tensor.shape[-2:]) if matrix else numbers
        return 4 * second + (0 if optim.beta1 is None else 4 * numbers)
    return 2 * nbytes(tensor)


def lighter(
    recipe: Recipe, trainer: TrainerSettings
) -> Iterator[tuple[str, Recipe, TrainerSettings]]:
    """What could be typed to need less memory; the first two leave the result as it is.

    Yields:
        What to type, and the recipe and the trainer that it gives.
    """
    longest, tokens = row_size(recipe, alone=False)
    if recipe.data.packing != "none" and tokens > longest:
        smaller = max(longest, tokens // 4)
        data = replace(recipe.data, micro_tokens=smaller)
        yield f"data.micro_tokens={smaller}", replace(recipe, data=data), trainer
    if not trainer.activation_checkpointing:
        again = replace(trainer, activation_checkpointing=True)
        yield "trainer.activation_checkpointing=true", recipe, again
    if recipe.precision == "32-true":
        yield "precision=bf16-mixed", replace(recipe, precision="bf16-mixed"), trainer
    if recipe.method.adapter.moves_base:
        yield "method=lora", replace(recipe, method=_method("lora", Plain())), trainer
    if not recipe.method.weights.fixed:
        stored = NF4(double_quantise=True)
        yield "method=qlora", replace(recipe, method=_method("qlora", stored)), trainer


def _method(name: str, weights: Any) -> Method:
    return Method(name=name, weights=weights, adapter=PLACED, noise=None)
