"""The tuned student answers, and both students read its answers: one number per position."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch

from heed.analysis.divergence import Choice, Compared, Shortlists, compare, spellings
from heed.analysis.shift_numbers import ItemShift, Numbers
from heed.core.errors import RunError
from heed.core.types import Item, Stop
from heed.models.generate import encoded_prompts, generated_ids
from heed.models.likelihood import Reading, rows_at_once
from heed.models.precision import widest
from heed.models.student import Loaded
from heed.models.tokenizer import prompt_ids

AT_ONCE = 8
"""Arrays as large as the logits that one comparison holds, in twice their precision."""


class Said(NamedTuple):
    """A response of the tuned student.

    Attributes:
        item: What was asked.
        context: Ids before the response.
        ids: Ids of the response, the stop token included.
        stop: How it ended.
    """

    item: Item
    context: list[int]
    ids: list[int]
    stop: Stop


def answers(
    tuned: Loaded, items: Sequence[Item], told: Callable[[int, int], None], **engine: Any
) -> list[Said]:
    """Greedy responses of the tuned student under its own template.

    Args:
        tuned: The student.
        items: What it is asked.
        told: Told of responses done and of all.
        **engine: `max_new_tokens`, `batch_tokens`, `max_rows` of `heed.models.generate.generate`.

    Raises:
        RunError: a prompt and its answer would not fit into the student's context.
    """
    asked = [tuned.template.prompt(item.prompt) for item in items]
    encoded = encoded_prompts(tuned, asked, engine["max_new_tokens"])
    said: dict[int, Said] = {}
    stops = frozenset(tuned.stop_ids)
    for place, ids in generated_ids(tuned, encoded, **engine):
        stop: Stop = "stop" if ids[-1] in stops else "cap"
        said[place] = Said(items[place], encoded[place], ids, stop)
        told(len(said), len(items))
    return [said[place] for place in range(len(items))]


def refuse_other_tokens(base: Loaded, tuned: Loaded) -> None:
    """Both must mean the same by a token id, and give logits for the same ids.

    Raises:
        RunError: they do not.
    """
    ours, theirs = (s.tokenizer.get_vocab() for s in (base, tuned))
    if ours != theirs:
        token = next(t for t in sorted(ours | theirs) if ours.get(t) != theirs.get(t))
        why = f"token {token!r} has id {ours.get(token)} in the base and {theirs.get(token)} tuned"
    elif (sizes := [s.model.config.vocab_size for s in (base, tuned)])[0] != sizes[1]:
        why = f"the base has logits of {sizes[0]} tokens, and the tuned student of {sizes[1]}"
    else:
        return
    raise RunError(
        f"Student {tuned.name!r} and its base do not share a vocabulary: {why}. Probabilities of "
        f"different tokens cannot be compared. Compare a run with the student that it began from."
    )


class Reader:
    """What base and tuned student expect at each position of a response.

    Attributes:
        base: The untuned student.
        tuned: The tuned one.
        choice: Which token is looked up in the base.
        lists: The shortlists to be compared; None for the whole vocabulary.
        framed: How the base is asked; None for the very tokens that the tuned student was given.
    """

    def __init__(
        self,
        base: Loaded,
        tuned: Loaded,
        *,
        choice: Choice,
        shortlist: tuple[int, bool] | None,
        framed: str | None,
    ):
        """Take two students with one vocabulary.

        Args:
            base: The untuned student.
            tuned: The tuned one.
            choice: Which token is looked up in the base.
            shortlist: Length of the lists that are compared, and whether tokens of one text are
                one; None for the whole vocabulary.
            framed: Text before the response for the base, `{prompt}` for the instruction; None for
                the context of the tuned student.

        Raises:
            RunError: their vocabularies differ.
        """
        refuse_other_tokens(base, tuned)
        self.base, self.tuned, self.choice, self.framed = base, tuned, choice, framed
        self.compare = compare
        if shortlist is not None:
            size, by_text = int(base.model.config.vocab_size), shortlist[1]
            names = spellings(base.tokenizer, size, by_text).to(base.model.device)
            self.compare = Shortlists(shortlist[0], names).compare
        self.text_of = _texts(tuned.tokenizer)

    def read(self, said: Said) -> ItemShift:
        """Both read one response.

        Raises:
            RunError: it does not fit into the base's context.
        """
        with torch.inference_mode(), self.base.evaluating(), self.tuned.evaluating():
            chunks = list(self._chunks(said))
        whole = [np.concatenate([chunk[i] for chunk in chunks]) for i in range(len(chunks[0]))]
        choice, rank, *floats, argmax = whole
        probability, kl_base_tuned, kl_tuned_base, nats_base, nats_tuned = floats
        return ItemShift(
            key=said.item.key,
            prompt=said.item.prompt,
            stop=said.stop,
            texts=[self.text_of(i) for i in said.ids],
            said=said.ids,
            choice=[int(i) for i in choice],
            chosen=[self.text_of(int(i)) for i in choice],
            argmax=[int(i) for i in argmax],
            rank=rank,
            probability=probability,
            kl_base_tuned=kl_base_tuned,
            kl_tuned_base=kl_tuned_base,
            nats_base=nats_base,
            nats_tuned=nats_tuned,
        )

    def _chunks(self, said: Said) -> Iterator[list[Numbers]]:
        """Some positions at a time: the comparison, both likelihoods, the tuned argmax."""
        base = Reading(self.base, self._context(said), said.ids)
        tuned = Reading(self.tuned, said.context, said.ids)
        ids = torch.tensor(said.ids, device=self.tuned.model.device)
        size = max(1, rows_at_once(self.tuned.model) // AT_ONCE)
        fine = widest(ids.device)
        for start in range(0, len(ids), size):
            stop = min(start + size, len(ids))
            ours, theirs = (r.logs(start, stop, fine) for r in (base, tuned))
            at = ids[start:stop]
            found: Compared = self.compare(ours, theirs, at, self.choice)
            nats = (-logs.gather(-1, at[:, None])[:, 0] for logs in (ours, theirs))
            rows = (*found, *nats, theirs.argmax(-1))
            yield [row.cpu().double().numpy() for row in rows]

    def _context(self, said: Said) -> list[int]:
        """Ids before the response, for the base."""
        if self.framed is None:
            return said.context
        text = self.base.template.begin + self.framed.replace("{prompt}", said.item.prompt)
        return prompt_ids(self.base.tokenizer, text)


def _texts(tokenizer: Any) -> Callable[[int], str]:
    """What a token spells within a text; some tokenizers drop the blank before the first."""
    (*_, anchor) = tokenizer.encode("a", add_special_tokens=False)
    before = tokenizer.decode([anchor])

    @cache
    def text_of(token: int) -> str:
        both = str(tokenizer.decode([anchor, token], clean_up_tokenization_spaces=False))
        return both.removeprefix(before) if both.startswith(before) else tokenizer.decode([token])

    return text_of
