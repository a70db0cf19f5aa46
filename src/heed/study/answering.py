"""Who answers instructions as a teacher: a model in memory, or one behind an endpoint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heed.core.identity import canonical, versions
from heed.core.types import Answer, Stop
from heed.evaluation.chat_api import ChatApi, RefusedError
from heed.evaluation.chat_endpoint import ChatEndpoint
from heed.evaluation.suite import Suite
from heed.models.sampling import Sampling
from heed.study.scores import ModelSubject

if TYPE_CHECKING:
    from heed.models.student import Loaded

NO_ROOM = "instruction that does not fit the model's context, no response"
REFUSED = "instruction that the endpoint refused, no response"


class Answering(ABC):
    """What answers instructions."""

    @property
    @abstractmethod
    def name(self) -> str:
        """How files and tables call the teacher."""

    @property
    @abstractmethod
    def about(self) -> dict[str, Any]:
        """All that decides its answers beside instruction and settings, as plain data."""

    @abstractmethod
    def answers(
        self, asked: Sequence[str], most: int, sampling: Sampling | None, events: Counter[str]
    ) -> Iterator[tuple[int, Answer]]:
        """Answer instructions; one that cannot be answered is counted, and has no text.

        Args:
            asked: The instructions.
            most: Cap on tokens of an answer.
            sampling: How answers are drawn; None: the likeliest.
            events: Told of what a reader should know.

        Yields:
            The place of an instruction and its answer, in the order of finishing.
        """


@dataclass(frozen=True)
class ModelAnswering(Answering):
    """A model that is loaded here, prompted and asked as a suite says.

    Attributes:
        subject: An untuned student or a run.
        suite: Its prompting and its backend are used.
    """

    subject: ModelSubject
    suite: Suite

    @property
    def name(self) -> str:
        """That of the subject."""
        return self.subject.title

    @property
    def about(self) -> dict[str, Any]:
        """The model, how it is prompted, and what generates; the model is made if it has to be."""
        self.subject.make()
        return {
            "model": self.subject.identity,
            "prompting": self.suite.prompting.settings(),
            "backend": canonical(self.suite.backend),
            "versions": versions(),
        }

    @cached_property
    def loaded(self) -> Loaded:
        """The model in memory."""
        return self.subject.load()

    def answers(
        self, asked: Sequence[str], most: int, sampling: Sampling | None, events: Counter[str]
    ) -> Iterator[tuple[int, Answer]]:
        """What its backend says; instructions without room for an answer are counted."""
        from heed.models.tokenizer import prompt_ids

        prompting, loaded = self.suite.prompting, self.loaded
        prompts = [prompting.prompt(loaded.template, text) for text in asked]
        context = loaded.context
        sizes = [len(prompt_ids(loaded.tokenizer, prompt)) + most for prompt in prompts]
        fitting = [i for i, size in enumerate(sizes) if not context or size <= context]
        for place in set(range(len(asked))) - set(fitting):
            events[NO_ROOM] += 1
            yield place, Answer(None, 0, None)
        drawing = {} if sampling is None else {"sampling": sampling}
        said = self.suite.backend.answers(
            loaded,
            [prompts[place] for place in fitting],
            max_new_tokens=most,
            last_line=prompting.last_line,
            events=events,
            **drawing,
        )
        for place, answer in said:
            yield fitting[place], prompting.response(answer, events)
        events.update(self.suite.backend.told(loaded, len(fitting)))


@dataclass(frozen=True)
class EndpointAnswering(Answering):
    """A model behind an endpoint.

    Attributes:
        endpoint: Which.
        kept: Where finished answers are kept, for messages.
    """

    endpoint: ChatEndpoint
    kept: Path

    @property
    def name(self) -> str:
        """That of the endpoint's option."""
        return self.endpoint.name

    @property
    def about(self) -> dict[str, Any]:
        """The endpoint; what it serves under that name may change, and is written down."""
        return {"endpoint": canonical(self.endpoint)}

    @cached_property
    def _api(self) -> ChatApi:
        return self.endpoint.api

    def answers(
        self, asked: Sequence[str], most: int, sampling: Sampling | None, events: Counter[str]
    ) -> Iterator[tuple[int, Answer]]:
        """What it replies; a request that it refuses is counted, any other failure ends it all."""
        for place, text in enumerate(asked):
            try:
                reply = self._api.ask(self.endpoint.request(text, most, sampling), self.kept)
            except RefusedError:
                events[REFUSED] += 1
                yield place, Answer(None, 0, None)
                continue
            events[f"served by {reply['served']}"] += 1
            events["tokens read, as charged"] += reply["read"]
            events["tokens written, as charged"] += reply["written"]
            stop: Stop = "cap" if reply["finish"] == "length" else "stop"
            yield place, Answer(reply["content"], reply["written"], stop)
