"""Rows to examples under a data treatment, in parallel; whatever is dropped or cut is counted."""

from __future__ import annotations

import math
import os
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise
from typing import Any

import numpy as np

from heed.core.errors import DataError
from heed.core.types import ChatTemplate, Message, Rendered, RowSource
from heed.data.chunk import HELD_OUT, Part, chunk_of, refused_windows, up_to, windows
from heed.data.dataset import Chunk, Dataset, Gathered, dataset_of, in_memory, tokens_of
from heed.data.dataset import Encoded as Encoded  # what everybody else imports from here
from heed.data.intake import Events, Intake, Row, is_blank, named, refuse_repeats
from heed.data.spelling import encode as encode
from heed.data.spelling import (
    flatten,
    forget_limits,
    refuse_special,
    special_tokens,
    unspelt,
)
from heed.data.treatment import Treatment
from heed.data.workers import in_order, tokenizer_unthreaded

SAMPLE = 20
"""How many rendered examples are kept to be looked at."""

ROWS = 500
"""Rows that are encoded in one batch."""

UNRENDERED = "dropped: row cannot be rendered"
UNSPELT = "dropped: tokenizer cannot spell it"


class RowRefusedError(DataError):
    """A row that ends the run, if it is wanted.

    Attributes:
        row: Its number in the source.
    """

    def __init__(self, row: int, error: DataError):
        self.row = row
        super().__init__(str(error))


@dataclass(frozen=True)
class Encoder:
    """Rows to a chunk of examples: what a worker does.

    Attributes:
        template: How turns become text.
        tokenizer: How text becomes ids.
        treatment: What becomes of what is too long, and which turns are supervised.
    """

    template: ChatTemplate
    tokenizer: Any
    treatment: Treatment

    def __call__(self, rows: Sequence[Row]) -> Chunk:
        """Encode rows in one batch, up to the first that cannot be, and such rows are not dropped.

        Whether that row is wanted, and so ends the run, is not known here: `Chunk.failure`.
        """
        wanted, failure = rows, None
        while True:
            try:
                return self._chunk(wanted)._replace(failure=failure)
            except RowRefusedError as error:
                wanted, failure = [row for row in wanted if row.number < error.row], error

    def _chunk(self, rows: Sequence[Row]) -> Chunk:
        """All of these rows in one batch.

        Raises:
            RowRefusedError: a row cannot be rendered, or the tokenizer does not spell a response,
                and such rows are not dropped; or a conversation would be cut into windows.
        """
        events: Events = []
        pairs = [(row, text) for row in rows if (text := self._rendered(row, events))]
        parts: list[Part] = []
        sample: list[tuple[int, Rendered]] = []
        for text, whole in self._spelt(pairs, events):
            row = whole.row
            if whole.stop - whole.start <= self.treatment.max_tokens:
                found, shown = [whole], text
            else:
                found, shown = self._fitted(whole, text, events)
            parts += found
            if found and shown.supervised and not row.held_out and len(sample) < SAMPLE:
                sample.append((row.number, shown))
        return chunk_of(parts, events, sample)

    @cached_property
    def _special(self) -> re.Pattern[str] | None:
        return special_tokens(self.tokenizer)

    def _render(self, messages: Sequence[Message]) -> Rendered:
        return self.template.render(messages, loss_on=self.treatment.loss_on)

    def _rendered(self, row: Row, events: Events) -> Rendered | None:
        try:
            refuse_special(row.messages, self._special)
            return self._render(row.messages)
        except DataError as error:
            if self.treatment.on_bad_row == "error":
                raise RowRefusedError(row.number, named(row.name, error)) from error
            events.append((row.number, UNRENDERED))
            return None

    def _spelt(
        self, pairs: Sequence[tuple[Row, Rendered]], events: Events
    ) -> list[tuple[Rendered, Part]]:
        """Rows as text and as tokens, proved to spell their responses; the others are noted."""
        texts = [text for _, text in pairs]
        flat = flatten(texts, self.tokenizer)
        wrong = unspelt(flat, texts, self.tokenizer, [row.name for row, _ in pairs])
        if wrong and self.treatment.on_bad_row == "error":
            place, error = next(iter(wrong.items()))
            raise RowRefusedError(pairs[place][0].number, error)
        events += [(pairs[i][0].number, UNSPELT) for i in wrong]
        bounds = pairwise([0, *flat.ends.tolist()])
        return [
            (text, Part(row, flat, *edges))
            for i, ((row, text), edges) in enumerate(zip(pairs, bounds, strict=True))
            if i not in wrong
        ]

    def _fitted(self, whole: Part, text: Rendered, events: Events) -> tuple[list[Part], Rendered]:
        """What the treatment makes of a row that is too long, and its text."""
        number, rule = whole.row.number, self.treatment.over_long
        if rule == "drop":
            events.append((number, "dropped: over-long"))
            return [], text
        if rule == "window":
            if (error := refused_windows(whole.row, self.treatment.max_tokens)) is not None:
                raise RowRefusedError(number, error)
            found = windows(whole, self.treatment.max_tokens)
            events += [(number, "windows made of over-long rows")] * len(found)
            return found, text
        if (shorter := self._shortened(whole.row)) is None:
            events.append((number, "dropped: over-long, not one turn of the assistant fits"))
            return [], text
        cut = [part for _, part in self._spelt([(whole.row, shorter)], events)]
        events += [(number, "cut: over-long, after the last turn that fits")] * len(cut)
        return cut, shorter

    def _shortened(self, row: Row) -> Rendered | None:
        """The longest beginning of a conversation that fits and ends with a supervised turn."""
        ends = [
            i
            for i, m in enumerate(row.messages)
            if m.role == "assistant" and m.supervised and not is_blank(m.content)
        ]

        def tokens(end: int) -> int:
            return len(flatten([self._render(row.messages[: end + 1])], self.tokenizer).ids)

        fitting = bisect_right(ends, self.treatment.max_tokens, key=tokens)
        return self._render(row.messages[: ends[fitting - 1] + 1]) if fitting else None


def encode_all(
    source: RowSource,
    template: ChatTemplate,
    tokenizer: Any,
    treatment: Treatment,
    *,
    workers: int | None = None,
) -> Dataset:
    """Encode a whole source under a data treatment, in memory; every drop and cut is counted.

    Args:
        source: The rows.
        template: How they become text.
        tokenizer: How text becomes ids.
        treatment: What is dropped, cut and kept apart.
        workers: Threads; None takes as many as there are cores for us.

    Raises:
        DataError: nothing is left to train on.
    """
    files = in_memory()
    gathered = Gathered(files, len(tokenizer))
    encoder = Encoder(template, tokenizer, treatment)
    events, sample = encode_into(gathered, source, encoder, workers=workers)
    tokens = tokens_of([file.getbuffer() for file in files], gathered.kind)
    return dataset_of(tokens, events, sample)


@tokenizer_unthreaded()
def encode_into(
    gathered: Gathered,
    source: RowSource,
    encoder: Encoder,
    *,
    workers: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[Counter[str], list[tuple[int, Rendered]]]:
    """Encode a whole source, chunk by chunk, into files.

    Args:
        gathered: The files.
        source: The rows.
        encoder: How.
        workers: Threads; None takes one for each core.
        on_progress: Told the number of rows that are done.

    Returns:
        What happened, and (row, text) of the first rendered examples.

    Raises:
        DataError: nothing is left to train on, a row that is wanted cannot be encoded, or rows are
            given again on purpose and would be dropped.
    """
    refuse_repeats(source, encoder.treatment)
    forget_limits(encoder.tokenizer)  # before several threads use it
    intake = Intake(source, encoder.treatment)
    limit = encoder.treatment.limit
    left, last = (math.inf if limit is None else limit), math.inf
    sample: list[tuple[int, Rendered]] = []
    chunks = in_order(encoder, batches(intake.rows()), workers or cores())
    for whole in chunks:
        chunk = up_to(whole, left)
        left -= int(np.count_nonzero(~chunk.table["held_out"]))
        gathered.append(chunk)
        intake.events += chunk.events
        sample += chunk.sample[: SAMPLE - len(sample)]
        if on_progress is not None and len(chunk.table):
            on_progress(int(chunk.table["row"][-1]) + 1)
        if left <= 0:  # rows behind the one that filled the limit count for nothing
            last = int(chunk.table["row"][-1])
            chunks.close()
            break
        if chunk.failure is not None:
            raise chunk.failure
    gathered.finish()
    read = int(min(intake.read, last + 1))
    events = tally(source, read, [what for row, what in intake.events if row <= last])
    refuse_nothing(source, gathered.examples, events)
    return events, [(row, text) for row, text in sample if row <= last]


def refuse_nothing(source: RowSource, examples: int, events: Counter[str]) -> None:
    """Refuse a source that leaves nothing to train on.

    Raises:
        DataError: with everything that happened to its rows.
    """
    if examples == events[HELD_OUT]:
        way = "Raise data.max_tokens, or choose another data.over_long or data.validation_share."
        if 2 * events[UNSPELT] > events["rows read"]:
            way = "Take a student whose tokenizer knows this text."
        happened = ", ".join(f"{count:,} {what}" for what, count in events.items())
        raise DataError(
            f"teacher {source.name!r}: no example is left to train on ({happened}). {way}"
        )


def tally(source: RowSource, read: int, events: Sequence[str]) -> Counter[str]:
    """Everything that happened, by kind; what the source itself left out included."""
    counted = Counter({"rows read": read})
    counted.update(events)
    counted.update(source.events())
    return counted


def batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Rows in batches of a size that a worker takes at once.

    Raises:
        DataError: a row cannot be read; the rows before it are given first, since they may be all
            that is wanted.
    """
    more = True
    while more:
        batch: list[Row] = []
        try:
            for row in islice(rows, ROWS):
                batch.append(row)
        except DataError:
            if batch:
                yield batch
            raise
        if more := bool(batch):
            yield batch


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
