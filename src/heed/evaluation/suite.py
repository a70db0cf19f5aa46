"""A suite is a list of tasks with one set of evaluation settings, used before and after tuning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, NonNegativeFloat, PositiveInt

from heed.core.component import component, nearest
from heed.core.errors import ConfigError, Mistake
from heed.core.identity import Incidental, short_hash, versions
from heed.core.stats import interval
from heed.core.types import Answer, Delta, Interval, Item, ItemScore, Stratum
from heed.evaluation.asking import Asking, Progress, finite
from heed.evaluation.deltas import deltas_of, sums_of
from heed.evaluation.prompting import Declared, Prompting
from heed.evaluation.task import Measured, Task
from heed.evaluation.together import SharedAsking
from heed.models.backend import Backend

if TYPE_CHECKING:
    from heed.evaluation.journal import Journal
    from heed.models.student import Loaded

AnswersTo = Callable[[str, Sequence[Item]], Mapping[str, Answer]]
"""Called with the task's name and its items; the answers by the items' keys."""


@component
class Suite:
    """Tasks, how models answer them, and how sure a difference must be."""

    name: Annotated[str, Field(pattern=r"^\w[\w.@-]*$", max_length=80), Incidental]
    """How the suite is called; also its folder in `scores/`. Under another prompting than the
    declared one, `@<prompting>` is added, so that the scores of two never share a folder."""

    tasks: dict[str, Task]
    """Tasks by name, in the order of tables."""

    primary: str
    """`<task>/<metric>` that alone decides the verdict of a run."""

    prompting: Prompting
    """How an instruction is put to the student; what the verdict is about."""

    also: Annotated[Prompting | None, Incidental] = None
    """Base and tuned student are scored under this too, beside the verdict; None: they are not."""

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
        if not isinstance(self.prompting, Declared):
            named = f"{self.name.partition('@')[0]}@{self.prompting.name}"
            object.__setattr__(self, "name", named)  # frozen for everybody else

    def in_text(self) -> Suite | None:
        """The same suite with only the tasks that are answered in text; None if there are none.

        Its primary metric is this suite's, or the first of its first task if that is weighed or
        measured. It is called `<name>.text` if any task is left out.

        Raises:
            DataError: a task's data is missing.
        """
        kept = {name: task for name, task in self.tasks.items() if _answered_in_text(task)}
        if not kept:
            return None
        if len(kept) == len(self.tasks):
            return self
        first = next(iter(kept))
        given = self.primary.split("/")[0] in kept
        name, at, prompting = self.name.partition("@")
        return replace(
            self,
            name=f"{name}.text{at}{prompting}",
            tasks=kept,
            primary=self.primary if given else f"{first}/{kept[first].metrics[0]}",
            margin={name: self.margin[name] for name in kept},
        )

    def asked_as(self, prompting: Prompting) -> Suite | None:
        """`in_text` under another prompting, as a suite of its own; None if it has no tasks.

        Its name is the suite's and `@<prompting>`, without that for the declared prompting.

        Raises:
            DataError: a task's data is missing.
        """
        text = self.in_text()
        if text is None:
            return None
        return replace(text, name=text.name.partition("@")[0], prompting=prompting, also=None)

    def settings(self) -> dict[str, Any]:
        """What decides the scores of a given model, as plain data; needs no model."""
        return {
            "tasks": {name: task.digest() for name, task in self.tasks.items()},
            "few_shot": {name: task.few_shot for name, task in self.tasks.items()},
            "decoding": "greedy",
            "max_new_tokens": self.max_new_tokens,
            "versions": versions(),
        }

    def fingerprint(self, loaded: Loaded) -> dict[str, Any]:
        """`settings` and how this student is spoken to: scores compare only if these are equal.

        What explains a difference stands before what merely shows one: the prompts' digest comes
        last.

        Raises:
            DataError: a task's data or the prompting's is missing.
        """
        template = loaded.template
        kind = str(loaded.model.dtype).removeprefix("torch.")
        return self.settings() | {
            "template": short_hash([template.prompt("{instruction}"), template.end_of_turn]),
            "prompting": self.prompting.settings(),
            "stops": loaded.tokenizer.convert_ids_to_tokens(list(loaded.stop_ids)),
            # kernels of shorter types round in their own way on each kind of device
            "precision": kind if kind == "float32" else f"{kind} on {loaded.model.device.type}",
            "backend": self.backend.settings(),
            "prompts": {
                name: short_hash([self._asks(loaded, item) for item in task.items()])
                for name, task in self.tasks.items()
                if not isinstance(task, Measured)  # its digest stands for what it asks
            },
        }

    def _asks(self, loaded: Loaded, item: Item) -> list[Any]:
        """The key of an item, and all that this student reads for it."""
        if not item.requests:
            return [item.key, self.prompting.prompt(loaded.template, item.prompt)]
        prompt = loaded.template.prompt
        return [
            item.key,
            *([prompt(r.context) if r.asked else r.context, *r] for r in item.requests),
        ]

    def score(
        self,
        loaded: Loaded,
        journal: Journal | None = None,
        on_progress: Progress | None = None,
        *,
        shared: bool = False,
    ) -> list[ItemScore]:
        """Answer and score every item of every task.

        Args:
            loaded: The student.
            journal: Holds finished answers: those in it are not asked for again.
            on_progress: Told of each answered item.
            shared: Whether the other ranks of the process group take part, as they must then
                (`heed.evaluation.together`).

        Returns:
            Scores in the order of `tasks` and of their items.

        Raises:
            RunError: a score is not a finite number, or a prompt does not fit the student.
            DataError: a task's data is missing.
        """
        asking = (SharedAsking if shared else Asking)(self, loaded, journal, on_progress)
        return [score for name in self.tasks for score in asking.scores(name)]

    def score_given(self, answers_to: AnswersTo) -> list[ItemScore]:
        """Score answers that no model here made: a file of responses, or a control.

        Args:
            answers_to: Task's name and items -> the answer to each, by its key.

        Returns:
            Scores in the order of `tasks` and of their items.

        Raises:
            ConfigError: a task weighs likelihoods, or asks the model itself, which no text can do.
            DataError: a task's data is missing.
        """
        measured = [name for name, task in self.tasks.items() if isinstance(task, Measured)]
        items = {n: task.items() for n, task in self.tasks.items() if n not in measured}
        weighed = [name for name in items if any(item.requests for item in items[name])]
        if needs := [*measured, *weighed]:
            why = (
                f"its task {', '.join(needs)} weighs likelihoods, or asks the model "
                f"in its own way, which takes a model; a text has none."
            )
            action = "Choose a suite that is answered in text throughout, such as suite=ifeval."
            raise ConfigError([Mistake("suite", self.name, why, action)])
        scores = []
        for name, task in self.tasks.items():
            answers = answers_to(name, items[name])
            scores += [finite(task.score(name, i, answers[i.key])) for i in items[name]]
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

    def notes(self, scores: Sequence[ItemScore]) -> list[str]:
        """Further lines about the scores, each with its task."""
        own = self._own(scores)
        return [f"{name}: {note}" for name, task, part in own for note in task.notes(part)]

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


def _answered_in_text(task: Task) -> bool:
    """Whether a task is scored by what the model generates for its items, at no cost."""
    free = not isinstance(task, Measured) and not task.paid
    return free and not any(item.requests for item in task.items())
