"""Proofs on the student as it will be trained: its gradient, its copy on disk, its first loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from heed.core.errors import HeedError
from heed.core.types import Example, RowSource
from heed.data.dataset import Encoded
from heed.models.likelihood import StudentLoss
from heed.models.precision import computing
from heed.models.student import Loaded
from heed.models.tokenizer import prompt_ids
from heed.training.checks import Check, tried
from heed.training.own_loss import multiplied, own_nats, row
from heed.training.state import random_state, set_random_state

GRADIENT = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Largest relative error of a step's gradient between two ways to cut it, by the type of the
weights: rounding reaches 3e-7 in float32 and 2e-3 in bfloat16 on the playground's student; a mean
of means is off by a tenth and more."""

MIXED = 0.25
"""The same where float32 weights are multiplied in bfloat16: kernels round in ways of their own.
That a step is cut rightly is seen in float32; this sees a kernel that is wrong."""

COMPARED = 2**26
"""Most numbers of a gradient that are compared (256 MiB in float32)."""

WRITTEN = 6 * 2**30
"""Most bytes that are written for the proof of a reload; it takes seconds, not minutes."""

ABSURD = 0.6
"""Losses on responses and on prompts that are both above this share of ln(vocabulary) are a red
flag: the size ladder's bases are reported at 2.25 to 2.45 nats a token, which is about 0.23 of
ln(32,000); random weights are at 1, and so is a model whose weights and tokenizer do not match."""

KNOWN = 0.05
"""Nats per supervised token below which there is nothing left to learn."""

EXACT = "the gradient is that of the mean, however the step is cut"
AS_IT_TRAINS = f"{EXACT}, in the training's precision"
RELOADED = "saved = reloaded"
SANE = "the base reads text"
SPELT = "the mask spells the response; one template asks and trains"


@contextmanager
def aside() -> Iterator[None]:
    """Leave all generators of random numbers as they were: no draw of the training moves."""
    before = random_state()
    try:
        yield
    finally:
        set_random_state(before)


def cuts(examples: Sequence[Encoded], *, alone: bool) -> dict[str, list[Sequence[Encoded]]]:
    """Ways to cut a step into micro-batches, by name (`1x8`: one of eight examples).

    Example:
        >>> e = Encoded("a", [1, 2], [False, True])
        >>> list(cuts([e] * 8, alone=False)), list(cuts([e] * 3, alone=True))
        (['1x8', '2x4', '8x1'], ['3x1'])
    """
    many = len(examples)
    sizes = [1] if alone else sorted({many, -(-many // 2), 1}, reverse=True)
    found = {}
    for size in sizes:
        rows = [examples[start : start + size] for start in range(0, many, size)]
        found[f"{len(rows)}x{size}"] = rows
    return found


def exact_gradients(
    loaded: Loaded, examples: Sequence[Encoded], precision: str, *, alone: bool
) -> list[Check]:
    """The gradient in the weights' own format and, where it is another, as it will be trained.

    Args:
        loaded: The student, with what will train in it.
        examples: Of the step, about eight.
        precision: Of the training, in Lightning's words.
        alone: Whether each example has a row of its own.
    """
    exact = partial(exact_gradient, loaded, examples, alone=alone)
    checks, weights = [tried(EXACT, exact)], multiplied(loaded)
    with computing(loaded.model, precision):
        if multiplied(loaded) != weights:
            checks.append(tried(AS_IT_TRAINS, partial(exact, name=AS_IT_TRAINS)))
    return checks


def exact_gradient(
    loaded: Loaded, examples: Sequence[Encoded], *, alone: bool, name: str = EXACT
) -> Check:
    """Cut one step in several ways, and compare each gradient with that of the model's own loss.

    Args:
        loaded: The student, with what will train in it.
        examples: Of the step, about eight.
        alone: Whether each example has a row of its own.
        name: Of the check.
    """
    moving, all_of_it = _compared_parameters(loaded.model)
    tokens = sum(example.supervised for example in examples)
    loss, errors = StudentLoss(loaded.model), {}
    with loaded.evaluating():
        whole = _gradient(
            moving, (own_nats(loaded, row(loaded, [e])).sum() / tokens for e in examples)
        )
        for cut, rows in cuts(examples, alone=alone).items():
            parts = (loss(row(loaded, some))[0] / tokens for some in rows)
            errors[cut] = _relative_error(_gradient(moving, parts), whole)
    worst = max(errors.values())
    allowed = MIXED if name == AS_IT_TRAINS else GRADIENT[loaded.model.dtype]
    part = "" if all_of_it else f", over {len(moving)} tensors"
    told = f"{', '.join(errors)} differ by {worst:.0e} of its norm (allowed {allowed:g}){part}"
    if worst <= allowed:
        return Check(name, "ok", told)
    line = f"student {loaded.name!r}: {told}; the step would depend on how it fits into memory."
    return Check(name, "block", line, "Give data.packing=none, or choose another model.")


def _compared_parameters(model: Any) -> tuple[list[Tensor], bool]:
    """What trains, or an even choice of it if that is too much to hold twice."""
    moving = [p for p in model.parameters() if p.requires_grad]
    every = -(-sum(p.numel() for p in moving) // COMPARED)
    chosen, held = [], 0
    for parameter in moving[::every] if every > 1 else moving:
        if every == 1 or held + parameter.numel() <= COMPARED:
            chosen.append(parameter)
            held += parameter.numel()
    return chosen or moving[:1], every == 1


def _gradient(moving: Sequence[Tensor], losses: Iterator[Tensor]) -> list[Tensor]:
    """The gradient of a sum, in float32; nothing is left in the parameters."""
    total = [torch.zeros_like(p, dtype=torch.float32) for p in moving]
    for loss in losses:
        found = torch.autograd.grad(loss, moving, allow_unused=True)
        for held, part in zip(total, found, strict=True):
            if part is not None:
                held += part.float()
    return total


def _relative_error(found: Sequence[Tensor], want: Sequence[Tensor]) -> float:
    size = torch.linalg.vector_norm
    off = sum(float(size(f - w)) ** 2 for f, w in zip(found, want, strict=True))
    norm = sum(float(size(w)) ** 2 for w in want)
    return math.sqrt(off) / max(math.sqrt(norm), 1e-30) if norm == norm else math.inf


def reloadable(
    model: Any, save: Callable[[Path], None], differs: Callable[[Path], float], beside: Path
) -> Check:
    """Write the student before it has learned, read it back, and compare the logits.

    What is zero everywhere (the second factor of a fresh adapter; of another method, the last
    tensor) is changed for the time of the proof: an update that is lost would not be seen
    otherwise.

    Args:
        model: Of the student, with what will train in it.
        save: Writes the student to a directory.
        differs: Reads one back; the largest difference of the logits, as a share.
        beside: A directory on the disk that the run is written to.
    """
    moving = [p for p in model.parameters() if p.requires_grad]
    size = sum(p.numel() * p.element_size() for p in moving)
    if size > WRITTEN:
        told = f"{size / 2**30:.0f} GiB to be written; done after the training"
        return Check(RELOADED, "left", told)
    beside.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryDirectory(dir=beside, prefix=".preflight.") as folder, stirred(moving):
            save(Path(folder) / "model")
            found = differs(Path(folder) / "model")
    except HeedError as error:
        advice = "It would be trained and then lost: choose another method or student."
        return Check(RELOADED, "block", str(error), advice)
    return Check(RELOADED, "ok", f"logits differ by {found:.0e} of the largest")


@contextmanager
def stirred(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Add a little to what is zero everywhere, or else to the last parameter, inside the block."""
    zero = [p for p in parameters if p.numel() and not p.any()]
    chosen = zero or list(parameters[-1:])
    before = [p.detach().clone() for p in chosen]
    with torch.no_grad():
        for number, parameter in enumerate(chosen):
            made = torch.Generator().manual_seed(number)
            drawn = torch.randn(parameter.shape, generator=made) * 0.01
            parameter.add_(drawn.to(parameter))
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, was in zip(chosen, before, strict=True):
                parameter.copy_(was)


def base_sanity(loaded: Loaded, examples: Sequence[Encoded], base_loss: float) -> Check:
    """Whether the untrained student's loss is that of a model which has read text.

    Args:
        loaded: The student.
        examples: A few; what is not supervised in them (prompts) is read as plain text.
        base_loss: Nats per supervised token of a few examples.
    """
    uniform = math.log(loaded.model.config.vocab_size)
    plain = plain_loss(loaded, examples)
    text = base_loss if plain is None else plain
    told = f"{base_loss:.2f} nats/token on what is supervised"
    told += "" if plain is None else f", {plain:.2f} on the prompts"
    told += f"; guessing costs {uniform:.2f}"
    if not (math.isfinite(base_loss) and math.isfinite(text)):
        return Check(SANE, "block", f"student {loaded.name!r}: {told}.", "Fetch its weights again.")
    if not loaded.source:
        return Check(SANE, "ok", f"{told} (random weights)")
    if min(text, base_loss) > ABSURD * uniform:
        why = f"a base that has read such text is below {ABSURD * uniform:.2f}"
        advice = "Check weights, tokenizer and model.dtype, unless it never read the like."
        return Check(SANE, "warn", f"{told}; {why}.", advice)
    if base_loss < KNOWN:
        advice = "Has the student been trained on these responses before?"
        return Check(SANE, "warn", f"{told}: nothing is left to learn.", advice)
    return Check(SANE, "ok", told)


def plain_loss(loaded: Loaded, examples: Sequence[Encoded]) -> float | None:
    """Nats per token that is not supervised, by the model's own forward; None if there is none.

    The template's own tokens and the student's stop tokens are left out: they are no text.
    """
    own = {*loaded.tokenizer.all_special_ids, *loaded.stop_ids}
    turned = [
        e._replace(mask=[not m and i not in own for m, i in zip(e.mask, e.ids, strict=True)])
        for e in examples
    ]
    with torch.inference_mode(), loaded.evaluating():
        found = [own_nats(loaded, row(loaded, [e])) for e in turned if e.supervised]
    return float(torch.cat(found).mean()) if found else None


def spelt(loaded: Loaded, source: RowSource, examples: Sequence[Encoded]) -> Check:
    """Hold tokens and mask against what the source says and how an evaluation would ask.

    The tokens before a response must be those of the prompt that an evaluation gives; the
    supervised ones behind it must spell the response and the end of turn, and nothing else.

    Args:
        loaded: The student.
        source: The teacher.
        examples: The first encoded ones.
    """
    rows = {f"{e.teacher}/{e.id}": e for e in islice(source.rows(_left_out), len(examples))}
    pairs = [(rows[e.id], e) for e in examples if e.id in rows]
    pairs = [(said, e) for said, e in pairs if _is_asked(said)]
    if not pairs:
        return Check(SPELT, "left", "no whole conversation among the first examples")
    wrong = [why for said, e in pairs if (why := _misspelt(loaded, said, e))]
    if not wrong:
        return Check(SPELT, "ok", f"{len(pairs)} of {len(pairs)} examples")
    line = f"{len(wrong)} of {len(pairs)} examples do not, the first: {wrong[0]}."
    return Check(SPELT, "block", line, "Report the template and the tokenizer.")


def _left_out(error: Exception) -> None:
    """A row that cannot be read is counted where the rows are encoded."""


def _is_asked(said: Example) -> bool:
    """Whether an example is a conversation whose last word is the assistant's, and is trained."""
    return len(said.messages) > 1 and said.messages[-1] == said.messages[-1]._replace(
        role="assistant", supervised=True
    )


def _misspelt(loaded: Loaded, said: Example, example: Encoded) -> str:
    """How an example differs from what it should be; empty if it does not."""
    template, tokenizer = loaded.template, loaded.tokenizer
    asked = prompt_ids(tokenizer, template.prompt_pieces(said.messages[:-1]))
    ids = [int(i) for i in example.ids]
    if len(ids) <= len(asked):
        return ""  # cut at a turn: the last response is not in it
    if ids[: len(asked)] != asked:
        return f"{example.id} is trained behind other tokens than it would be asked with"
    if not all(example.mask[len(asked) :]):
        return f"{example.id} leaves part of its response without loss"
    if example.mask[len(asked) - 1] and len(said.messages) == 2:
        return f"{example.id} takes loss on its prompt"
    text = tokenizer.decode(ids[len(asked) :], clean_up_tokenization_spaces=False)
    want = said.messages[-1].content + template.end_of_turn
    return "" if text == want else f"{example.id} spells {text[:60]!r} for {want[:60]!r}"
