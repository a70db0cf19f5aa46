"""A suite is a list of tasks with one set of evaluation settings, used before and after tuning."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, NonNegativeFloat, PositiveInt

from heed.core.component import component, nearest
from heed.core.errors import ConfigError, Mistake, RunError
from heed.core.identity import FileName, Incidental, short_hash, versions
from heed.core.stats import interval
from heed.core.types import Answer, Delta, Interval, Item, ItemScore, Stratum
from heed.evaluation.deltas import deltas_of, sums_of
from heed.evaluation.task import Task
from heed.models.backend import Backend

if TYPE_CHECKING:
    from heed.evaluation.journal import Journal
    from heed.models.student import Loaded

AnswersTo = Callable[[str, Sequence[Item]], Mapping[str, Answer]]
"""Called with the task's name and its items; the answers by the items' keys."""

Progress = Callable[[str, int, int], None]
"""Called with the task's name, the number of answered items, and the number of all its items."""


@component
class Suite:
    """Tasks, how models answer them, and how sure a difference must be."""

    name: Annotated[FileName, Incidental]
    """How the suite is called; also its folder in `scores/`."""

    tasks: dict[str, Task]
    """Tasks by name, in the order of tables."""

    primary: str
    """`<task>/<metric>` that alone decides the verdict of a run."""

    max_new_tokens: PositiveInt
    """Cap on generated tokens, the stop token included."""

    backend: Backend
    """What generates the answers, before and after alike."""

    level: Annotated[float, Field(gt=0, lt=1)]
    """Share of resamples inside an interval."""

    resamples: PositiveInt
    """Bootstrap resamples of the items."""

    seed: int
    """Of the resampling."""

    margin: dict[str, NonNegativeFloat]
    """Task -> largest change that counts as none, in the unit of that task's metrics."""

    def __post_init__(self) -> None:
        found = []
        known = [f"{name}/{metric}" for name, task in self.tasks.items() for metric in task.metrics]
        if self.primary not in known:
            action = f"{nearest(self.primary, known)} Valid: {', '.join(known)}.".strip()
            found.append(Mistake("primary", repr(self.primary), "no task here has it.", action))
        if set(self.margin) != set(self.tasks):
            action = f"Give margin one value for each of {', '.join(self.tasks)}."
            why = "each task's margin must be stated."
            found.append(Mistake("margin", repr(self.margin), why, action))
        if found:
            raise ConfigError(found)

    def settings(self) -> dict[str, Any]:
        """What decides the scores of a given model, as plain data; needs no model."""
        return {
            "tasks": {name: task.digest() for name, task in self.tasks.items()},
            "decoding": "greedy",
            "max_new_tokens": self.max_new_tokens,
            "versions": versions(),
        }

    def fingerprint(self, loaded: Loaded) -> dict[str, Any]:
        """`settings` and how this student is spoken to: scores compare only if these are equal."""
        template = loaded.template
        kind = str(loaded.model.dtype).removeprefix("torch.")
        return self.settings() | {
            "template": short_hash([template.prompt("{instruction}"), template.end_of_turn]),
            "stops": loaded.tokenizer.convert_ids_to_tokens(list(loaded.stop_ids)),
            # kernels of shorter types round in their own way on each kind of device
            "precision": kind if kind == "float32" else f"{kind} on {loaded.model.device.type}",
            "backend": self.backend.settings(loaded),
        }

    def score(
        self,
        loaded: Loaded,
        journal: Journal | None = None,
        on_progress: Progress | None = None,
    ) -> list[ItemScore]:
        """Answer and score every item of every task.

        Args:
            loaded: The student.
            journal: Holds finished answers: those in it are not asked for again.
            on_progress: Told of each answered item.

        Returns:
            Scores in the order of `tasks` and of their items.

        Raises:
            RunError: a score is not a finite number, or a prompt does not fit the student.
            DataError: a task's data is missing.
        """
        scores = []
        for name, task in self.tasks.items():
            items = task.items()
            answers = self._answers(loaded, name, items, journal, on_progress)
            for item in items:
                scores.append(_finite(task.score(name, item, answers[item.key])))
        return scores

    def _answers(
        self,
        loaded: Loaded,
        name: str,
        items: Sequence[Item],
        journal: Journal | None,
        on_progress: Progress | None,
    ) -> dict[str, Answer]:
        """Key -> likelihoods for items with requests, generated text for the others."""
        kept = journal.known(name) if journal is not None else {}
        found = {item.key: kept[item.key] for item in items if item.key in kept}
        tell = on_progress or _silent
        tell(name, len(found), len(items))
        events = journal.events if journal is not None else Counter()
        for key, answer in self._new_answers(loaded, items, found, events):
            if journal is not None:
                journal.add(name, key, answer)
            found[key] = answer
            tell(name, len(found), len(items))
        assert len(found) == len(items), "every item has one answer"
        return found

    def _new_answers(
        self,
        loaded: Loaded,
        items: Sequence[Item],
        found: Mapping[str, Answer],
        events: Counter[str],
    ) -> Iterator[tuple[str, Answer]]:
        """Keys and answers of the items that have none yet, in the order of finishing.

        Items that are weighed are weighed together or not at all: the last digit of a likelihood
        depends on what stands beside it in a batch.
        """
        weighed = [item for item in items if item.requests]
        if any(item.key not in found for item in weighed):
            keys = [item.key for item in weighed]
            yield from zip(keys, _likelihoods(loaded, weighed), strict=True)
        asked = [item for item in items if not item.requests and item.key not in found]
        if asked:
            prompts = [loaded.template.prompt(item.prompt) for item in asked]
            said = self.backend.answers(
                loaded, prompts, max_new_tokens=self.max_new_tokens, events=events
            )
            for place, answer in said:
                yield asked[place].key, answer

    def score_given(self, answers_to: AnswersTo) -> list[ItemScore]:
        """Score answers that no model here made: a file of responses, or a control.

        Args:
            answers_to: Task's name and items -> the answer to each, by its key.

        Returns:
            Scores in the order of `tasks` and of their items.

        Raises:
            ConfigError: a task weighs likelihoods, which no text can give.
            DataError: a task's data is missing.
        """
        items = {name: task.items() for name, task in self.tasks.items()}
        if weighed := [name for name in items if any(item.requests for item in items[name])]:
            why = (
                f"its task {', '.join(weighed)} weighs likelihoods, which only a model has; a text "
                f"has none."
            )
            action = "Choose a suite that is answered in text throughout, such as suite=ifeval."
            raise ConfigError([Mistake("suite", self.name, why, action)])
        scores = []
        for name, task in self.tasks.items():
            answers = answers_to(name, items[name])
            scores += [_finite(task.score(name, i, answers[i.key])) for i in items[name]]
        return scores

    def summarise(self, scores: Sequence[ItemScore]) -> dict[str, dict[str, Interval]]:
        """Each metric's value with its interval: task -> metric -> interval."""
        return {
            name: {
                metric: interval(*sums_of(scores, name, metric), **self.bootstrap())
                for metric in task.metrics
            }
            for name, task in self.tasks.items()
        }

    def breakdown(self, scores: Sequence[ItemScore]) -> dict[str, list[Stratum]]:
        """Scores of parts of the items: task -> its groups and types, for tasks that have some."""
        found = {name: task.strata(own, self.level) for name, task, own in self._own(scores)}
        return {name: strata for name, strata in found.items() if strata}

    def events(self, scores: Sequence[ItemScore]) -> dict[str, int]:
        """What a reader of these scores must know, and how often it happened, over all tasks."""
        found = Counter({"cut at the cap": sum(score.stop == "cap" for score in scores)})
        for _, task, own in self._own(scores):
            found.update(task.events(own))
        return {what: times for what, times in found.items() if times}

    def _own(self, scores: Sequence[ItemScore]) -> Iterator[tuple[str, Task, list[ItemScore]]]:
        """Each task with its name and its part of the scores."""
        for name, task in self.tasks.items():
            yield name, task, [score for score in scores if score.task == name]

    def deltas(self, before: Sequence[ItemScore], after: Sequence[ItemScore]) -> list[Delta]:
        """After minus before of every metric over the same items, the primary metric first.

        Raises:
            RunError: the two do not hold the same items.
        """
        return deltas_of(self, before, after)

    def bootstrap(self) -> dict[str, Any]:
        """How intervals are made."""
        return {"level": self.level, "resamples": self.resamples, "seed": self.seed}


def _silent(task: str, done: int, total: int) -> None:
    """Progress that nobody asked about."""


def _likelihoods(loaded: Loaded, items: Sequence[Item]) -> list[Answer]:
    """One answer per item, with the likelihoods of its requests."""
    if not items:
        return []
    from heed.models.likelihood import continuation_nats

    found = iter(continuation_nats(loaded, [r for item in items for r in item.requests]))
    return [Answer("", 0, "stop", tuple(next(found) for _ in item.requests)) for item in items]


def _finite(score: ItemScore) -> ItemScore:
    """Pass a score on if all its numbers are finite."""
    for metric, ratio in score.metrics.items():
        if not (math.isfinite(ratio.num) and math.isfinite(ratio.den)):
            raise RunError(
                f"{score.task}/{metric} of item {score.key} is {ratio.num} / {ratio.den}, which no "
                f"table or test can hold. The model's weights have probably diverged: look at the "
                f"loss in metrics.jsonl, and lower lr.peak."
            )
    return score
