"""One rank of a cell: takes its place, has the same cell as the others, and says why it failed.

A rank shows no error itself, since many may fail of one: it leaves a report for `heed.study.group`,
which shows the first. Reports stand beside the cell's config file, where all machines see them.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import re
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from heed.core import ranks
from heed.core.errors import EXIT_CODE, HeedError, RunError, StoppedError
from heed.core.files import read_json, write_json
from heed.study.gpus import VISIBLE

BY_SRUN = "HEED_RANKS_BY_SRUN"
"""For ranks that `srun` has begun: where who asked for that listens. Who they are, SLURM says."""

GROUP = "HEED_GROUP"
"""What tells a group of ranks from one before it, of which some may still be ending."""

FROM_SLURM = {"RANK": "SLURM_PROCID", "LOCAL_RANK": "SLURM_LOCALID", "GROUP_RANK": "SLURM_NODEID"}

INTERFACE = "GLOO_SOCKET_IFNAME"
"""Where it is set, gloo takes the address of that network interface."""

GONE = re.compile(
    r"gloo/transport|connection (closed|reset)|broken pipe|connection refused|socket closed|"
    r"nccl|remote process exited|recvvalue failed|sendbytes failed",
    re.IGNORECASE,
)
"""What libraries say when another rank is gone."""


@dataclass(frozen=True)
class Report:
    """Why a rank ended without having done its part.

    Attributes:
        rank: Which.
        time: When it knew, in seconds since the epoch.
        code: Its exit code.
        kind: `asked` to end; a `user` can put it right; a `crash`; it `lost` another rank, so that
            the reason is elsewhere.
        reason: In a line.
        message: What the user is shown.
    """

    rank: int
    time: float
    code: int
    kind: Literal["asked", "user", "crash", "lost"]
    reason: str
    message: str


def report_files(file: Path, world: int) -> list[Path]:
    """Where the ranks of a config file leave their reports: of this group, not of one before."""
    stem, group = file.name.removesuffix(".yaml"), os.environ.get(GROUP, "0")
    return [file.with_name(f"{stem}.{group}-rank{rank}.json") for rank in range(world)]


def reports_of(file: Path, world: int) -> list[Report]:
    """The reports that are there, the earliest first."""
    there = [path for path in report_files(file, world) if path.is_file()]
    return sorted((Report(**read_json(path)) for path in there), key=lambda one: one.time)


def take_place() -> socket.socket | None:
    """Learn from SLURM which rank this is, where `srun` has begun it; otherwise it is known.

    What SLURM has set is then forgotten: libraries that look for it would begin groups of their
    own. Its warnings before a limit ask to end, as SIGTERM does.

    Returns:
        A connection that ends when the launcher does: a task outlives an `srun` that is killed.
    """
    if BY_SRUN not in os.environ:
        return None
    for name, told in FROM_SLURM.items():
        os.environ[name] = os.environ[told]
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        del os.environ[name]
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    host, _, port = os.environ[BY_SRUN].rpartition(":")
    return socket.create_connection((host, int(port)))


def as_rank(file: Path, work: Callable[[], None]) -> int:
    """Do the part of a rank; the exit code.

    Args:
        file: The cell's config file.
        work: The part.
    """
    try:
        work()
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        report = report_on(error)
        write_json(report_files(file, report.rank + 1)[-1], asdict(report))
        if report.kind == "crash":
            traceback.print_exc()
        elif report.kind == "lost":
            sys.stderr.write(f"the other ranks are gone: {report.reason}\n")
        sys.stderr.flush()
        # of a rank that ends otherwise than by 0, srun ends the others at once
        return 0 if report.kind == "asked" and BY_SRUN in os.environ else report.code
    return 0


def report_on(error: BaseException) -> Report:
    """What a rank tells of an error that ends it."""
    me, now = int(os.environ["RANK"]), time.time()
    reason = f"{type(error).__name__}: {error}".strip()
    if isinstance(error, StoppedError):
        return Report(me, now, error.exit_code, "asked", reason, str(error))
    if isinstance(error, KeyboardInterrupt):
        said = "Ctrl-C; the same command goes on."
        return Report(me, now, 128 + signal.SIGINT, "asked", "KeyboardInterrupt", said)
    if isinstance(error, HeedError):
        return Report(me, now, EXIT_CODE, "user", reason, str(error))
    if has_lost_others(error):
        return Report(me, now, 1, "lost", reason, reason)
    (*_, last) = traceback.extract_tb(error.__traceback__) or [None]
    where = f"\n  in {last.name}, {last.filename}:{last.lineno}" if last else ""
    return Report(me, now, 1, "crash", reason, f"{reason}{where}")


def has_lost_others(error: BaseException) -> bool:
    """Whether an error says no more than that another rank is gone."""
    return isinstance(error, RuntimeError | OSError) and bool(GONE.search(str(error)))


def meet(asked: Mapping[str, Any], trainer: Any) -> None:
    """Join the other ranks, and make sure that all have the same cell.

    Args:
        asked: What the config file says, read here.
        trainer: Its settings.

    Raises:
        RunError: there is no device for this rank, no way to this machine from others, or the
            ranks have different cells.
    """
    device = trainer.device
    if device == "cpu":  # FSDP makes groups of its own where torch sees a GPU, and they wait less
        os.environ[VISIBLE] = ""
    if device == "cuda":
        _need_gpu(int(os.environ["LOCAL_RANK"]))
        trainer.before_products()
    if os.environ.get("WORLD_SIZE") != os.environ.get("LOCAL_WORLD_SIZE"):
        _need_way()
    ranks.join(device)
    mine = digest_of(asked)
    every = ranks.everybody(mine)
    node = f"node {os.environ['GROUP_RANK']}, {os.uname().nodename}"
    who = f"rank {ranks.rank()} of {ranks.world()} ({node})"
    sys.stderr.write(f"{who}: run {asked['key'][0]}, config {mine}\n")  # of each, once
    if len(set(every)) > 1:
        told = ", ".join(f"rank {rank}: {digest}" for rank, digest in enumerate(every))
        raise RunError(
            f"The ranks have read different configs ({told}), so they would train different "
            f"students as one. The folder of outputs is not the same on all machines: give one "
            f"that all see in the same place, outputs=<folder>."
        )


def digest_of(asked: Mapping[str, Any]) -> str:
    """A short digest of all that a config file says, whether it decides a result or not."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]


def _need_gpu(local: int) -> None:
    import torch

    there = torch.cuda.device_count()
    if local >= there:
        bound = (
            " If it has them, the cluster shows each task one of them: ask for them by "
            "--gpus-per-node, without --gpus-per-task or --gpu-bind."
        )
        raise RunError(
            f"Rank {os.environ['RANK']} is number {local + 1} on {os.uname().nodename}, but torch "
            f"sees {there} GPUs there. Give trainer.devices={max(there, 1)}, or ask for more GPUs."
            + (bound if BY_SRUN in os.environ else "")
        )


def _need_way() -> None:
    if INTERFACE in os.environ:
        return
    address, name = announced(), socket.gethostname()
    if ipaddress.ip_address(address).is_loopback:
        raise RunError(
            f"{name} would have ranks on other machines look for rank {os.environ['RANK']} at "
            f"{address}, where each finds itself: its own name (getent hosts {name}) stands for no "
            f"other address of its own. They would fail, or wait for hours. Name the network "
            f"interface by which the machines reach each other (ip -brief address), then give the "
            f"command again: export {INTERFACE}=<interface>"
        )


def announced() -> str:
    """The address at which gloo has other machines look for this one.

    It is the first that the machine's own name stands for and that is one of its own; without one,
    gloo takes the loopback address.
    """
    with suppress(OSError):
        for family, kind, _, _, address in socket.getaddrinfo(
            socket.gethostname(), None, type=socket.SOCK_STREAM
        ):
            with suppress(OSError), socket.socket(family, kind) as tried:
                tried.bind(address)
                return str(address[0])
    return "127.0.0.1"
