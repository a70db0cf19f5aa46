"""The small score of a student that is still training: a look, not a result."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from heed.core.stats import interval
from heed.core.types import Item
from heed.evaluation.deltas import sums_of
from heed.evaluation.ifeval import InstructionFollowing
from heed.evaluation.suite import Suite

if TYPE_CHECKING:
    from heed.models.student import Loaded

ROWS, TOKENS = 64, 65536
"""Most rows and tokens that are decoded together: memory, not the texts."""


def some(items: Sequence[Item], count: int) -> list[Item]:
    """The same few items whatever stands beside them: those whose keys have the smallest hashes.

    Example:
        >>> items = [Item(str(i), "") for i in range(9)]
        >>> some(items, 3) == some(items[::-1], 3)
        True
    """

    def place(item: Item) -> str:
        return hashlib.sha256(f"in the loop\n{item.key}".encode()).hexdigest()

    return sorted(items, key=place)[:count]


@dataclass(frozen=True)
class InLoop:
    """Scores a student on some items of a suite's first instruction-following task.

    Answers and verifiers are the suite's own: its prompting, its cap, its way of resampling. Only
    the items are fewer, and nothing stands beside them.

    Attributes:
        suite: Whose.
        task: The task's name.
    """

    suite: Suite
    task: str

    def __call__(self, loaded: Loaded, items: int) -> Mapping[str, Any]:
        """Value (first) and interval of the suite's primary metric, or else the task's first.

        Args:
            loaded: The student.
            items: How many; all, if the task has no more.
        """
        from heed.models.generate import generate
        from heed.models.sampling import Ways

        suite, task = self.suite, self.suite.tasks[self.task]
        chosen, events = some(self._items, items), Counter[str]()
        said = generate(
            loaded,
            [suite.prompting.prompt(loaded.template, item.prompt) for item in chosen],
            max_new_tokens=suite.max_new_tokens,
            batch_tokens=TOKENS,
            max_rows=ROWS,
            ways=Ways(last_line=suite.prompting.last_line),
        )
        answers = {place: suite.prompting.response(answer, events) for place, answer in said}
        scores = [task.score(self.task, item, answers[i]) for i, item in enumerate(chosen)]
        found = interval(*sums_of(scores, self.task, self.metric), **suite.bootstrap())
        return {
            f"look/{self.task}/{self.metric}": found.value,
            "look/low": found.low,
            "look/high": found.high,
            "look/items": len(chosen),
        }

    @property
    def metric(self) -> str:
        """Which one."""
        task, _, metric = self.suite.primary.partition("/")
        return metric if task == self.task else self.suite.tasks[self.task].metrics[0]

    @cached_property
    def _items(self) -> Sequence[Item]:
        return self.suite.tasks[self.task].items()

    def prompts(self, count: int) -> list[str]:
        """What the first of these items ask.

        Raises:
            DataError: the task's data is missing.
        """
        return [item.prompt for item in some(self._items, count)]


def in_loop(suite: Suite) -> InLoop | None:
    """The scorer for a suite; None if it has no instruction-following task."""
    tasks = suite.tasks.items()
    names = [name for name, task in tasks if isinstance(task, InstructionFollowing)]
    return InLoop(suite, names[0]) if names else None
