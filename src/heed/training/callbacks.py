"""What watches a training: the local metrics file, the progress line, the mirror."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import PositiveFloat, PositiveInt

from heed.core.component import component
from heed.core.console import progress_console
from heed.core.errors import ConfigError, Mistake
from heed.core.files import append_jsonl
from heed.tracking.tracker import Tracker

if TYPE_CHECKING:
    from heed.training.validation import Validation

Save = Callable[[Path], None]
"""Writes the student under training to a directory, in the layout of `model/`."""


def step_directory(run: Path, step: int) -> Path:
    """Where the student of a run is written after one of its optimiser steps."""
    return run / "steps" / str(step) / "model"


def kept_on_disk(run: Path) -> list[int]:
    """Steps at which the student of a run was written whole, in order."""
    return sorted(int(path.parent.name) for path in run.glob("steps/*/model"))


class Watcher(ABC):
    """Makes a Lightning callback for one training."""

    @abstractmethod
    def build(
        self,
        directory: Path,
        tracker: Tracker,
        validation: Validation | None = None,
        save: Save | None = None,
    ) -> Any:
        """A fresh callback that may write below `directory` and to the mirror.

        Args:
            directory: Of the run.
            tracker: The mirror.
            validation: The examples that are kept apart, if any are.
            save: Writes the student as it is at the moment.
        """


@component
class Metrics(Watcher):
    """Write a row of `metrics.jsonl` every few optimiser steps, and send it to the mirror."""

    every_steps: PositiveInt
    """Optimiser steps from one row to the next; the last step is always written."""

    def build(
        self,
        directory: Path,
        tracker: Tracker,
        validation: Validation | None = None,
        save: Save | None = None,
    ) -> Any:
        """The callback."""
        import lightning

        every, path = self.every_steps, directory / "metrics.jsonl"

        class Write(lightning.Callback):
            def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
                due = module.done % every == 0 or module.done == module.steps
                if due and trainer.is_global_zero:
                    append_jsonl(path, module.row)
                    tracker.log(module.row)

        return Write()


@component
class ValidationLoss(Watcher):
    """Write the loss on the examples kept apart to `metrics.jsonl` and to the mirror.

    It is measured before the first step, every few steps, and after the last. Where no examples
    are kept apart (`data.validation_share=0`), nothing is written.

    A measurement passes once through all the examples that are kept apart, without gradients: for
    each of them about a third of the work of training on one. It grows with the data, so measure
    about once an epoch where the data are many.
    """

    every_steps: PositiveInt
    """Optimiser steps from one measurement to the next."""

    def build(
        self,
        directory: Path,
        tracker: Tracker,
        validation: Validation | None = None,
        save: Save | None = None,
    ) -> Any:
        """The callback."""
        import lightning

        every, path = self.every_steps, directory / "metrics.jsonl"

        class Measure(lightning.Callback):
            def on_train_start(self, trainer: Any, module: Any) -> None:
                self.measure(trainer, module)

            def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
                if module.done % every == 0 or module.done == module.steps:
                    self.measure(trainer, module)

            def measure(self, trainer: Any, module: Any) -> None:
                if validation is None:
                    return
                loss = validation.measure(module.student, module.done)
                row = {"step": module.done, "validation_loss": loss}
                row["validation_tokens"] = validation.tokens
                if trainer.is_global_zero:
                    append_jsonl(path, row)
                    tracker.log(row)

        return Measure()


@component
class Progress(Watcher):
    """A line with step, loss, tokens per second and the time that is left."""

    every_seconds: PositiveFloat
    """Seconds from one line to the next."""

    def build(
        self,
        directory: Path,
        tracker: Tracker,
        validation: Validation | None = None,
        save: Save | None = None,
    ) -> Any:
        """The callback."""
        import lightning

        every, console = self.every_seconds, progress_console()

        class Show(lightning.Callback):
            def on_train_start(self, trainer: Any, module: Any) -> None:
                self.began = self.shown = time.monotonic()
                self.tokens = 0

            def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
                self.tokens += module.row["tokens"]
                now = time.monotonic()
                due = now - self.shown >= every or module.done == module.steps
                if due and trainer.is_global_zero:
                    self.shown = now
                    console.print(progress_line(module, self.tokens, now - self.began))

        return Show()


@component
class KeepSteps(Watcher):
    """Write the student after chosen optimiser steps, as `steps/<step>/model` in the run.

    The training does not notice: neither weights nor random numbers change. A step after which
    there is none (the last is `model/` itself, later ones do not happen) is told of and not kept.
    """

    steps: tuple[PositiveInt, ...]
    """Optimiser steps, counted from 1, in rising order; empty keeps none."""

    def __post_init__(self) -> None:
        if list(self.steps) != sorted(set(self.steps)):
            why = "these steps do not rise, or one stands there twice."
            action = f"Give {sorted(set(self.steps))}."
            raise ConfigError([Mistake("steps", str(list(self.steps)), why, action)])

    def build(
        self,
        directory: Path,
        tracker: Tracker,
        validation: Validation | None = None,
        save: Save | None = None,
    ) -> Any:
        """The callback."""
        import lightning

        steps, console = frozenset(self.steps), progress_console()

        class Keep(lightning.Callback):
            def on_train_start(self, trainer: Any, module: Any) -> None:
                late = sorted(step for step in steps if step >= module.steps)
                if late:
                    console.print(_late(late, module.steps), soft_wrap=True, markup=False)

            def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
                due = module.done in steps and module.done < module.steps
                if due and trainer.is_global_zero:
                    assert save is not None, "a fit says how its student is written"
                    save(step_directory(directory, module.done))

        return Keep()


def _late(steps: Sequence[int], last: int) -> str:
    """What to say of steps after which there is nothing that `model/` is not."""
    named = ", ".join(map(str, steps))
    return f"  not kept: the student after step {named}, because the training ends with step {last}"


def progress_line(module: Any, tokens: int, seconds: float) -> str:
    """One line about a training under way.

    Args:
        module: Anything with `done`, `steps` and `row["loss"]`.
        tokens: Tokens seen so far.
        seconds: Time taken so far.
    """
    left = seconds / module.done * (module.steps - module.done)
    return (
        f"step {module.done:>5}/{module.steps}  loss {module.row['loss']:.3f} nats/token  "
        f"{tokens / seconds:,.0f} tokens/s  ETA {int(left) // 60}:{int(left) % 60:02d}"
    )
