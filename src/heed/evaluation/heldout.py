"""Held-out text: how many bits a student needs for each byte of text that it was not trained on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Any

from pydantic import PositiveInt

from heed.core.component import component
from heed.core.errors import DataError
from heed.core.types import Answer, Item, ItemScore, Ratio, Request, RowSource
from heed.evaluation.ngrams import ngram_bits_per_byte
from heed.evaluation.task import Task, weighed


@component
class HeldOut(Task):
    """Bits per byte of plain text, in chunks that are each weighed alone.

    bits_per_byte = sum of nats / ln 2 / number of UTF-8 bytes: unlike a loss per token, it can be
    compared between tokenizers.
    """

    corpus: RowSource
    """The text; its part must be one that no student was trained on."""

    chunk_chars: PositiveInt
    """Most characters of a chunk; its tokens should fit the window of the students' training."""

    chunks: PositiveInt
    """Most chunks, taken evenly from the whole text."""

    metrics = ("bits_per_byte",)
    lower_is_better = frozenset(metrics)

    def items(self) -> list[Item]:
        """One item per chunk, asking for its likelihood without context.

        Raises:
            DataError: the corpus is missing or empty.
        """
        found = [
            Item(key=f"{row.id}/{place}", prompt=chunk, requests=(Request("", chunk),))
            for row in self.corpus.rows()
            for place, chunk in enumerate(cut(row.messages[0].content, self.chunk_chars))
        ]
        if not found:
            raise DataError(
                f"Corpus {self.corpus.name!r} has no text in its held-out part, so nothing can be "
                f"weighed. Raise its heldout_share, or choose another part."
            )
        count = min(self.chunks, len(found))
        return [found[i * len(found) // count] for i in range(count)]

    def score(self, name: str, item: Item, answer: Answer) -> ItemScore:
        """Bits over bytes of one chunk."""
        (found,) = answer.likelihoods
        bits = Ratio(found.nats / math.log(2), len(item.prompt.encode()))
        return weighed(name, item, {"bits_per_byte": bits}, {"weighed_tokens": found.tokens})

    def digest(self) -> str:
        """Hash of the chunks."""
        found = hashlib.sha256()
        for item in self.items():
            found.update(f"{len(item.prompt)}:{item.prompt}".encode())
        return found.hexdigest()[:16]

    def references(self, training: RowSource, tokenizer: Any) -> dict[str, float]:
        """Bits per byte of the n-gram models `unigram` and `trigram` on these chunks.

        Args:
            training: What they count: the student's pre-training text, cut here into such chunks.
            tokenizer: The student's; its tokens are what is counted (`heed.evaluation.ngrams`).
        """
        texts = (
            chunk
            for row in training.rows()
            for chunk in cut(row.messages[0].content, self.chunk_chars)
        )
        return ngram_bits_per_byte(
            texts,
            [item.prompt for item in self.items()],
            encode=lambda text: tokenizer.encode(text, add_special_tokens=False),
            vocabulary=len(tokenizer),
        )


def cut(text: str, chars: int) -> Iterator[str]:
    """Cut a text into chunks of at most `chars` characters, before a blank where there is one.

    The chunks joined are the text again.

    Example:
        >>> list(cut("once upon a time", 8))
        ['once', ' upon a', ' time']
    """
    start = 0
    while len(text) - start > chars:
        blank = max(text.rfind(mark, start + 1, start + chars + 1) for mark in " \n")
        stop = blank if blank > start else start + chars
        yield text[start:stop]
        start = stop
    if start < len(text):
        yield text[start:]
