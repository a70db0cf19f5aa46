"""A student is asked all items of a task, and what it says is scored."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from heed.core.errors import RunError
from heed.core.types import Answer, Item, ItemScore, Prompt
from heed.evaluation.task import Measured

if TYPE_CHECKING:
    from heed.evaluation.journal import Journal
    from heed.evaluation.suite import Suite
    from heed.models.student import Loaded

Progress = Callable[[str, int, int], None]
"""Called with the task's name, the number of answered items, and the number of all its items."""


class Asking:
    """One scoring of one student by one suite.

    Attributes:
        suite: What is asked, and how.
        loaded: The student.
        journal: Holds finished answers: those in it are not asked for again.
        tell: Told of each answered item.
        events: What a reader of the scores should know: name -> count; the journal's, if any.
    """

    def __init__(
        self,
        suite: Suite,
        loaded: Loaded,
        journal: Journal | None = None,
        on_progress: Progress | None = None,
    ):
        self.suite, self.loaded, self.journal = suite, loaded, journal
        self.tell = on_progress or _silent
        self.events: Counter[str] = journal.events if journal is not None else Counter()

    def scores(self, name: str) -> list[ItemScore]:
        """Answer and score every item of a task.

        What ends an answer is looked for here, not before the journal, so that what is counted of
        it is the same after an interruption.

        Raises:
            RunError: a score is not a finite number, or a prompt does not fit the student.
            DataError: the task's data is missing.
        """
        task = self.suite.tasks[name]
        if isinstance(task, Measured):
            return self._measured(name, task)
        items = task.items()
        answers, found = self._answers(name, items), []
        asked = sum(not item.requests for item in items)
        self.events.update(self.suite.backend.told(self.loaded, asked))
        for item in items:
            answer = answers[item.key]
            if not item.requests:
                answer = self.suite.prompting.response(answer, self.events)
            found.append(finite(task.score(name, item, answer)))
        return found

    def _measured(self, name: str, task: Measured) -> list[ItemScore]:
        """The scores of a task that questions the model itself."""
        found = [finite(score) for score in task.measure(name, self.loaded, self.events)]
        assert found, "no score, no value"
        assert len({score.key for score in found}) == len(found), "one score per key"
        for score in found:
            assert (score.task, set(score.metrics)) == (name, set(task.metrics)), "as declared"
        return found

    def _answers(self, name: str, items: Sequence[Item]) -> dict[str, Answer]:
        """Key -> likelihoods for items with requests, generated text for the others."""
        kept = self.journal.known(name) if self.journal is not None else {}
        found = {item.key: kept[item.key] for item in items if item.key in kept}
        self.tell(name, len(found), len(items))
        for key, answer in self._new_answers(items, found):
            if self.journal is not None:
                self.journal.add(name, key, answer)
            found[key] = answer
            self.tell(name, len(found), len(items))
        assert len(found) == len(items), "every item has one answer"
        return found

    def _new_answers(
        self, items: Sequence[Item], found: Mapping[str, Answer]
    ) -> Iterator[tuple[str, Answer]]:
        """Keys and answers of the items that have none yet, in the order of finishing.

        Items that are weighed are weighed together or not at all: the last digit of a likelihood
        depends on what stands beside it in a batch.
        """
        weighed = [item for item in items if item.requests]
        if any(item.key not in found for item in weighed):
            keys = [item.key for item in weighed]
            yield from zip(keys, likelihoods(self.loaded, weighed), strict=True)
        asked = [item for item in items if not item.requests and item.key not in found]
        yield from self.said(asked, self.events)

    def said(self, asked: Sequence[Item], events: Counter[str]) -> Iterator[tuple[str, Answer]]:
        """Keys and generated answers of items, in the order of finishing.

        Args:
            asked: Items without requests.
            events: Told what the backend tells.
        """
        if not asked:
            return
        prompting = self.suite.prompting
        said = self.suite.backend.answers(
            self.loaded,
            self.prompts(asked),
            max_new_tokens=self.suite.max_new_tokens,
            last_line=prompting.last_line,
            events=events,
        )
        for place, answer in said:
            yield asked[place].key, answer

    def prompts(self, asked: Sequence[Item]) -> list[Prompt]:
        """What the student reads of items without requests."""
        template = self.loaded.template
        return [self.suite.prompting.prompt(template, item.prompt) for item in asked]


def _silent(task: str, done: int, total: int) -> None:
    """Progress that nobody asked about."""


def likelihoods(loaded: Loaded, items: Sequence[Item], **how: bool) -> list[Answer]:
    """One answer per item, with the likelihoods of its requests.

    Args:
        loaded: The student.
        items: Items with requests.
        how: For `continuation_nats`.
    """
    if not items:
        return []
    from heed.models.likelihood import continuation_nats

    found = iter(continuation_nats(loaded, [r for item in items for r in item.requests], **how))
    return [Answer("", 0, "stop", tuple(next(found) for _ in item.requests)) for item in items]


def finite(score: ItemScore) -> ItemScore:
    """Pass a score on if all its numbers are finite."""
    for metric, ratio in score.metrics.items():
        if not (math.isfinite(ratio.num) and math.isfinite(ratio.den)):
            raise RunError(
                f"{score.task}/{metric} of item {score.key} is {ratio.num} / {ratio.den}, which no "
                f"table or test can hold. The model's weights have probably diverged: look at the "
                f"loss in metrics.jsonl, and lower lr.peak."
            )
    return score
