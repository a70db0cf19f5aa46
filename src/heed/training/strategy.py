"""How the ranks of a training share it, through Lightning: DDP, or FSDP2.

DDP: each rank holds the whole student and takes a part of each step's examples. FSDP2: weights,
gradients and moments are divided too, and a block is whole only while it is computed. The gradient
is the same; see `docs/scaling.md` for which to choose.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from heed.core.errors import RunError
from heed.core.ranks import TIMEOUT_HOURS, everybody, world
from heed.models.blocks import blocks_of
from heed.models.sharing import why_alone
from heed.training.state import all_digest

if TYPE_CHECKING:
    from heed.models.likelihood import StudentLoss


def arguments_for(strategy: str) -> dict[str, Any]:
    """What Lightning's Trainer is told of the ranks of this group.

    Args:
        strategy: `ddp` or `fsdp`; a process alone needs neither.
    """
    if world() == 1:
        return {"devices": 1}
    from lightning.pytorch.plugins.environments import TorchElasticEnvironment
    from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy

    here = int(os.environ["LOCAL_WORLD_SIZE"])
    wait = timedelta(hours=TIMEOUT_HOURS)
    chosen: Any = DDPStrategy(timeout=wait, gradient_as_bucket_view=True)
    if strategy == "fsdp":  # Lightning's own choice of sizes would divide each matrix, too
        chosen = ModelParallelStrategy(
            data_parallel_size=world(), tensor_parallel_size=1, timeout=wait
        )
    return {
        "devices": here,
        "num_nodes": world() // here,
        "strategy": chosen,
        "plugins": [TorchElasticEnvironment()],
    }


def divide(student: StudentLoss, mesh: Any) -> None:
    """Divide a student's weights among the ranks, block by block, the rest with its root.

    The root is the module whose forward is the whole loss, so head and embedding, tied or not, are
    whole from its beginning to its end.

    Args:
        student: Whole, and the same on every rank.
        mesh: Of the ranks, of one dimension.
    """
    why_alone(student.model)  # looked at while it is whole: a look in a step would count as one
    for block in blocks_of(student.model):
        fully_shard(block, mesh=mesh)
    fully_shard(student, mesh=mesh)


@contextmanager
def gathered(module: torch.nn.Module) -> Iterator[None]:
    """Inside the block a divided student is whole on every rank, as one that was never divided.

    Weights are for reading there. All ranks enter together; what they do inside is their own.

    Args:
        module: The student, or what holds it; where nothing is divided, nothing happens.
    """
    divided = [part for part in module.modules() if isinstance(part, FSDPModule)]
    if not divided:
        yield
        return
    root, *blocks = divided  # modules() begins at the top
    root._get_fsdp_state()._lazy_init()  # a block that is asked first would be the root
    for part in blocks:
        part.set_reshard_after_forward(False, recurse=False)
    for part in divided:
        part.unshard()
    hooks = {one: one._state_dict_pre_hooks for one in module.modules()}
    for one in hooks:  # they would divide it again
        one._state_dict_pre_hooks = OrderedDict()
    try:
        yield
    finally:
        for one, before in hooks.items():
            one._state_dict_pre_hooks = before
        # divides all again, and forgets which blocks were asked: the next step would fetch them
        # in that order, each rank in its own, and they would wait for each other for ever
        root.reset_iter_state()
        for part in blocks:
            part.set_reshard_after_forward(True, recurse=False)


def plain_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor that is whole here, though its value may be the sum of what the ranks hold."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def need_same_start(module: torch.nn.Module) -> None:
    """Compare what the ranks begin with, before weights are divided.

    Raises:
        RunError: they differ; every rank raises it, so that none waits for the others.
    """
    found = set(everybody(all_digest(module)))
    if len(found) > 1:
        raise RunError(
            f"the ranks begin with {len(found)} different students (digests "
            f"{', '.join(sorted(found))}): the trained one would be none of them. They read "
            f"different files, or make weights otherwise: start all ranks on machines of one kind, "
            f"from one checkout, one folder of outputs and one model."
        )
