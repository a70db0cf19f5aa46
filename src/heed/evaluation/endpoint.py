"""A judge behind an OpenAI-compatible endpoint: asked with care, and never twice for the same."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import NonNegativeInt, PositiveFloat

from heed.core.component import component
from heed.core.errors import ConfigError, Mistake, RunError
from heed.core.files import append_jsonl
from heed.core.identity import Incidental, short_hash, slug
from heed.evaluation.judge import UNREAD, Judge, Judgement, Pairwise

PLACES = ("instruction", "first", "second")
"""What a question names in braces."""

LONGEST_WAIT = 60.0
"""Seconds between two attempts at most, whatever the endpoint asks for."""

AGAIN = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 529))
"""HTTP statuses after which another attempt may do."""

PLAIN_ADDRESS = re.compile(r"https?://([\w.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?(/[\w.~%/-]*)?")
"""An address without a user, a password or a query, any of which may hold a key."""

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""What an environment variable may be called."""

NOT_HERE = frozenset(("model", "messages", "stream", "api_key", "api-key", "key", "authorization"))
"""What is no further field of a request: it stands elsewhere, or is a key."""

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
        found = []
        if not PLAIN_ADDRESS.fullmatch(self.base_url):
            why = "this is no plain address of an endpoint; a key or password never stands in it."
            action = "Give https://<host>/v1, and the key in the variable that key_variable names."
            shown = f"{self.base_url.partition('://')[0]:.8}..."
            found.append(Mistake("base_url", shown, why, action))
        if self.key_variable is not None and not VARIABLE.fullmatch(self.key_variable):
            why = "this is no name of an environment variable; a key never stands in a command."
            found.append(Mistake("key_variable", "...", why, "Give a name such as OPENAI_API_KEY."))
        if missing := [place for place in PLACES if f"{{{place}}}" not in self.question]:
            why = f"it does not show the judge {', '.join(missing)}."
            action = "Name {instruction}, {first} and {second} in it."
            found.append(Mistake("question", f"{self.question:.40}", why, action))
        if taken := NOT_HERE & {name.lower() for name in self.arguments}:
            why = f"{', '.join(sorted(taken))} is not given here."
            found.append(Mistake("arguments", ", ".join(self.arguments), why, "Leave it out."))
        if found:
            raise ConfigError(found)

    def judge(self, pair: Pairwise) -> Judgement:
        """Ask in one order or in both; a preference is there only if every reply could be read."""
        both = (True, False)
        orders = both if self.order == "both" else (reference_first(self.seed, pair.key),)
        requests = [self._request(pair, order) for order in orders]
        kept = sum(self._name(request) in self._kept for request in requests)
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
        name = self._name(request)
        if name not in self._kept:
            self._kept[name] = {"request": name, **self._ask(request)}
            append_jsonl(self.journal_file, self._kept[name])
        return self._kept[name]

    def _name(self, request: Mapping[str, Any]) -> str:
        return short_hash({"url": self.base_url, "request": request})

    @property
    def journal_file(self) -> Path:
        """Where the replies of this judge are kept."""
        server = short_hash({"url": self.base_url, "model": self.model})
        return Path(self.journal) / f"{slug(self.model)}--{server}.jsonl"

    @cached_property
    def _kept(self) -> dict[str, dict[str, Any]]:
        return {row["request"]: row for row in _whole_lines(self.journal_file)}

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A reply of the endpoint, after as many attempts as are allowed."""
        for attempt in range(self.retries + 1):
            found, again, wait = self._attempt(request)
            if isinstance(found, dict):
                return found
            if not again:
                break
            if attempt < self.retries:
                time.sleep(min(LONGEST_WAIT, max(wait, self.wait_seconds * 2**attempt)))
        raise RunError(
            f"The judge {self.model} at {self.base_url} gave no reply ({attempt + 1} attempts): "
            f"{found}. Its replies so far are kept in {self.journal_file}: put that right, and the "
            f"same command goes on."
        )

    def _attempt(self, request: Mapping[str, Any]) -> tuple[dict[str, Any] | str, bool, float]:
        """One request: the reply or what is wrong; whether to try again, and after how long."""
        import httpx

        key = self._key()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        url = f"{self.base_url.rstrip('/')}/chat/completions"
        try:
            said = httpx.post(
                url,
                json=request,
                headers=headers,
                timeout=self.timeout_seconds,
                verify=self._trusted,
            )
        except httpx.HTTPError as error:
            return _without(key, f"{type(error).__name__}: {error}"), True, 0.0
        text = _without(key, said.text)  # before it is cut, so that no part of the key is left
        if said.status_code != 200:
            why = f"status {said.status_code}: {text:.300}"
            return why, said.status_code in AGAIN, _asked_wait(said.headers.get("retry-after"))
        try:
            return _content(json.loads(text)), False, 0.0
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            return f"no chat completion ({type(error).__name__}): {text:.200}", True, 0.0

    @cached_property
    def _trusted(self) -> Any:
        """Whose certificates are trusted; read once, which takes longer than a request."""
        import httpx

        return httpx.create_ssl_context()

    def _key(self) -> str | None:
        """The key, from the environment."""
        if self.key_variable is None:
            return None
        if not (key := os.environ.get(self.key_variable, "").strip()):
            raise RunError(
                f"The environment variable {self.key_variable} is not set, so the judge "
                f"{self.model} cannot be asked. Set it to the key, or give key_variable=null for "
                f"an endpoint that wants none."
            )
        if not re.fullmatch(r"[!-~]+", key):  # else an error would quote it in another spelling
            raise RunError(
                f"The environment variable {self.key_variable} holds spaces, line ends or other "
                f"signs that no key has, so the judge {self.model} cannot be asked. Set it to the "
                f"key alone."
            )
        return key


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


def _content(body: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a chat completion."""
    content = body["choices"][0]["message"]["content"]
    usage = body.get("usage") or {}
    return {
        "content": content if isinstance(content, str) else "",
        "read": int(usage.get("prompt_tokens") or 0),
        "written": int(usage.get("completion_tokens") or 0),
        "served": str(body.get("model") or "not told"),
    }


def _asked_wait(header: str | None) -> float:
    """Seconds that an endpoint asks to be left alone; a date is not read."""
    return float(header) if header and re.fullmatch(r"\d{1,6}(\.\d+)?", header) else 0.0


def _without(key: str | None, text: str) -> str:
    """A text in which the key does not stand: some servers repeat it."""
    return text.replace(key, "<key>") if key else text


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a journal; what a killed writer left unfinished is asked again."""
    for line in path.read_bytes().split(b"\n") if path.is_file() else ():
        try:
            row = json.loads(line)
        except ValueError:  # empty, or torn
            continue
        if isinstance(row, dict) and {"request", "content", "read", "written", "served"} <= set(
            row
        ):
            yield row
