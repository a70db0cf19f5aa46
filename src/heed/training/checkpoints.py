"""When checkpoints are written: every few steps, every few minutes, when asked to end."""

from __future__ import annotations

import time
from typing import Any

from pydantic import PositiveFloat, PositiveInt

from heed.core.component import component
from heed.core.errors import StoppedError
from heed.training.callbacks import Watched, Watcher, ending


@component
class Checkpoints(Watcher):
    """Keep what a training needs to go on as if it had never been broken off.

    A checkpoint is written every few steps or minutes, after the last step, and when SIGTERM,
    SIGUSR1 or Ctrl-C asks the training to end: the step under way is finished, and the command ends
    with exit code 128 + the signal (143, 138, 130). The same command goes on from there by itself.

    A checkpoint holds what moves and the optimiser's moments: of a fully tuned student in float32
    about three times its weights, of an adapter three times the adapter. They are removed once the
    tuned student is written.
    """

    every_steps: PositiveInt | None
    """Optimiser steps from one to the next; null for none."""

    every_minutes: PositiveFloat | None
    """Minutes after which one is written if no other was; null for none."""

    keep: PositiveInt
    """How many stay, the newest of them; while one is written there is one more."""

    def build(self, watched: Watched) -> Any:
        """The callback; it has to be the last of those that write."""
        import lightning

        from heed.training.signals import Asked

        assert watched.session is not None, "a fit has a session"
        session, asked, own = watched.session, Asked(), self

        class Keep(lightning.Callback):
            def on_train_start(self, trainer: Any, module: Any) -> None:
                self.last = time.monotonic()
                asked.listen()

            def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
                due = own._due(module.done, time.monotonic() - self.last)
                if not (due or asked.signal or ending(trainer, module)):
                    return
                if trainer.is_global_zero:
                    session.write(trainer, module, keep=own.keep)
                self.last = time.monotonic()
                if asked.signal:
                    raise StoppedError(_stopped(asked.signal.name, module), asked.signal)

            def on_train_end(self, trainer: Any, module: Any) -> None:
                asked.stop_listening()

            def on_exception(self, trainer: Any, module: Any, exception: Any) -> None:
                asked.stop_listening()

        return Keep()

    def _due(self, done: int, seconds: float) -> bool:
        by_step = self.every_steps is not None and done % self.every_steps == 0
        return by_step or (self.every_minutes is not None and seconds >= 60 * self.every_minutes)


def _stopped(name: str, module: Any) -> str:
    return (
        f"{name} asked this training to end: it stands after optimiser step {module.done} of "
        f"{module.steps}, and all of it is kept. The same command goes on from there."
    )
