"""The blocks of a student as a trainer runs them: computed again for the gradient, or compiled.

Both hold inside a `with` only, and stand in each block's `forward`, not around the block: the names
of the weights, and with them what is written to disk, never change.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import wraps
from typing import Any

from heed.core.errors import RunError

Forward = Callable[..., Any]

C_COMPILERS = ("cc", "gcc", "clang")
"""What triton looks for beside $CC."""


@contextmanager
def engaged(model: Any, *, activation_checkpointing: bool, compile: bool) -> Iterator[None]:
    """Inside the block a model's blocks run as asked while they train; after it as before.

    Args:
        model: A transformers causal language model; adapters stand inside it.
        activation_checkpointing: Keep each block's input alone, and compute the block again for the
            gradient.
        compile: Let torch compile each block.

    Raises:
        RunError: the model has no blocks that are known.
    """
    if not (activation_checkpointing or compile):
        yield
        return
    blocks = blocks_of(model)
    before = [vars(block).get("forward") for block in blocks]
    for block in blocks:
        run: Forward = compiled(block.forward) if compile else block.forward
        if activation_checkpointing:
            run = checkpointed(run, model)
        block.forward = _in_training(block, block.forward, run)
    try:
        yield
    finally:
        for block, forward in zip(blocks, before, strict=True):
            if forward is None:
                del block.forward
            else:
                block.forward = forward


def blocks_of(model: Any) -> list[Any]:
    """The decoder blocks of a transformers model, none of them inside another.

    Raises:
        RunError: none are known.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    found: dict[str, Any] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, GradientCheckpointingLayer) and not inside:
            found[name] = module
    if not found:
        raise RunError(
            f"{type(model).__name__} does not say what its blocks are, so they can neither be "
            f"computed again for the gradient nor compiled one by one. Give "
            f"trainer.activation_checkpointing=false trainer.compile=false; smaller rows "
            f"(data.micro_tokens) save memory too."
        )
    return list(found.values())


def _in_training(block: Any, plainly: Forward, run: Forward) -> Forward:
    """What computes a block: `run` in training, and plainly where it is asked for an answer."""
    from torch import is_grad_enabled

    @wraps(plainly)
    def forward(*args: Any, **kwargs: Any) -> Any:
        wanted = block.training and is_grad_enabled()
        return (run if wanted else plainly)(*args, **kwargs)

    return forward


def checkpointed(run: Forward, model: Any) -> Forward:
    """A block that keeps its inputs only; it is computed again, alike, when its gradient is due.

    Alike: with the same random numbers, the same autocast, and the attention that the model had
    when the block was first run. The gradient is due outside the `with` that gives it documents to
    attend in, and without this the second computation would silently see another attention.
    """
    from torch.utils.checkpoint import checkpoint

    def contexts() -> tuple[Any, Any]:
        return nullcontext(), _attention(model, model.config._attn_implementation)

    def forward(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(run, *args, use_reentrant=False, context_fn=contexts, **kwargs)

    return forward


@contextmanager
def _attention(model: Any, name: str) -> Iterator[None]:
    """Inside the block the model has the attention of a name."""
    before = model.config._attn_implementation
    model.config._attn_implementation = name
    try:
        yield
    finally:
        model.config._attn_implementation = before


def compiled(forward: Forward) -> Forward:
    """A block's forward, compiled at its first call; attention in documents is left as it is.

    Random numbers are drawn as without compiling, so dropout drops the same places.
    """
    import torch

    made: Forward = torch.compile(forward, dynamic=True, options={"fallback_random": True})
    return made


def need_compiler(device: str) -> None:
    """Refuse to compile where nothing can, before a minute is lost.

    Args:
        device: In torch's words.

    Raises:
        RunError: no compiler is found.
    """
    if device == "cpu" and not any(shutil.which(name) for name in _compilers()):
        raise RunError(
            f"trainer.compile=true needs a C++ compiler, and none of {', '.join(_compilers())} is "
            f"found here. Install one (apt-get install g++), or give trainer.compile=false: the "
            f"loss is the same, only slower."
        )
    if device == "cuda":
        _need_triton()
        asked = os.environ.get("CC", "").split()[-1:]  # of `ccache gcc`, gcc
        if not any(shutil.which(name) for name in (*asked, *C_COMPILERS)):
            raise RunError(
                f"trainer.compile=true needs a C compiler for triton, and none of "
                f"{', '.join(C_COMPILERS)} is found here. Install one (apt-get install gcc), or "
                f"give trainer.compile=false: the loss is the same, only slower."
            )


def _compilers() -> tuple[str, ...]:
    """What torch would call."""
    from torch._inductor import config

    asked = config.cpp.cxx
    names = asked if isinstance(asked, list | tuple) else (asked,)
    return tuple(name for name in names if name)


def _need_triton() -> None:
    from torch.utils._triton import has_triton

    if not has_triton():
        raise RunError(
            "trainer.compile=true needs triton on this device, and torch does not find it. Install "
            "triton for this torch, or give trainer.compile=false: the loss is the same, only "
            "slower."
        )
