"""Waiting for jobs of a SLURM until each has ended, also one that could tell nobody.

submitit waits for the file that a job writes at its end. One that was cancelled, or whose node
failed, writes none: where SLURM keeps no accounts it would be waited for for ever, and where it
does, the others would be waited for no more. The queue knows of all.
"""

from __future__ import annotations

import logging
import re
import subprocess
import threading
import time
import uuid
from collections.abc import Callable

from omegaconf import DictConfig, open_dict

from heed.core.console import progress_console
from heed.core.errors import RunError

POLL_SECONDS = 5.0
QUIET_SECONDS = 10.0
"""Jobs that have left the queue are waited for so long: their files may take a moment to show."""

UNSEEN_SECONDS = 300.0
"""So long SLURM may take until it shows jobs that it was given."""

SAY = progress_console()


def is_queue(launcher: DictConfig) -> bool:
    """Whether a launcher hands jobs to a SLURM, where they outlive who began them.

    Args:
        launcher: Its config.
    """
    return str(launcher.get("_target_", "")).endswith(".SlurmLauncher")


def name_jobs(launcher: DictConfig) -> str | None:
    """Give the jobs of a launch a name that no others have; None if they go to no SLURM.

    Args:
        launcher: Config of a launcher; its `name` is changed.
    """
    if not is_queue(launcher):
        return None
    name = f"{re.sub(r'[^A-Za-z0-9_.-]', '-', str(launcher.name))}-{uuid.uuid4().hex[:8]}"
    with open_dict(launcher):
        launcher.name = name
    return name


def begin_once(launcher: DictConfig) -> None:
    """Have each job of several machines begin its cell once; the cell begins its ranks itself.

    Args:
        launcher: Config of a launcher; `srun_args` is set, which is submitit's, not the plug-in's.
    """
    tasks = int(launcher.get("nodes") or 1) * int(launcher.get("tasks_per_node") or 1)
    if is_queue(launcher) and tasks > 1:
        with open_dict(launcher):
            launcher.srun_args = ["--nodes=1", "--ntasks=1"]


def wait_for(launch: Callable[[], object], name: str) -> None:
    """Launch jobs, and come back when all have ended.

    Args:
        launch: Submits them, and waits as long as it likes.
        name: What they, and no others, are called in the queue.

    Raises:
        RunError: SLURM took none of them.
        Exception: whatever `launch` raised.
    """
    from submitit.core.logger import get_logger

    get_logger().setLevel(logging.ERROR)  # no accounts: the queue is asked instead
    ended: list[Exception | None] = []

    def run() -> None:
        try:
            launch()
            ended.append(None)
        except Exception as error:
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True, name=name)
    thread.start()
    try:
        seen = _leave_when_gone(thread, ended, name)
    except BaseException:
        SAY.print(f"Jobs stay in the queue; to end them: scancel --name={name}", markup=False)
        raise
    error = ended[0] if ended else None
    if error is not None and not seen and not _is_of_a_job(error):
        raise RunError(
            f"SLURM took none of the jobs: {error!s:.2000}\nThe settings of the jobs are those of "
            f"hydra.launcher (conf/hydra/launcher). Nothing was run; correct them and give the "
            f"same command again."
        ) from error
    if error is not None:
        raise error


def _leave_when_gone(thread: threading.Thread, ended: list[Exception | None], name: str) -> bool:
    """Wait until all jobs have ended; whether the queue ever had one."""
    seen, last = False, time.monotonic()
    while True:
        if ended:  # one job was lost; there may be others
            time.sleep(POLL_SECONDS)
        thread.join(POLL_SECONDS)
        if ended and (ended[0] is None or not _is_of_a_job(ended[0])):
            return seen
        count = jobs_in_queue(name)
        if count == 0 and ended:
            return seen
        if count != 0:  # where it cannot be told, some may be there
            seen, last = seen or bool(count), time.monotonic()
        elif time.monotonic() - last > (QUIET_SECONDS if seen else UNSEEN_SECONDS):
            return seen


def jobs_in_queue(name: str) -> int | None:
    """How many jobs of a name wait or run; None where SLURM does not answer."""
    line = ["squeue", "--noheader", "--array", f"--name={name}", "--format=%i"]
    try:
        told = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return len(told.stdout.split())


def _is_of_a_job(error: Exception) -> bool:
    """Whether submitit tells how a job ended, not that it could not begin any."""
    from submitit.core.utils import UncompletedJobError

    return isinstance(error, UncompletedJobError)
