"""Follows a checkpoint rule through a training: measures, keeps the candidate, ends early."""

from __future__ import annotations

from typing import Any

import lightning

from heed.core.console import progress_console
from heed.core.errors import RunError
from heed.training.callbacks import Watched, ending, measured
from heed.training.points import read_candidate, write_candidate
from heed.training.session import Session
from heed.training.state import moving, set_moving


class Choosing(lightning.Callback):
    """Comes before all that writes of a step, so that they know whether it is the last."""

    def __init__(self, watched: Watched, session: Session):
        self.watched, self.session = watched, session

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        """Measure where the rule wants it; keep what may be taken; end where it says so."""
        session, rule = self.session, self.session.rule
        if rule.measures(module.done, module.steps):
            measured(self.watched, trainer, module)
        if rule.ends(module.done, module.steps, session.losses):
            trainer.should_stop = True
        if not rule.measures(module.done, module.steps):
            return
        taken = rule.taken(module.done, module.steps, session.losses)
        if taken == module.done and not ending(trainer, module):
            write_candidate(session.run, taken, moving(module, session.buffers))
        session.prune(module)


def take(session: Session, module: Any) -> dict[str, Any]:
    """Put the step that the rule takes into the student; returns what the manifest says of it.

    Args:
        session: Of a training that has ended.
        module: With the student after the last step that was done.

    Raises:
        RunError: the candidate's weights are damaged or gone.
    """
    rule = session.rule
    taken = rule.taken(module.done, module.steps, session.losses)
    if taken != module.done:
        set_moving(module, read_candidate(session.run, taken))
    if (taken, module.done) != (module.steps, module.steps):
        progress_console().print(
            f"  The student is that of step {taken} ({rule.said}); {module.done} of "
            f"{module.steps} planned steps were done", markup=False, soft_wrap=True
        )  # fmt: skip
    return {
        "rule": type(rule).__name__,
        "why": rule.said,
        "step": taken,
        "steps_done": module.done,
        "steps_planned": module.steps,
        "validation_loss": session.losses.get(taken),
        "measured": sum(rule.measures(step, module.steps) for step in session.losses),
    }


def refuse_impossible(session: Session, steps: int, *, kept_apart: bool) -> None:
    """Refuse a rule that the data, now that they are read, do not allow.

    Args:
        session: With the rule.
        steps: Optimiser steps of the plan.
        kept_apart: Whether there are examples to validate on.

    Raises:
        RunError: there are none, or the step does not come.
    """
    rule = session.rule
    if rule.measures(steps, steps) and not kept_apart:
        raise RunError(
            "checkpoint=best chooses by the loss on examples kept apart, but of so few rows none "
            "were. Raise data.validation_share, or give checkpoint=last."
        )
    asked = getattr(rule, "step", None)
    if asked is not None and asked > steps:
        raise RunError(
            f"checkpoint.step={asked}: the training has {steps} optimiser steps, so this one does "
            f"not come. Give one of them, or checkpoint=last."
        )
