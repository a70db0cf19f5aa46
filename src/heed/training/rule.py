"""Which step of a training the tuned student is, and when a training ends before its plan does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from pydantic import PositiveInt

from heed.core.component import component
from heed.core.errors import Mistake
from heed.data.treatment import Treatment


class CheckpointRule(ABC):
    """Says after which optimiser step a training's student is taken.

    A rule remembers nothing: it answers from the steps that are done and the validation losses
    that were measured, so a training that was broken off goes on as if it had not been.
    """

    @property
    @abstractmethod
    def said(self) -> str:
        """How the choice reads in a sentence: "the last step"."""

    @abstractmethod
    def taken(self, done: int, steps: int, losses: Mapping[int, float]) -> int:
        """The step that would be taken if the training ended now.

        Args:
            done: Optimiser steps done, at least 1.
            steps: Optimiser steps of the plan.
            losses: Optimiser steps done -> validation loss.
        """

    def measures(self, done: int, steps: int) -> bool:
        """Whether the choice needs the validation loss after a step."""
        return False

    def ends(self, done: int, steps: int, losses: Mapping[int, float]) -> bool:
        """Whether the training ends here, before its plan does."""
        return False

    def mistakes(self, data: Treatment) -> list[Mistake]:
        """What of the data's treatment makes the choice impossible.

        Args:
            data: How rows become steps.
        """
        return []


@component
class Last(CheckpointRule):
    """The one after the last step."""

    said = "the last step"

    def taken(self, done: int, steps: int, losses: Mapping[int, float]) -> int:
        """The last that is done."""
        return done


@component
class AtStep(CheckpointRule):
    """The one after a given step. The training ends there; its schedule is that of the whole plan.

    So `checkpoint=at_step checkpoint.step=50` gives what `callbacks.keep.steps=[50]` keeps.
    """

    step: PositiveInt
    """Optimiser step, counted from 1."""

    @property
    def said(self) -> str:
        """The step."""
        return f"step {self.step} as asked"

    def taken(self, done: int, steps: int, losses: Mapping[int, float]) -> int:
        """The last that is done, because no more are."""
        return done

    def ends(self, done: int, steps: int, losses: Mapping[int, float]) -> bool:
        """At the step."""
        return done >= self.step

    def mistakes(self, data: Treatment) -> list[Mistake]:
        """A step that does not come."""
        if data.steps is None or self.step <= data.steps:
            return []
        why = f"the training has {data.steps} steps (data.steps), so this one does not come."
        return [Mistake("checkpoint.step", str(self.step), why, "Give one of them.")]


@component
class Best(CheckpointRule):
    """The one with the lowest loss on the examples kept apart; of equal ones the earliest.

    The loss is measured every few steps and after the last; the untuned student is no candidate.
    Those examples are the teacher's, set aside by `data.validation_share`: no suite is asked.
    """

    every_steps: PositiveInt
    """Optimiser steps from one measurement to the next."""

    patience: PositiveInt | None
    """Measurements without a new lowest loss after which the training ends; null: it never does."""

    said = "lowest validation loss"

    def measures(self, done: int, steps: int) -> bool:
        """Every few steps, and after the last."""
        return done > 0 and (done % self.every_steps == 0 or done == steps)

    def taken(self, done: int, steps: int, losses: Mapping[int, float]) -> int:
        """The best that was measured for the choice; what others measured in between is no one's.

        Example:
            >>> best = Best(every_steps=2, patience=None)
            >>> best.taken(6, 9, {0: 0.1, 2: 1.5, 3: 0.2, 4: 1.0, 6: 1.0})
            4
            >>> best.taken(1, 9, {})
            1
        """
        found = self._measured(done, steps, losses)
        return min(found, key=lambda step: (losses[step], step), default=done)

    def ends(self, done: int, steps: int, losses: Mapping[int, float]) -> bool:
        """After so many measurements in a row without a new best."""
        if self.patience is None or not self.measures(done, steps):
            return False
        best = self.taken(done, steps, losses)
        since = [step for step in self._measured(done, steps, losses) if step > best]
        return len(since) >= self.patience

    def _measured(self, done: int, steps: int, losses: Mapping[int, float]) -> list[int]:
        return [step for step in sorted(losses) if step <= done and self.measures(step, steps)]

    def mistakes(self, data: Treatment) -> list[Mistake]:
        """Nothing is kept apart to choose by, or the first measurement never comes."""
        if data.validation_share == 0:
            why = "no examples are kept apart, so there is no validation loss to choose by."
            action = "Give data.validation_share=0.02, say, or checkpoint=last."
            return [Mistake("data.validation_share", "0.0", why, action)]
        return []
