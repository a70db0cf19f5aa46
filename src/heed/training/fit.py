"""The one fit: pre-training and tuning alike, from a recipe to a student on disk."""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning

from heed.core.console import progress_console
from heed.core.errors import RunError
from heed.core.files import write_text
from heed.core.identity import short_hash
from heed.data.cache import cached
from heed.data.contamination import Prompts, counted
from heed.data.dataset import Dataset
from heed.data.encode import encode_all
from heed.data.plan import number_of_steps
from heed.data.statistics import statistics
from heed.models.likelihood import StudentLoss
from heed.models.sharing import why_alone
from heed.models.student import Loaded, Speech
from heed.tracking.tracker import Tracker
from heed.training.callbacks import Save, ValidationLoss, Watcher, kept_on_disk
from heed.training.checkpoint import check_reload, load_student, save_student
from heed.training.datamodule import PlannedData
from heed.training.examples import examples_page
from heed.training.module import Tuning
from heed.training.preflight import Preflight, preflight
from heed.training.run import Recipe
from heed.training.trainer import TrainerSettings
from heed.training.validation import Validation


@dataclass(frozen=True)
class Surroundings:
    """What a fit needs and what does not decide its result.

    Attributes:
        trainer: Devices and threads.
        callbacks: What watches.
        tracker: The mirror.
        root: Of the outputs, where tokens are kept for the next training on them; None keeps none.
    """

    trainer: TrainerSettings
    callbacks: Mapping[str, Watcher]
    tracker: Tracker
    root: Path | None = None


def dataset_for(
    recipe: Recipe, speech: Speech, root: Path | None, prompts: Prompts | None
) -> tuple[Dataset, dict[str, Any]]:
    """What a recipe trains a student on.

    Args:
        recipe: Has the teacher and the treatment.
        speech: The student's template and tokenizer.
        root: Of the outputs, where the tokens are kept; None keeps none.
        prompts: What the student is scored on; None if that is not known.

    Returns:
        The dataset, and what a manifest says of it.

    Raises:
        DataError: nothing is left to train on.
        RunError: contaminated examples are to be dropped, but the prompts are not known.
    """
    treatment = recipe.data
    if prompts is None and treatment.drop_contaminated:
        raise RunError(
            f"data.drop_contaminated=true: a base student (teacher {recipe.teacher.name!r}) is "
            f"made for every suite, so there are no prompts to keep it free of. Give "
            f"model.pretraining.data.drop_contaminated=false."
        )
    what = (recipe.teacher, speech.template, speech.tokenizer, treatment)
    dataset = encode_all(*what) if root is None else cached(*what, root)
    overlap: dict[str, Any] | None = None
    if prompts is not None:
        dataset, overlap = counted(dataset, recipe.teacher, treatment, prompts)
    return dataset, statistics(dataset) | {"overlap": overlap}


def fit(
    recipe: Recipe,
    loaded: Loaded,
    around: Surroundings,
    directory: Path,
    prompts: Prompts | None = None,
) -> dict[str, Any]:
    """Train a student in place and write it to `directory/model`.

    Args:
        recipe: How.
        loaded: The student; its model is changed.
        around: Where.
        directory: Of the run.
        prompts: What the student will be scored on, looked for in what it is trained on.

    Returns:
        What the manifest records: counts of examples, tokens, events, seconds, final loss.
    """
    lightning.seed_everything(recipe.seed, verbose=False)
    dataset, numbers = dataset_for(recipe, loaded.speech, around.root, prompts)
    page = examples_page(dataset.sample, recipe.teacher.name, numbers)
    write_text(directory / "examples.html", page)
    proved = preflight(loaded, dataset.examples, recipe)
    dataset.events.update(proved.events(len(dataset.examples), recipe))
    tokens = loaded.tokenizer.convert_tokens_to_ids(list(proved.learned))
    attached = recipe.method.adapter.attach(loaded.model, tokens)
    steps = number_of_steps(len(dataset.examples), recipe.data)
    progress_console().print(
        f"  {len(dataset.examples)} examples, {steps} optimiser steps; {dict(dataset.events)}; "
        f"loss before {proved.base_loss:.3f} nats/token; packed = unpacked to "
        f"{proved.packed_difference:.0e}"
    )
    module = Tuning(StudentLoss(loaded.model), recipe, steps=steps)
    validation = _validation(dataset, recipe, loaded)
    save = _writer(loaded, attached, recipe)
    callbacks = _callbacks(around, directory, validation, save, module.steps)
    seconds = _train(module, dataset, loaded, around, callbacks)
    save(directory / "model")
    reloaded = load_student(directory / "model", loaded.loading)
    reload_difference = check_reload(loaded, reloaded, dataset.examples[0].ids[:256])
    return _record(module, dataset, proved, seconds) | {
        "kept_steps": kept_on_disk(directory),
        "data": {key: value for key, value in numbers.items() if key != "events"},
        "validation": validation.record() if validation else None,
        "reload_difference": reload_difference,
        "template": short_hash(loaded.template),
    }


def _validation(dataset: Dataset, recipe: Recipe, loaded: Loaded) -> Validation | None:
    """The examples kept apart, if any are."""
    if not dataset.validation:
        return None
    alone = why_alone(loaded.model) is not None
    treatment = replace(recipe.data, packing="none") if alone else recipe.data
    return Validation(dataset.validation, treatment, loaded.tokenizer.pad_token_id)


def _writer(loaded: Loaded, attached: Any, recipe: Recipe) -> Save:
    """What writes the student under training, its random numbers untouched."""
    adapter, card = recipe.method.adapter, _card(loaded, recipe)

    def save(directory: Path) -> None:
        save_student(loaded, attached, adapter, directory, card=card)

    return save


def _callbacks(
    around: Surroundings, directory: Path, validation: Validation | None, save: Save, steps: int
) -> list[Any]:
    """What watches; the loss on examples kept apart is measured at both ends in any case."""
    shutil.rmtree(directory / "steps", ignore_errors=True)  # of a training that was broken off
    watchers = list(around.callbacks.values())
    if not any(isinstance(watcher, ValidationLoss) for watcher in watchers):
        watchers.append(ValidationLoss(every_steps=steps))
    return [watcher.build(directory, around.tracker, validation, save) for watcher in watchers]


def _train(
    module: Tuning,
    dataset: Dataset,
    loaded: Loaded,
    around: Surroundings,
    callbacks: list[Any],
) -> float:
    """Run the Trainer; returns seconds."""
    recipe = module.recipe
    alone = why_alone(loaded.model) is not None
    data = PlannedData(dataset.examples, recipe, pad=loaded.tokenizer.pad_token_id, alone=alone)
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
        "supervised_tokens_of_one_epoch": int(dataset.examples.supervised.sum()),
        "events": dict(dataset.events),
        "parameters": sum(p.numel() for p in module.parameters()),
        "parameters_trained": moving,
        "seconds": round(seconds, 1),
        "final_loss_nats_per_token": module.row["loss"],
        "preflight": proved._asdict(),
        "plan": module.trainer.datamodule.record,  # type: ignore[attr-defined]
    }


def _card(loaded: Loaded, recipe: Recipe) -> str:
    return (
        f"---\nlibrary_name: transformers\ntags: [heed]\n---\n\n# {loaded.name}\n\n"
        f"Trained by heed on responses of `{recipe.teacher.name}` "
        f"({type(recipe.method.adapter).__name__}, peak learning rate {recipe.lr.peak:g}, "
        f"seed {recipe.seed}). Base: `{loaded.source or 'random weights'}`.\n"
        f"The exact settings are in `config.yaml` of the run directory.\n"
    )
