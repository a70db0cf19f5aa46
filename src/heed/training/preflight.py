"""Proofs on the student and the data at hand before they are trained: cheap, and all at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from heed.core.collector import release
from heed.core.console import progress_console
from heed.core.errors import HeedError, RunError
from heed.core.ranks import world
from heed.data.dataset import Encoded
from heed.data.plan import sizes
from heed.models.embeddings import tokens_to_learn
from heed.models.memory import is_out_of_memory
from heed.models.precision import computing
from heed.models.sharing import why_alone
from heed.models.student import Loaded, refuse_too_long
from heed.training.checks import Check, Preflight, left_to_others, tried
from heed.training.own_loss import (
    AS_TRAINED,
    CAUSAL,
    ONE_LOSS,
    compared,
    looking_ahead,
    multiplied,
)
from heed.training.proofs import (
    EXACT,
    RELOADED,
    SANE,
    SPELT,
    aside,
    base_sanity,
    exact_gradients,
    reloadable,
    spelt,
)
from heed.training.run import Recipe
from heed.training.trainer import TrainerSettings

FITS = "every example fits the context"
ENDS = "the stop token is learned"
APART = "training and evaluation share no text"

FIRST = 32
"""Examples from the beginning among which the short ones are chosen."""


class Writing(NamedTuple):
    """How a student is written and read back.

    Attributes:
        save: Writes it to a directory.
        differs: Reads one back; the largest difference of the logits, as a share.
        beside: A directory on the disk that the run is written to.
    """

    save: Callable[[Path], None]
    differs: Callable[[Path], float]
    beside: Path


def preflight(
    loaded: Loaded,
    examples: Sequence[Encoded],
    recipe: Recipe,
    overlap: Mapping[str, Any] | None = None,
    kept_apart: Sequence[Encoded] = (),
) -> Preflight:
    """What can be proved before anything is made to train in the student.

    Args:
        loaded: The student, its weights stored as they will be.
        examples: What it will be trained on.
        recipe: How.
        overlap: What is known of texts that training and evaluation share; None if nothing is.
        kept_apart: Examples that its loss will be measured on; they have to fit, too.

    Returns:
        The outcome; nothing is raised for a proof that fails: see `Preflight.settle`.
    """
    started = time.monotonic()
    alone = why_alone(loaded.model)
    if recipe.data.packing == "none":
        alone = "data.packing=none"
    with aside():
        fits, usable = _fitting(loaded, examples, kept_apart)
        losses, (difference, effect, mean) = _losses(
            loaded, usable, recipe.precision, alone=alone is not None
        )
        first = examples[:FIRST]
        written = tried(SPELT, lambda: spelt(loaded, recipe.teacher, first))
        ends = share_that_ends(loaded, examples)
        learned, stop = _stopping(loaded, recipe, ends)
    apart = sharing(overlap, dropped=recipe.data.drop_contaminated)
    checks = (fits, *losses, written, stop, apart)
    taken = time.monotonic() - started
    return Preflight(checks, difference, effect, alone, ends, mean, learned, taken)


Numbers = tuple[float | None, float | None, float | None]
"""Difference, effect of neighbours and mean of `Compared`."""


def _losses(
    loaded: Loaded, usable: Sequence[Encoded], precision: str, *, alone: bool
) -> tuple[list[Check], Numbers]:
    """What the student's own loss says: causal, one loss, sane.

    Args:
        loaded: The student.
        usable: Examples that fit, short first.
        precision: Of the training. Where it casts what is multiplied, devices have other kernels
            than for the weights' own format: both ways are proved.
        alone: Whether each has a row of its own.
    """
    nothing: Numbers = (None, None, None)
    if not usable:
        return [
            Check(name, "left", "no example fits") for name in (CAUSAL, ONE_LOSS, SANE)
        ], nothing
    causal = tried(CAUSAL, lambda: looking_ahead(loaded, usable[-1]))
    few = [*usable[:3], usable[-1]] if len(usable) > 3 else usable
    try:
        one = compared(loaded, few, alone=alone)
    except HeedError as error:  # attention that no row of several documents is for
        refused = Check(ONE_LOSS, "block", str(error))
        return [causal, refused, Check(SANE, "left", "there is no loss to look at")], nothing
    sane = tried(SANE, lambda: base_sanity(loaded, usable[:3], one.mean))
    checks, weights = [causal, one.check, sane], multiplied(loaded)
    with computing(loaded.model, precision):
        if multiplied(loaded) != weights:
            again = partial(compared, loaded, few, alone=alone, name=AS_TRAINED)
            checks.insert(2, tried(AS_TRAINED, lambda: again().check))
    return checks, (one.difference, one.effect, one.mean)


def where_it_trains(
    loaded: Loaded, trainer: TrainerSettings, prove: Callable[[], Preflight]
) -> Preflight:
    """Prove on the device that trains, whose kernels are its own; the student is put back after it.

    One that is divided among ranks may fit on none of them: it is proved on the processor. So is
    one for whose proofs the device has too little memory, and that is said.

    Args:
        loaded: The student, on the processor.
        trainer: Devices of the training.
        prove: Makes the proofs.
    """
    device = "cpu" if trainer.divides and world() > 1 else trainer.device
    if device == "cpu":
        return prove()
    try:
        loaded.to(device)
        return prove()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    finally:
        loaded.to("cpu")
        release()
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()  # what is told of the training is its own
    told = f"  the proofs do not fit into the memory of {device}: made on the processor"
    progress_console().print(told, markup=False, soft_wrap=True)
    return prove()


def with_attached(
    proved: Preflight,
    loaded: Loaded,
    examples: Sequence[Encoded],
    recipe: Recipe,
    writing: Writing,
) -> Preflight:
    """The rest, once it is made what trains.

    Args:
        proved: What was proved before.
        loaded: The student, with what will train in it.
        examples: What it will be trained on.
        recipe: How.
        writing: How it is written.
    """
    started = time.monotonic()
    _, usable = _fitting(loaded, examples)
    eight, alone = usable[:8], proved.alone is not None
    exact = [Check(EXACT, "left", "takes two examples that fit")]
    if len(eight) > 1:
        with aside():
            exact = exact_gradients(loaded, eight, recipe.precision, alone=alone)
    with aside():
        whole = tried(RELOADED, lambda: reloadable(loaded.model, *writing))
    taken = proved.seconds + time.monotonic() - started
    checks = (*proved.checks, *exact, whole, *left_to_others())
    return replace(proved, checks=checks, seconds=taken)


def _fitting(
    loaded: Loaded, examples: Sequence[Encoded], kept_apart: Sequence[Encoded] = ()
) -> tuple[Check, list[Encoded]]:
    """Whether all examples fit, and those of the first that do with the longest, short first."""
    lengths = sizes(examples)[0]
    longest = max([*lengths, *sizes(kept_apart)[0]])

    def prove() -> Check:
        refuse_too_long(loaded, longest, "the longest example", "data.max_tokens")
        return Check(FITS, "ok", f"{longest} of {loaded.context or 'any number of'} tokens")

    room = loaded.context or longest
    fit = [i for i in range(min(FIRST, len(lengths))) if lengths[i] <= room]
    best = int(np.argmax([length if length <= room else -1 for length in lengths]))
    if lengths[best] <= room and best not in fit:
        fit.append(best)
    return tried(FITS, prove), [examples[i] for i in sorted(fit, key=lambda i: lengths[i])]


def share_that_ends(loaded: Loaded, examples: Sequence[Encoded]) -> float:
    """Share of the examples whose last supervised token is a stop token."""
    stops = set(loaded.stop_ids)
    last = (int(np.flatnonzero(np.asarray(e.mask))[-1]) for e in examples)
    return sum(int(e.ids[i]) in stops for e, i in zip(examples, last, strict=True)) / len(examples)


def _stopping(loaded: Loaded, recipe: Recipe, ends: float) -> tuple[dict[str, str], Check]:
    """Tokens of the template that must be learned, and whether the student can learn to stop."""
    adapter, end = recipe.method.adapter, loaded.template.end_of_turn
    if recipe.data.over_long != "window" and ends < 1:
        line = (
            f"teacher {recipe.teacher.name!r}: only {ends:.1%} of the examples end with a "
            f"supervised stop token ({end!r}): the student would learn to ramble."
        )
        return {}, Check(ENDS, "block", line, "Check model.template.end_of_turn.")
    try:
        learned = tokens_to_learn(
            loaded, trains_embeddings=adapter.trains_embeddings, method=type(adapter).__name__
        )
    except RunError as error:
        return {}, Check(ENDS, "block", str(error))
    line = f"{end!r} ends {ends:.1%} of the examples"
    if adapter.trains_embeddings:
        line += "; all embeddings train"
    else:
        line += f"; {len(learned)} tokens of the template are learned beside the adapter"
    return learned, Check(ENDS, "ok", line)


def sharing(overlap: Mapping[str, Any] | None, *, dropped: bool) -> Check:
    """What is known of evaluation prompts in the training data.

    Args:
        overlap: `Overlap.record`; None if the prompts are not known.
        dropped: Whether such examples are left out.
    """
    if overlap is None:
        return Check(APART, "left", "the prompts of the evaluation are not known here")
    hits, prompts = overlap["examples_found"], overlap["prompts_looked_for"]
    line = f"{hits} examples hold a long word sequence of the {prompts} prompts looked for"
    if dropped or not hits:
        return Check(APART, "ok", f"{line}{'; they are dropped' if hits else ''}")
    advice = "Give data.drop_contaminated=true to leave them out."
    return Check(APART, "warn", f"{line}.", advice)
