"""A task turns what a model says about its items into scores, one per item."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from heed.core.errors import DataError
from heed.core.types import Answer, Item, ItemScore, Ratio, RowSource, Stratum


def item_key(where: str, key: Any) -> str:
    """The key of an item as text, the same for a prompt and for the response to it.

    Args:
        where: The file and line, or the row, for the message.
        key: As it stands there.

    Raises:
        DataError: it is neither text nor a whole number.

    Example:
        >>> item_key("row", 7) == item_key("row", 7.0) == item_key("row", "7") == "7"
        True
    """
    if isinstance(key, float) and key.is_integer():
        key = int(key)
    if isinstance(key, str | int) and not isinstance(key, bool):
        return str(key)
    raise DataError(
        f"{where}: the key is {key!r:.60}, which names no prompt. Give text or a whole number."
    )


def weighed(
    task: str, item: Item, metrics: Mapping[str, Ratio], details: Mapping[str, Any]
) -> ItemScore:
    """The score of an item that was weighed by likelihood: nothing was generated."""
    return ItemScore(task, item.key, item.prompt, None, None, 0, metrics, details)


class Task(ABC):
    """What every task offers; a task is a component, chosen by `conf/task/<name>.yaml`.

    A task whose items carry `requests` is scored by likelihood; any other is scored by what the
    model generates for `item.prompt` under the student's chat template.
    """

    lower_is_better: frozenset[str] = frozenset()
    """Metrics of which less is better; the verdict turns their sign, the delta does not."""

    @property
    @abstractmethod
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that each item is scored on, in the order of a table."""

    @abstractmethod
    def items(self) -> Sequence[Item]:
        """All items, in a fixed order, with unique keys.

        Raises:
            DataError: if what the items are made of is missing or malformed.
        """

    @abstractmethod
    def score(self, name: str, item: Item, answer: Answer) -> ItemScore:
        """Score one answer; the outcome depends on nothing but the item and the answer.

        Args:
            name: Name of the task in its suite.
            item: One of `items()`.
            answer: The model's response, or its likelihoods, for this item.
        """

    def strata(self, scores: Sequence[ItemScore], level: float) -> list[Stratum]:
        """Scores of parts of the items, where a task has parts to show; none otherwise.

        Args:
            scores: This task's, of any number of items.
            level: Nominal coverage of the intervals.
        """
        return []

    def events(self, scores: Sequence[ItemScore]) -> dict[str, int]:
        """What a reader of these scores must know, and how often it happened; none otherwise.

        Args:
            scores: This task's.
        """
        return {}

    def references(self, training: RowSource, tokenizer: Any) -> dict[str, float]:
        """What trivial models reach on this task, where it knows some: name -> value.

        Args:
            training: The text that the student was pre-trained on.
            tokenizer: The student's.
        """
        return {}

    @abstractmethod
    def digest(self) -> str:
        """Changes whenever the items or the scoring rules change."""
