"""One process's part of a training, which may take several: it begins anew or goes on."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning

from heed.core.errors import RunError
from heed.core.files import read_jsonl
from heed.core.identity import digest_model, short_hash, versions
from heed.core.manifest import code_state
from heed.core.ranks import everybody, from_leader, leads, rank, world
from heed.models.student import Loaded
from heed.training.callbacks import ending
from heed.training.points import (
    CANDIDATES,
    CHECKPOINTS,
    OPTIMIZER,
    WEIGHTS,
    Point,
    clear,
    cut_rows,
    keep_only,
    newest,
    read_point,
    refuse_other,
    row_sizes,
    rows_of,
    steps_in,
    write_point,
)
from heed.training.resumed import RESUMED, going_on, parts_of, place, said
from heed.training.rule import CheckpointRule
from heed.training.run import Recipe
from heed.training.state import (
    buffer_digests,
    frozen_digest,
    moving,
    optimizer_state,
    random_state,
    set_moving,
    set_optimizer_state,
    set_random_state,
)
from heed.training.strategy import gathered

POSITION = ("done", "skipped", "row", "last_loss")
"""What of the module is neither weights nor made anew."""


@dataclass
class Session:
    """What of a training outlives the process, and where it stands.

    Attributes:
        run: Its directory.
        about: What tells the training from any other.
        rule: Which step is taken.
        losses: Optimiser steps done -> validation loss; shared with who measures.
        point: The checkpoint from which it goes on; None if it begins.
        buffers: Digests of the student's buffers before the first step.
        written: Checkpoints that were written.
        began: When this process began, on the monotonic clock, in seconds.
    """

    run: Path
    about: dict[str, Any]
    rule: CheckpointRule
    losses: dict[int, float]
    point: Point | None
    buffers: dict[str, str] = field(default_factory=dict)
    written: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def start(self) -> int:
        """Optimiser steps that were done before this process."""
        return self.point.step if self.point else 0

    @property
    def finished(self) -> bool:
        """Whether no step is left to be done."""
        return self.point is not None and bool(self.point.state["finished"])

    @property
    def seconds(self) -> float:
        """Of the whole training, without what was done in vain."""
        before = float(self.point.state["seconds"]) if self.point else 0.0
        return before + time.monotonic() - self.began

    def write(self, trainer: Any, module: Any, *, keep: int) -> Path:
        """Write a checkpoint of the step that is done; all ranks call. Returns where it is.

        Args:
            trainer: With the optimiser and the callbacks.
            module: Under training.
            keep: How many checkpoints stay, the newest of them.

        Raises:
            RunError: the disk is full, or may not be written to.
        """
        (optimizer,) = trainer.optimizers
        tensors, rest = optimizer_state(module, optimizer)
        state: dict[str, Any] = {
            "step": module.done,
            "finished": ending(trainer, module),
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "seconds": self.seconds,
            "written": self.written + 1,
            "code": code_state(),
            **place(module.device.type),
            "about": self.about,
            "candidate": self.rule.taken(module.done, module.steps, self.losses),
            "losses": {str(step): loss for step, loss in self.losses.items()},
            "rows": row_sizes(self.run),
            "module": {name: getattr(module, name) for name in POSITION},
            "callbacks": {name: own.state_dict() for name, own in stateful(trainer)},
            "optimizer": rest,
            "random": everybody(random_state()),
        }
        path = write_point(self.run, state, moving(module, self.buffers), tensors)
        self.written += 1
        if leads():
            keep_only(path.parent, set(steps_in(path.parent)[-keep:]))
        self.prune(module)
        return path

    def prune(self, module: Any) -> None:
        """Remove candidates that neither this process nor a checkpoint could still take."""
        if not leads():
            return
        points = [self.run / CHECKPOINTS / str(n) for n in steps_in(self.run / CHECKPOINTS)]
        wanted = {int(read_point(path).state["candidate"]) for path in points}
        wanted.add(self.rule.taken(module.done, module.steps, self.losses))
        keep_only(self.run / CANDIDATES, wanted)

    def note(self, module: Any, digest: str) -> None:
        """Take note of what a process must begin with, before anything of it moves.

        Args:
            module: As it is before the first step.
            digest: Of what each step holds; the ranks may share it otherwise than before.

        Raises:
            RunError: the checkpoint began with something else.
        """
        with gathered(module):
            self.buffers = buffer_digests(module)
            self.about |= {"plan": digest, "frozen weights": frozen_digest(module)}
        if self.point is not None:
            refuse_other(self.point, self.about)

    def restore(self, module: Any) -> None:
        """Put the student and the counters where they stood.

        Raises:
            RunError: the checkpoint is damaged.
        """
        assert self.point is not None, "there is nothing to go on from"
        with fitting(self.point):
            set_moving(module, self.point.tensors(WEIGHTS))
            for name in POSITION:
                setattr(module, name, self.point.state["module"][name])
        self.losses.update({int(n): loss for n, loss in self.point.state["losses"].items()})

    def restore_rest(self, trainer: Any, module: Any) -> None:
        """Put the optimiser and the callbacks where they stood.

        Raises:
            RunError: the checkpoint is damaged.
        """
        assert self.point is not None, "there is nothing to go on from"
        state = self.point.state
        (optimizer,) = trainer.optimizers
        tensors = self.point.tensors(OPTIMIZER)
        with fitting(self.point):
            set_optimizer_state(module, optimizer, tensors, state["optimizer"])
        for name, own in stateful(trainer):
            if name in state["callbacks"]:
                own.load_state_dict(state["callbacks"][name])

    def record(self) -> dict[str, Any]:
        """What the manifest says of the parts of a training."""
        path = self.run / CHECKPOINTS / RESUMED
        rows = read_jsonl(path) if path.is_file() else []
        codes = dict.fromkeys(code for row in rows for code in (row["before"], row["code"]))
        return {
            "resumed": [row["step"] for row in rows],
            "resumed_by_code": list(codes),
            "resumed_on": parts_of(rows),
            "checkpoints_written": self.written,
        }


@contextmanager
def fitting(point: Point) -> Iterator[None]:
    """Turn what a checkpoint raises that does not fit the student into one clear screen.

    Raises:
        RunError: instead of what was raised.
    """
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise RunError(
            f"The checkpoint {point.directory} does not fit the student that it is to go on with "
            f"({type(error).__name__}: {error!s:.300}): another version of the code has written "
            f"it. Go on with that version (its commit: {point.state.get('code')}); or remove the "
            f"checkpoints (rm -r {point.directory.parent}), and the same command trains from the "
            f"first step on."
        ) from error


def begin(run: Path, recipe: Recipe, loaded: Loaded) -> Session:
    """Look for a checkpoint, and put what lies about where it was when that was written.

    The leader does that; all ranks go on from what it has found.

    Args:
        run: Its directory; the caller holds its lock.
        recipe: Of the training.
        loaded: The student, as it is before.

    Raises:
        RunError: the checkpoint is damaged, or of another training.
    """
    found: Session = from_leader(_begin(run, recipe, loaded) if leads() else None)
    return found


def _begin(run: Path, recipe: Recipe, loaded: Loaded) -> Session:
    point = newest(run)
    about: dict[str, Any] = {
        "recipe": short_hash(recipe),
        "base": digest_model(loaded.source, loaded.revision) if loaded.source else "random weights",
        "versions": versions(),
    }
    if point is None:
        shutil.rmtree(run / "steps", ignore_errors=True)
        clear(run)
        for path in rows_of(run):
            path.unlink()
        return Session(run, about, recipe.checkpoint, {}, None)
    refuse_other(point, about)
    cut_rows(run, point.state["rows"])
    keep_only(run / "steps", {n for n in steps_in(run / "steps") if n <= point.step})
    keep_only(run / CANDIDATES, {int(point.state["candidate"])})
    for path in (*run.glob(f"{CHECKPOINTS}/.*"), *run.glob(f"{CANDIDATES}/.*")):
        shutil.rmtree(path)  # half of one: its writer was killed
    written = int(point.state["written"])
    return Session(run, about, recipe.checkpoint, {}, point, written=written)


def finish(session: Session, module: Any, data: Any) -> None:
    """Go on where no step is left: the training ended, and what came after was broken off.

    Args:
        session: With a checkpoint after the last step.
        module: The student, untrained.
        data: The plan.

    Raises:
        RunError: the checkpoint is damaged, or of another training.
    """
    assert session.point is not None, "what is finished has a checkpoint"
    session.note(module, data.record["order"])
    session.restore(module)
    step = session.point.step
    said(session.point, f"  All is trained (step {step}).", None)


def stateful(trainer: Any) -> list[tuple[str, Any]]:
    """The callbacks that have something to remember, by a name that the next process has too.

    Raises:
        AssertionError: two have the same name, and one would get what the other remembers.
    """
    found = [(own.state_key, own) for own in trainer.callbacks if own.state_dict()]
    assert len({name for name, _ in found}) == len(found), [name for name, _ in found]
    return found


class First(lightning.Callback):
    """Before any other callback looks: the training stands where it stood."""

    def __init__(self, session: Session):
        self.session, self.stepped = session, False

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Go on from a checkpoint, if there is one."""
        session, data = self.session, trainer.datamodule
        session.note(module, data.record["order"])
        if session.point is None:
            return
        session.restore(module)
        session.restore_rest(trainer, module)
        here = place(module.device.type)
        said(session.point, going_on(session.point, module.steps, data), here)

    def on_train_batch_start(self, *_: Any) -> None:
        """Put the random numbers back, once: whatever has drawn since, it was not a step."""
        if self.session.point is not None and not self.stepped:
            before = self.session.point.state["random"]
            if len(before) == world():
                set_random_state(before[rank()])
        self.stepped = True
