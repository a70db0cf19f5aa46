"""The one fit: pre-training and tuning alike, from a recipe to a student on disk."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning

from heed.core.console import progress_console
from heed.core.files import write_text
from heed.data.encode import Dataset, encode_all
from heed.data.plan import number_of_steps
from heed.models.likelihood import StudentLoss
from heed.models.student import Loaded
from heed.tracking.tracker import Tracker
from heed.training.callbacks import Watcher
from heed.training.checkpoint import check_reload, load_student, save_student
from heed.training.datamodule import PlannedData
from heed.training.examples import examples_page
from heed.training.module import Tuning
from heed.training.preflight import Preflight, preflight
from heed.training.run import Recipe
from heed.training.trainer import TrainerSettings


@dataclass(frozen=True)
class Surroundings:
    """What a fit needs and what does not decide its result.

    Attributes:
        trainer: Devices and threads.
        callbacks: What watches.
        tracker: The mirror.
    """

    trainer: TrainerSettings
    callbacks: Mapping[str, Watcher]
    tracker: Tracker


def fit(recipe: Recipe, loaded: Loaded, around: Surroundings, directory: Path) -> dict[str, Any]:
    """Train a student in place and write it to `directory/model`.

    Args:
        recipe: How.
        loaded: The student; its model is changed.
        around: Where.
        directory: Of the run.

    Returns:
        What the manifest records: counts of examples, tokens, events, seconds, final loss.
    """
    lightning.seed_everything(recipe.seed, verbose=False)
    dataset = encode_all(recipe.teacher, loaded.template, loaded.tokenizer, recipe.data)
    write_text(directory / "examples.html", examples_page(dataset.sample, recipe.teacher.name))
    proved = preflight(loaded, dataset.examples, recipe)
    attached = recipe.method.adapter.attach(loaded.model)
    steps = number_of_steps(len(dataset.examples), recipe.data)
    progress_console().print(
        f"  {len(dataset.examples)} examples, {steps} optimiser steps; {dict(dataset.events)}; "
        f"loss before {proved.base_loss:.3f} nats/token; packed = unpacked to "
        f"{proved.packed_difference:.0e}"
    )
    module = Tuning(StudentLoss(loaded.model), recipe, steps=steps)
    seconds = _train(module, dataset, loaded, recipe, around, directory)
    adapter = recipe.method.adapter
    card = _card(loaded, recipe)
    save_student(loaded, attached, adapter, directory / "model", card=card)
    reloaded = load_student(directory / "model", loaded.loading)
    reload_difference = check_reload(loaded, reloaded, dataset.examples[0].ids[:256])
    return _record(module, dataset, proved, seconds) | {"reload_difference": reload_difference}


def _train(
    module: Tuning,
    dataset: Dataset,
    loaded: Loaded,
    recipe: Recipe,
    around: Surroundings,
    directory: Path,
) -> float:
    """Run the Trainer; returns seconds."""
    callbacks = [watcher.build(directory, around.tracker) for watcher in around.callbacks.values()]
    data = PlannedData(dataset.examples, recipe, pad=loaded.tokenizer.pad_token_id)
    started = time.monotonic()
    with warnings.catch_warnings():
        # One item is a whole optimiser step that is already packed: workers would not help.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*`IterableDataset` has `__len__` defined.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning's own use of torch
        trainer = around.trainer.build(precision=recipe.precision, callbacks=callbacks)
        loaded.model.train()
        trainer.fit(module, datamodule=data)
    assert module.done == module.steps, f"{module.done} of {module.steps} steps were done"
    return time.monotonic() - started


def _record(module: Tuning, dataset: Dataset, proved: Preflight, seconds: float) -> dict[str, Any]:
    moving = sum(p.numel() for p in module.parameters() if p.requires_grad)
    return {
        "optimiser_steps": module.steps,
        "examples": len(dataset.examples),
        "supervised_tokens_of_one_epoch": sum(e.supervised for e in dataset.examples),
        "events": dict(dataset.events),
        "parameters": sum(p.numel() for p in module.parameters()),
        "parameters_trained": moving,
        "seconds": round(seconds, 1),
        "final_loss_nats_per_token": module.row["loss"],
        "preflight": proved._asdict(),
    }


def _card(loaded: Loaded, recipe: Recipe) -> str:
    return (
        f"---\nlibrary_name: transformers\ntags: [heed]\n---\n\n# {loaded.name}\n\n"
        f"Trained by heed on responses of `{recipe.teacher.name}` "
        f"({type(recipe.method.adapter).__name__}, peak learning rate {recipe.lr.peak:g}, "
        f"seed {recipe.seed}). Base: `{loaded.source or 'random weights'}`.\n"
        f"The exact settings are in `config.yaml` of the run directory.\n"
    )
