"""The ranks of a process group, as the parts see them; one process alone is rank 0 of 1.

A group is begun by `heed.study.group`, which says by environment variables who is who (the contract
of torchrun); `join` makes the group of it. Nothing here decides a result: work is shared by index,
and what is gathered comes back in the order of the ranks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TIMEOUT_HOURS = 24.0
"""A rank may wait so long for the others: while one scores alone, the rest have nothing to do. A
rank that dies does not leave them waiting: who began the group ends it."""


def is_rank() -> bool:
    """Whether this process was begun as one of a group."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def is_follower() -> bool:
    """Whether this process was begun as one of a group, and not as its first."""
    return is_rank() and os.environ["RANK"] != "0"


def rank() -> int:
    """Which of the group this process is; 0 leads, and alone writes what is not said otherwise."""
    return int(_distributed().get_rank()) if _joined() else 0


def world() -> int:
    """Number of processes of the group; 1 without one."""
    return int(_distributed().get_world_size()) if _joined() else 1


def leads() -> bool:
    """Whether this process writes what the whole group has made."""
    return rank() == 0


def join(device: str) -> None:
    """Meet the other ranks; comes back when all are there.

    Args:
        device: On which the ranks compute, in torch's words; numbers travel between such devices,
            everything else between processors.
    """
    from datetime import timedelta

    import torch

    backend = "gloo"
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    torch.distributed.init_process_group(backend, timeout=timedelta(hours=TIMEOUT_HOURS))


def leave() -> None:
    """Take leave of the other ranks."""
    if _joined():
        _distributed().destroy_process_group()


def share(count: int) -> range:
    """The indices of `count` pieces of work that are this rank's: every one is some rank's, once.

    Example:
        >>> list(share(3))  # a process alone
        [0, 1, 2]
    """
    return range(rank(), count, world())


def everybody(value: Any) -> list[Any]:
    """What each rank has to say, in the order of the ranks; all must ask at the same place.

    Example:
        >>> everybody("alone")
        ['alone']
    """
    if world() == 1:
        return [value]
    found: list[Any] = [None] * world()
    _distributed().all_gather_object(found, value)
    return found


def from_leader(value: Any) -> Any:
    """What the leader says, for all; what the others give is not looked at."""
    if world() == 1:
        return value
    said = [value]
    _distributed().broadcast_object_list(said, src=0)
    return said[0]


@contextmanager
def leader_first() -> Iterator[None]:
    """Let the leader do first what it leaves on disk, where the others then find it.

    All must come here. Of a leader that fails the others hear nothing: its end is the group's.
    """
    if not leads():
        from_leader(None)
    yield
    if leads():
        from_leader(None)


def _joined() -> bool:
    if "torch.distributed" not in sys.modules:
        return False
    distributed = _distributed()
    return bool(distributed.is_available() and distributed.is_initialized())


def _distributed() -> Any:
    return sys.modules["torch.distributed"]
