"""What watches a training: the local metrics file, the validation loss, kept steps."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import PositiveInt

from heed.core.component import component
from heed.core.console import progress_console
from heed.core.errors import ConfigError, Mistake, RunError
from heed.core.files import append_jsonl
from heed.tracking.tracker import Tracker

if TYPE_CHECKING:
    from heed.models.student import Loaded
    from heed.training.session import Session
    from heed.training.validation import Validation

Save = Callable[[Path], None]
"""Writes the student under training to a directory, in the layout of `model/`; all ranks call."""

Score = Callable[["Loaded", int], Mapping[str, Any]]
"""Scores the student under training on so many items: its value, first, and what belongs to it."""

Ask = Callable[[int], Sequence[str]]
"""So many instructions that a student may be asked while it trains."""


def step_directory(run: Path, step: int) -> Path:
    """Where the student of a run is written after one of its optimiser steps."""
    return run / "steps" / str(step) / "model"


def kept_on_disk(run: Path) -> list[int]:
    """Steps at which the student of a run was written whole, in order."""
    return sorted(int(path.parent.name) for path in run.glob("steps/*/model"))


@dataclass(frozen=True)
class Watched:
    """What a callback may see of a training.

    Attributes:
        directory: Of the run; it may write below.
        tracker: The mirror.
        validation: The examples that are kept apart, if any are.
        save: Writes the student as it is at the moment.
        loaded: The student under training.
        score: Scores the student as it is at the moment; None where nothing can.
        session: What of the training outlives the process; None outside a fit.
        ask: Instructions for samples; None where there are none.
    """

    directory: Path
    tracker: Tracker
    validation: Validation | None = None
    save: Save | None = None
    loaded: Loaded | None = None
    score: Score | None = None
    session: Session | None = None
    ask: Ask | None = None


class Watcher(ABC):
    """Makes a Lightning callback for one training.

    What a callback must remember across a training that is broken off, it gives in `state_dict` and
    takes in `load_state_dict`, as plain JSON data; `on_train_start` comes after that, also where a
    training goes on (`module.done` is not 0 then).
    """

    tuning_only = False
    """Whether it is left out of the pre-training of a base."""

    @abstractmethod
    def build(self, watched: Watched) -> Any:
        """A fresh callback for one training."""


@component
class Metrics(Watcher):
    """Write a row of `metrics.jsonl` every few optimiser steps, and send it to the mirror."""

    every_steps: PositiveInt
    """Optimiser steps from one row to the next; the last step is always written."""

    def build(self, watched: Watched) -> Any:
        """The callback."""
        import lightning

        every, path = self.every_steps, watched.directory / "metrics.jsonl"

        class Write(lightning.Callback):
            def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
                due = module.done % every == 0 or ending(trainer, module)
                if due and trainer.is_global_zero:
                    append_jsonl(path, module.row)
                    watched.tracker.log(module.row)

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

    def build(self, watched: Watched) -> Any:
        """The callback."""
        import lightning

        every = self.every_steps

        class Measure(lightning.Callback):
            def on_train_start(self, trainer: Any, module: Any) -> None:
                if module.done == 0:
                    measured(watched, trainer, module)

            def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
                if module.done % every == 0 or ending(trainer, module):
                    measured(watched, trainer, module)

        return Measure()


def measured(watched: Watched, trainer: Any, module: Any) -> None:
    """Measure the loss on the examples kept apart and write it, once a step whoever asks.

    Raises:
        RunError: it is not finite.
    """
    validation = watched.validation
    if validation is None or module.done in validation.losses:
        return
    loss = validation.measure(module.student, module.done)
    if not math.isfinite(loss):
        raise RunError(
            f"the loss on the {len(validation.examples)} examples kept apart is {loss} after "
            f"optimiser step {module.done}: the student is lost. The learning rate is probably too "
            f"high: lower lr.peak, lengthen lr.warmup_steps or set optim.clip_norm."
        )
    row = {"step": module.done, "validation_loss": loss, "validation_tokens": validation.tokens}
    if trainer.is_global_zero:
        append_jsonl(watched.directory / "metrics.jsonl", row)
        watched.tracker.log(row)


def ending(trainer: Any, module: Any) -> bool:
    """Whether the optimiser step that is done is the last one."""
    return bool(module.done >= module.steps or getattr(trainer, "should_stop", False))


@component
class KeepSteps(Watcher):
    """Write the student after chosen optimiser steps, as `steps/<step>/model` in the run.

    The training does not notice: neither weights nor random numbers change. A step after which
    there is none (the last is `model/` itself, later ones do not happen) is told of and not kept.
    """

    steps: tuple[PositiveInt, ...]
    """Optimiser steps, counted from 1, in rising order; empty keeps none."""

    tuning_only = True

    def __post_init__(self) -> None:
        if list(self.steps) != sorted(set(self.steps)):
            why = "these steps do not rise, or one stands there twice."
            action = f"Give {sorted(set(self.steps))}."
            raise ConfigError([Mistake("steps", str(list(self.steps)), why, action)])

    def build(self, watched: Watched) -> Any:
        """The callback."""
        import lightning

        steps, console = frozenset(self.steps), progress_console()

        class Keep(lightning.Callback):
            def on_train_start(self, trainer: Any, module: Any) -> None:
                late = sorted(step for step in steps if step >= module.steps)
                if late:
                    console.print(_late(late, module.steps), soft_wrap=True, markup=False)

            def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
                due = module.done in steps and not ending(trainer, module)
                if due:
                    assert watched.save is not None, "a fit says how its student is written"
                    watched.save(step_directory(watched.directory, module.done))

        return Keep()


def _late(steps: Sequence[int], last: int) -> str:
    """What to say of steps after which there is nothing that `model/` is not."""
    named = ", ".join(map(str, steps))
    return f"  not kept: the student after step {named}, because the training ends with step {last}"
