"""Generation: many prompts at once, with the very texts of one prompt at a time.

Prompts are sorted by length, longest first. As many as fit are decoded together; a finished row
leaves at once, and the next prompts take its place (continuous batching), so that no step is spent
on rows that have nothing more to say. On a CPU each row attends to its own columns only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from heed.core.errors import DataError, RunError
from heed.core.types import Answer, Prompt
from heed.models.decode import row_attention
from heed.models.sampling import PLAIN, Picker, Ways
from heed.models.slots import GROWTH, Slots
from heed.models.student import Loaded
from heed.models.tokenizer import prompt_ids

LEFT_PADDED = ("sdpa", "eager")
"""Attention functions that see a padding mask; one that does not would read the padding."""

FREE_SHARE = 16
"""New prompts are read in as soon as one row in so many is free."""


def generate(
    loaded: Loaded,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    batch_tokens: int,
    max_rows: int,
    ways: Ways = PLAIN,
) -> Iterator[tuple[int, Answer]]:
    """The student's continuation of each prompt, token by token.

    How prompts are batched decides the speed; in float32 the texts are those of one at a time.

    Args:
        loaded: The student.
        prompts: Rendered prompts, special tokens written out; of several turns, in pieces.
        max_new_tokens: Cap on generated tokens, the stop token included.
        batch_tokens: Most keys and values held at a time, in tokens, the room for growth included;
            one row always fits.
        max_rows: Most rows.
        ways: How tokens are taken, and what ends an answer beside a stop token.

    Yields:
        The place of a prompt and its answer, as it finishes.

    Raises:
        RunError: a prompt and its answer would not fit into the student's context.
        DataError: a prompt without any token.
    """
    encoded = encoded_prompts(loaded, prompts, max_new_tokens)
    said = generated_ids(
        loaded,
        encoded,
        max_new_tokens=max_new_tokens,
        batch_tokens=batch_tokens,
        max_rows=max_rows,
        ways=ways,
    )
    for place, ids in said:
        answer = answer_of(loaded, ids)
        yield place, answer if len(ids) == max_new_tokens else answer._replace(stop="stop")


def generated_ids(
    loaded: Loaded,
    encoded: Sequence[list[int]],
    *,
    max_new_tokens: int,
    batch_tokens: int,
    max_rows: int,
    ways: Ways = PLAIN,
) -> Iterator[tuple[int, list[int]]]:
    """The same of prompts that are token ids already; yields ids, the stop token included."""
    assert loaded.model.config._attn_implementation in LEFT_PADDED
    if _looks_at_the_longest(loaded.model, encoded, max_new_tokens):
        max_rows = 1
    waiting = deque(sorted(range(len(encoded)), key=lambda i: -len(encoded[i])))
    ending = _Ending(loaded, max_new_tokens, ways.last_line)
    rows = _Rows(loaded, encoded, ending, Picker(ways.sampling, encoded))
    with loaded.evaluating():
        while waiting or rows.said:
            longest = max(len(encoded[i]) for i in (*rows.said, *list(waiting)[:1]))
            columns = GROWTH * (longest + max_new_tokens) + longest + 2  # newcomers stand apart
            most = max(1, min(max_rows, int(batch_tokens / columns)))
            finished = _advance(rows, waiting, most)
            yield from finished


@torch.inference_mode()
def _advance(rows: _Rows, waiting: deque[int], most: int) -> Finished:
    """Read prompts in if there is room, or decode a token; returns what has finished."""
    free = most - len(rows.said)
    if not waiting or (rows.said and free < max(1, most // FREE_SHARE)):
        return rows.step()
    newcomers = rows.read([waiting.popleft() for _ in range(min(free, len(waiting)))])
    finished = newcomers.settle()
    rows.join(newcomers)
    return finished


def encoded_prompts(
    loaded: Loaded, prompts: Sequence[Prompt], max_new_tokens: int
) -> list[list[int]]:
    """Token ids of each rendered prompt.

    Raises:
        RunError: a prompt and its answer would not fit into the student's context.
        DataError: a prompt without any token.
    """
    ids = {prompt: prompt_ids(loaded.tokenizer, prompt) for prompt in dict.fromkeys(prompts)}
    encoded = [ids[prompt] for prompt in prompts]  # several answers to one prompt share its ids
    if any(not ids for ids in encoded):
        raise DataError(
            "A rendered prompt has no token, so there is nothing to continue. Use a template that "
            "opens the assistant's turn with text."
        )
    context = loaded.context
    too_long = [len(ids) for ids in encoded if context and len(ids) + max_new_tokens > context]
    if context and too_long:
        room = context - max(too_long)
        way = f"Lower suite.max_new_tokens to {room} or less, or take" if room > 0 else "Take"
        raise RunError(
            f"{len(too_long)} of {len(encoded)} prompts do not fit: the longest has "
            f"{max(too_long)} tokens, and with max_new_tokens={max_new_tokens} it needs more than "
            f"the {context} positions of student {loaded.name!r}. Cutting prompts would score "
            f"another task. {way} a student with a longer context."
        )
    return encoded


def _looks_at_the_longest(model: Any, encoded: Sequence[list[int]], cap: int) -> bool:
    """Whether a text may change with what stands beside it: positions scaled by the longest row."""
    config = model.config.get_text_config()
    given = getattr(config, "rope_parameters", None) or {}
    kinds = [given, *(part for part in given.values() if isinstance(part, dict))]
    scaled = [kind for kind in kinds if kind.get("rope_type") in ("longrope", "dynamic")]
    longest = max(map(len, encoded), default=0) + cap
    return any(longest > kind.get("original_max_position_embeddings", 0) for kind in scaled)


FREE = -1
"""Stands for the prompt of a row that has none."""

Finished = list[tuple[int, list[int]]]
"""Places of prompts with their generated ids, the stop token included."""


class _Ending:
    """Whether an answer ends with the token that was said last; it depends on this answer alone."""

    def __init__(self, loaded: Loaded, cap: int, last_line: str | None):
        self.tokenizer: Any = loaded.tokenizer
        self.stops, self.cap = frozenset(loaded.stop_ids), cap
        self.mark = None if last_line is None else f"\n{last_line}"

    def __call__(self, said: list[int]) -> bool:
        """At a stop token, at the cap, or where the last line has begun."""
        return said[-1] in self.stops or len(said) == self.cap or self._line_begun(said)

    def _line_begun(self, said: list[int]) -> bool:
        """Only where the last tokens, a character or more each, show it is the whole text read."""
        if self.mark is None:
            return False
        few = said[-2 * len(self.mark) :]
        return self.mark in self._text(few) and self.mark in self._text(said)

    def _text(self, ids: list[int]) -> str:
        return "\n" + str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False))


class _Rows:
    """Rows that are decoded together: `places[row]` is the prompt of a row, or `FREE`."""

    def __init__(
        self, loaded: Loaded, encoded: Sequence[list[int]], ending: _Ending, picker: Picker
    ):
        self.loaded, self.encoded, self.ending, self.picker = loaded, encoded, ending, picker
        self.model: Any = loaded.model
        self.places: list[int] = []
        self.said: dict[int, list[int]] = {}  # of the prompts that have not finished
        self.cache: Slots
        self.first: Tensor  # i64[rows]: the column in which a row begins
        self.position: Tensor  # i64[rows]: of the newest token in its own text
        self.newest: Tensor  # i64[rows]: the token that is fed next

    def read(self, places: Sequence[int]) -> _Rows:
        """Read prompts in, as rows of their own with the first token of each answer."""
        made = _Rows(self.loaded, self.encoded, self.ending, self.picker)
        made.places, made.said = list(places), {place: [] for place in places}
        made.cache = Slots(self.model)
        pad = self.loaded.tokenizer.pad_token_id or 0
        ids, mask = left_padded([self.encoded[i] for i in places], pad, self.model.device)
        made.first = ids.shape[1] - mask.sum(-1)
        made.position = mask.sum(-1) - 1
        made.newest = made._forward(made.cache, ids, mask, (mask.cumsum(-1) - 1).clamp(min=0))
        made.cache.columns.stop = ids.shape[1]
        made.cache.check_filled()
        return made

    def step(self) -> Finished:
        """Decode one token in every row; returns what has finished."""
        self._close_up()
        self.first -= self.cache.reserve(int(self.first.min()))
        columns = self.cache.columns
        seen = torch.arange(columns.start, columns.stop + 1, device=self.first.device)
        mask = seen >= self.first[:, None]
        self.position += 1
        self.newest = self._forward(self.cache, self.newest[:, None], mask, self.position[:, None])
        columns.stop += 1
        return self.settle()

    def _forward(self, cache: Slots, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """The next token of each row, i64[rows]; keys and values go into the cache."""
        with row_attention(self.model):
            logits = self.model(
                input_ids=ids,
                attention_mask=mask.long(),
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
        return self.picker(logits, self.places)

    def settle(self) -> Finished:
        """Note what the rows said last, and free those that have finished."""
        tokens, finished = self.newest.tolist(), []
        for row, place in enumerate(self.places):
            if place != FREE:
                said = self.said[place]
                said.append(tokens[row])
                if self.ending(said):
                    finished.append((place, said))
                    self._free(row)
        return finished

    def _free(self, row: int) -> None:
        """A free row goes on beside the others, as a text of its own that stays short."""
        del self.said[self.places[row]]
        self.places[row] = FREE
        self.first[row], self.position[row] = self.cache.columns.stop, -1

    def join(self, newcomers: _Rows) -> None:
        """Put rows beside these, in free rows or in new ones.

        One of these is at least as long as the newcomers: it came before, and longest first.
        """
        if not self.said:
            self.__dict__ |= newcomers.__dict__
            return
        self._add_free(len(newcomers.places) - self.places.count(FREE))
        free = [row for row, place in enumerate(self.places) if place == FREE]
        rows = free[: len(newcomers.places)]
        self.cache.place(rows, newcomers.cache)
        where = torch.tensor(rows, device=self.first.device)
        self.first[where] = newcomers.first + self.cache.columns.stop - newcomers.cache.columns.stop
        self.position[where], self.newest[where] = newcomers.position, newcomers.newest
        for row, place in zip(rows, newcomers.places, strict=True):
            self.places[row] = place
        self.said |= newcomers.said

    def _add_free(self, count: int) -> None:
        """Make further rows, which stand free; what they hold is a copy that nobody reads."""
        if count > 0:
            self._select([*range(len(self.places)), *[0] * count])
            self.places[-count:] = [FREE] * count

    def _close_up(self) -> None:
        """Leave free rows out once they are a quarter of all: nobody has taken them."""
        if 4 * len(self.said) <= 3 * len(self.places):
            self._select([row for row, place in enumerate(self.places) if place != FREE])

    def _select(self, rows: list[int]) -> None:
        """Keep these rows, in this order."""
        where = torch.tensor(rows, device=self.first.device)
        self.cache.select(where)
        self.first, self.position = self.first[where], self.position[where]
        self.newest = self.newest[where]
        self.places = [self.places[row] for row in rows]


def left_padded(
    rows: Sequence[list[int]], pad: int, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Token ids and mask, i64[rows, longest] each, with the padding on the left.

    Example:
        >>> left_padded([[5, 6], [7]], 0, "cpu")[0].tolist()
        [[5, 6], [0, 7]]
    """
    longest = max(map(len, rows))
    ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows], device=device)
    mask = torch.tensor(
        [[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device
    )
    assert bool(mask[:, -1].all()), "padding on the right would be continued instead of the prompt"
    return ids, mask


def answer_of(loaded: Loaded, ids: list[int]) -> Answer:
    """The text of generated ids, without the stop token if there is one."""
    stopped = ids[-1] in loaded.stop_ids
    text = loaded.tokenizer.decode(
        ids[:-1] if stopped else ids,
        skip_special_tokens=False,
        clean_up_tokenization_spaces=False,
    )
    return Answer(text, len(ids), "stop" if stopped else "cap")
