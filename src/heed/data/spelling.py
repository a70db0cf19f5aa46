"""Text to ids and mask, with the proof that the supervised tokens spell the response."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heed.core.errors import DataError
from heed.core.types import Message, Rendered
from heed.data.dataset import Encoded


class Flat(NamedTuple):
    """Rendered conversations as tokens, end to end.

    Attributes:
        ids: i64[T].
        mask: bool[T], which are supervised.
        ends: i64[n], where each conversation ends.
    """

    ids: NDArray[np.int64]
    mask: NDArray[np.bool_]
    ends: NDArray[np.int64]


def encode(rendered: Rendered, tokenizer: Any, *, item: str) -> Encoded:
    """Tokenise a rendered conversation piece by piece, so that no token crosses a turn's border.

    The tokens of `prompt_pieces` are then a prefix of the conversation's, after any number of
    turns, and whichever of them are supervised. What
    stands after the last supervised span is left out: nothing could be learnt from it.

    Raises:
        DataError: the supervised tokens do not spell the supervised text.
    """
    flat = flatten([rendered], tokenizer)
    prove(flat, [rendered], tokenizer, [item])
    return Encoded(item, flat.ids.tolist(), flat.mask.tolist())


def flatten(conversations: Sequence[Rendered], tokenizer: Any) -> Flat:
    """Tokenise conversations in one batch, each piece by piece."""
    pieces: list[tuple[str, bool]] = []
    counts = []
    for conversation in conversations:
        cut = conversation.pieces
        while cut and not cut[-1][1]:  # nothing could be learnt from it
            cut.pop()
        pieces += cut
        counts.append(len(cut))
    spelt = spell(tokenizer, [text for text, _ in pieces])
    lengths = np.fromiter(map(len, spelt), dtype=np.int64, count=len(spelt))
    stops = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.fromiter(chain.from_iterable(spelt), dtype=np.int64, count=int(stops[-1]))
    mask = np.repeat(np.array([kept for _, kept in pieces], dtype=bool), lengths)
    return Flat(ids, mask, stops[np.cumsum(counts, dtype=np.int64)])


def spell(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, without special tokens of the tokenizer's own; in one batch."""
    forget_limits(tokenizer)
    if (fast := getattr(tokenizer, "backend_tokenizer", None)) is None:
        return [tokenizer.encode(text, add_special_tokens=False) if text else [] for text in texts]
    found = fast.encode_batch_fast(texts, add_special_tokens=False)  # no places in the text kept
    return [encoding.ids for encoding in found]


def forget_limits(tokenizer: Any) -> None:
    """Undo what a call of the tokenizer may have left behind: a length to cut or to fill up to.

    Nothing is written where nothing was left, so that several threads may spell at once.
    """
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is not None and fast.truncation is not None:
        fast.no_truncation()
    if fast is not None and fast.padding is not None:
        fast.no_padding()


def special_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    """Finds what a tokenizer reads as a special token wherever it is written; None if nothing."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    found = {token.content for token in added if token.special}
    found |= set(map(str, getattr(tokenizer, "all_special_tokens", ())))
    texts = sorted(found - {""}, key=lambda text: (-len(text), text))
    return re.compile("|".join(map(re.escape, texts))) if texts else None


def refuse_special(messages: Sequence[Message], special: re.Pattern[str] | None) -> None:
    """Refuse a conversation in which somebody says a special token of the tokenizer.

    Raises:
        DataError: naming who says it, and the token.
    """
    for message in messages:
        if special is not None and (found := special.search(message.content)):
            who = "the text" if message.role == "text" else f"the {message.role}'s turn"
            raise DataError(
                f"{who} says {found.group()!r}, which the tokenizer reads as one of its special "
                f"tokens: the student would learn that a text or a turn begins or ends there. "
                f"Write it otherwise, or leave such rows out, counted, with data.on_bad_row=drop."
            )


def prove(
    flat: Flat, conversations: Sequence[Rendered], tokenizer: Any, items: Sequence[str]
) -> None:
    """Prove for every conversation that its supervised tokens spell its responses.

    Raises:
        DataError: one of them spells something else.
    """
    for error in unspelt(flat, conversations, tokenizer, items).values():
        raise error


def unspelt(
    flat: Flat, conversations: Sequence[Rendered], tokenizer: Any, items: Sequence[str]
) -> dict[int, DataError]:
    """The conversations whose supervised tokens spell something else, by place, and what."""
    starts = np.concatenate([[0], flat.ends])[:-1]
    upto = np.concatenate([[0], np.cumsum(flat.mask)])
    kept = flat.ids[flat.mask].tolist()
    first, last = upto[starts].tolist(), upto[flat.ends].tolist()
    spans = [kept[a:b] for a, b in zip(first, last, strict=True)]
    fast = getattr(tokenizer, "backend_tokenizer", None)
    spelt: Sequence[str | None] = [None] * len(spans)
    if fast is not None:
        spelt = fast.decode_batch(spans, skip_special_tokens=False)
    wrong = {}
    for i, (text, supervised, _) in enumerate(conversations):
        said = "".join([text[start:stop] for start, stop in supervised])
        if spelt[i] != said:  # most tokenizers never come here
            ids, mask = (part[starts[i] : flat.ends[i]].tolist() for part in flat[:2])
            try:
                check_mask(ids, mask, conversations[i], tokenizer.decode, item=items[i])
            except DataError as error:
                wrong[i] = error
    return wrong


def check_mask(
    ids: Sequence[int],
    mask: Sequence[bool],
    rendered: Rendered,
    decode: Callable[..., str],
    *,
    item: str,
) -> None:
    """Prove that the supervised tokens spell the responses with their ends of turn.

    Each run of supervised tokens is decoded by itself, because some tokenizers drop the space
    before the first word that they decode.

    Raises:
        DataError: they spell something else, shown beside what was said.
    """
    said = "".join(rendered.text[start:stop] for start, stop in rendered.supervised)
    edges = np.flatnonzero(np.diff(np.asarray(mask, dtype=np.int8), prepend=0, append=0)).tolist()
    runs = [list(ids[a:b]) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    spelt = "".join(
        decode(run, skip_special_tokens=False, clean_up_tokenization_spaces=False) for run in runs
    )
    if spelt != said:
        raise DataError(
            f"item {item}: the tokens with loss spell {spelt[:80]!r} but the response is "
            f"{said[:80]!r}; {_first_difference(spelt, said)}. The loss would be taken on the "
            f"wrong text. The tokenizer cannot spell this text (it lacks a character, or its "
            f"normalisation changes one: write the data in the form that it keeps, mostly NFC), or "
            f"the template's spans are wrong. Such rows are left out, counted, with "
            f"data.on_bad_row=drop."
        )


def _first_difference(spelt: str, said: str) -> str:
    """Where two texts part; characters that look alike are escaped."""
    differ = (i for i, (a, b) in enumerate(zip(spelt, said, strict=False)) if a != b)
    at = next(differ, min(len(spelt), len(said)))
    found, meant = (ascii(text[at : at + 1]) if text[at:] else "the end" for text in (spelt, said))
    return f"they first differ at character {at + 1}, {found} instead of {meant}"
