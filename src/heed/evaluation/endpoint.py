"""A judge behind an OpenAI-compatible endpoint: asked with care, and never twice for the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import NonNegativeInt, PositiveFloat

from heed.core.component import component
from heed.core.errors import ConfigError, Mistake
from heed.core.files import append_jsonl
from heed.core.identity import Incidental, short_hash, slug
from heed.evaluation.chat_api import ChatApi, address_mistakes, kept_replies
from heed.evaluation.judge import UNREAD, Judge, Judgement, Pairwise

PLACES = ("instruction", "first", "second")
"""What a question names in braces."""

REPLIES = {"1": 0.0, "2": 1.0, "tie": 0.5}
"""What a judge may reply -> preference for the response that stands second."""


@component
class Endpoint(Judge):
    """A chat model that is asked which of two responses is better, over HTTP.

    Every reply is kept in a journal on disk by the hash of its request, so that nothing is asked
    (and paid for) twice. The key is read from the environment, and written nowhere.
    """

    base_url: str
    """Up to and without `/chat/completions`: `https://api.openai.com/v1`, say."""

    model: str
    """Name of the judge there."""

    key_variable: Annotated[str | None, Incidental]
    """Environment variable that holds the key; None: the endpoint wants none."""

    question: str
    """What it is asked, with {instruction}, {first} and {second}; the last line of its reply has
    to be 1, 2 or tie."""

    arguments: dict[str, Any]
    """Further fields of a request: temperature, max_tokens, seed."""

    order: Literal["random", "both"]
    """`random`: the seed and the key decide which response stands first; `both`: asked twice, once
    in each order, and the mean counts."""

    seed: int
    """Of the random order."""

    retries: Annotated[NonNegativeInt, Incidental]
    """Further attempts after one that failed in passing."""

    wait_seconds: Annotated[PositiveFloat, Incidental]
    """Before the first of them; doubled each time, a minute at most."""

    timeout_seconds: Annotated[PositiveFloat, Incidental]
    """Of one attempt."""

    journal: Annotated[str, Incidental]
    """Folder of the kept replies."""

    def __post_init__(self) -> None:
        found = address_mistakes(self.base_url, self.key_variable, self.arguments)
        if missing := [place for place in PLACES if f"{{{place}}}" not in self.question]:
            why = f"it does not show the judge {', '.join(missing)}."
            action = "Name {instruction}, {first} and {second} in it."
            found.append(Mistake("question", f"{self.question:.40}", why, action))
        if found:
            raise ConfigError(found)

    def judge(self, pair: Pairwise) -> Judgement:
        """Ask in one order or in both; a preference is there only if every reply could be read."""
        both = (True, False)
        orders = both if self.order == "both" else (reference_first(self.seed, pair.key),)
        requests = [self._request(pair, order) for order in orders]
        kept = sum(self._api.name(request) in self._kept for request in requests)
        replies = [self._reply(request) for request in requests]
        texts = tuple(reply["content"] for reply in replies)
        told = [read_reply(text) for text in texts]
        known = [
            t if first else 1 - t for t, first in zip(told, orders, strict=True) if t is not None
        ]
        whole = len(known) == len(told)
        return Judgement(
            preference=sum(known) / len(known) if whole else None,
            missing=None if whole else UNREAD,
            replies=texts,
            orders=orders,
            read=sum(reply["read"] for reply in replies),
            written=sum(reply["written"] for reply in replies),
            served=tuple(dict.fromkeys(reply["served"] for reply in replies)),
            kept=kept,
            swayed=len(told) == 2 and told[0] == told[1] and told[0] in (0.0, 1.0),
        )

    def _request(self, pair: Pairwise, reference_first: bool) -> dict[str, Any]:
        """The body of a request; what a response says is never taken for a place to be filled."""
        shown = (pair.reference, pair.response)
        first, second = shown if reference_first else shown[::-1]
        parts = {"instruction": pair.instruction, "first": first, "second": second}
        places = "|".join(PLACES)
        text = re.sub(rf"\{{({places})\}}", lambda found: parts[found[1]], self.question)
        messages = [{"role": "user", "content": text}]
        return {"model": self.model, "messages": messages, **self.arguments}

    def _reply(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The kept reply to a request, or a new one, which is kept."""
        name = self._api.name(request)
        if name not in self._kept:
            self._kept[name] = {"request": name, **self._api.ask(request, self.journal_file)}
            append_jsonl(self.journal_file, self._kept[name])
        return self._kept[name]

    @property
    def journal_file(self) -> Path:
        """Where the replies of this judge are kept."""
        server = short_hash({"url": self.base_url, "model": self.model})
        return Path(self.journal) / f"{slug(self.model)}--{server}.jsonl"

    @cached_property
    def _kept(self) -> dict[str, dict[str, Any]]:
        return {row["request"]: row for row in kept_replies(self.journal_file)}

    @cached_property
    def _api(self) -> ChatApi:
        return ChatApi(
            who=f"judge {self.model}",
            base_url=self.base_url,
            key_variable=self.key_variable,
            retries=self.retries,
            wait_seconds=self.wait_seconds,
            timeout_seconds=self.timeout_seconds,
        )


def reference_first(seed: int, key: str) -> bool:
    """Whether the reference stands first: decided by seed and key alone, not by the other items.

    Example:
        >>> [reference_first(0, str(key)) for key in range(4)]
        [True, True, True, False]
    """
    return int(short_hash([seed, key]), 16) % 2 == 0


def read_reply(text: str) -> float | None:
    r"""The preference for the second response that a reply states, or None.

    Its last line has to be 1, 2 or tie, whatever marks stand around it; anything else could mean
    one as well as the other, and is no judgement.

    Example:
        >>> [read_reply(text) for text in ("1", "So:\n**2**.", "Tie", "1 or 2", "both", "")]
        [0.0, 1.0, 0.5, None, None, None]
    """
    lines = text.strip().splitlines()
    return REPLIES.get(re.sub(r"[^\w\s]|_", "", lines[-1]).strip().lower()) if lines else None
