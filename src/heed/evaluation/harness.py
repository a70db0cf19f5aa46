"""Knowledge, as lm-eval asks for it: the student in memory chooses among given answers.

Source: Biderman et al. 2024, https://arxiv.org/abs/2405.14782.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from heed.core.component import component
from heed.core.console import Answered, progress_console
from heed.core.errors import ConfigError, Mistake, RunError
from heed.core.identity import Incidental
from heed.core.stats import share_interval
from heed.core.types import Item, ItemScore, Ratio, Stratum
from heed.evaluation.lm_eval_data import Asked
from heed.evaluation.lm_eval_tasks import SEEDS, load_tasks, manager_of, own_randomness, quietly
from heed.evaluation.task import Measured

if TYPE_CHECKING:
    from heed.models.student import Loaded

CUT = "choice whose question was cut from its beginning, to fit the student's window"
"""lm-eval does so, and warns only; with solved examples before it, these go first."""

TIED = "question whose likeliest choices weigh exactly the same, of which the first is taken"
"""Many of them (a student to whom all choices are one unknown word) make a score of their order."""


@component
class Harness(Measured):
    """A task or group of lm-eval, asked by lm-eval's own code; every number is its own.

    Settings that are lm-eval's defaults, and are used here for base and tuned student alike:

    - No chat template: questions and choices are plain text (`apply_chat_template=False`).
    - Special tokens as the tokenizer adds them by itself: a student whose tokenizer puts a
      beginning of text before every text has it before every question, any other has none. A
      question without text stands behind the beginning of text, or behind the end of text where
      there is none.
    - The window is what the model's config says (`n_positions`, `max_position_embeddings` or
      `n_ctx`; the tokenizer's, or 2,048, if it says nothing). What is longer is cut from its
      beginning, and counted.
    - Rows of a batch are padded on the right.

    A group's metric is the mean over the questions of all its tasks.
    """

    task: str
    """lm-eval's name of a task, or of a group of tasks, that is answered by choosing."""

    take: tuple[str, ...]
    """Metrics that are taken from it: `acc`; `acc_norm`, by the length of the choices."""

    num_fewshot: NonNegativeInt
    """Solved examples before each question."""

    fewshot_seed: int
    """Of the draw of these, where a task draws them; lm-eval's own is 1234."""

    batch_size: PositiveInt
    """Choices that are weighed together: the last digits of a number depend on it."""

    revision: str | None
    """Whole commit of the data on the hub; unused where a file is given."""

    file: Annotated[str | None, Incidental]
    """Rows of the same columns (.jsonl or .json), asked instead of the hub's. For a group
    `*` stands in it for the name of each of its tasks. Its content is in the digest."""

    fewshot_file: Annotated[str | None, Incidental]
    """Rows that the solved examples are taken from, where a file is given."""

    def __post_init__(self) -> None:
        if found := self._mistakes():
            raise ConfigError(found)

    def _mistakes(self) -> list[Mistake]:
        found = []
        if not self.task.strip():
            why = "without a name there is nothing to ask."
            found.append(Mistake("task", repr(self.task), why, "Give a task of lm-eval."))
        if not self.take:
            why = "without a metric there is no score."
            found.append(Mistake("take", "nothing", why, "Give take=[acc]."))
        if self.file is None and not re.fullmatch(r"[0-9a-f]{40}", self.revision or ""):
            why = "without a whole commit (40 digits) the data may change under the name."
            action = "Copy the commit from the dataset's page (Files, History), or give a file."
            found.append(Mistake("revision", repr(self.revision), why, action))
        if self.file is None and self.fewshot_file is not None:
            why = "solved examples of a file stand before questions of a file only."
            found.append(Mistake("fewshot_file", self.fewshot_file, why, "Give file too."))
        if self.file is not None and self.num_fewshot and self.fewshot_file is None:
            why = f"the {self.num_fewshot} solved examples would be taken from what is asked."
            found.append(Mistake("fewshot_file", "null", why, "Give it, or num_fewshot=0."))
        return found

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those that are taken."""
        return self.take

    @property
    def few_shot(self) -> int:
        """As configured."""
        return self.num_fewshot

    @property
    def asked(self) -> Asked:
        """The part of this that lm-eval is told when a task is read."""
        return Asked(
            self.task, self.take, self.num_fewshot, self.fewshot_seed, self.revision, self.file,
            self.fewshot_file,
        )  # fmt: skip

    def digest(self) -> str:
        """In words: whatever decides the numbers of a model, so that a difference can be read.

        lm-eval's version stands for its rules. Data of the hub stand there by their commit, files
        by the digest of their content; neither is loaded for it.

        Raises:
            DataError: a file is missing.
        """
        return (
            f"{self.task} of lm-eval {version('lm_eval')}, {self.num_fewshot}-shot (seed "
            f"{self.fewshot_seed}), no chat template, batches of {self.batch_size}, seeds "
            f"{'/'.join(map(str, SEEDS.values()))}, {self.asked.data}"
        )

    def items(self) -> list[Item]:
        """Every question without its solved examples and choices, to be looked for in data.

        Raises:
            DataError: the data are missing, not those of the commit, or malformed.
            RunError: the task cannot be asked here.
        """
        found = load_tasks(self.asked)
        return [
            Item(_key(leaf, number, found), _question(task, doc))
            for leaf, task in found.items()
            for number, doc in enumerate(task.task_docs)
        ]

    def measure(self, name: str, loaded: Loaded, events: Counter[str]) -> list[ItemScore]:
        """Let lm-eval ask the student in memory.

        Args:
            name: Name of the task in its suite.
            loaded: The student, on its device.
            events: Told how many questions were cut, and how many have no single likeliest choice.

        Raises:
            DataError: the data are missing, not those of the commit, or malformed.
            RunError: the task cannot be asked of this student, or here at all.
        """
        from lm_eval import simple_evaluate

        tasks = load_tasks(self.asked)
        bar = _Bar(name, sum(len(task.task_docs) for task in tasks.values()))
        with quietly(), own_randomness(), loaded.evaluating(), np.errstate(all="ignore"):
            model = asker(loaded, self.batch_size, bar)
            told = simple_evaluate(
                model=model,
                tasks=list(tasks.values()),
                task_manager=manager_of(self.task),
                log_samples=True,
                bootstrap_iters=0,
                apply_chat_template=False,
                fewshot_random_seed=self.fewshot_seed,
                **SEEDS,
            )
        bar.end()
        if model.cut:
            events[f"{name}: {CUT}"] += model.cut
        samples = [(leaf, sample) for leaf in tasks for sample in told["samples"][leaf]]
        if tied := sum(_tied(tasks[leaf], sample) for leaf, sample in samples):
            events[f"{name}: {TIED}"] += tied
        return [
            self._score(name, _key(leaf, sample["doc_id"], tasks), tasks[leaf], sample)
            for leaf, sample in samples
        ]

    def _score(self, name: str, key: str, task: Any, sample: Mapping[str, Any]) -> ItemScore:
        """One line of lm-eval's log as a score."""
        details = {
            "task": task.config.task,
            "target": str(sample["target"]),
            "log_likelihoods": [float(weight) for weight, _ in sample["filtered_resps"]],
        }
        metrics = {metric: Ratio(float(sample[metric]), 1) for metric in self.take}
        _refuse_weightless(name, key, metrics, details["log_likelihoods"])
        prompt = _question(task, sample["doc"])
        return ItemScore(name, key, prompt, None, None, 0, metrics, details)

    def strata(self, scores: Sequence[ItemScore], level: float) -> list[Stratum]:
        """Each task of a group in its order, with Wilson intervals; none for a single task."""
        parts: dict[str, list[ItemScore]] = {}
        for score in scores:
            parts.setdefault(score.details["task"], []).append(score)
        if len(parts) < 2:
            return []
        return [_stratum(task, own, self.take, level) for task, own in parts.items()]


def _tied(task: Any, sample: Mapping[str, Any]) -> bool:
    """Whether the likeliest choice is not one, where the likeliest is taken."""
    weights = [weight for weight, _ in sample["filtered_resps"]]
    return task.config.process_results is None and weights.count(max(weights)) > 1


def _refuse_weightless(
    name: str, key: str, metrics: Mapping[str, Ratio], weights: Sequence[float]
) -> None:
    """Refuse a share of a probability that is too small for a number to hold.

    Raises:
        RunError: naming the question.
    """
    if all(math.isfinite(ratio.num) for ratio in metrics.values()):
        return
    raise RunError(
        f"{name}: lm-eval has no number for question {key}. The student gives its best choice "
        f"e^{max(weights):.0f}, which is nothing to a computer, and a share of nothing is no "
        f"number. It is no student for this task: leave it out of the suite and its margin, "
        f"~suite.tasks.{name} ~suite.margin.{name}."
    )


def _stratum(
    task: str, scores: Sequence[ItemScore], metrics: Sequence[str], level: float
) -> Stratum:
    """The score of one task of a group."""
    count = len(scores)
    shares = {name: sum(score.metrics[name].num for score in scores) / count for name in metrics}
    found = {name: share_interval(share, count, level) for name, share in shares.items()}
    return Stratum(task, "", count, count, found)


def _key(leaf: str, number: int, tasks: Mapping[str, Any]) -> str:
    """The number of a question in its data, behind its task's name if there are several."""
    return f"{leaf}/{number}" if len(tasks) > 1 else str(number)


def _question(task: Any, doc: Mapping[str, Any]) -> str:
    """A question as text; where its choices are put before a common ending, that ending."""
    text = task.doc_to_text(doc)
    return text if isinstance(text, str) else str(task.doc_to_choice(doc)[text])


@dataclass
class _Bar:
    """Tells of questions as their choices are weighed.

    Attributes:
        name: Of the task.
        questions: All of them.
        told: What prints.
        choices: All of them, once they are known.
        done: Those that are weighed.
    """

    name: str
    questions: int
    told: Answered = field(default_factory=lambda: Answered(progress_console()))
    choices: int = 0
    done: int = 0

    def begin(self, choices: int) -> None:
        """Take note of how many choices there are."""
        self.choices, self.done = choices, 0
        self.told(self.name, 0, self.questions)

    def add(self, choices: int) -> None:
        """Take note of some that were weighed; one may stand for several that begin alike."""
        self.done = min(self.done + choices, self.choices)
        self.told(self.name, self.questions * self.done // self.choices, self.questions)

    def end(self) -> None:
        """Take note that all are."""
        self.told(self.name, self.questions, self.questions)


def asker(loaded: Loaded, batch_size: int, bar: _Bar) -> Any:
    """lm-eval's view of a student in memory, which counts what it cuts.

    Args:
        loaded: The student.
        batch_size: Choices that are weighed together.
        bar: Told of them.

    Returns:
        An `HFLM` with the number `cut`.
    """
    from lm_eval.models.huggingface import HFLM

    class Asker(HFLM):
        """lm-eval's own, but for the count and what would end in a failed assertion."""

        cut = 0

        def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> Any:
            return super().loglikelihood(requests, disable_tqdm=True)

        def _loglikelihood_tokens(self, requests: Any, *rest: Any, **more: Any) -> Any:
            for text, before, after in requests:
                _refuse_unweighable(loaded.name, text, len(after), self.max_length)
                self.cut += len(before) + len(after) > self.max_length + 1
            bar.begin(len(requests))
            return super()._loglikelihood_tokens(requests, *rest, **more)

        def _model_call(self, inps: Any, *rest: Any, **more: Any) -> Any:
            found = super()._model_call(inps, *rest, **more)
            bar.add(len(inps))
            return found

    return Asker(
        pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=batch_size,
        backend="causal", trust_remote_code=False,
    )  # fmt: skip


def _refuse_unweighable(student: str, text: tuple[str, str], tokens: int, window: int) -> None:
    """Refuse a choice that has no tokens, or more than the window.

    Raises:
        RunError: naming it.
    """
    if 0 < tokens <= window:
        return
    raise RunError(
        f"student {student!r} cannot weigh the choice {text[1][:60]!r} after {text[0][-60:]!r}: it "
        f"is {tokens} tokens long, and 1 to {window} fit its window. Leave the row out, or the "
        f"task: ~suite.tasks.<task>."
    )
