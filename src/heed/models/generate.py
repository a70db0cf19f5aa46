"""Greedy generation: many prompts in few batches, with the very texts of one prompt at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from heed.core.errors import DataError, RunError
from heed.core.types import Answer
from heed.models.student import Loaded

Progress = Callable[[int, int], None]
"""Called with the number of finished prompts and the number of all prompts."""

LEFT_PADDED = ("sdpa", "eager")
"""Attention functions that see a padding mask; one that does not would read the padding."""


def generate(
    loaded: Loaded,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    batch_tokens: int,
    on_progress: Progress | None = None,
) -> list[Answer]:
    """The student's most likely continuation of each prompt, token by token.

    Prompts are sorted by length and cut into batches of rows x (longest prompt + max_new_tokens)
    <= batch_tokens (at least one row). A row leaves its batch when it is finished. Batching decides
    the speed; in float32 the texts are those of one prompt at a time.

    Args:
        loaded: The student.
        prompts: Rendered prompts, special tokens written out.
        max_new_tokens: Cap on generated tokens, the stop token included.
        batch_tokens: Budget of key and value slots of one batch; memory and speed only.
        on_progress: Told of each finished prompt.

    Returns:
        One answer per prompt, in order.

    Raises:
        RunError: a prompt and its answer would not fit into the student's context.
        DataError: a prompt without any token.
    """
    encoded = [loaded.tokenizer.encode(text, add_special_tokens=False) for text in prompts]
    _check_room(loaded, encoded, max_new_tokens)
    assert loaded.model.config._attn_implementation in LEFT_PADDED
    found: dict[int, list[int]] = {}
    with torch.inference_mode(), loaded.evaluating():
        for batch in _batches([len(ids) for ids in encoded], max_new_tokens, batch_tokens):
            rows = [encoded[i] for i in batch]
            for place, ids in _decode_batch(loaded, rows, max_new_tokens):
                found[batch[place]] = ids
                if on_progress is not None:
                    on_progress(len(found), len(prompts))
    return [_answer(loaded, found[i]) for i in range(len(prompts))]


def _check_room(loaded: Loaded, encoded: Sequence[list[int]], max_new_tokens: int) -> None:
    """Refuse prompts that would have to be cut, or that have nothing to continue."""
    if any(not ids for ids in encoded):
        raise DataError(
            "A rendered prompt has no token, so there is nothing to continue. Use a template that "
            "opens the assistant's turn with text."
        )
    context = loaded.context
    too_long = [len(ids) for ids in encoded if context and len(ids) + max_new_tokens > context]
    if too_long:
        raise RunError(
            f"{len(too_long)} of {len(encoded)} prompts do not fit: the longest has "
            f"{max(too_long)} tokens, and with max_new_tokens={max_new_tokens} it needs more than "
            f"the {context} positions of student {loaded.name!r}. Cutting prompts would score "
            f"another task. Lower suite.max_new_tokens, or take a student with a longer context."
        )


def _batches(lengths: Sequence[int], max_new: int, budget: int) -> Iterator[list[int]]:
    """Indices of prompts, longest first, cut so that rows x (longest + max_new) <= budget.

    Longest first: if memory runs out, it does so at once.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    while order:
        rows = max(1, budget // (lengths[order[0]] + max_new))
        yield order[:rows]
        order = order[rows:]


def _decode_batch(
    loaded: Loaded, rows: Sequence[list[int]], max_new_tokens: int
) -> Iterator[tuple[int, list[int]]]:
    """Decode one batch; yields (row, generated ids with the stop token) as rows finish."""
    from transformers import DynamicCache

    model: Any = loaded.model
    ids, mask = left_padded(rows, loaded.tokenizer.pad_token_id or 0, model.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    stops = torch.tensor(loaded.stop_ids, device=model.device)
    cache = DynamicCache(config=model.config)
    alive = list(range(len(rows)))
    said: list[list[int]] = [[] for _ in rows]
    for step in range(1, max_new_tokens + 1):
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        chosen = logits.argmax(-1)
        for row, token in zip(alive, chosen.tolist(), strict=True):
            said[row].append(token)
        done = torch.isin(chosen, stops) | (step == max_new_tokens)
        finished = done.tolist()
        yield from ((row, said[row]) for row, end in zip(alive, finished, strict=True) if end)
        if all(finished):
            return
        if any(finished):
            keep = (~done).nonzero(as_tuple=True)[0]
            cache.batch_select_indices(keep)
            chosen, mask, positions = chosen[keep], mask[keep], positions[keep]
            alive = [row for row, end in zip(alive, finished, strict=True) if not end]
        ids, positions = chosen[:, None], positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)


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


def _answer(loaded: Loaded, ids: list[int]) -> Answer:
    """The text of generated ids, without the stop token if there is one."""
    stopped = ids[-1] in loaded.stop_ids
    text = loaded.tokenizer.decode(
        ids[:-1] if stopped else ids,
        skip_special_tokens=False,
        clean_up_tokenization_spaces=False,
    )
    return Answer(text, len(ids), "stop" if stopped else "cap")
