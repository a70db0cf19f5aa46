"""How much memory a training step needs, known before any weight is loaded.

The step is run as it will be, on tensors that have a shape and a type and no numbers:

    weights      bytes of the parameters and buffers (matrices in 4 bits: see `STORED`)
  + gradients    bytes of what trains, in its own type
  + optimiser    what it keeps for each number that trains
  + activations  most bytes alive at a time beside these, in the loss and the gradient of one row

The row is full and every token of it supervised: more than most rows need. Not counted is what the
allocator and the device's own libraries hold, 0.5 to 1 GiB on a GPU.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from heed.models.attention import attend
from heed.models.documents import Documents
from heed.models.likelihood import StudentLoss

GIB = 2**30
STORED: dict[str, Callable[[nn.Linear], float]] = {
    "NF4": lambda layer: layer.weight.numel() * (0.5 + 1 / 64 + 4 / (64 * 256)),
    "Int8": lambda layer: layer.weight.numel() + 4 * layer.out_features,
}
"""Form of frozen matrices -> bytes of one: 4 or 8 bits a number, and the scales. (A single NF4
quantisation of the scales needs 3 more bytes for 64 numbers.)"""


@dataclass(frozen=True)
class Estimate:
    """Bytes of one training step, and what they are counted from.

    Attributes:
        weights: Of parameters and buffers.
        gradients: Of what trains.
        optimiser: What it keeps.
        activations: Most at a time of everything else.
        tokens: Of the row.
        parameters: Numbers of the model.
        trained: Numbers that train.
        ranks: That share the step; the bytes are of each of them.
        strategy: How they share it; "" for a process alone.
        exchanged: What they hold besides, to exchange gradients and weights.
        whole: In all, while a divided student is whole on each, to answer or to be written.
    """

    weights: int
    gradients: int
    optimiser: int
    activations: int
    tokens: int
    parameters: int
    trained: int
    ranks: int = 1
    strategy: str = ""
    exchanged: int = 0
    whole: int = 0

    @property
    def held(self) -> int:
        """Bytes from step to step."""
        return self.weights + self.gradients + self.optimiser

    @property
    def total(self) -> int:
        """Bytes, at most."""
        return max(self.held + self.activations + self.exchanged, self.whole)

    @property
    def line(self) -> str:
        """The parts, for a plan."""
        parts = ["weights", "gradients", "optimiser", "activations", *["exchanged"] * self.several]
        listed = ", ".join(f"{part} {in_gib(getattr(self, part))}" for part in parts)
        each = f" on each of {self.ranks} ranks ({self.strategy})" if self.several else ""
        whole = f"; {in_gib(self.whole)} while it answers or is written" if self.whole else ""
        return (
            f"about {in_gib(self.total)} GiB{each}: {listed}{whole} (rows of at most {self.tokens} "
            f"tokens; {self.trained:,} of {self.parameters:,} parameters train)"
        )

    @property
    def several(self) -> bool:
        """Whether ranks share the step."""
        return self.ranks > 1


def in_gib(size: int) -> str:
    """Bytes in GiB, with three digits that matter.

    Example:
        >>> in_gib(3 * 2**29), in_gib(2**40), in_gib(2**20)
        ('1.50', '1024', '0.001')
    """
    number = size / GIB
    digits = 0 if number >= 100 else 1 if number >= 10 else 2 if number >= 0.1 else 3
    return f"{number:.{digits}f}"


@contextmanager
def without_numbers(model: Any) -> Iterator[None]:
    """Inside the block a model can be run and differentiated, and nothing takes memory.

    Args:
        model: Made on torch's device "meta"; it is changed.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        _on_cpu(model)
        yield


def _on_cpu(model: Any) -> None:
    """Give parameters and buffers the device "cpu" in place, still without numbers.

    Autocast and attention ask for the device, and "meta" is none that they know.
    """
    made: dict[int, Tensor] = {}
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is not None:
                    made.setdefault(id(tensor), _like(tensor))
                    held[name] = made[id(tensor)]


def _like(tensor: Tensor) -> Tensor:
    made = torch.empty(tensor.shape, dtype=tensor.dtype)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(made, requires_grad=tensor.requires_grad)
    return made


def estimate(
    model: Any, row: Row, *, autocast: bool, optimiser: Callable[[Tensor], int], device: str
) -> Estimate:
    """What a training step of a model needs; call it inside `without_numbers`.

    Args:
        model: Adapter attached, its precision set.
        row: What it trains on at a time.
        autocast: Whether products are in bfloat16.
        optimiser: Bytes that it keeps for a tensor that trains.
        device: Kind of device that trains, in torch's words; a CPU attends in a way of its own.
    """
    moving = [p for p in model.parameters() if p.requires_grad]
    parameters, weights = stored_bytes(model)
    for p in moving:
        p.grad = torch.zeros_like(p)  # an earlier row of the same step has made it
    model.train()
    with Watch() as watch, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = _Loss(model)
        loss.attention = partial(attend, blocks=device == "cpu")
        nats, _ = loss(row)
        nats.backward()
    return Estimate(
        weights=weights,
        gradients=sum(nbytes(p) for p in moving),
        optimiser=sum(optimiser(p) for p in moving),
        activations=watch.peak,
        tokens=row.input_ids.numel(),
        parameters=parameters,
        trained=sum(p.numel() for p in moving),
    )


def nbytes(tensor: Tensor) -> int:
    """Bytes of a tensor's numbers."""
    return tensor.numel() * tensor.element_size()


def stored_bytes(model: Any) -> tuple[int, int]:
    """Parameters of a model, and bytes of them and of its buffers; what is shared counts once."""
    size = {id(t): nbytes(t) for t in (*model.parameters(), *model.buffers())}
    for module in model.modules():
        if isinstance(module, Stored):
            size[id(module.weight)] = round(module.held)
    return sum(p.numel() for p in model.parameters()), sum(size.values())


class Stored(nn.Linear):
    """Stands in for a matrix that is held in few bits, and made whole where it is used."""

    held: float

    def forward(self, input: Tensor) -> Tensor:
        """The product with the whole matrix, which is kept in neither direction."""
        made: Tensor = _Whole.apply(input, self.weight, self.bias)
        return made


class _Whole(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.weight, ctx.kind = weight, x.dtype
        return nn.functional.linear(x, weight.clone().to(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        whole = ctx.weight.clone().to(gradient.dtype)
        return (gradient @ whole).to(ctx.kind), None, None


def hold_in_few_bits(model: Any, form: str) -> None:
    """Let every linear layer but the head stand for one that is held so, in place.

    Args:
        model: A transformers model without numbers.
        form: Of the frozen matrices, a key of `STORED`.
    """
    head = model.get_output_embeddings()
    for module in model.modules():
        layer: Any = module
        if type(module) is nn.Linear and module is not head:
            layer.__class__ = Stored
            layer.held = STORED[form](layer)


class Row:
    """A packed row of documents of one length, all of it supervised."""

    def __init__(self, tokens: int, longest: int):
        count, rest = divmod(tokens, longest)
        sizes = [longest] * count + [rest] * bool(rest)
        self.input_ids = torch.zeros(tokens, dtype=torch.long)
        self.position_ids = torch.zeros(tokens, dtype=torch.long)
        self.lengths = torch.zeros(len(sizes), dtype=torch.long)
        self.where = torch.zeros(tokens - 1, dtype=torch.long)
        self.targets = torch.zeros(tokens - 1, dtype=torch.long)
        self.documents = _documents(self.lengths, sizes)


def _documents(lengths: Tensor, sizes: Sequence[int]) -> Documents:
    """Documents whose lengths are known although their tensor has no numbers."""
    made = Documents(lengths)
    vars(made)["longest"], vars(made)["counts"] = max(sizes), list(sizes)
    return made


class _Loss(StudentLoss):
    """The student's loss of a `Row`."""

    def backbone(self, batch: Any) -> Any:
        """The row's documents have lengths that are known without their numbers."""
        if batch.lengths.numel() == 1:
            return super().backbone(batch)
        return self.together(batch, batch.documents)


class Watch(TorchDispatchMode):
    """Counts the bytes that are alive of what is made inside it.

    Attributes:
        alive: Now.
        peak: Most so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and note the storages that it made."""
        before = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if _is_tensor(t)}
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if _is_tensor(tensor):
                storage = tensor.untyped_storage()
                if id(storage) not in before:
                    self._note(storage)
        return made

    def _note(self, storage: Any) -> None:
        key, size = id(storage), storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.alive += size
            self.peak = max(self.peak, self.alive)
            weakref.finalize(storage, partial(self._gone, key, size))

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.alive -= size


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def free_memory(device: str) -> int | None:
    """Bytes that a device has left; None if it does not say.

    Args:
        device: In torch's words.
    """
    if device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return int(free)
    if device == "cpu":
        limits = [_available(Path("/proc/meminfo")), _group_limit(Path("/sys/fs/cgroup"))]
        return min((limit for limit in limits if limit is not None), default=None)
    return None


def _available(file: Path) -> int | None:
    """Memory that Linux can give without swapping."""
    if not file.is_file():
        return None
    lines = dict(line.split(":", 1) for line in file.read_text().splitlines() if ":" in line)
    words = lines.get("MemAvailable", "").split()
    return int(words[0]) * 1024 if words else None


def _group_limit(folder: Path) -> int | None:
    """What a container may still take of its limit (cgroup v2)."""
    most, used = folder / "memory.max", folder / "memory.current"
    if not (most.is_file() and used.is_file()) or most.read_text().strip() == "max":
        return None
    return max(0, int(most.read_text()) - int(used.read_text()))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is used up: a device's, torch's on a CPU, Python's own."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    said = str(error).lower()
    known = ("can't allocate memory", "not enough memory", "out of memory", "alloc_failed")
    return isinstance(error, RuntimeError) and any(words in said for words in known)
