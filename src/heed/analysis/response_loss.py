"""How likely an untuned student finds each response of a teacher: the loss of training, untrained.

What is read, conditioned: the whole conversation as training reads it, rendered in the student's
template, and the loss of what is supervised there: the response and its end of turn. Not
conditioned: each response alone, behind what the template writes before an assistant's turn that
nobody asked for (the beginning of text, the default system prompt if there is one, the assistant's
header), and again the loss of the response and its end of turn. The tokens that are weighed are the
very same ones. Where a template writes nothing before, the end-of-text token stands in, so that the
first token is weighed too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

from heed.core.types import Example, Message
from heed.data.intake import EMPTY, says_nothing
from heed.data.treatment import Treatment

if TYPE_CHECKING:
    from heed.data.dataset import Encoded
    from heed.models.student import Loaded

Precision = Literal["weights", "bf16-mixed"]

AT_ONCE = 500
"""Examples that are tokenised together."""

OVER_LONG = "dropped: over-long"
"""How the encoder calls an example of more tokens than it may have."""

NO_LIMIT = 2**31 - 1
"""Tokens of an example for a student that does not say how many it can read."""


@dataclass(frozen=True)
class ResponseLoss:
    """What one example costs a student.

    Attributes:
        nats: Negative log-likelihood of the supervised tokens, summed.
        tokens: How many they are, ends of turns included.
        left_out: Why it was not read; empty if it was.
    """

    nats: float
    tokens: int
    left_out: str = ""


def response_losses(
    loaded: Loaded,
    examples: Sequence[Example],
    *,
    conditioned: bool,
    batch_tokens: int,
    max_tokens: int | None = None,
    precision: Precision = "weights",
) -> list[ResponseLoss]:
    """Weigh the responses of examples: tokens, template and loss are those of training.

    Args:
        loaded: The student, untuned.
        examples: What a teacher said.
        conditioned: Whether the student reads the instruction before the response.
        batch_tokens: Most tokens of a packed row; memory and speed, not the value.
        max_tokens: Longest example, prompt and template included, also where the prompt is not
            read, so that both ways weigh the same. Never more than the student's context: beyond
            it, its numbers mean nothing. None: the context.
        precision: `weights` reads in the type of the weights, `bf16-mixed` multiplies matrices in
            bfloat16, as a training of that precision does.

    Returns:
        One for each example, in order. Those that are empty, too long, or cannot be spelt are not
        read and say why: what is done about them is for the caller to choose.
    """
    from heed.models.precision import computing

    found = [ResponseLoss(0.0, 0, EMPTY)] * len(examples)
    documents: list[tuple[int, Encoded]] = []
    for place, encoded in _encoded(loaded, examples, max_tokens):
        if isinstance(encoded, str):
            found[place] = ResponseLoss(0.0, 0, encoded)
            continue
        found[place] = ResponseLoss(0.0, encoded.supervised)
        documents += [
            (place, part) for part in ([encoded] if conditioned else alone(loaded, encoded))
        ]
    with computing(loaded.model, precision):
        weighed = _nats(loaded, documents, batch_tokens)
    for (place, _), nats in zip(documents, weighed, strict=True):
        found[place] = replace(found[place], nats=found[place].nats + nats)
    return found


def unreadable(
    loaded: Loaded, examples: Sequence[Example], max_tokens: int | None = None
) -> list[str]:
    """Why `response_losses` would leave each example out; empty where it would not.

    Args:
        loaded: The student; only its template and its tokenizer are asked.
        examples: What a teacher said.
        max_tokens: As there.
    """
    found = [EMPTY] * len(examples)
    for place, encoded in _encoded(loaded, examples, max_tokens):
        found[place] = encoded if isinstance(encoded, str) else ""
    return found


def alone(loaded: Loaded, encoded: Encoded) -> list[Encoded]:
    """Each response of a conversation without anything that was said before it.

    Args:
        loaded: The student.
        encoded: The conversation.

    Returns:
        For each turn of the assistant that is trained on: what the template writes before an
        assistant's turn, and the turn's own tokens as they are in the conversation.
    """
    from heed.data.dataset import Encoded
    from heed.data.spelling import spell

    rendered = loaded.template.render([Message("assistant", "a")])
    header = spell(loaded.tokenizer, [rendered.text[: rendered.supervised[0].start]])[0]
    header = header or [loaded.tokenizer.eos_token_id]
    edges = np.flatnonzero(np.diff(np.asarray(encoded.mask, dtype=np.int8), prepend=0, append=0))
    found = []
    for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        said = encoded.ids[max(start, 1) : stop]
        mask = [False] * len(header) + [True] * len(said)
        found.append(Encoded(encoded.id, [*header, *said], mask))
    return found


def _encoded(
    loaded: Loaded, examples: Sequence[Example], max_tokens: int | None
) -> Iterator[tuple[int, Encoded | str]]:
    """Place of each example that says something, and its tokens, or why there are none."""
    from heed.data.dataset import Encoded
    from heed.data.encode import Encoder
    from heed.data.intake import Row

    limit = min(max_tokens or NO_LIMIT, loaded.context or NO_LIMIT)
    encoder = Encoder(loaded.template, loaded.tokenizer, _treatment(limit))
    said = [i for i, example in enumerate(examples) if not says_nothing(example.messages)]
    for start in range(0, len(said), AT_ONCE):
        rows = [Row(i, examples[i].id, examples[i].messages, False) for i in said[start:][:AT_ONCE]]
        chunk = encoder(rows)
        yield from chunk.events
        for place, (a, b) in zip(
            chunk.table["row"].tolist(), pairwise([0, *chunk.table["stop"].tolist()]), strict=True
        ):
            yield (
                place,
                Encoded(examples[place].id, chunk.ids[a:b].tolist(), chunk.mask[a:b].tolist()),
            )


def _treatment(limit: int) -> Treatment:
    """Nothing is changed, cut or trained; what cannot be read as it is is named."""
    return Treatment(
        max_tokens=limit,
        over_long="drop",
        on_bad_row="drop",
        duplicates="keep",
        loss_on="every_turn",
        validation_share=0.0,
        drop_contaminated=False,
        packing="best_fit",
        limit=None,
        examples_per_step=1,
        epochs=1,
        steps=None,
        micro_tokens=limit,
    )


def _nats(
    loaded: Loaded, documents: Sequence[tuple[int, Encoded]], batch_tokens: int
) -> list[float]:
    """Nats of each document's supervised tokens, several documents in a packed row."""
    import torch

    from heed.data.pack import Batch, flat_row
    from heed.models.likelihood import StudentLoss, rows_of
    from heed.models.sharing import why_alone

    most = batch_tokens if why_alone(loaded.model) is None else 0
    rows = rows_of([len(document.ids) for _, document in documents], most)
    loss, found, device = StudentLoss(loaded.model), [0.0] * len(documents), loaded.model.device
    with torch.inference_mode(), loaded.evaluating():
        for row in rows:
            batch = flat_row([documents[i][1] for i in row], pad=0)
            nats = loss.token_nats(Batch(*(part.to(device) for part in batch)))
            parts = nats.cpu().double().split([documents[i][1].supervised for i in row])
            for i, part in zip(row, parts, strict=True):
                found[i] = float(part.sum())
    return found
