"""The values that travel between the parts: one type per arrow of the data flow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

Role = Literal["system", "user", "assistant", "text"]


class Message(NamedTuple):
    """One turn. The role `text` is plain text: no template, every token supervised.

    Attributes:
        role: Who speaks.
        content: What is said.
        supervised: Whether an assistant's turn is trained on; without meaning for other roles.
    """

    role: Role
    content: str
    supervised: bool = True


@dataclass(frozen=True)
class Example:
    """One training example as its teacher gives it.

    Attributes:
        id: The same prompt has the same id for every teacher (and twice within one source, if it
            stands there twice).
        messages: Turns in order; the assistant's are what is trained.
        teacher: Name of the source.
        reward: A score of the response, if the source has one (unit: the source's).
        rewards: Further scores of it, by name.
    """

    id: str
    messages: tuple[Message, ...]
    teacher: str
    reward: float | None = None
    rewards: Mapping[str, float] = field(default_factory=dict, hash=False)


class Span(NamedTuple):
    """Characters [start, stop) of a rendered text."""

    start: int
    stop: int


LossOn = Literal["every_turn", "last_turn"]
"""Which of the assistant's turns are supervised."""


class Rendered(NamedTuple):
    """A conversation as text, with the spans whose tokens are supervised, in order.

    Attributes:
        text: All of it.
        supervised: What is trained on.
        turns: Every turn of the assistant, trained on or not; empty if those are the supervised.
    """

    text: str
    supervised: tuple[Span, ...]
    turns: tuple[Span, ...] = ()

    @property
    def pieces(self) -> list[tuple[str, bool]]:
        """The text cut before and after each turn of the assistant; whether it is supervised.

        Each piece is tokenised by itself, in training and when the student is asked alike, so that
        what it is asked is spelt as what it was trained on.

        Example:
            >>> Rendered("Q: a A: b Q: c A: ", (), (Span(8, 9),)).pieces
            [('Q: a A: ', False), ('b', False), (' Q: c A: ', False)]
        """
        found, at = [], 0
        for span in self.turns or self.supervised:
            found.append((self.text[at : span.start], False))
            found.append((self.text[span.start : span.stop], span in self.supervised))
            at = span.stop
        return [(text, kept) for text, kept in (*found, (self.text[at:], False)) if text]


Prompt = str | tuple[str, ...]
"""What a student is asked, rendered: one text, or the pieces that are tokenised one by one."""

OnBad = Callable[[Exception], None]
"""Told of a row that cannot be read, and is left out."""


@runtime_checkable
class RowSource(Protocol):
    """Anything that yields examples: a teacher."""

    name: str

    def rows(self, on_bad: OnBad | None = None) -> Iterator[Example]:
        """All examples, in a fixed order.

        Args:
            on_bad: Told of each row that cannot be read; None: the first one is raised.

        Raises:
            DataError: a row cannot be read, naming file, row, what was found and expected.
        """
        ...

    def digest(self) -> str:
        """Changes whenever a row changes."""
        ...

    def events(self) -> Mapping[str, int]:
        """What the source itself left out or gave twice, by kind, before any limit."""
        ...


@runtime_checkable
class ChatTemplate(Protocol):
    """How turns become text; one per student, the same for training and evaluation."""

    begin: str
    end_of_turn: str
    special_tokens: tuple[str, ...]

    def render(self, messages: Sequence[Message], *, loss_on: LossOn = "every_turn") -> Rendered:
        """The whole conversation; supervised are the assistant's turns with their end of turn."""
        ...

    def prompt(self, instruction: str) -> str:
        """One user turn, up to where the assistant's answer begins."""
        ...

    def prompt_of(self, messages: Sequence[Message]) -> str:
        """A conversation so far, up to where the assistant's next answer begins."""
        ...

    def prompt_pieces(self, messages: Sequence[Message]) -> tuple[str, ...]:
        """The same in the pieces that are tokenised one by one, as training does."""
        ...

    def jinja(self) -> str:
        """The same template in the form that `transformers` saves beside a tokenizer."""
        ...


class Request(NamedTuple):
    """Ask for the likelihood of a continuation.

    Attributes:
        context: What stands before it.
        continuation: What is weighed.
        asked: Whether the context is an instruction, put to the student in its chat template, and
            the continuation the answer; otherwise both are plain text without a template.
    """

    context: str
    continuation: str
    asked: bool = False


@dataclass(frozen=True)
class Item:
    """One question of a task.

    Attributes:
        key: Unique within the task.
        prompt: The instruction that a model is given (generation tasks), or the text shown in
            tables (likelihood tasks).
        requests: Likelihoods that the task asks for; empty for generation tasks.
        row: Whatever the task needs to score an answer, as plain JSON data.
    """

    key: str
    prompt: str
    requests: tuple[Request, ...] = ()
    row: Mapping[str, Any] = field(default_factory=dict)


class Likelihood(NamedTuple):
    """What one request costs: nats and supervised tokens of the continuation."""

    nats: float
    tokens: int


Stop = Literal["stop", "cap"]


class Answer(NamedTuple):
    """What a model said.

    Attributes:
        text: The response without its stop token; None where there is none: a file of responses
            may lack it.
        tokens: Number of generated tokens, the stop token included; 0 where heed generated nothing.
        stop: `stop` if the model ended its turn, `cap` if it was cut at the cap, None if unknown.
        likelihoods: One per request of the item; empty for generation tasks.
    """

    text: str | None
    tokens: int
    stop: Stop | None
    likelihoods: tuple[Likelihood, ...] = ()


class Ratio(NamedTuple):
    """A score as a numerator and a denominator, because only sums add up."""

    num: float
    den: float


@dataclass(frozen=True)
class ItemScore:
    """One item's outcome: a row of `items.jsonl`.

    Attributes:
        task: Name of the task in its suite.
        key: The item's key.
        prompt: The item's prompt.
        response: What was scored, or None where nothing was generated.
        stop: How the response ended, or None.
        tokens: Generated tokens (0 where nothing was generated).
        metrics: Metric name -> ratio. A metric's value is sum(num) / sum(den) over items.
        details: Per-instruction results and the like, as plain JSON data.
    """

    task: str
    key: str
    prompt: str
    response: str | None
    stop: Stop | None
    tokens: int
    metrics: Mapping[str, Ratio]
    details: Mapping[str, Any] = field(default_factory=dict)


Verdict = Literal["helped", "hurt", "unchanged", "cannot tell"]


@dataclass(frozen=True)
class Interval:
    """A value with its interval, in the unit of the metric."""

    value: float
    low: float
    high: float
    items: int


@dataclass(frozen=True)
class Stratum:
    """A part of a task's items with its own score: one type of instruction, or a group of types.

    Attributes:
        group: The group, `keywords`.
        name: The type within it, `keywords:existence`; empty for the whole group.
        items: Number of items that have something of it.
        asked: Number of things asked (instructions) in these items.
        metrics: Metric name -> value with interval.
    """

    group: str
    name: str
    items: int
    asked: int
    metrics: Mapping[str, Interval]


@dataclass(frozen=True)
class Delta:
    """After minus before over the same items, with a paired interval.

    Attributes:
        metric: `<task>/<metric>`.
        before: Value before tuning.
        after: Value after tuning.
        delta: after - before.
        low: Lower end of the paired interval of the delta.
        high: Upper end.
        items: Number of paired items.
        verdict: By the rule in `heed.core.stats.verdict_of`.
        lower_is_better: Whether the metric is better when it falls.
        mde: Minimum detectable effect: the smallest true delta that data of this kind and number
            show four times out of five (`heed.core.power`); None in records that lack it.
        p: Two-sided p value of the paired comparison, never 0: below 1 - level exactly where the
            interval leaves zero out (`heed.core.stats.compare_paired`); None in records that lack
            it.
        flips: Items that got better and that got worse, where every item is right or wrong; None
            for other metrics.
        mcnemar: Exact p value of McNemar's test of these flips; None for other metrics.
    """

    metric: str
    before: float
    after: float
    delta: float
    low: float
    high: float
    items: int
    verdict: Verdict
    lower_is_better: bool = False
    mde: float | None = None
    p: float | None = None
    flips: tuple[int, int] | None = None
    mcnemar: float | None = None


@dataclass(frozen=True)
class StratumDelta:
    """After minus before of a part of the items: of one type of instruction.

    Attributes:
        metric: `<task>/<metric>`.
        name: The type, `keywords:existence`.
        items: Number of paired items that have something of it.
        before: Value before tuning.
        after: Value after tuning.
        delta: after - before.
        low: Lower end of the paired interval of the delta; None where one item is all there is.
        high: Upper end.
        p: Two-sided p value of this type alone; 1 where one item is all there is.
        adjusted: The p value after Holm's correction for the number of types.
    """

    metric: str
    name: str
    items: int
    before: float
    after: float
    delta: float
    low: float | None
    high: float | None
    p: float
    adjusted: float
