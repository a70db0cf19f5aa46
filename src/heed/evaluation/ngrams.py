"""N-gram models as yardsticks: what counting alone achieves on a held-out text.

Both models count the student's own tokens, and give each token a probability, so that their bits
per byte stand beside the student's. They are interpolated with absolute discounting: with c the
count of a token w after a context h, N(h) the number of different tokens seen there and p' the
model of the next shorter context,

    p(w | h) = (max(c(h, w) - d, 0) + d N(h) p'(w)) / c(h),     d = n1 / (n1 + 2 n2)

where n1 and n2 tokens were seen once and twice. Below the highest order, c counts the different
tokens seen before (Kneser-Ney); the shortest context falls back to all tokens alike. A chunk
begins with two start symbols, so that its first token is weighed too.

Source: Chen & Goodman 1999, https://doi.org/10.1006/csla.1999.0128, section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def ngram_bits_per_byte(
    training: Iterable[str],
    heldout: Sequence[str],
    *,
    encode: Callable[[str], Sequence[int]],
    vocabulary: int,
) -> dict[str, float]:
    """Bits per byte of a unigram and a trigram model on a held-out text.

    Args:
        training: Texts to count, cut like the held-out ones.
        heldout: Texts to weigh; not empty.
        encode: The student's tokenizer, without special tokens.
        vocabulary: Number of its tokens.

    Returns:
        `unigram` and `trigram`.
    """
    counted = np.concatenate([trigram_keys(encode(text), vocabulary) for text in training])
    asked = np.concatenate([trigram_keys(encode(text), vocabulary) for text in heldout])
    size = sum(len(text.encode()) for text in heldout)
    models = {"unigram": unigram, "trigram": trigram}
    return {
        name: float(-np.log2(model(counted, asked, vocabulary)).sum() / size)
        for name, model in models.items()
    }


def trigram_keys(ids: Sequence[int], vocabulary: int) -> Ints:
    """Each token with the two before it as one number (a S + b) S + c, with S = vocabulary + 1.

    Example:
        >>> trigram_keys([3, 4], 9).tolist()
        [993, 934]
    """
    size = vocabulary + 1
    assert size**3 < 2**63, "three tokens of this vocabulary do not fit one number"
    padded = np.array([vocabulary, vocabulary, *ids], dtype=np.int64)
    return (padded[:-2] * size + padded[1:-1]) * size + padded[2:]


def unigram(counted: Ints, asked: Ints, vocabulary: int) -> Floats:
    """Probability of the last token of each asked trigram, without context."""
    size = vocabulary + 1
    tokens, counts = np.unique(counted % size, return_counts=True)
    return _discounted(tokens, counts, asked % size, np.array(1 / vocabulary), size)


def trigram(counted: Ints, asked: Ints, vocabulary: int) -> Floats:
    """Probability of the last token of each asked trigram after the other two."""
    size = vocabulary + 1
    triples, times = np.unique(counted, return_counts=True)
    pairs, before_pair = np.unique(triples % size**2, return_counts=True)
    tokens, before_token = np.unique(pairs % size, return_counts=True)
    one = _discounted(tokens, before_token, asked % size, np.array(1 / vocabulary), size)
    two = _discounted(pairs, before_pair, asked % size**2, one, size)
    return _discounted(triples, times, asked, two, size)


def _discounted(keys: Ints, counts: Ints, asked: Ints, lower: Floats, size: int) -> Floats:
    """One order of the model: keys are context x size + token, sorted and different."""
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    discount = once / (once + 2 * twice) if once and twice else 0.5
    contexts, where = np.unique(keys // size, return_inverse=True)
    total = _look_up(contexts, np.bincount(where, weights=counts), asked // size)
    kinds = _look_up(contexts, np.bincount(where), asked // size)
    seen = np.maximum(_look_up(keys, counts, asked) - discount, 0)
    mixed = (seen + discount * kinds * lower) / np.maximum(total, 1)
    return np.where(total > 0, mixed, lower)


def _look_up(keys: Ints, values: NDArray[Any], asked: Ints) -> Floats:
    """The value of each asked key, zero where it is not among the (sorted) keys."""
    place = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[place] == asked, values[place], 0.0)
