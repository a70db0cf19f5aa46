"""One scoring by all ranks of a process group: each item is answered by one of them.

What is shared out is decided by the leader and said to all, so that no item is answered twice and
none is left out. Answers are the same on any number of ranks: likelihoods to the last digit, texts
in float32 but for ties within rounding. The leader alone asks what a task measures in its own way,
cuts responses, counts and scores.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from heed.core.errors import RunError
from heed.core.identity import first_difference
from heed.core.ranks import everybody, from_leader, leads, share, world
from heed.core.types import Answer, Item
from heed.evaluation.asking import Asking, likelihoods
from heed.evaluation.task import Measured

if TYPE_CHECKING:
    from heed.models.student import Loaded

SAMPLED = 64
"""Numbers of each parameter that are compared between ranks."""


class SharedAsking(Asking):
    """An `Asking` in which all ranks take part: the leader calls `scores`, the others `take_part`.

    The others do nothing else meanwhile; who asks alone does so by `Asking`.
    """

    def take_part(self) -> None:
        """What a rank that does not lead does: its share of each task, in the suite's order."""
        for name, task in self.suite.tasks.items():
            if not isinstance(task, Measured):
                self._answers(name, task.items())

    def _answers(self, name: str, items: Sequence[Item]) -> dict[str, Answer]:
        """Key -> answer; only the leader has those that an interrupted scoring left."""
        known = self.journal.known(name) if leads() and self.journal is not None else {}
        kept = {item.key: known[item.key] for item in items if item.key in known}
        found = kept | self._weighed(name, items, kept) | self._asked(name, items, kept)
        if leads():
            assert set(found) == {item.key for item in items}, "every item has one answer"
            self.tell(name, len(found), len(items))
        return found

    def _weighed(
        self, name: str, items: Sequence[Item], kept: Mapping[str, Answer]
    ) -> dict[str, Answer]:
        """The items that are weighed, all if one is missing; their rows are shared out."""
        weighed = [item for item in items if item.requests]
        if not from_leader(any(item.key not in kept for item in weighed)):
            return {}
        answers = likelihoods(self.loaded, weighed, shared=True)
        found = {item.key: answer for item, answer in zip(weighed, answers, strict=True)}
        if leads() and self.journal is not None:
            for key, answer in found.items():
                self.journal.add(name, key, answer)
        return found

    def _asked(
        self, name: str, items: Sequence[Item], kept: Mapping[str, Answer]
    ) -> dict[str, Answer]:
        """The items that are answered in text and have no answer yet; each is one rank's."""
        by_key = {item.key: item for item in items if not item.requests}
        dealt = from_leader(_dealt([item for key, item in by_key.items() if key not in kept]))
        if not dealt:
            return {}
        self._check_fit([by_key[key] for key in dealt])
        own = [by_key[dealt[place]] for place in share(len(dealt))]
        events: Counter[str] = Counter()
        parts = everybody((self._own(name, own, events), events))
        for _, told in parts:
            self.events.update(told)
        pairs = [pair for answers, _ in parts for pair in answers.items()]
        assert sorted(key for key, _ in pairs) == sorted(dealt), "no item twice, and none left out"
        return dict(pairs)

    def _own(self, name: str, own: Sequence[Item], events: Counter[str]) -> dict[str, Answer]:
        """This rank's share, kept as it is finished; the leader is told how far its own is."""
        found: dict[str, Answer] = {}
        title = f"{name}, first of {world()} shares"
        self.tell(title, 0, len(own))
        for key, answer in self.said(own, events):
            assert key not in found, "one answer per item"
            if self.journal is not None:
                self.journal.add(name, key, answer)
            found[key] = answer
            self.tell(title, len(found), len(own))
        return found

    def _check_fit(self, asked: Sequence[Item]) -> None:
        """Refuse prompts that do not fit on every rank at once, whosever share they are."""
        from heed.models.generate import encoded_prompts

        encoded_prompts(self.loaded, self.prompts(asked), self.suite.max_new_tokens)


def _dealt(items: Sequence[Item]) -> list[str]:
    """Keys in the order in which they are dealt out: the longest first, so that shares are even."""
    return [item.key for item in sorted(items, key=lambda item: -len(item.prompt))]


def agree(fingerprint: Mapping[str, Any], loaded: Loaded) -> None:
    """Refuse ranks that would not answer as the leader does; all must ask at the same place.

    Args:
        fingerprint: How this rank would score (`Suite.fingerprint`).
        loaded: The student, as this rank has it.

    Raises:
        RunError: a rank has another student or other settings, on all ranks.
    """
    found = everybody({**fingerprint, "weights": _sample(loaded.model)})
    for rank, its in enumerate(found):
        if its != found[0]:
            key, one, two = first_difference(found[0], its)
            raise RunError(
                f"rank {rank} of {len(found)} would not answer as rank 0 does: {key} is {two!r} "
                f"there and {one!r} here, so their answers would not be one model's. Give all "
                f"machines the same heed, libraries and data, and one shared folder of outputs."
            )


def _sample(model: Any) -> str:
    """A digest of some numbers of every parameter, bit by bit; another training has others."""
    found = hashlib.sha256()
    for name, parameter in model.named_parameters():
        few = parameter.detach().flatten()[:SAMPLED].float().cpu()
        found.update(name.encode() + few.numpy().tobytes())
    return found.hexdigest()[:16]
