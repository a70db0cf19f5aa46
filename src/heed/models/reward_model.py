"""A reward model in memory: a language model with a head that gives a conversation one number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from heed.core.errors import DataError, RunError
from heed.core.types import Message
from heed.models.hub import said_by_hub
from heed.models.memory import is_out_of_memory
from heed.models.speech import unreadable


class Origin(NamedTuple):
    """Which reward model, and how it is read.

    Attributes:
        path: Hub id, or a directory in the same layout.
        revision: Commit of a hub id; None for a directory.
        dtype: Type of its weights, `float32` or `bfloat16`.
        trust_remote_code: Whether code of its repository may run here.
        output: What of its output is the score: `logits` of a head with one label, or `score`.
    """

    path: str
    revision: str | None
    dtype: str
    trust_remote_code: bool
    output: str


class RewardScorer:
    """Scores texts; how they are batched changes nothing but the last digits.

    Attributes:
        tokenizer: Its own.
    """

    def __init__(self, origin: Origin, device: str):
        """Load it; safetensors only.

        Raises:
            RunError: it cannot be read, or lacks weights of its head: they would be random.
        """
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        where = {"revision": origin.revision, "trust_remote_code": origin.trust_remote_code}
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(origin.path, **where)
            model, loading = AutoModelForSequenceClassification.from_pretrained(
                origin.path,
                dtype=getattr(torch, origin.dtype),
                use_safetensors=True,
                output_loading_info=True,
                **where,
            )
        except unreadable() as error:
            if is_out_of_memory(error):
                raise
            told = said_by_hub(error, origin.path, origin.revision)
            first = str(error).strip().split("\n")[0]
            said = told or f"{type(error).__name__}: {first}"
            raise RunError(
                f"The reward model {origin.path} cannot be read: {said} Without it no response has "
                f"a reward. Correct its path and revision; the directory must hold "
                f"config.json, *.safetensors and a tokenizer."
            ) from error
        _refuse_random(origin.path, loading)
        self.model: Any = model.to(device).eval()
        self.origin = origin

    def text_of(self, messages: Sequence[Message]) -> str:
        """A conversation as its own chat template writes it.

        Raises:
            DataError: it has no template, or the template refuses the conversation.
        """
        from jinja2 import TemplateError

        try:
            turns = [{"role": m.role, "content": m.content} for m in messages]
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False))
        except (ValueError, TemplateError) as error:
            said = str(error).split("\n")[0]
            raise DataError(
                f"The reward model {self.origin.path} cannot read a conversation with the roles "
                f"{', '.join(m.role for m in messages)}: {said} Written in another way it would be "
                f"scored by what the model has never seen. Name the template that it was trained "
                f"with: template=<template>."
            ) from error

    def ids_of(self, text: str) -> list[int]:
        """Token ids; a template has written the special tokens out."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    @torch.inference_mode()
    def scores(
        self, rows: Sequence[Sequence[int]], batch_tokens: int
    ) -> Iterator[tuple[int, float]]:
        """The place of each row and its score, in the order of finishing.

        Args:
            rows: Token ids.
            batch_tokens: Most tokens at a time, padding included; one row always fits.

        Raises:
            RunError: the score is not one finite number.
        """
        pad = self._padding(rows)
        for places in batches([len(row) for row in rows], batch_tokens):
            longest = max(len(rows[place]) for place in places)
            ids = [[*rows[i], *[pad] * (longest - len(rows[i]))] for i in places]
            mask = [[1] * len(rows[i]) + [0] * (longest - len(rows[i])) for i in places]
            device = self.model.device
            given = {
                "input_ids": torch.tensor(ids, device=device),
                "attention_mask": torch.tensor(mask, device=device),
            }
            yield from zip(places, self._read(self.model(**given), len(places)), strict=True)

    def _padding(self, rows: Sequence[Sequence[int]]) -> int:
        """What fills rows up: the model's own, or an id that stands in no row.

        The head reads the last token that is not the padding, so one that stands in a text would
        move it.
        """
        config = self.model.config.get_text_config()
        if config.pad_token_id is None:
            used = {token for row in rows for token in row}
            config.pad_token_id = next(i for i in range(config.vocab_size) if i not in used)
        return int(config.pad_token_id)

    def _read(self, output: Any, count: int) -> list[float]:
        found = getattr(output, self.origin.output, None)
        if not isinstance(found, torch.Tensor) or found.numel() != count:
            shape = tuple(found.shape) if isinstance(found, torch.Tensor) else "nothing"
            raise RunError(
                f"The reward model {self.origin.path} gives {shape} as {self.origin.output} for "
                f"{count} texts, and a reward is one number a text. Choose output=logits or "
                f"score, and a model whose head has one label."
            )
        values = found.float().reshape(-1)
        if not bool(torch.isfinite(values).all()):
            raise RunError(
                f"The reward model {self.origin.path} gives a score that is no finite number, "
                f"which no mean can hold. Give it dtype=float32."
            )
        return [float(value) for value in values.tolist()]


def batches(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Places of rows that are read together, longest first: padding is counted, one row fits.

    Example:
        >>> list(batches([3, 9, 4], 10))
        [[1], [2, 0]]
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > most:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _refuse_random(path: str, loading: Mapping[str, Any]) -> None:
    """A head that no file holds is drawn at random, and only a log line says so.

    Raises:
        RunError: some weights are not in the files.
    """
    if missing := sorted(map(str, loading["missing_keys"])):
        raise RunError(
            f"{path} has no weights for {', '.join(missing[:3])}, so they would be drawn at random "
            f"and its rewards mean nothing: this is no reward model. Give path=<a model "
            f"with a sequence-classification head>."
        )
