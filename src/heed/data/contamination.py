"""Training rows that share long word sequences with the prompts that a student is scored on.

The rule is that of Brown et al. 2020 (https://arxiv.org/abs/2005.14165, appendix C): a sequence of
13 words, compared in lower case and without punctuation, and here in Unicode's form NFKC. A prompt
of 8 to 12 words is looked for as a whole; a shorter one is not, because so few words are shared by
chance.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heed.core.errors import DataError
from heed.core.identity import short_hash
from heed.core.types import RowSource
from heed.data.dataset import Dataset, Examples
from heed.data.intake import Intake
from heed.data.treatment import Treatment

WORDS = 13
"""Length of a sequence that counts as shared."""

FEWEST = 8
"""Shortest prompt, in words, that is looked for."""

ROWS = 500
"""Rows that are compared at once."""

_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that a product loses nothing


def words_of(text: str) -> list[str]:
    """A text's words in lower case, without punctuation; letters that look alike are one (NFKC).

    Example:
        >>> words_of("Don't say: '_No_!'")
        ['don', 't', 'say', 'no']
    """
    return re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).lower())


class Overlap(NamedTuple):
    """What training rows and prompts share.

    Attributes:
        prompts: Digest of the prompts.
        looked_for: Number of prompts that are long enough.
        too_short: Number of those that are not.
        rows: Row of the source -> the prompts that it shares a sequence with.
    """

    prompts: str
    looked_for: int
    too_short: int
    rows: Mapping[int, Set[str]]

    def hits(self, examples: Examples) -> NDArray[np.bool_]:
        """bool[n], which examples come from such a row."""
        return np.isin(examples.rows, np.array(sorted(self.rows), dtype=np.int64))

    def record(self, examples: Examples) -> dict[str, Any]:
        """What a manifest says of it: of the rows that became examples, and of no other."""
        hits = self.hits(examples)
        hit = {int(row) for row in examples.rows[hits]}
        return {
            "sequence_of_words": WORDS,
            "prompts": self.prompts,
            "prompts_looked_for": self.looked_for,
            "prompts_too_short_to_be_looked_for": self.too_short,
            "prompts_found": len({prompt for row in hit for prompt in self.rows[row]}),
            "examples_found": int(hits.sum()),
        }


@dataclass(frozen=True)
class Prompts:
    """The prompts of an evaluation, to be looked for in training text.

    Attributes:
        texts: What is asked, in any order.
    """

    texts: tuple[str, ...]

    @cached_property
    def digest(self) -> str:
        """Changes whenever a prompt changes."""
        return short_hash(sorted(self.texts))

    @cached_property
    def _sequences(self) -> dict[int, dict[tuple[int, ...], set[str]]]:
        """Length -> sequence of word numbers -> the prompts that hold it."""
        found: dict[int, dict[tuple[int, ...], set[str]]] = defaultdict(dict)
        for text in self.texts:
            words = words_of(text)
            if len(words) >= FEWEST:
                size = min(WORDS, len(words))
                numbers = [self._numbers[word] for word in words]
                for at in range(len(words) - size + 1):
                    found[size].setdefault(tuple(numbers[at : at + size]), set()).add(text)
        return found

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """Word -> its number, from 1; all other words are 0."""
        words = {word for text in self.texts for word in words_of(text)}
        return {word: number for number, word in enumerate(sorted(words), start=1)}

    @cached_property
    def _sums(self) -> dict[int, NDArray[np.uint64]]:
        return {
            size: np.unique(_rolling(np.array(list(known), dtype=np.uint64).ravel(), size)[::size])
            for size, known in self._sequences.items()
        }

    def too_short(self) -> int:
        """Number of prompts with too few words to be looked for."""
        return sum(len(words_of(text)) < FEWEST for text in self.texts)

    def found_in(self, texts: Sequence[str]) -> list[set[str]]:
        """For each text the prompts that it shares a sequence with."""
        words = [words_of(text) for text in texts]
        get = self._numbers.get
        lists = [[*(get(word, 0) for word in each), 0] for each in words]  # 0 parts the texts
        numbers = np.array([number for each in lists for number in each], dtype=np.uint64)
        stops = np.cumsum([len(each) for each in lists])
        found: list[set[str]] = [set() for _ in texts]
        for size, known in self._sequences.items():
            sums = _rolling(numbers, size)
            for at in np.flatnonzero(np.isin(sums, self._sums[size])).tolist():
                asked = known.get(tuple(numbers[at : at + size].tolist()))
                if asked is not None:  # equal sums of unequal sequences are told apart here
                    found[int(np.searchsorted(stops, at, side="right"))] |= asked
        return found


def _rolling(numbers: NDArray[np.uint64], size: int) -> NDArray[np.uint64]:
    """u64[n - size + 1], a sum of each run of numbers that depends on their order."""
    count = len(numbers) - size + 1
    if count <= 0:
        return np.zeros(0, dtype=np.uint64)
    total = np.zeros(count, dtype=np.uint64)
    for place in range(size):
        total = total * _FACTOR + numbers[place : place + count]
    return total


def overlap_of(source: RowSource, treatment: Treatment, prompts: Prompts, rows: int) -> Overlap:
    """Look for prompts in the rows of a source, whoever speaks.

    Args:
        source: What is trained on.
        treatment: Says what becomes of a row that cannot be read.
        prompts: What a student is scored on.
        rows: Only this many rows from the beginning are looked at.
    """
    found: dict[int, set[str]] = defaultdict(set)
    numbered = Intake(source, treatment).numbered()
    within = ((number, row) for number, row in numbered if number < rows)
    for batch in _batches(within, rows):
        texts = [(number, m.content) for number, row in batch for m in row.messages]
        hits = prompts.found_in([text for _, text in texts])
        for (number, _), hit in zip(texts, hits, strict=True):
            if hit:
                found[number] |= hit
    short = prompts.too_short()
    return Overlap(prompts.digest, len(prompts.texts) - short, short, found)


def _batches(pairs: Iterator[Any], rows: int) -> Iterator[list[Any]]:
    left = rows
    while left > 0 and (batch := list(islice(pairs, min(ROWS, left)))):
        yield batch
        left = rows - batch[-1][0] - 1


def counted(
    dataset: Dataset, source: RowSource, treatment: Treatment, prompts: Prompts
) -> tuple[Dataset, dict[str, Any]]:
    """Count the examples that share a sequence with a prompt, and drop them if so told.

    Returns:
        The dataset, its events told of them; and what a manifest says of it.

    Raises:
        DataError: nothing is left to train on.
    """
    examples = dataset.examples
    overlap = overlap_of(source, treatment, prompts, int(examples.rows.max()) + 1)
    hits = overlap.hits(examples)
    record = overlap.record(examples)
    if not hits.any():
        return dataset, record
    what = "shares a sequence of words with a prompt of the evaluation"
    drop = treatment.drop_contaminated
    dataset.events[f"dropped: {what}" if drop else f"{what}, kept"] = int(hits.sum())
    if not drop:
        return dataset, record
    if hits.all():
        raise DataError(
            f"teacher {source.name!r}: every example shares a sequence of words with a prompt of "
            f"the evaluation, so none is left to train on. Give data.drop_contaminated=false, or "
            f"another suite."
        )
    shown = [
        (row, text)
        for row, text in zip(dataset.sample_rows, dataset.sample, strict=True)
        if row not in overlap.rows
    ]
    rest = dataset._replace(
        examples=examples.where(~hits),
        sample=[text for _, text in shown],
        sample_rows=[row for row, _ in shown],
    )
    return rest, record
