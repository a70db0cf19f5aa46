"""The ranks of a cell as one group: begun together, named in the log, ended together.

Who begins them hosts the store by which they find each other, on a port that the system gives it,
so groups that run at once cannot meet. The first rank that ends badly ends all, and its reason is
the group's: the others fail of its end, and what they say of that is not it.

A group lives no longer than its launcher: each rank reads a pipe that the launcher holds open.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heed.core.errors import HeedError, RunError, StoppedError
from heed.core.files import write_json
from heed.core.screen import show
from heed.study import srun
from heed.study.lines import Lines
from heed.study.members import SRUN, Members
from heed.study.rank import BY_SRUN, GROUP, Report, report_files
from heed.study.supervisor import ASKING, CHILD, memory_kills, reason_file

if TYPE_CHECKING:
    from heed.study.cell import Cell
    from heed.training.trainer import TrainerSettings

LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo"} if Path("/sys/class/net/lo").is_dir() else {}
"""Ranks of one machine listen to no other: gloo asks nobody who he is. (NCCL is not told so.)"""


@dataclass(frozen=True)
class Size:
    """How many ranks.

    Attributes:
        here: On each machine.
        nodes: Machines.
    """

    here: int
    nodes: int

    @property
    def world(self) -> int:
        """All of them."""
        return self.here * self.nodes


def size_of(trainer: TrainerSettings) -> Size:
    """The ranks that a cell wants here and now.

    Raises:
        RunError: there are not as many devices or machines.
    """
    if trainer.accelerator == "cpu":
        assert trainer.devices != "all", "refused with the settings"
        return Size(trainer.devices, trainer.nodes)
    import torch

    there = torch.cuda.device_count()
    wanted = max(there, 1) if trainer.devices == "all" else trainer.devices
    if there < wanted:
        raise RunError(
            f"trainer.devices={trainer.devices} on accelerator={trainer.accelerator}, but torch "
            f"sees {there} GPUs here. Give {f'trainer.devices={there}, or ' if there else ''}"
            f"trainer=cpu with any number of processes."
        )
    return Size(wanted, trainer.nodes)


def need_one_device(cell: Cell) -> None:
    """Refuse several devices for what looks into one process, and machines that are not held.

    Raises:
        RunError: that is so.
    """
    looks: dict[str, str | None] = {"debug": cell.debugging if cell.debugging != "fast" else None}
    looks["stop_after"] = cell.stop_after
    for key, value in looks.items():
        if value is not None and cell.trainer.several:
            raise RunError(
                f"{key}={value} looks into one process, and trainer.devices="
                f"{cell.trainer.devices}, trainer.nodes={cell.trainer.nodes} ask for several. Give "
                f"trainer.devices=1 trainer.nodes=1 as well: a step is the same on one."
            )
    need_nodes(cell.trainer.nodes)


def need_nodes(nodes: int) -> None:
    """Refuse several machines where this is no job of SLURM that holds them.

    Raises:
        RunError: that is so.
    """
    if nodes == 1:
        return
    there = srun.nodes_of(os.environ) if srun.in_job(os.environ) else 0
    if there < nodes:
        where = f"this job of SLURM holds {there}" if there else "this is no job of SLURM"
        raise RunError(
            f"trainer.nodes={nodes}: several machines are used inside a job of SLURM that holds "
            f"them, and {where}. As a sweep: python sweep.py study=<name> trainer=multinode "
            f"trainer.nodes={nodes} hydra/launcher=slurm_nodes hydra.launcher.nodes={nodes}; or "
            f"sbatch --nodes={nodes} --wrap 'python train.py ...'. On one machine give "
            f"trainer.nodes=1."
        )


def run_group(file: Path, size: Size) -> int:
    """Run a cell's config file by a group of ranks to the end of all of them.

    Args:
        file: For `heed.study.child`.
        size: How many ranks.

    Returns:
        The exit code of the rank that failed first; 128 + the signal if the group was asked to end.
    """
    os.environ[GROUP] = uuid.uuid4().hex[:8]
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)  # so that what our ranks end ends with us, and nothing else does
    _clear(file, size.world)
    noted: list[int] = []
    before = {number: signal.signal(number, lambda n, _: noted.append(n)) for number in ASKING}
    kills, lines = memory_kills(), Lines(by_slurm=srun.in_job(os.environ))
    try:
        with _begun(file, size, lines) as processes:
            members = Members(file, processes, size.world)
            members.see_out(noted)
        asked = noted[0] if noted else None
        end = members.verdict(asked, memory_kills() - kills, lines.bad_end)
        if end is not None:
            _tell(file, end, size.world)
        return end.code if end is not None else 0
    finally:
        _clear(file, size.world)
        for number, handler in before.items():
            signal.signal(number, handler)


def _clear(file: Path, world: int) -> None:
    for path in report_files(file, world):
        path.unlink(missing_ok=True)


def _tell(file: Path, end: Report, world: int) -> None:
    """Show why a group ended, once, and leave it to who records it."""
    who = "srun" if end.rank == SRUN else f"rank {end.rank} of {world}"
    if end.kind == "asked":
        show(StoppedError(end.message, end.code - 128))
        write_json(reason_file(file), {"reason": end.reason})
        return
    error: HeedError = RunError(f"{who} failed first: {end.message}")
    if end.kind == "user":
        error = RunError(end.message if end.rank == 0 else f"{who}: {end.message}")
    show(error)
    plain = end.kind == "user" and end.rank == 0
    write_json(reason_file(file), {"reason": end.reason if plain else f"{who}: {end.reason}"})


@contextmanager
def _begun(file: Path, size: Size, lines: Lines) -> Iterator[dict[int, subprocess.Popen[bytes]]]:
    """Begin the ranks; nothing of them is left after the block."""
    line = [sys.executable, *CHILD, str(file)]
    starts: list[tuple[list[str], dict[str, str]]] = [
        (line, {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"})
        for rank in range(size.world)
    ]
    if lines.by_slurm:
        starts = [([*srun.command(size.here, size.nodes, os.environ), *line], {})]
    processes: dict[int, subprocess.Popen[bytes]] = {}
    with _rendezvous(size, by_slurm=lines.by_slurm) as place:
        try:
            for rank, (command, who) in enumerate(starts):
                processes[rank] = _process(command, place | who)
                lines.read(rank, processes[rank])
            yield processes
        finally:
            _end(processes.values())
            lines.finish()


def _process(line: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 (our own ranks)
        line,
        stdin=subprocess.PIPE,  # closed when we die: the rank ends with us
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | environment,
        close_fds=False,  # locks that were handed to us are held by the ranks, too
        start_new_session=BY_SRUN in environment,  # a signal to us would have it kill all at once
    )


def _end(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.kill()
        process.wait()
        if process.stdin:
            process.stdin.close()


@contextmanager
def _rendezvous(size: Size, *, by_slurm: bool) -> Iterator[dict[str, str]]:
    """Host the store by which ranks find each other; the variables that tell them of it."""
    from torch.distributed import TCPStore

    from heed.data.encode import cores

    own = "127.0.0.1"
    host, listens = (socket.gethostname(), "") if by_slurm else (own, own)
    listening = socket.create_server((listens, 0), backlog=size.world)
    port = listening.getsockname()[1]
    store = TCPStore(
        own, port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach()
    )
    # tasks of SLURM outlive an `srun` that is killed: they hold a connection to us as well
    leash = socket.create_server((listens, 0), backlog=size.world) if by_slurm else None
    threads = max(1, cores() // size.here)
    told = {
        "WORLD_SIZE": str(size.world),
        "LOCAL_WORLD_SIZE": str(size.here),
        "MASTER_ADDR": host,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
    }
    if leash is None:
        yield told | LOOPBACK
    else:
        with leash:
            yield told | {BY_SRUN: f"{host}:{leash.getsockname()[1]}"}
    del store
