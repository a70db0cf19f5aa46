"""How the ranks of a cell are begun inside a job of SLURM: one task of `srun` for each."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass

NEEDED = ("SLURM_CONF", "SLURM_JOB_ID", "SLURM_JOB_NUM_NODES", "SLURM_JOB_CPUS_PER_NODE")
"""What is handed on of what SLURM has set: where it is, and which job this is."""

LABEL = re.compile(rb"^\s*(\d+): ?")
"""How `srun --label` begins a line of a task."""

BAD_END = re.compile(r"^srun: error: (\S+): tasks? (\d+)\S*: (.+)$")
EXIT_CODE = re.compile(r"Exited with exit code (\d+)")
KILLED = 128 + signal.SIGKILL
SIGNALS = {  # in the words of srun
    signal.strsignal(number): 128 + number
    for number in (
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGSEGV,
        signal.SIGABRT,
    )
}


@dataclass(frozen=True)
class BadEnd:
    """A rank that has ended badly, as `srun` tells it.

    Attributes:
        rank: Which.
        how: In its words, and where.
        code: The exit code; 128 + the signal that killed it.
        time: When it was told, in seconds since the epoch.
    """

    rank: int
    how: str
    code: int
    time: float


def in_job(environment: Mapping[str, str]) -> bool:
    """Whether this is a process of a job, so that several ranks are begun by `srun`."""
    return "SLURM_JOB_ID" in environment


def nodes_of(environment: Mapping[str, str]) -> int:
    """The machines that this job has."""
    return int(environment.get("SLURM_JOB_NUM_NODES", "1"))


def command(here: int, nodes: int, environment: Mapping[str, str]) -> list[str]:
    """The beginning of the command line.

    Args:
        here: Ranks on each machine.
        nodes: Machines.
        environment: What SLURM has set.

    Example:
        >>> command(4, 2, {"SLURM_JOB_CPUS_PER_NODE": "32,64(x3)"})[1:5]
        ['--nodes=2', '--ntasks=8', '--ntasks-per-node=4', '--cpus-per-task=8']
    """
    each = re.findall(r"(\d+)(?:\(x\d+\))?", environment.get("SLURM_JOB_CPUS_PER_NODE", ""))
    cpus = min(map(int, each), default=0) // here
    return [
        "srun",
        f"--nodes={nodes}",
        f"--ntasks={here * nodes}",
        f"--ntasks-per-node={here}",
        f"--cpus-per-task={cpus}" if cpus else "--overcommit",
        "--gpu-bind=none",  # each task sees all of its machine, and takes its own
        "--overlap",  # the process that asks is itself within a step of the job
        "--kill-on-bad-exit=1",
        "--mpi=none",
        "--export=ALL",
        "--label",
    ]


def bad_end(line: str) -> BadEnd | None:
    """The rank that a line of `srun` tells has ended badly.

    Example:
        >>> bad_end("srun: error: node7: task 1: Killed").how
        'Killed, on node7'
    """
    found = BAD_END.match(line)
    if found is None:
        return None
    node, rank, how = found.groups()
    exited = EXIT_CODE.match(how)
    known = [code for said, code in SIGNALS.items() if said and how.startswith(said)]
    code = int(exited[1]) if exited else next(iter(known), KILLED)
    return BadEnd(int(rank), f"{how}, on {node}", code, time.time())
