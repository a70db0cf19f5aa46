"""The steps of a training that were kept: which there are, and each one as a subject."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heed.core.errors import RunError
from heed.evaluation.suite import Suite
from heed.study.runs import TrainedRun, read_run, run_lock
from heed.study.scores import ModelSubject
from heed.training.callbacks import KeepSteps, Watcher, step_directory

if TYPE_CHECKING:
    from heed.models.student import Loaded


def last_step(run: TrainedRun) -> int:
    """The optimiser step after which stands `model/`: the last one, unless the run chose another.

    Raises:
        RunError: its manifest does not say.
    """
    last = _fitted(run, "optimiser_steps")
    return int(_fitted(run, "taken", {}).get("step", last))  # an older heed took the last


def recorded_steps(run: TrainedRun) -> list[int]:
    """The steps before that of `model/` that a run kept, whether or not they are still there.

    Where a run chose an earlier student than its last, what it kept of later steps is no part of
    the way to it.
    """
    last = last_step(run)
    return [int(step) for step in _fitted(run, "kept_steps", []) if step < last]


def kept_steps(run: TrainedRun) -> list[int]:
    """The steps before the last at which a run's student was written, in order.

    Raises:
        RunError: the manifest does not say, or names a step whose student is gone.
    """
    steps = recorded_steps(run)
    for step in steps:
        where = step_directory(run.directory, step)
        if not where.is_dir():
            raise RunError(
                f"Run {run.id} kept its student at step {step}, but {where} is gone, so there is "
                f"nothing to load. Put it back, or remove the run and train it again."
            )
    return steps


def _fitted(run: TrainedRun, key: str, otherwise: Any = None) -> Any:
    """One entry of what the fit recorded; runs of an older heed kept no steps."""
    fit = run.manifest.get("fit")
    found = fit.get(key, otherwise) if isinstance(fit, Mapping) else None
    if found is None:
        raise RunError(
            f"{run.directory / 'manifest.json'} has no fit.{key}, so it is not known what was "
            f"trained. Remove the run and train it again."
        )
    return found


def not_kept(directory: Path, watchers: Mapping[str, Watcher]) -> str | None:
    """What to say where a command asks for steps that a finished training did not keep.

    Kept steps do not decide a result, so they are not in the run id: a run that was trained without
    them answers the command, and lacks them.

    Args:
        directory: Of the run.
        watchers: Of the command.

    Returns:
        One line; None where nothing that could be kept is missing.
    """
    asked = {s for w in watchers.values() if isinstance(w, KeepSteps) for s in w.steps}
    if not asked:
        return None
    run = read_run(directory)
    lacking = sorted(s for s in asked - set(kept_steps(run)) if s < last_step(run))
    if not lacking:
        return None
    return (
        f"Run {run.id} was trained before without keeping step {', '.join(map(str, lacking))}. To "
        f"have it, remove {directory} and run this command again."
    )


@dataclass(frozen=True)
class KeptStep(ModelSubject):
    """The student of a run as it was after one of its optimiser steps.

    Attributes:
        run: Which.
        device: Where it is scored.
        step: One of `kept_steps(run)`.
    """

    run: TrainedRun
    device: str
    step: int

    @property
    def title(self) -> str:
        """Name, id and step."""
        return f"{self.run.name} (run {self.run.id}) after step {self.step}"

    @property
    def facts(self) -> dict[str, str]:
        """The run and the step."""
        made = f"{self.run.name}, {self.run.id}, after optimiser step {self.step}"
        trained = f"{self.run.manifest['time']} by code {self.run.manifest['code']}"
        return {"run": made, "trained": trained}

    @property
    def identity(self) -> dict[str, Any]:
        """The run, the time of its training, and the step."""
        return {"run": self.run.id, "trained": self.run.manifest["time"], "step": self.step}

    def directory(self, suite: Suite) -> Path:
        """Beside the student of that step."""
        return step_directory(self.run.directory, self.step).parent / "scores" / suite.name

    def lock_file(self, suite: Suite) -> Path:
        """That of the run."""
        return run_lock(self.run.directory)

    def load(self) -> Loaded:
        """What the training wrote at that step; an adapter is merged.

        Raises:
            RunError: its files are damaged, or an adapter's base is not what it was.
        """
        from heed.training.checkpoint import load_student

        base = str(self.run.manifest.get("base") or "not recorded")
        where = step_directory(self.run.directory, self.step)
        return load_student(where, self.run.student.loading, base).to(self.device)
