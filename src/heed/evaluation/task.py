"""A task turns what a model says about its items into scores, one per item."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from heed.core.errors import DataError
from heed.core.types import Answer, Item, ItemScore, Ratio, RowSource, Stratum

if TYPE_CHECKING:
    from heed.models.student import Loaded


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
    model generates for `item.prompt` under the suite's prompting. A task that questions the model
    in its own way is a `Measured` one.
    """

    lower_is_better: frozenset[str] = frozenset()
    """Metrics of which less is better; the verdict turns their sign, the delta does not."""

    @property
    def few_shot(self) -> int:
        """Solved examples that stand before each question."""
        return 0

    paid: bool = False
    """Whether each answer costs something to score, by a judge say: then neither controls nor other
    promptings are scored beside it."""

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

    def parts(self, score: ItemScore, metric: str) -> Mapping[str, Ratio]:
        """What an item's score on a metric is made of: part -> ratio; nothing if it has no parts.

        Args:
            score: One of this task's.
            metric: One of `metrics`.
        """
        return {}

    def events(self, scores: Sequence[ItemScore]) -> dict[str, int]:
        """What a reader of these scores must know, and how often it happened; none otherwise.

        Args:
            scores: This task's.
        """
        return {}

    def notes(self, scores: Sequence[ItemScore]) -> list[str]:
        """Further lines about these scores: a number that is no sum over items; none otherwise.

        Args:
            scores: This task's.
        """
        return []

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


class Measured(Task):
    """A task that questions the model itself: one of another package, with its own way of asking.

    Nothing of it is kept in the journal: an interrupted scoring measures it anew, as a whole. No
    prompting changes it, and no file of responses can answer it.
    """

    @abstractmethod
    def measure(self, name: str, loaded: Loaded, events: Counter[str]) -> list[ItemScore]:
        """Ask the model, and score its answers.

        Args:
            name: Name of the task in its suite.
            loaded: The student, on its device.
            events: Told what a reader of the scores should know: name -> count.

        Returns:
            At least one score, each with `name` as its task, a key of its own, and all `metrics`.

        Raises:
            RunError: the task cannot be asked of this student.
        """

    def items(self) -> Sequence[Item]:
        """What it asks, where it can tell without a model, to be looked for in training data."""
        return ()

    def score(self, name: str, item: Item, answer: Answer) -> ItemScore:
        """Never called: a measured task scores what it asks."""
        raise NotImplementedError(f"{name} is measured as a whole, not answer by answer")
