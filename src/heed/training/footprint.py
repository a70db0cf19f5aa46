"""The memory of a recipe's training step, before anything is loaded; and what would need less.

Of ranks that share a step, that of each:

    ddp   all that a process alone needs, with the rows of its share; at the first step there are
          gradients and buckets of DDP, which become one, where its share is several rows; moments
          are made after that, so it only counts if they are smaller
    fsdp  weights, gradients and what the optimiser keeps: of each tensor its n-th part
        + what is outside the blocks whole: embeddings, head
        + two blocks whole, of which one is fetched ahead, beside all activations; or, when those
          of all but two blocks are given back, three and the gradient of one

While a divided student answers or is written it is whole on each rank, and gradients are gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from heed.core.ranks import world
from heed.methods.adapters import LoRA
from heed.methods.method import Method
from heed.methods.weights import NF4, Plain
from heed.models.blocks import blocks_of
from heed.models.embeddings import template_tokens
from heed.models.memory import Estimate, Row, estimate, hold_in_few_bits, nbytes, without_numbers
from heed.models.sharing import why_alone
from heed.models.student import Student
from heed.training.optim import Adafactor, AdamW, AdamW8bit, Optimizer
from heed.training.run import Recipe
from heed.training.trainer import TrainerSettings

BLOCK = 256
"""Numbers of an 8-bit moment that share a scale."""

PLACED = LoRA(rank=16, alpha=32.0, dropout=0.0, layers="all-linear")
"""Updates whose memory an advice is about; their rank hardly matters to it."""


@dataclass(frozen=True)
class Shared:
    """How a step is shared.

    Attributes:
        ranks: Processes that share it.
        strategy: `ddp` or `fsdp`.
    """

    ranks: int
    strategy: str


def shared_by(trainer: TrainerSettings) -> Shared:
    """Who shares a step of a trainer: the ranks of this group, or those that it will have.

    Args:
        trainer: `devices="all"` counts what torch sees here.
    """
    import torch

    here = torch.cuda.device_count() if trainer.devices == "all" else trainer.devices
    ranks = world() if world() > 1 else max(1, here * trainer.nodes)
    return Shared(ranks, trainer.strategy)


def footprint(student: Student, recipe: Recipe, trainer: TrainerSettings) -> Estimate:
    """Bytes of one training step, on each rank.

    Args:
        student: What is trained; its config is read, and no weights.
        recipe: How.
        trainer: Whether blocks are computed again for the gradient, and who shares the step.

    Raises:
        RunError: the student's architecture cannot be read, or it is to be divided and its blocks
            are not known.
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
    return of_model(model, recipe, trainer)


def of_model(model: Any, recipe: Recipe, trainer: TrainerSettings) -> Estimate:
    """The same of a model on torch's device "meta", its method attached; it is changed."""
    with without_numbers(model), replace(trainer, compile=False).engaged(model):
        shared, alone = shared_by(trainer), why_alone(model) is not None
        longest, tokens = row_size(recipe, alone=alone, ranks=shared.ranks)
        found = estimate(
            model,
            Row(tokens, longest),
            autocast=recipe.precision == "bf16-mixed",
            optimiser=lambda tensor: kept_bytes(recipe.optim, tensor),
            device=trainer.device,
        )
        if shared.ranks == 1:
            return found
        if shared.strategy == "ddp":
            several = tokens < longest * _share(recipe, shared.ranks)
            buckets = max(0, found.gradients - found.optimiser) if several else 0
            return replace(found, ranks=shared.ranks, strategy="ddp", exchanged=buckets)
        return divided_step(found, model, recipe, trainer, shared.ranks)


def _share(recipe: Recipe, ranks: int) -> int:
    """Examples of a step that are one rank's."""
    return -(-recipe.data.examples_per_step // ranks)


def divided_step(
    found: Estimate, model: Any, recipe: Recipe, trainer: TrainerSettings, ranks: int
) -> Estimate:
    """What each rank needs of a step in which weights, gradients and moments are divided.

    Args:
        found: Of a process alone.
        model: Without numbers.
        recipe: Has the optimiser.
        trainer: Whether blocks are computed again: then activations are most when the gradient of
            the block after is there already.
        ranks: That share the step.
    """
    moving = [p for p in model.parameters() if p.requires_grad]
    divided = sum(nbytes(part(p, ranks)) for p in model.parameters())
    whole, trained = (sum(map(nbytes, them)) for them in (model.parameters(), moving))
    blocks = [(_bytes(block), _bytes(block, moves=True)) for block in blocks_of(model)]
    block, block_moves = max(blocks)
    root = whole - sum(size for size, _ in blocks)
    root_moves = trained - sum(moves for _, moves in blocks)
    again = block_moves if trainer.activation_checkpointing else 0
    left = round(found.activations * min(1, 2 / len(blocks)))
    peak = max(
        found.activations + root + 2 * block + again,
        left + root + 3 * block + block_moves,
        root + 2 * root_moves + block,
    )
    weights = found.weights - whole + divided
    optimiser = sum(kept_bytes(recipe.optim, part(p, ranks)) for p in moving)
    return replace(
        found,
        weights=weights,
        gradients=sum(nbytes(part(p, ranks)) for p in moving),
        optimiser=optimiser,
        ranks=ranks,
        strategy="fsdp",
        exchanged=max(0, peak - found.activations),
        whole=weights + optimiser + whole + max(block, root),
    )


def part(tensor: Tensor, ranks: int) -> Tensor:
    """What a rank holds of a divided tensor: rows, as many on each, the last ones filled up."""
    return tensor[: -(-tensor.shape[0] // ranks)].detach() if tensor.ndim else tensor.detach()


def _bytes(module: Any, *, moves: bool = False) -> int:
    return sum(nbytes(p) for p in module.parameters() if p.requires_grad or not moves)


def row_size(recipe: Recipe, *, alone: bool, ranks: int = 1) -> tuple[int, int]:
    """Tokens of the longest document and of the longest row.

    Args:
        recipe: Has the treatment.
        alone: Whether each document must have its own row.
        ranks: That share a step.
    """
    data = recipe.data
    longest = data.max_tokens
    if alone or data.packing == "none":
        return longest, longest
    return longest, min(data.micro_tokens, longest * _share(recipe, ranks))


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
    several = trainer.strategy == "ddp" and shared_by(trainer).ranks > 1
    fits = not recipe.method.weights.fixed and type(recipe.optim) is AdamW
    if several and fits:
        yield "trainer.strategy=fsdp", recipe, replace(trainer, strategy="fsdp", compile=False)
    if recipe.precision == "32-true":
        yield "precision=bf16-mixed", replace(recipe, precision="bf16-mixed"), trainer
    if recipe.method.adapter.moves_base:
        yield "method=lora", replace(recipe, method=_method("lora", Plain())), trainer
    if not recipe.method.weights.fixed:
        stored = NF4(double_quantise=True)
        each = replace(trainer, strategy="ddp")
        typed = "method=qlora" if trainer.strategy == "ddp" else "method=qlora trainer.strategy=ddp"
        yield typed, replace(recipe, method=_method("qlora", stored)), each


def _method(name: str, weights: Any) -> Method:
    return Method(name=name, weights=weights, adapter=PLACED, noise=None)
