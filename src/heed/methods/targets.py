"""Which linear layers of a model belong to attention and which to the MLP, by its structure.

A block's layers are told apart by the class of the module that holds them, not by their own names:
`c_proj` of GPT-2 and `dense` of GPT-NeoX stand in both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from heed.core.errors import RunError

Layers = Literal["attention", "mlp", "all-linear"]
"""`all-linear` is every linear layer of the blocks; the output head is never among them."""

ATTENTION = re.compile("attention", re.IGNORECASE)
MLP = re.compile("mlp|feedforward|ffn", re.IGNORECASE)
EXPERTS = re.compile("Experts$|MoeBlock$|MoE$")


def blocks_of(model: Any) -> tuple[str, list[Any]]:
    """The decoder blocks of a transformers model, and the name of their list.

    Raises:
        RunError: it has no list of blocks.
    """
    import torch

    number = model.config.get_text_config().num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == number:
            return name, list(module)
    raise RunError(
        f"{type(model).__name__} has no list of {number} blocks, so its layers cannot be told "
        f"apart by meaning. Its parts: {', '.join(n for n, _ in model.named_children())}. Give "
        f"method=full, or another model."
    )


def resolve(model: Any, layers: Layers) -> list[str]:
    """Names of the linear layers that a meaning stands for.

    Args:
        model: A transformers causal language model, without adapters.
        layers: The meaning.

    Returns:
        Full names, in the order of the model.

    Raises:
        RunError: the architecture does not tell, or keeps such layers in experts, which are no
            linear layers.
    """
    prefix, blocks = blocks_of(model)
    found = []
    for number, block in enumerate(blocks):
        kinds = {path: _kind(block, path) for path in _linear(block)}
        chosen = [path for path, kind in kinds.items() if layers in ("all-linear", kind)]
        if layers != "attention" and (experts := _experts(block)):
            raise RunError(
                f"{type(model).__name__} has a mixture of experts ({experts}), whose matrices are "
                f"no linear layers that an adapter could update: method.adapter.layers={layers} "
                f"would leave most of the model out. Give method.adapter.layers=attention, or "
                f"method=full."
            )
        if not chosen:
            listed = ", ".join(f"{p} ({k})" for p, k in kinds.items()) or "none"
            raise RunError(
                f"method.adapter.layers={layers}: block {number} of {type(model).__name__} has no "
                f"such linear layer. Found: {listed}. Give method.adapter.layers=all-linear, or "
                f"another model."
            )
        found += [f"{prefix}.{number}.{path}" for path in chosen]
    return found


def _linear(block: Any) -> Iterator[str]:
    """Paths of the linear layers below a block."""
    for path, module in block.named_modules():
        if path and is_linear(module):
            yield path


def is_linear(module: Any) -> bool:
    """Whether a module is a linear layer, stored in any form."""
    import torch
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, torch.nn.Linear | Conv1D)


def any_turned(model: Any) -> bool:
    """Whether a model keeps matrices as [in, out], as GPT-2 does."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(module, Conv1D) for module in model.modules())


def _kind(block: Any, path: str) -> str:
    """`attention`, `mlp` or `other`, by the classes of what holds a layer of a block."""
    holders = path.split(".")[:-1]
    names = [
        type(block.get_submodule(".".join(holders[: i + 1]))).__name__ for i in range(len(holders))
    ]
    if any(ATTENTION.search(name) for name in names):
        return "attention"
    # OPT keeps its two matrices in the block itself
    return "mlp" if not names or any(MLP.search(name) for name in names) else "other"


def _experts(block: Any) -> str:
    """Class of a mixture of experts in a block; empty if there is none."""
    names = (type(module).__name__ for path, module in block.named_modules() if path)
    return next((name for name in names if EXPERTS.search(name)), "")


def suffixes(names: Iterable[str], everything: Iterable[str]) -> list[str]:
    """The shortest endings that mean these modules and no others, as peft matches them.

    Args:
        names: Full names of the chosen modules.
        everything: Full names of all modules.

    Example:
        >>> suffixes(["0.attn.out", "1.attn.out"], ["0.attn.out", "1.attn.out", "head"])
        ['out']
        >>> suffixes(["0.attn.out"], ["0.attn.out", "0.mlp.out"])
        ['attn.out']
    """
    chosen, pool = set(names), set(everything)
    most = max((name.count(".") + 1 for name in chosen), default=1)
    for parts in range(1, most):
        ends = {".".join(name.split(".")[-parts:]) for name in chosen}
        meant = {n for n in pool if any(n == end or n.endswith(f".{end}") for end in ends)}
        if meant == chosen:
            return sorted(ends)
    return sorted(chosen)
