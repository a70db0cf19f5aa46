"""What a training is between two optimiser steps: tensors, and plain data for the rest.

Only what moves is here. Frozen weights belong to the base, which is known by its digest. A student
may be divided among ranks (FSDP2): its tensors are `DTensor`s then; each rank holds a piece.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

Tensors = dict[str, Tensor]

LOOKED_AT = 1024
"""Numbers of a frozen tensor that are compared."""

HOW = ("fused", "foreach", "capturable", "differentiable")
"""What of an optimiser says how a device computes its step, not which: another device's own."""

WRAPPERS = ("_orig_mod.", "_checkpoint_wrapped_module.")
"""What compiling and activation checkpointing may put into the names of parameters."""


def random_state() -> dict[str, Any]:
    """Where every source of random numbers stands, as plain numbers."""
    version, words, gauss = random.getstate()
    name, keys, *rest = np.random.get_state()
    cuda = [torch.cuda.get_rng_state()] if torch.cuda.is_available() else []
    mps = [torch.mps.get_rng_state()] if torch.backends.mps.is_available() else []
    return {
        "python": [version, list(words), gauss],
        "numpy": [name, np.asarray(keys).tolist(), *rest],
        "torch": torch.get_rng_state().tolist(),
        "cuda": [state.tolist() for state in cuda],
        "mps": [state.tolist() for state in mps],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put every source of random numbers where it stood.

    Args:
        state: What `random_state` returned, here or in another process.
    """
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.asarray(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(_bytes(state["torch"]))
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(_bytes(state["cuda"][0]))
    if state["mps"] and torch.backends.mps.is_available():
        torch.mps.set_rng_state(_bytes(state["mps"][0]))


def _bytes(numbers: list[int]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.uint8)


def plain_name(name: str) -> str:
    """A parameter's name, however its module is wrapped for speed or memory.

    Example:
        >>> plain_name("student.model._orig_mod.layers.0.weight")
        'student.model.layers.0.weight'
    """
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def buffer_digests(module: torch.nn.Module) -> dict[str, str]:
    """What tells the buffers of a module from what they may become."""
    return {plain_name(name): _digest(buffer) for name, buffer in module.named_buffers()}


def _digest(tensor: Tensor) -> str:
    flat = tensor.detach().cpu().clone().reshape(-1).view(torch.uint8)  # numpy would pin its memory
    return hashlib.sha256(flat.numpy().tobytes()).hexdigest()


def frozen_digest(module: torch.nn.Module) -> str:
    """12 hex digits that change with the frozen weights of a module.

    The base's files have a digest of their own; but a method may turn its weights into others
    before it freezes them, and on another machine into slightly different ones. So many numbers
    change then that `LOOKED_AT` of each tensor, evenly spread, tell it.
    """
    found = hashlib.sha256()
    for name, p in module.named_parameters():
        if not p.requires_grad:
            flat = p.detach().reshape(-1)
            some = flat[:: max(1, flat.numel() // LOOKED_AT)]
            found.update(f"{plain_name(name)} {_kind(p)} {_digest(some)}".encode())
    return found.hexdigest()[:12]


def all_digest(module: torch.nn.Module) -> str:
    """12 hex digits that change with any weight that trains, and with the frozen ones."""
    found = hashlib.sha256(frozen_digest(module).encode())
    for name, p in module.named_parameters():
        if p.requires_grad:
            found.update(f"{plain_name(name)} {_kind(p)} {_digest(p)}".encode())
    return found.hexdigest()[:12]


def moving(module: torch.nn.Module, buffers: Mapping[str, str]) -> Tensors:
    """The weights that train, and the buffers that have changed.

    Args:
        module: The student under training, or a module around it.
        buffers: `buffer_digests` before the first step.
    """
    found = {plain_name(n): p.detach() for n, p in module.named_parameters() if p.requires_grad}
    now = {plain_name(name): buffer for name, buffer in module.named_buffers()}
    return found | {n: b for n, b in now.items() if buffers.get(n) != _digest(b)}


def set_moving(module: torch.nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put weights and buffers where they stood, to the last bit.

    Args:
        module: As it was given to `moving`, divided among as many ranks or more or fewer.
        tensors: What `moving` returned, whole.

    Raises:
        ValueError: the module trains other parameters, or such of another shape or type.
    """
    here = dict(module.named_parameters()) | dict(module.named_buffers())
    here = {plain_name(name): tensor for name, tensor in here.items()}
    train = {plain_name(n) for n, p in module.named_parameters() if p.requires_grad}
    odd = sorted((train - tensors.keys()) | (tensors.keys() - here.keys()))
    if odd:
        raise ValueError(f"{len(odd)} tensors are in one of them only, such as {odd[0]}")
    with torch.no_grad():
        for name in tensors:
            tensor, saved = here[name], tensors[name]
            if (tensor.shape, tensor.dtype) != (saved.shape, saved.dtype):
                raise ValueError(f"{name} is {_kind(tensor)} here and {_kind(saved)} there")
            _local(tensor).copy_(own_piece(saved, tensor))


def own_piece(whole: Tensor, like: Tensor) -> Tensor:
    """What this rank holds of a tensor, if it is divided as another one is; else all of it."""
    if not isinstance(like, DTensor):
        return whole
    mesh = like.device_mesh
    pieces = whole.chunk(mesh.size(), dim=0)
    mine = mesh.get_local_rank()
    return pieces[mine] if mine < len(pieces) else whole[:0]


def _local(tensor: Tensor) -> Tensor:
    """What of a tensor is in this rank's memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def optimizer_state(module: torch.nn.Module, optimizer: Any) -> tuple[Tensors, dict[str, Any]]:
    """The state of an optimiser, by the names of its parameters.

    torch's own `state_dict` is of no use here: loading one casts what is in it to the type of the
    parameter. Here every tensor comes back as it was.

    Returns:
        Tensors by "<key>/<parameter>"; plain data: `groups`, and `values` that are no tensors.
    """
    tensors: Tensors = {}
    values: dict[str, dict[str, Any]] = {}
    for name, _, parameter in _parameters(module, optimizer):
        values[name] = {}
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{key}/{name}"] = value.detach()
            else:
                values[name][key] = value
    groups = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    return tensors, {"groups": groups, "values": values}


def set_optimizer_state(
    module: torch.nn.Module, optimizer: Any, tensors: Mapping[str, Tensor], rest: Mapping[str, Any]
) -> None:
    """Put an optimiser where it stood.

    Args:
        module: As it was given to `optimizer_state`.
        optimizer: Built as that one was.
        tensors: The tensors of `optimizer_state`.
        rest: Its plain data, which may have been JSON meanwhile.

    Raises:
        ValueError: the optimiser moves other parameters.
    """
    named = {name: (group, p) for name, group, p in _parameters(module, optimizer)}
    places = {tuple(key.split("/", 1)): key for key in tensors}
    odd = named.keys() ^ (rest["values"].keys() | {name for _, name in places})
    if odd or len(rest["groups"]) != len(optimizer.param_groups):
        raise ValueError(f"the optimiser moves other parameters or groups: {sorted(odd)[:1]}")
    for name, (_, parameter) in named.items():
        optimizer.state[parameter] = dict(rest["values"][name])
    for (key, name), whole in places.items():
        group, parameter = named[name]
        optimizer.state[parameter][key] = _placed(optimizer, group, parameter, key, tensors[whole])
    for parameter in [p for _, p in named.values() if not optimizer.state[p]]:
        del optimizer.state[parameter]  # it has had no gradient yet
    for group, saved in zip(optimizer.param_groups, rest["groups"], strict=True):
        kept = {key: value for key, value in saved.items() if key not in HOW}
        group |= {k: tuple(v) if isinstance(group.get(k), tuple) else v for k, v in kept.items()}


def _parameters(module: torch.nn.Module, optimizer: Any) -> Iterator[tuple[str, Any, Any]]:
    """Name, group and parameter, of all that an optimiser moves."""
    names = {id(p): plain_name(name) for name, p in module.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            yield names[id(parameter)], group, parameter


def _placed(optimizer: Any, group: Any, parameter: Tensor, key: str, saved: Tensor) -> Tensor:
    """A saved tensor where the optimiser would have it.

    torch counts steps on the CPU unless its kernel needs the count on the device; bitsandbytes
    keeps the moments of a paged optimiser in memory of its own.
    """
    if key == "step" and not (group.get("fused") or group.get("capturable")):
        return saved.clone()
    if key in ("state1", "state2") and hasattr(optimizer, "get_state_buffer"):
        buffer: Tensor = optimizer.get_state_buffer(parameter, dtype=saved.dtype)
        return buffer.copy_(saved)
    if isinstance(parameter, DTensor) and saved.shape == parameter.shape:
        mine = own_piece(saved, parameter).to(parameter.device, copy=True)
        mesh, where = parameter.device_mesh, parameter.placements
        kept: Tensor = DTensor.from_local(
            mine, mesh, where, run_check=False, shape=saved.shape, stride=saved.stride()
        )
        return kept
    return saved.to(parameter.device, copy=True)
