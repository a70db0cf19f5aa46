"""Ranks for tests: processes forked from the test, which have imported and made everything."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import signal
import traceback
from collections.abc import Callable
from typing import Any

import peft  # noqa: F401  what is tuned or divided needs these: once, and not in each rank
import torch
import torch._dynamo
import transformers.models.llama.modeling_llama  # noqa: F401

from heed.core import ranks

FORK = multiprocessing.get_context("fork")
SECONDS = 300
PDEATHSIG = 1
"""Of Linux' prctl: the signal that a process gets when its parent dies."""


def run_ranks(world: int, work: Callable[[], Any], *, nodes: int = 1) -> list[Any]:
    """Run the same work on every rank of one process group; what each returns, in their order.

    Args:
        world: Number of ranks.
        work: Called without arguments on each; what it returns is pickled.
        nodes: Among how many machines they believe to be.
    """
    begun = []
    for rank in range(world):
        here, there = FORK.Pipe()
        own = {
            "RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank % (world // nodes),
            "LOCAL_WORLD_SIZE": world // nodes, "GROUP_RANK": rank // (world // nodes),
            "MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": True,
        }  # fmt: skip
        process = FORK.Process(target=_rank, args=(own, work, there))
        process.start()
        there.close()
        begun.append((process, here))
    # it has a thread, which could hold a lock for ever in a process that is forked meanwhile
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    try:
        for _, pipe in begun:
            pipe.send_bytes(str(store.port).encode())
        told = [_told(pipe) for _, pipe in begun]
    finally:
        for process, _ in begun:
            process.kill()
            process.join()
    for rank, (error, _) in enumerate(told):
        assert not error, f"rank {rank} of {world}:\n{error}"
    return [value for _, value in told]


def _told(pipe: Any) -> tuple[str, Any]:
    if not pipe.poll(SECONDS):
        return f"it said nothing for {SECONDS} s", None
    try:
        error, value = pickle.loads(pipe.recv_bytes())
    except (EOFError, ConnectionError):
        return "it died", None
    return error, value


def _rank(own: dict[str, Any], work: Callable[[], Any], pipe: Any) -> None:
    ctypes.CDLL(None).prctl(PDEATHSIG, signal.SIGKILL)  # also where the test is killed
    os.environ |= {key: str(value) for key, value in own.items()}
    os.environ["MASTER_PORT"] = pipe.recv_bytes().decode()
    try:
        ranks.join("cpu")
        pipe.send_bytes(pickle.dumps(("", work())))
        ranks.everybody(None)  # nobody leaves while another still talks to him
    except BaseException:
        pipe.send_bytes(pickle.dumps((traceback.format_exc(), None)))
    os._exit(0)
