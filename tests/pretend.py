"""A device that is none: tensors that say `cuda:0` or `mps:0`, kept apart from the processor's.

Shown by it: no path of the code mixes tensors of the two places, draws with the other's generator
or reads numbers without bringing them over; kernels get what they ask for; and what is computed
equals what the processor computes. Not shown: the kernels themselves, speed and memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest import mock

import lightning.fabric.accelerators
import lightning.pytorch.accelerators
import peft.utils.save_and_load
import safetensors.torch
import torch
from pretend_kernels import KERNELS
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

MEMORY = 80 * 2**30
aten = torch.ops.aten

BOTH = {
    aten.copy_.default,
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}
"""What takes tensors of both places on a real GPU: copies, and indices of the processor."""

WAITING = {aten._local_scalar_dense.default, aten.nonzero.default, aten._unique2.default}
"""What has the processor wait until the GPU has done all that it was told."""


class MixedError(RuntimeError):
    """What a real GPU raises, too."""


class OnGPU(Tensor):
    """A tensor that says it is on the GPU; `held` has its numbers."""

    held: Tensor
    where = torch.device("cuda:0")
    waits: ClassVar[Counter[str]] = Counter()

    @staticmethod
    def __new__(cls, held: Tensor) -> OnGPU:
        made: OnGPU = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=held.device,
        )
        made.held = held.detach()
        if cls.where.type == "mps" and held.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return made

    def __repr__(self, **_: Any) -> str:
        return f"OnGPU({self.held!r})"

    def __format__(self, spec: str) -> str:
        return format(self.held if self.dim() else self.held.item(), spec)

    device = property(lambda self: self.where)  # type: ignore[assignment]
    is_cuda = property(lambda self: self.where.type == "cuda")  # type: ignore[assignment]
    is_mps = property(lambda self: self.where.type == "mps")  # type: ignore[assignment]
    is_cpu = property(lambda _: False)  # type: ignore[assignment]

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: Any) -> OnGPU:
        return OnGPU(inner["held"])

    def tolist(self) -> Any:
        OnGPU.waits["tolist"] += 1
        return self.held.tolist()

    def get_device(self) -> int:
        return 0

    def untyped_storage(self) -> Any:
        return self.held.untyped_storage()

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    __array__ = numpy

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        refuse_mixed(func, args, kwargs)
        if func in WAITING or (func is aten.index.Tensor and _by_truth(args[1])):
            OnGPU.waits[str(func)] += 1
        inner, named = tree_map_only(OnGPU, lambda x: x.held, (args, kwargs))
        found = KERNELS.get(func, func)(*inner, **named)
        made = tree_map_only(Tensor, OnGPU, found)
        return made if func in KERNELS else return_and_correct_aliasing(func, args, kwargs, made)


def _by_truth(indices: Any) -> bool:
    return any(isinstance(i, Tensor) and i.dtype == torch.bool for i in indices)


def refuse_mixed(func: Any, args: Any, kwargs: Any) -> None:
    """Raise what a GPU raises where an operator gets what lies in the other place.

    Raises:
        MixedError: it does.
    """
    drawn = kwargs.get("generator")
    if drawn is not None and drawn.device.type != OnGPU.where.type:
        raise MixedError(f"{func}: expected a generator of {OnGPU.where}, found {drawn.device}'s")
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    here = [tuple(x.shape) for x in tensors if not isinstance(x, OnGPU) and x.dim()]
    if here and func not in BOTH:
        raise MixedError(f"{func}: tensors on {OnGPU.where} and on the processor, of shapes {here}")


class Up(torch.autograd.Function):
    """To the GPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.dtype = x.dtype
        return OnGPU(x.detach().to(dtype, copy=True))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0].held.to(ctx.dtype), None


class Down(torch.autograd.Function):
    """To the processor."""

    @staticmethod
    def forward(ctx: Any, x: Any, dtype: torch.dtype) -> Tensor:
        ctx.dtype = x.dtype
        OnGPU.waits["cpu"] += 1
        return x.held.to(dtype, copy=True)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return OnGPU(grads[0].to(ctx.dtype)), None


def is_gpu(device: Any) -> bool:
    return device is not None and torch.device(device).type == OnGPU.where.type


class Pretend(TorchFunctionMode):
    """Inside it, what is asked for on CUDA is made there."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in MOVES:
            return MOVES[func](*args, **kwargs)
        device = kwargs.get("device")
        if device is None or func is torch.Generator:
            return func(*args, **kwargs)
        kwargs["device"] = torch.device("cpu") if is_gpu(device) else device
        if func is torch.tensor and isinstance(args[0], Tensor):
            return _to(args[0].detach(), device, kwargs.get("dtype"), copy=True)
        found = func(*args, **kwargs)
        wants = kwargs.get("requires_grad", False)
        if isinstance(found, Tensor) and is_gpu(device) != isinstance(found, OnGPU):
            found = _to(found.detach(), device).requires_grad_(wants)
        return found


def _to(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """`Tensor.to`, in all its forms."""
    device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
    copy = kwargs.pop("copy", False)
    for one in args:
        if isinstance(one, Tensor):
            device, dtype = one.device, one.dtype
        elif isinstance(one, torch.dtype):
            dtype = one
        elif isinstance(one, (str, torch.device, int)) and not isinstance(one, bool):
            device = OnGPU.where if isinstance(one, int) else one
    dtype = dtype or x.dtype
    target = x.device if device is None else torch.device(device)
    if target.type == "meta" or target.type == x.device.type:
        inner = {"device": target} if target.type == "meta" else {}
        with torch._C.DisableTorchFunction() if not isinstance(x, OnGPU) else nullcontext():
            return Tensor.to(x, dtype=dtype, copy=copy, **inner)
    return (Up if is_gpu(target) else Down).apply(x, dtype)


MOVES: dict[Any, Callable[..., Any]] = {
    Tensor.to: _to,
    Tensor.cuda: lambda x, *_, **__: _to(x, OnGPU.where),
    Tensor.cpu: lambda x, *_, **__: _to(x, "cpu"),
}


def _of_cuda() -> dict[str, Any]:
    """What `torch.cuda` says of the GPU."""
    about = SimpleNamespace(
        name="Pretend", major=9, minor=0, total_memory=MEMORY, multi_processor_count=132
    )
    stats: Counter[str] = Counter()
    return {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda _: None,
        "device": lambda _: nullcontext(),
        "get_device_name": lambda *_: about.name,
        "get_device_capability": lambda *_: (9, 0),
        "get_device_properties": lambda *_: about,
        "is_bf16_supported": lambda *_, **__: True,
        "mem_get_info": lambda *_: (MEMORY, MEMORY),
        "memory_stats": lambda *_: stats,
        "max_memory_allocated": lambda *_: 2**30,
        "memory_allocated": lambda *_: 2**29,
        "reset_peak_memory_stats": lambda *_: None,
        "empty_cache": lambda: None,
        "synchronize": lambda *_: None,
        "get_rng_state": lambda *_: torch.get_rng_state(),
        "set_rng_state": lambda state, *_: torch.set_rng_state(state),
        "get_rng_state_all": lambda: [torch.get_rng_state()],
        "set_rng_state_all": lambda states: torch.set_rng_state(states[0]),
        "manual_seed": lambda _: None,
        "manual_seed_all": lambda _: None,
    }


def _of_mps() -> dict[str, Any]:
    """What `torch.mps` says of it."""
    return {
        "device_count": lambda: 1,
        "get_rng_state": torch.get_rng_state,
        "set_rng_state": torch.set_rng_state,
        "manual_seed": lambda _: None,
        "synchronize": lambda: None,
        "empty_cache": lambda: None,
        "current_allocated_memory": lambda: 2**29,
        "driver_allocated_memory": lambda: 2**29,
        "recommended_max_memory": lambda: MEMORY,
    }


def _of_torch(kind: str) -> list[tuple[Any, str, Any]]:
    """What torch and its libraries do with a device of this kind: home, name, stand-in.

    Autocast is the processor's: it casts to the same type, for another list of operators.
    """
    enabled, to_type = torch.is_autocast_enabled, torch.get_autocast_dtype
    begin, run = torch.autocast.__init__, torch.autograd.graph._engine_run_backward
    read = safetensors.torch.load_file

    def of(device: str | None) -> str:
        return "cpu" if device in (kind, None) else device

    def autocast(self: Any, device_type: str, *args: Any, **kwargs: Any) -> None:
        begin(self, of(device_type), *args, **kwargs)

    def inference(mode: bool = True) -> Any:
        """Its tensors know no views of wrapped ones."""
        return torch.no_grad() if mode else nullcontext()

    def backward(*args: Any, **kwargs: Any) -> Any:
        with Pretend():  # what is computed again on the way is made there, too
            return run(*args, **kwargs)

    def load(name: Any, device: Any = "cpu") -> Any:
        return {key: _to(x, device) for key, x in read(name).items()}

    return [
        (torch.autocast, "__init__", autocast),
        (torch, "inference_mode", inference),
        (torch, "is_autocast_enabled", lambda device=None: enabled(of(device))),
        (torch, "get_autocast_dtype", lambda device: to_type(of(device))),
        (torch.autograd, "_engine_run_backward", backward),
        (safetensors.torch, "load_file", load),
        (peft.utils.save_and_load, "safe_load_file", load),
    ]


@contextmanager
def pretended(kind: str = "cuda") -> Iterator[Counter[str]]:
    """Inside the block `cuda`, or `mps`, is a device.

    Gives how often the processor waited for it, by reason.
    """
    OnGPU.waits, OnGPU.where = Counter(), torch.device(kind, 0)
    own = {"cuda": (torch.cuda, _of_cuda()), "mps": (torch.mps, _of_mps())}
    home, said = own[kind]
    instead = [*_of_torch(kind), *((home, name, what) for name, what in said.items())]
    if kind == "mps":
        instead.append((torch.backends.mps, "is_available", lambda: True))
        for part in (lightning.pytorch.accelerators, lightning.fabric.accelerators):
            instead.append((part.MPSAccelerator, "is_available", staticmethod(lambda: True)))
    swaps = torch.__future__.get_swap_module_params_on_conversion()
    with ExitStack() as stack:
        for where, name, what in instead:
            stack.enter_context(mock.patch.object(where, name, what))
        torch.__future__.set_swap_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_swap_module_params_on_conversion, swaps)
        stack.enter_context(Pretend())
        yield OnGPU.waits
