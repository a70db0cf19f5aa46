"""A teacher behind an OpenAI-compatible endpoint, asked for responses to instructions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import NonNegativeInt, PositiveFloat

from heed.core.component import component
from heed.core.errors import ConfigError, Mistake
from heed.core.identity import Incidental
from heed.evaluation.chat_api import ChatApi, address_mistakes
from heed.models.sampling import Sampling

DRAWN = frozenset(("temperature", "top_p", "seed", "max_tokens", "max_completion_tokens", "n"))
"""What a generation says of each request, and an endpoint's arguments do not."""


CAPS = ("max_tokens", "max_completion_tokens")
"""What most endpoints call the most tokens of a response."""

NO_CAP = frozenset(("model", "messages", "stream", "")) | DRAWN - {*CAPS}
"""What the cap cannot be called: it would take the place of another field."""


@component
class ChatEndpoint:
    """A chat model elsewhere; the key is read from the environment, and written nowhere."""

    name: Annotated[str, Incidental]
    """How the teacher is called."""

    base_url: str
    """Up to and without `/chat/completions`."""

    model: str
    """Name of the model there."""

    key_variable: Annotated[str | None, Incidental]
    """Environment variable that holds the key; None: the endpoint wants none."""

    cap: str
    """What the endpoint calls the most tokens of a response: max_tokens, say."""

    arguments: dict[str, Any]
    """Further fields of a request."""

    retries: Annotated[NonNegativeInt, Incidental]
    """Further attempts after one that failed in passing."""

    wait_seconds: Annotated[PositiveFloat, Incidental]
    """Before the first of them; doubled each time, a minute at most."""

    timeout_seconds: Annotated[PositiveFloat, Incidental]
    """Of one attempt."""

    def __post_init__(self) -> None:
        found = address_mistakes(self.base_url, self.key_variable, self.arguments)
        if self.cap in NO_CAP:
            why = "the cap would stand in the place of what this field of a request holds."
            found.append(Mistake("cap", self.cap, why, f"Give {' or '.join(CAPS)}."))
        if taken := (DRAWN | {self.cap}) & set(self.arguments):
            why = f"{', '.join(sorted(taken))} is said by the generation."
            action = "Leave it out, and set generation.sampling or generation.max_new_tokens."
            found.append(Mistake("arguments", ", ".join(self.arguments), why, action))
        if found:
            raise ConfigError(found)

    @property
    def api(self) -> ChatApi:
        """Where requests go."""
        return ChatApi(
            who=f"model {self.model}",
            base_url=self.base_url,
            key_variable=self.key_variable,
            retries=self.retries,
            wait_seconds=self.wait_seconds,
            timeout_seconds=self.timeout_seconds,
        )

    def request(self, instruction: str, most: int, sampling: Sampling | None) -> Mapping[str, Any]:
        """The body of a request for one response.

        Args:
            instruction: What is asked.
            most: Cap on tokens of the response.
            sampling: How it is drawn, by a seed of the instruction's own; None: temperature 0.
        """
        how: dict[str, Any] = {"temperature": 0}
        if sampling is not None:
            seed = sampling.seed_of([*instruction.encode()]) % 2**31
            how = {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": seed}
        messages: Sequence[Mapping[str, str]] = [{"role": "user", "content": instruction}]
        return {
            "model": self.model,
            "messages": messages,
            self.cap: most,
            **how,
            **self.arguments,
        }
