"""When checkpoints are written: every few steps, every few minutes, when asked to end."""

from __future__ import annotations

import time
from typing import Any

from pydantic import PositiveFloat, PositiveInt

from heed.core.component import component
from heed.core.errors import StoppedError
from heed.core.ranks import everybody, leads, world
from heed.training.callbacks import Watched, Watcher, ending

END, TIME = "to end", "a checkpoint, because of the time"
"""What ranks wish: any of them the one, the leader, by its clock, the other."""


@component
class Checkpoints(Watcher):
    """Keep what a training needs to go on as if it had never been broken off.

    A checkpoint is written every few steps or minutes, after the last step, and when SIGTERM,
    SIGUSR1 or Ctrl-C asks the training to end: the step under way is finished, and the command ends
    with exit code 128 + the signal (143, 138, 130), all ranks together if one of them is asked. The
    same command goes on from there by itself, on any number of ranks.

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
            def setup(self, trainer: Any, module: Any, stage: str) -> None:
                asked.listen()  # what comes before the first step is heard in it

            def on_train_start(self, trainer: Any, module: Any) -> None:
                self.last = time.monotonic()
                module.wishes[END] = lambda: asked.signal is not None
                module.wishes[TIME] = lambda: leads() and own._is_time(time.monotonic() - self.last)

            def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
                late = world() == 1 and asked.signal is not None  # after the wishes were heard
                ends = late or END in module.wished
                by_step = own.every_steps is not None and module.done % own.every_steps == 0
                if not (ends or by_step or TIME in module.wished or ending(trainer, module)):
                    return
                session.write(trainer, module, keep=own.keep)
                self.last = time.monotonic()
                if ends:
                    told = next(one for one in everybody(asked.signal) if one is not None)
                    raise StoppedError(_stopped(told.name, module), told)

            def on_train_end(self, trainer: Any, module: Any) -> None:
                asked.stop_listening()

            def on_exception(self, trainer: Any, module: Any, exception: Any) -> None:
                asked.stop_listening()

        return Keep()

    def _is_time(self, seconds: float) -> bool:
        return self.every_minutes is not None and seconds >= 60 * self.every_minutes


def _stopped(name: str, module: Any) -> str:
    return (
        f"{name} asked this training to end: it stands after optimiser step {module.done} of "
        f"{module.steps}, and all of it is kept. The same command goes on from there."
    )
