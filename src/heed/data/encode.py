"""Text to ids and mask, with the proof that the supervised tokens spell the response."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from heed.core.errors import DataError
from heed.core.types import ChatTemplate, Rendered, RowSource
from heed.data.treatment import Treatment


class Encoded(NamedTuple):
    """One example as tokens.

    Attributes:
        id: The example's id (windows of one text have a suffix).
        ids: Token ids, length T.
        mask: Whether each token is supervised, length T.
    """

    id: str
    ids: list[int]
    mask: list[bool]

    @property
    def supervised(self) -> int:
        """Tokens with loss: the first token has no predecessor, so it never counts."""
        return sum(self.mask[1:])


class Dataset(NamedTuple):
    """All encoded examples of a source, and what happened on the way.

    Attributes:
        examples: In the order of the source.
        events: Every dropped or cut example, by kind.
        sample: The first rendered examples, to be looked at.
    """

    examples: list[Encoded]
    events: Counter[str]
    sample: list[Rendered]


def encode(rendered: Rendered, tokenizer: Any, *, item: str) -> Encoded:
    """Tokenise a rendered conversation piece by piece, so that no token crosses a span's border.

    A prompt's tokens are then a prefix of the conversation's, exactly as at generation.

    Raises:
        DataError: the supervised tokens do not spell the supervised text.
    """
    ids: list[int] = []
    mask: list[bool] = []
    at = 0
    for start, stop in rendered.supervised:
        for text, supervised in (
            (rendered.text[at:start], False),
            (rendered.text[start:stop], True),
        ):
            piece = tokenizer.encode(text, add_special_tokens=False) if text else []
            ids += piece
            mask += [supervised] * len(piece)
        at = stop
    check_mask(ids, mask, rendered, tokenizer.decode, item=item)
    return Encoded(item, ids, mask)


def check_mask(
    ids: Sequence[int],
    mask: Sequence[bool],
    rendered: Rendered,
    decode: Callable[..., str],
    *,
    item: str,
) -> None:
    """Prove that the supervised tokens spell the responses with their ends of turn.

    Raises:
        DataError: they spell something else, shown beside what was said.
    """
    said = "".join(rendered.text[start:stop] for start, stop in rendered.supervised)
    kept = [token for token, supervised in zip(ids, mask, strict=True) if supervised]
    spelt = decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if spelt != said:
        raise DataError(
            f"item {item}: the tokens with loss spell {spelt[:80]!r} but the response is "
            f"{said[:80]!r}. The loss would be taken on the wrong text. The tokenizer cannot spell "
            f"this text (unknown characters?), or the template's spans are wrong."
        )


def check_rows(source: RowSource, template: ChatTemplate) -> None:
    """Read and render every row, so that bad data are found before anything is computed.

    Raises:
        DataError: a row cannot be read or rendered, or there is none.
    """
    count = 0
    for count, row in enumerate(source.rows(), start=1):  # noqa: B007
        template.render(row.messages)
    if not count:
        raise DataError(
            f"teacher {source.name!r} has no row at all, so there is nothing to learn. Check its "
            f"path, split or filter."
        )


def encode_all(
    source: RowSource, template: ChatTemplate, tokenizer: Any, treatment: Treatment
) -> Dataset:
    """Encode a whole source under a data treatment; every drop and cut is counted.

    Raises:
        DataError: nothing is left to train on.
    """
    examples: list[Encoded] = []
    events: Counter[str] = Counter()
    sample: list[Rendered] = []
    for row in source.rows():
        if treatment.limit is not None and len(examples) >= treatment.limit:
            break
        events["rows read"] += 1
        if not row.messages[-1].content.strip():
            events["dropped: empty response"] += 1
            continue
        rendered = template.render(row.messages)
        found = encode(rendered, tokenizer, item=f"{row.teacher}/{row.id}")
        kept = list(fit_length(found, treatment, events))
        if kept and len(sample) < 20:
            sample.append(rendered)
        examples += kept
    if treatment.limit is not None:  # the last row may have given several windows
        del examples[treatment.limit :]
    if not examples:
        raise DataError(
            f"teacher {source.name!r}: no example is left to train on ({dict(events)}). "
            f"Raise data.max_tokens or choose another data.over_long."
        )
    return Dataset(examples, events, sample)


def fit_length(found: Encoded, treatment: Treatment, events: Counter[str]) -> list[Encoded]:
    """Apply the treatment's rule for over-long examples, and count what it did."""
    most = treatment.max_tokens
    if len(found.ids) <= most:
        windows = [found]
    elif treatment.over_long == "drop":
        events["dropped: over-long"] += 1
        return []
    elif treatment.over_long == "cut":
        events["cut: over-long, no end of turn"] += 1
        windows = [Encoded(found.id, found.ids[:most], found.mask[:most])]
    else:
        starts = range(0, len(found.ids), most)
        windows = [
            Encoded(f"{found.id}@{s}", found.ids[s : s + most], found.mask[s : s + most])
            for s in starts
        ]
        events["windows made of over-long rows"] += len(windows)
    kept = [window for window in windows if window.supervised]
    if len(kept) < len(windows):
        events["dropped: no supervised token"] += len(windows) - len(kept)
    return kept
