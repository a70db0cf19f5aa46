"""The one fit: pre-training and tuning alike, from a recipe to a student on disk."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lightning

from heed.core.console import progress_console
from heed.core.errors import RunError
from heed.core.files import write_text
from heed.core.identity import short_hash
from heed.core.ranks import everybody, from_leader, leads, rank, world
from heed.data.cache import cached
from heed.data.contamination import Prompts, counted
from heed.data.dataset import Dataset
from heed.data.encode import encode_all
from heed.data.plan import number_of_steps
from heed.data.statistics import statistics
from heed.methods.weights import original_sizes
from heed.models.likelihood import StudentLoss
from heed.models.sharing import why_alone
from heed.models.student import Loaded, Speech
from heed.tracking.tracker import Tracker
from heed.training.callbacks import (
    Ask,
    Save,
    Score,
    ValidationLoss,
    Watched,
    Watcher,
    ending,
    kept_on_disk,
)
from heed.training.card import card_head
from heed.training.checkpoint import check_reload, load_student, save_student
from heed.training.checkpoints import Checkpoints
from heed.training.checks import Mode
from heed.training.choosing import Choosing, refuse_impossible, take
from heed.training.datamodule import PlannedData
from heed.training.examples import examples_page
from heed.training.masters import hold_as_asked
from heed.training.module import Tuning
from heed.training.preflight import (
    Preflight,
    Writing,
    preflight,
    where_it_trains,
    with_attached,
)
from heed.training.reload import check_fresh
from heed.training.run import Recipe
from heed.training.session import First, Session, begin, finish
from heed.training.strategy import gathered, need_same_start
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
        score: Scores the student under training; None where nothing can.
        preflight: What a proof that fails before the training does.
        ask: Instructions for samples; None where there are none.
    """

    trainer: TrainerSettings
    callbacks: Mapping[str, Watcher]
    tracker: Tracker
    root: Path | None = None
    score: Score | None = None
    preflight: Mode = "block"
    ask: Ask | None = None


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

    A training of this recipe that was broken off in that directory goes on from its checkpoint.
    All ranks of a group call, each with the same student; the leader writes.

    Args:
        recipe: How.
        loaded: The student; its model is changed.
        around: Where.
        directory: Of the run.
        prompts: What the student will be scored on, looked for in what it is trained on.

    Returns:
        What the manifest records: counts of examples, tokens, events, seconds, final loss.
    """
    session = begin(directory, recipe, loaded)
    lightning.seed_everything(recipe.seed, verbose=False)
    student = StudentLoss(loaded.model)
    ready = _prepare(recipe, student, loaded, around, directory, prompts)
    steps = number_of_steps(len(ready.dataset.examples), recipe.data)
    module = together(Tuning(student, recipe, steps=steps))
    validation = _validation(ready.dataset, recipe, loaded)
    session.losses = validation.losses if validation else {}
    refuse_impossible(session, steps, kept_apart=validation is not None)
    watched = Watched(
        directory, around.tracker, validation, ready.save, loaded, around.score, session, around.ask
    )
    data = _train(module, ready.dataset, around, watched, session)
    taken = take(session, module)
    ready.save(directory / "model")
    module.zero_grad()
    everybody(None)  # nobody still reads what the leader's caller removes
    return _record(module, ready.dataset, data, around.trainer.strategy) | {
        "seconds": round(session.seconds, 1),
        "taken": taken,
        **session.record(),
        "preflight": ready.proved.record(around.preflight),
        "kept_steps": kept_on_disk(directory),
        "data": {key: value for key, value in ready.numbers.items() if key != "events"},
        "validation": validation.record() if validation else None,
        **_differences(ready, student, loaded, directory / "model"),
        "template": short_hash(loaded.template),
    }


def together(module: Tuning) -> Tuning:
    """See that all ranks begin with one student, and let each draw random numbers of its own.

    Raises:
        RunError: they begin with different ones.
    """
    if world() > 1:
        need_same_start(module)
        lightning.seed_everything(seed_of(module.recipe.seed, rank()), verbose=False)
    return module


def seed_of(seed: int, rank: int) -> int:
    """Of one rank's dropout and noise; the first has that of the recipe.

    Example:
        >>> seed_of(1, 0), seed_of(1, 1), seed_of(0, 1)
        (1, 3860569944, 1178544536)
    """
    return int(short_hash([seed, rank])[:8], 16) if rank else seed


def _differences(
    ready: _Ready, student: StudentLoss, loaded: Loaded, saved: Path
) -> dict[str, float]:
    """How far what is on the disk is from memory; the leader looks, the others hold their part."""
    with gathered(student):
        if not leads():
            return {}
        ids = ready.dataset.examples[0].ids
        return {
            "reload_difference": _differs(loaded, ids, saved),
            "fresh_process_difference": check_fresh(loaded, saved, ids),
        }


class _Ready(NamedTuple):
    """What a training begins with: the dataset, its numbers, what was proved, how to write."""

    dataset: Dataset
    numbers: dict[str, Any]
    proved: Preflight
    save: Save


def _prepare(
    recipe: Recipe,
    student: StudentLoss,
    loaded: Loaded,
    around: Surroundings,
    directory: Path,
    prompts: Prompts | None,
) -> _Ready:
    """Encode the data, make the student ready to be trained, and prove what can be proved.

    Proofs are of the whole student, before it is divided among ranks: one rank makes them.
    """
    dataset, numbers = dataset_for(recipe, loaded.speech, around.root, prompts)
    if leads():
        page = examples_page(dataset.sample, recipe.teacher.name, numbers)
        write_text(directory / "examples.html", page)
    recipe.method.store(loaded.model)
    there = partial(where_it_trains, loaded, around.trainer)
    known = numbers["overlap"], dataset.validation
    prove = partial(preflight, loaded, dataset.examples, recipe, *known)
    proved: Preflight = from_leader(there(prove) if leads() else None)
    tokens = loaded.tokenizer.convert_tokens_to_ids(list(proved.learned))
    attached = recipe.method.attach(loaded.model, tokens)
    hold_as_asked(loaded.model, recipe.precision)
    dataset.events.update(recipe.method.events(loaded.model))

    write = _writer(loaded, attached, recipe)
    if leads():
        differs = partial(_differs, loaded, dataset.examples[0].ids)
        writing = Writing(write, differs, directory)
        last = partial(with_attached, proved, loaded, dataset.examples, recipe, writing)
        proved = there(last)
        proved.settle(around.preflight)
    proved = from_leader(proved)

    def save(where: Path) -> None:
        with gathered(student):
            if leads():
                write(where)

    dataset.events.update(proved.events(len(dataset.examples), recipe))
    count = len(dataset.examples)
    events = ", ".join(f"{times:,} {event}" for event, times in dataset.events.items())
    steps = number_of_steps(count, recipe.data)
    line = f"  {count:,} examples, {steps:,} optimiser steps: {events}"
    progress_console().print(line, markup=False, soft_wrap=True)
    return _Ready(dataset, numbers, proved, save)


def _differs(loaded: Loaded, ids: Sequence[int], saved: Path) -> float:
    """Largest difference of the logits between memory and disk, as a share."""
    return check_reload(loaded, load_student(saved, loaded.loading), list(ids[:256]))


def _validation(dataset: Dataset, recipe: Recipe, loaded: Loaded) -> Validation | None:
    """The examples kept apart, if any are."""
    if not dataset.validation:
        return None
    alone = why_alone(loaded.model) is not None
    treatment = replace(recipe.data, packing="none") if alone else recipe.data
    pad = loaded.tokenizer.pad_token_id
    return Validation(dataset.validation, treatment, pad, recipe.precision)


def _writer(loaded: Loaded, attached: Any, recipe: Recipe) -> Save:
    """What writes the student under training, its random numbers untouched."""
    adapter, card = recipe.method.adapter, card_head(loaded, recipe)

    def save(directory: Path) -> None:
        save_student(loaded, attached, adapter, directory, card=card)

    return save


def _callbacks(around: Surroundings, watched: Watched, session: Session, steps: int) -> list[Any]:
    """What watches; the loss on examples kept apart is measured at both ends in any case.

    The order matters: who chooses says first whether a step is the last, and a checkpoint holds
    what all others have written.
    """
    watchers = sorted(around.callbacks.values(), key=lambda one: isinstance(one, Checkpoints))
    if not any(isinstance(watcher, ValidationLoss) for watcher in watchers):
        watchers.insert(0, ValidationLoss(every_steps=steps))
    built = [watcher.build(watched) for watcher in watchers]
    return [First(session), Choosing(watched, session), *built]


def _train(
    module: Tuning, dataset: Dataset, around: Surroundings, watched: Watched, session: Session
) -> PlannedData:
    """Run the Trainer, unless no step is left; returns the plan."""
    recipe, loaded = module.recipe, watched.loaded
    assert loaded is not None, "a fit has a student"
    pad, alone = loaded.tokenizer.pad_token_id, why_alone(loaded.model) is not None
    data = PlannedData(dataset.examples, recipe, pad=pad, alone=alone, start=session.start)
    if session.finished:
        finish(session, module, data)
        return data
    callbacks = _callbacks(around, watched, session, module.steps)
    with warnings.catch_warnings(), around.trainer.own_kernels():
        # One item is a whole optimiser step that is already packed: workers would not help.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*`IterableDataset` has `__len__` defined.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning's own use of torch
        trainer = around.trainer.build(precision=recipe.precision, callbacks=callbacks)
        loaded.model.train()
        with around.trainer.engaged(loaded.model):
            trainer.fit(module, datamodule=data)
    done, steps = module.done, module.steps
    assert ending(trainer, module), f"{done} of {steps} steps were done"
    return data


def _record(module: Tuning, dataset: Dataset, data: PlannedData, strategy: str) -> dict[str, Any]:
    moving = sum(p.numel() for p in module.parameters() if p.requires_grad)
    return {
        "optimiser_steps": module.done,
        "examples": len(dataset.examples),
        "supervised_tokens_of_one_epoch": int(dataset.examples.supervised.sum()),
        "events": dict(dataset.events) | module.events,
        "parameters": sum(original_sizes(module.parameters())),
        "parameters_trained": moving,
        "final_loss_nats_per_token": module.last_loss,
        "plan": data.record,
        "strategy": strategy if world() > 1 else None,
    }
