"""Trainings that ranks make together: whole, or asked to end on the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from heed.core import ranks
from heed.core.component import component
from heed.core.errors import StoppedError
from heed.core.files import read_jsonl
from heed.methods.adapters import Full, LoRA
from heed.methods.method import Method
from heed.methods.weights import Plain
from heed.models.student import load
from heed.training import fit as fits
from heed.training.callbacks import KeepSteps, Metrics, ValidationLoss, Watcher
from heed.training.checkpoints import Checkpoints
from heed.training.fit import fit
from heed.training.rule import Best

STEPS = 6
ADAPTED = {"rank": 4, "alpha": 8.0, "layers": "all-linear"}
METHODS = {
    "full": Full(),
    "lora": LoRA(dropout=0.0, **ADAPTED),
    "drops": LoRA(dropout=0.2, **ADAPTED),
}


@component
class AskedToEnd(Watcher):
    """One rank is sent SIGTERM within a step, or before the first (step 1 is made all the same)."""

    step: int
    rank: int
    early: bool

    def build(self, watched: Any) -> Any:
        import lightning

        own = self

        def send() -> None:
            if ranks.rank() == own.rank:
                os.kill(os.getpid(), signal.SIGTERM)

        class Send(lightning.Callback):
            def on_train_start(self, trainer: Any, module: Any) -> None:
                if own.early:
                    send()

            def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
                if module.done == own.step - 1 and not own.early:
                    send()

        return Send()


@dataclass(frozen=True)
class Scene:
    """One training, or a part of one.

    Attributes:
        directory: Of the run.
        strategy: Of the ranks.
        method: By name.
        cut: After which step it is asked to end; 0: never.
        asked: Which rank is asked.
        early: Whether it is asked before the first step, while others are at something else.
        best: Whether the step with the lowest validation loss is taken.
        fresh: Whether the student is read back by a process of its own.
    """

    directory: Path
    strategy: str = "ddp"
    method: str = "lora"
    cut: int = 0
    asked: int = 0
    early: bool = False
    best: bool = False
    fresh: bool = False
    changes: dict[str, Any] = field(default_factory=dict)


def play(
    scene: Scene, base: Path, recipe_of: Callable[..., Any], around: Any, template: Any
) -> Any:
    """Train; returns the record, or the exit code with which the training ended when asked."""
    method = Method(name="m", weights=Plain(), noise=None, adapter=METHODS[scene.method])
    recipe = recipe_of(epochs=2, validation_share=0.2, method=method, eps=1e-4, **scene.changes)
    if scene.best:
        recipe = replace(recipe, checkpoint=Best(every_steps=1, patience=None))
    watch = {
        "asked": AskedToEnd(step=scene.cut, rank=scene.asked, early=scene.early),
        "validation": ValidationLoss(every_steps=2),
        "metrics": Metrics(every_steps=1),
        "keep": KeepSteps(steps=(3,)),
        "checkpoints": Checkpoints(every_steps=2, every_minutes=None, keep=1),
    }
    settings = replace(around.trainer, strategy=scene.strategy)
    around = replace(around, trainer=settings, callbacks=watch)
    real = fits.check_fresh
    if not scene.fresh:
        fits.check_fresh = lambda *_: 0.0
    try:
        return fit(recipe, load(str(base), name="tiny", template=template), around, scene.directory)
    except StoppedError as stopped:
        return stopped.exit_code
    finally:
        fits.check_fresh = real
        ranks.everybody(None)  # the next scene may read what this one has written


def play_all(scenes: list[Scene], *rest: Any) -> list[Any]:
    """One after the other, in the process group that we are in."""
    return [play(scene, *rest) for scene in scenes]


def losses(directory: Path) -> dict[int, float]:
    """Training loss by step, as written; each step once."""
    rows = [row for row in read_jsonl(directory / "metrics.jsonl") if "loss" in row]
    found = {row["step"]: row["loss"] for row in rows}
    assert len(found) == len(rows), "each step is written once"
    return found


def validation(directory: Path) -> dict[int, float]:
    """Validation loss by step."""
    rows = [row for row in read_jsonl(directory / "metrics.jsonl") if "validation_loss" in row]
    return {row["step"]: row["validation_loss"] for row in rows}


def exported(directory: Path, model: str = "model") -> dict[str, torch.Tensor]:
    """The tensors of a written student."""
    (file,) = (directory / model).glob("*.safetensors")
    return load_file(file)
