"""Who answers instructions as a teacher: a model in memory, or one behind an endpoint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from heed.core.collector import release
from heed.core.identity import canonical, versions
from heed.core.types import Answer, Stop
from heed.evaluation.chat_api import KEPT_IN, ChatApi, RefusedError
from heed.evaluation.chat_endpoint import ChatEndpoint
from heed.evaluation.suite import Suite
from heed.models.sampling import Sampling
from heed.study.scores import ModelSubject

if TYPE_CHECKING:
    from heed.models.student import Loaded

NO_ROOM = "instruction that does not fit the model's context, no response"
SPECIAL = "instruction that says a special token of the model's tokenizer, no response"
REFUSED = "request that the endpoint refused, no response"
FIRST = "what the endpoint said of the first refused request:"
FILTERED = "reply cut by the endpoint's content filter, no response"
ENDED = "reply that ended neither by itself nor by the cap, but by"
HALVES = "reply with half a character, replaced"


class Answering(ABC):
    """What answers instructions."""

    patience: ClassVar[int | None] = None
    """Failures before the first answer that end it all; None: any number is borne."""

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
        self,
        asked: Sequence[str],
        most: int,
        ways: Sequence[Sampling] | None,
        events: Counter[str],
    ) -> Iterator[tuple[int, Answer]]:
        """Answer instructions; one that cannot be answered is counted, and has no text.

        Args:
            asked: The instructions; one of which several answers are drawn, several times.
            most: Cap on tokens of an answer.
            ways: How each answer is drawn, which differ in their number alone; None: the likeliest.
            events: Told of what a reader should know.

        Yields:
            The place of an instruction and its answer, in the order of finishing.
        """

    def told(self, answers: int) -> Mapping[str, int]:
        """What is to be known of answers, whichever process made them: name -> count.

        Args:
            answers: How many there are.
        """
        return {}

    def release(self) -> None:
        """Give back what was loaded; it is loaded again if it is asked again."""
        return


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
            "backend": self.suite.backend.settings(),
            "versions": versions(),
        }

    @cached_property
    def loaded(self) -> Loaded:
        """The model in memory."""
        return self.subject.load()

    def answers(
        self,
        asked: Sequence[str],
        most: int,
        ways: Sequence[Sampling] | None,
        events: Counter[str],
    ) -> Iterator[tuple[int, Answer]]:
        """What its backend says; instructions without room for an answer are counted."""
        from heed.data.spelling import special_tokens
        from heed.models.tokenizer import prompt_ids

        prompting, loaded = self.suite.prompting, self.loaded
        prompts = {text: prompting.prompt(loaded.template, text) for text in dict.fromkeys(asked)}
        context, special = loaded.context, special_tokens(loaded.tokenizer)
        unfit: dict[str, str] = {}
        for text, prompt in prompts.items():
            if special is not None and special.search(text):
                unfit[text] = SPECIAL
            elif context and len(prompt_ids(loaded.tokenizer, prompt)) + most > context:
                unfit[text] = NO_ROOM
        fitting = [place for place, text in enumerate(asked) if text not in unfit]
        for place, text in enumerate(asked):
            if text in unfit:
                events[unfit[text]] += ways is None or ways[place].number == 0  # told once
                yield place, Answer(None, 0, None)
        drawing = {} if ways is None else {"sampling": [ways[place] for place in fitting]}
        said = self.suite.backend.answers(
            loaded,
            [prompts[asked[place]] for place in fitting],
            max_new_tokens=most,
            last_line=prompting.last_line,
            events=events,
            **drawing,
        )
        for place, answer in said:
            yield fitting[place], prompting.response(answer, events)

    def told(self, answers: int) -> Mapping[str, int]:
        """What its backend says of all answers of this model."""
        return self.suite.backend.told(self.loaded, answers)

    def release(self) -> None:
        """Give the memory of the model back."""
        if self.__dict__.pop("loaded", None) is not None:
            release()


@dataclass(frozen=True)
class EndpointAnswering(Answering):
    """A model behind an endpoint.

    Attributes:
        endpoint: Which.
        kept: Where finished answers are kept, for messages.
    """

    patience = 5

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
        self,
        asked: Sequence[str],
        most: int,
        ways: Sequence[Sampling] | None,
        events: Counter[str],
    ) -> Iterator[tuple[int, Answer]]:
        """What it replies; a request that it refuses is counted, any other failure ends it all."""
        refused = False
        for place, text in enumerate(asked):
            try:
                way = None if ways is None else ways[place]
                reply = self._api.ask(self.endpoint.request(text, most, way), self.kept)
            except RefusedError as error:
                if not refused:
                    events[f"{FIRST} {str(error).partition(KEPT_IN)[0].strip()}"] += 1
                refused = True
                events[REFUSED] += 1
                yield place, Answer(None, 0, None)
                continue
            events[f"served by {reply['served']}"] += 1
            events["tokens read, as charged"] += reply["read"]
            events["tokens written, as charged"] += reply["written"]
            events[HALVES] += bool(reply["halves"])
            yield place, _answer(reply, events)


def _answer(reply: Mapping[str, Any], events: Counter[str]) -> Answer:
    """A reply as an answer; how it ended is told, unless by itself or by the cap."""
    finish = reply["finish"]
    if finish == "content_filter":
        events[FILTERED] += 1
        return Answer(None, 0, None)
    if finish not in ("stop", "length"):
        events[f"{ENDED} {finish}"] += 1
    stop: Stop = "cap" if finish == "length" else "stop"
    return Answer(reply["content"], reply["written"], stop)
