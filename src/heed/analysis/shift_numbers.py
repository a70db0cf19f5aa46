"""What token shift comes to: shares and means over positions, responses resampled as wholes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from heed.core.stats import interval, share_interval
from heed.core.types import Interval, Stop

Numbers = NDArray[np.float64]
Unit = Literal["response", "sentence"]

CATEGORIES = ("unshifted", "marginal", "shifted")
"""Base rank 0; 1 or 2; 3 and more."""

SHIFTED_FROM, MARGINAL_FROM = 3, 1
BINS = 20
"""Pieces of a response in the curves."""

LOOP_TIMES, LOOP_TOKENS, LOOP_SHARE = 4, 8, 0.25
"""A loop ends a response: a block of tokens that stands there so often in a row, at least, is so
long with all its repetitions, and takes up such a share of the response."""


@dataclass(frozen=True)
class ItemShift:
    """One response of the tuned student, position by position.

    Attributes:
        key: Of the item.
        prompt: The instruction.
        stop: How the response ended; on `stop` its last position is the stop token.
        texts: What each token spells.
        said: Ids of the response.
        choice: Id at each position that was looked up in the base.
        chosen: What the choices spell.
        argmax: Id that the tuned student, reading its response, holds for the most likely.
        rank: Base rank of the choice, counted from 0.
        probability: Base probability of the choice.
        kl_base_tuned: KL(base || tuned) in nats.
        kl_tuned_base: KL(tuned || base) in nats.
        nats_base: Negative log-likelihood of what was said, under the base.
        nats_tuned: The same under the tuned student.
    """

    key: str
    prompt: str
    stop: Stop
    texts: Sequence[str]
    said: Sequence[int]
    choice: Sequence[int]
    chosen: Sequence[str]
    argmax: Sequence[int]
    rank: Numbers
    probability: Numbers
    kl_base_tuned: Numbers
    kl_tuned_base: Numbers
    nats_base: Numbers
    nats_tuned: Numbers

    @property
    def category(self) -> NDArray[np.int64]:
        """Place in `CATEGORIES` of each position."""
        return (self.rank >= MARGINAL_FROM) * 1 + (self.rank >= SHIFTED_FROM) * 1


Measure = Callable[[ItemShift], Numbers]
Part = Callable[[ItemShift], NDArray[np.bool_]]

SHARES: list[Measure] = [
    lambda item, i=i: (item.category == i) * 1.0  # type: ignore[misc]
    for i in range(len(CATEGORIES))
]
MEASURES: dict[str, Measure] = {
    **dict(zip(CATEGORIES, SHARES, strict=True)),
    "kl_base_tuned": lambda item: item.kl_base_tuned,
    "kl_tuned_base": lambda item: item.kl_tuned_base,
    "probability": lambda item: item.probability,
    "rank": lambda item: item.rank,
    "nats_base": lambda item: item.nats_base,
    "nats_tuned": lambda item: item.nats_tuned,
}
"""Name -> value at each position; the mean over positions is told."""


def parts(unit: Unit, first_share: float) -> dict[str, Part]:
    """Name -> which positions: all, the first of each unit, the rest, the stop token."""

    def first(item: ItemShift) -> NDArray[np.bool_]:
        lengths = sentence_lengths(item) if unit == "sentence" else [len(item.said)]
        return np.concatenate([np.arange(n) < first_tokens(n, first_share) for n in lengths])

    return {
        "all": lambda item: np.ones(len(item.said), bool),
        "first": first,
        "last": lambda item: ~first(item),
        "stop": lambda item: np.arange(len(item.said)) == _stop_place(item),
    }


def loops(item: ItemShift) -> bool:
    """Whether a response, its stop token aside, ends in a loop (see `LOOP_TIMES`)."""
    ids = np.asarray(item.said[: len(item.said) - (item.stop == "stop")])
    least = max(LOOP_TOKENS, LOOP_SHARE * len(ids))
    for period in range(1, len(ids) // LOOP_TIMES + 1):
        other = np.flatnonzero(ids[period:] != ids[:-period])
        begins = int(other[-1]) + 1 if other.size else 0
        if len(ids) - begins >= max(least, LOOP_TIMES * period):
            return True
    return False


def _stop_place(item: ItemShift) -> int:
    return len(item.said) - 1 if item.stop == "stop" else -1


def first_tokens(n: int, share: float) -> int:
    """How many tokens of n are its first share: rounded up, so at least one.

    Example:
        >>> [first_tokens(n, 0.05) for n in (1, 20, 21, 60)]
        [1, 1, 2, 3]
    """
    return max(1, ceil(share * n - 1e-9))


def sentence_lengths(item: ItemShift) -> list[int]:
    """Tokens of each sentence of a response.

    A sentence ends after a token that ends in a full stop, a question or an exclamation mark, or
    that holds a line break; further such marks, closing quotes and brackets, blanks and the stop
    token belong to it still. The papers that speak of sentences do not say how they were found.
    """
    found, length = [], 0
    for place, text in enumerate(item.texts):
        length += 1
        ends = text.rstrip()[-1:] in (".", "!", "?") or "\n" in text
        closed = ends or (length > 1 and _only_closes(text) and _ended(item.texts, place))
        if closed and not _goes_on(item, place + 1):
            found.append(length)
            length = 0
    return [*found, length] if length else found


def _ended(texts: Sequence[str], place: int) -> bool:
    """Whether what stands before a closing token is the end of a sentence."""
    while place and _only_closes(texts[place]):
        place -= 1
        if texts[place].rstrip()[-1:] in (".", "!", "?") or "\n" in texts[place]:
            return True
    return False


def _only_closes(text: str) -> bool:
    return not text.strip().strip(".!?\"')]}”’»")


def _goes_on(item: ItemShift, place: int) -> bool:
    """Whether the token at a place belongs to a sentence that has ended before it."""
    if place >= len(item.texts):
        return False
    return place == _stop_place(item) or _only_closes(item.texts[place])


def mean_of(
    items: Sequence[ItemShift], measure: Measure, part: Part, bootstrap: Mapping[str, Any]
) -> Interval | None:
    """Mean over the positions of a part; None if fewer than two responses have any.

    Where all positions agree (a share of 0 or 1) resampling finds no spread; a share then has
    the Wilson score interval that counts responses, as positions of one are not independent.
    """
    chosen = [(measure(item), part(item)) for item in items]
    num = [float(values[where].sum()) for values, where in chosen]
    den = [int(where.sum()) for _, where in chosen]
    informative = sum(n > 0 for n in den)
    if informative < 2:
        return None
    if measure in SHARES and sum(num) in (0, sum(den)):
        return share_interval(sum(num) / sum(den), informative, bootstrap["level"])
    return interval(num, den, **bootstrap)


def summary_of(
    items: Sequence[ItemShift], unit: Unit, first_share: float, bootstrap: Mapping[str, Any]
) -> dict[str, Any]:
    """All numbers of an analysis, as plain data.

    Args:
        items: The responses, position by position.
        unit: Of what the first positions are taken.
        first_share: Share of a unit's tokens that is its first part.
        bootstrap: Level, resamples and seed of the intervals.

    Returns:
        `parts` (all, first, last, stop): positions, and each of `MEASURES` with its interval;
        `curves`: some measures along the response; `tokens`: every choice with its categories;
        `loops`: responses that end in a loop.
    """
    found = {}
    for name, part in parts(unit, first_share).items():
        means = {m: _plain(mean_of(items, get, part, bootstrap)) for m, get in MEASURES.items()}
        found[name] = {"positions": sum(int(part(item).sum()) for item in items)} | means
    drawn = ("kl_base_tuned", "kl_tuned_base", "probability", "rank")
    return {
        "items": len(items),
        "positions": found["all"]["positions"],
        "parts": found,
        "curves": {name: _curve(items, MEASURES[name], bootstrap) for name in drawn},
        "tokens": tokens_of(items),
        "loops": sum(map(loops, items)),
    }


def _curve(items: Sequence[ItemShift], measure: Measure, bootstrap: Mapping[str, Any]) -> list[Any]:
    """The mean in each of `BINS` equal pieces of a response."""

    def piece(number: int) -> Part:
        return lambda item: np.arange(len(item.said)) * BINS // len(item.said) == number

    return [_plain(mean_of(items, measure, piece(i), bootstrap)) for i in range(BINS)]


def _plain(found: Interval | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found)


def tokens_of(items: Sequence[ItemShift]) -> list[dict[str, Any]]:
    """How often each choice is unshifted, marginal and shifted; the most often shifted first."""
    counts: dict[int, Counter[str]] = {}
    stops: Counter[int] = Counter()
    texts: dict[int, str] = {}
    for item in items:
        texts |= dict(zip(item.choice, item.chosen, strict=True))
        for choice, kind in zip(item.choice, item.category, strict=True):
            counts.setdefault(choice, Counter())[CATEGORIES[kind]] += 1
        stops.update(item.choice[-1:] if item.stop == "stop" else ())
    order = sorted(counts, key=lambda i: (-counts[i]["shifted"], -counts[i]["marginal"], i))
    return [
        {
            "id": i,
            "text": texts[i],
            "count": counts[i].total(),
            "at_the_stop": stops[i],
            **{kind: counts[i][kind] for kind in CATEGORIES},
        }
        for i in order
    ]


def _nothing_shared(item: ItemShift) -> int:
    """Positions of lists without a common token; over whole vocabularies there are none."""
    apart = (item.probability == 0) & (item.kl_base_tuned == 0) & (item.kl_tuned_base == 0)
    return int(apart.sum())


def events_of(items: Sequence[ItemShift]) -> dict[str, int]:
    """What a reader of the numbers should know -> how often."""
    found = Counter(
        {
            "responses cut at the cap, which have no stop token": sum(
                item.stop == "cap" for item in items
            ),
            "responses of the stop token alone": sum(
                len(item.said) == 1 and item.stop == "stop" for item in items
            ),
            "positions whose most likely token is not the one that was said": sum(
                a != b for item in items for a, b in zip(item.argmax, item.said, strict=True)
            ),
            "responses that end in a loop": sum(map(loops, items)),
            "positions whose two lists share no token, so that KL is 0 there": sum(
                map(_nothing_shared, items)
            ),
        }
    )
    return {what: times for what, times in found.items() if times}
