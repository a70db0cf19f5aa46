"""The end of an online W&B run: waited for while its server answers, and no longer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

LOOK_SECONDS = 2.0
"""How long to wait until the server is asked again whether it is there."""

GONE = "the server does not answer any more ({}). What it lacks can be sent later."


def finish_online(run: Any, code: int, silence: Callable[[], str | None]) -> None:
    """End a run; of one whose server is gone, what was not sent is not waited for.

    Args:
        run: Of W&B.
        code: 0, or 1 if it has failed.
        silence: Asks whether the server is out of reach, and why.

    Raises:
        ConnectionError: not all has arrived.
    """
    caught: list[Exception] = []

    def wait() -> None:
        try:
            run.finish(exit_code=code)
        except Exception as error:
            caught.append(error)

    thread = threading.Thread(target=wait, daemon=True, name="wandb")
    thread.start()
    thread.join(LOOK_SECONDS)
    while thread.is_alive():
        if gone := silence():
            abandon(run)
            raise ConnectionError(GONE.format(gone))
        thread.join(LOOK_SECONDS)
    if caught:
        raise caught[0]


def abandon(run: Any) -> None:
    """End the library's process, which would go on trying; a later run begins another.

    Args:
        run: Of W&B, which watches that process; it stops to do so.
    """
    import wandb

    checker = getattr(run, "_run_status_checker", None)
    if checker is not None:
        checker.join()
    connection = getattr(wandb.setup(), "_connection", None)
    process = getattr(getattr(connection, "_proc", None), "_process", None)
    if process is not None:
        process.kill()
        process.wait()
    with suppress(Exception, SystemExit):  # it is dead, and would have us end as it did
        wandb.teardown()
