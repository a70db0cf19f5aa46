"""What a dataset looks like in numbers: lengths, supervised share, and what was dropped or cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from heed.data.dataset import Dataset

BINS = 12
"""Bars of a histogram."""


class Bar(NamedTuple):
    """Examples with `low` to `high` tokens, both included."""

    low: int
    high: int
    examples: int


def histogram(lengths: Sequence[int] | np.ndarray, most: int) -> list[Bar]:
    """How many examples have how many tokens, in bars of equal width from 1 to `most`.

    Example:
        >>> histogram([1, 2, 2, 6], most=6)[:2], len(histogram([1, 2, 2, 6], most=6))
        ([Bar(low=1, high=1, examples=1), Bar(low=2, high=2, examples=2)], 6)
    """
    width = max(1, -(-most // BINS))
    counts = np.bincount((np.asarray(lengths, dtype=np.int64) - 1) // width)
    bars = -(-most // width)
    counts = np.pad(counts, (0, max(0, bars - len(counts))))
    return [
        Bar(place * width + 1, min((place + 1) * width, most), int(count))
        for place, count in enumerate(counts)
    ]


def statistics(dataset: Dataset) -> dict[str, Any]:
    """A dataset in numbers, as plain JSON data.

    Args:
        dataset: At least one example to train on.
    """
    examples = dataset.examples
    lengths, supervised = examples.lengths, examples.supervised
    return {
        "examples": len(examples),
        "validation_examples": len(dataset.validation),
        "tokens": int(lengths.sum()),
        "supervised_tokens": int(supervised.sum()),
        "supervised_share": float(supervised.sum() / lengths.sum()),
        "lengths": {
            "mean": float(lengths.mean()),
            **{f"p{p}": int(np.percentile(lengths, p, method="lower")) for p in (5, 50, 95)},
            "longest": int(lengths.max()),
        },
        "supervised": {
            "mean": float(supervised.mean()),
            **{f"p{p}": int(np.percentile(supervised, p, method="lower")) for p in (5, 50, 95)},
            "longest": int(supervised.max()),
        },
        "histogram": [list(bar) for bar in histogram(lengths, int(lengths.max()))],
        "events": dict(dataset.events),
    }


def happened(numbers: Mapping[str, Any]) -> dict[str, str]:
    """What happened to the rows, and which prompts of the evaluation stand in them: label -> text.

    Args:
        numbers: What `statistics` found, with `overlap` beside it.

    Example:
        >>> happened({"events": {"rows read": 4, "dropped: over-long": 1}, "overlap": None})
        {'rows read': '4', 'dropped: over-long': '1', 'dropped in all': '1 (25.0% of the rows)'}
    """
    events = numbers["events"]
    told = {event: f"{times:,}" for event, times in events.items()}
    if lost := sum(times for event, times in events.items() if event.startswith("dropped: ")):
        told["dropped in all"] = f"{lost:,} ({lost / events['rows read']:.1%} of the rows)"
    if (overlap := numbers["overlap"]) is not None:
        looked = f"prompts found, of {overlap['prompts_looked_for']:,} looked for"
        told[looked] = f"{overlap['prompts_found']:,}"
        short = overlap["prompts_too_short_to_be_looked_for"]
        told["prompts too short to be looked for"] = f"{short:,}"
    return told
