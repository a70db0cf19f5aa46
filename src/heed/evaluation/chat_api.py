"""An OpenAI-compatible endpoint over HTTP: bounded attempts, and the key in no message or file."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from heed.core.errors import Mistake, RunError
from heed.core.identity import short_hash

LONGEST_WAIT = 60.0
"""Seconds between two attempts at most, whatever the endpoint asks for."""

KEPT_IN = "Its replies so far are kept in"
"""How the part of a message begins that says how to go on."""

AGAIN = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 529))
"""HTTP statuses after which another attempt may do."""

REFUSED = frozenset((400, 413, 422))
"""HTTP statuses by which an endpoint refuses what it was asked, and not who asks."""

PLAIN_ADDRESS = re.compile(r"https?://([\w.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?(/[\w.~%/-]*)?")
"""An address without a user, a password or a query, any of which may hold a key."""

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""What an environment variable may be called."""

NOT_HERE = frozenset(("model", "messages", "stream", "api_key", "api-key", "key", "authorization"))
"""What is no further field of a request: it stands elsewhere, or is a key."""

HALF = re.compile("[\ud800-\udfff]")
"""Half a character, as a server leaves it that cuts an emoji in two: no file can hold it."""

SECRET = frozenset(
    ("key", "keys", "apikey", "secret", "secrets", "password", "passwd", "auth", "authorization",
     "bearer", "credential", "credentials")
)  # fmt: skip
"""Words in the name of a field that holds a key; `token` at its end is another."""


class NoReplyError(RunError):
    """An endpoint gave no reply, however often it was asked."""


class RefusedError(NoReplyError):
    """An endpoint refuses this one request; others it may answer."""


def address_mistakes(
    base_url: str, key_variable: str | None, arguments: Mapping[str, Any]
) -> list[Mistake]:
    """What is wrong with where an endpoint is and what it is sent; no key is repeated."""
    found = []
    if not PLAIN_ADDRESS.fullmatch(base_url):
        why = "this is no plain address of an endpoint; a key or password never stands in it."
        action = "Give https://<host>/v1, and the key in the variable that key_variable names."
        found.append(Mistake("base_url", f"{base_url.partition('://')[0]:.8}...", why, action))
    if key_variable is not None and not VARIABLE.fullmatch(key_variable):
        why = "this is no name of an environment variable; a key never stands in a command."
        found.append(Mistake("key_variable", "...", why, "Give a name such as OPENAI_API_KEY."))
    if taken := NOT_HERE & {name.lower() for name in arguments}:
        why = f"{', '.join(sorted(taken))} is not given here."
        found.append(Mistake("arguments", f"{len(arguments)} of them", why, "Leave it out."))
    elif _holds_secret(arguments, os.environ.get(key_variable or "", "").strip()):
        why = "a key, a token or a password is among them, and they are written into files."
        action = "Leave it out; the key stands in the variable that key_variable names."
        found.append(Mistake("arguments", f"{len(arguments)} of them", why, action))
    elif odd := sorted(name for name, value in arguments.items() if not _can_be_sent(value)):
        why = f"{', '.join(odd)}: nan and infinity cannot be sent as JSON."
        found.append(Mistake("arguments", f"{len(odd)} of them", why, "Give a number."))
    return found


def _can_be_sent(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def _holds_secret(value: Any, key: str) -> bool:
    """Whether some name in it is that of a secret, or some text holds the key."""
    if isinstance(value, Mapping):
        names = any(_is_secret(str(name)) or _holds_secret(name, key) for name in value)
        return names or any(_holds_secret(one, key) for one in value.values())
    if isinstance(value, list | tuple):
        return any(_holds_secret(one, key) for one in value)
    return bool(key) and isinstance(value, str) and key in value


def _is_secret(name: str) -> bool:
    """Whether a field of this name holds a secret.

    Example:
        >>> [_is_secret(name) for name in ("x-api-key", "accessToken", "stop_token_ids", "top_k")]
        [True, True, False, False]
    """
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    lower = [word.lower() for word in words]
    return bool(SECRET & set(lower)) or lower[-1:] == ["token"]


@dataclass(frozen=True)
class ChatApi:
    """Where requests are sent, and with how much patience.

    Attributes:
        who: How messages call the model there, `judge gpt-4`.
        base_url: Up to and without `/chat/completions`.
        key_variable: Environment variable that holds the key; None: the endpoint wants none.
        retries: Further attempts after one that failed in passing.
        wait_seconds: Before the first of them; doubled each time, a minute at most.
        timeout_seconds: Of one attempt.
    """

    who: str
    base_url: str
    key_variable: str | None
    retries: int
    wait_seconds: float
    timeout_seconds: float

    def name(self, request: Mapping[str, Any]) -> str:
        """What tells a request from any other."""
        return short_hash({"url": self.base_url, "request": request})

    def ask(self, request: Mapping[str, Any], kept: Path) -> dict[str, Any]:
        """A reply, after as many attempts as are allowed: content, read, written, served.

        Args:
            request: The body.
            kept: Where replies are kept, for the message.

        Raises:
            RefusedError: the endpoint refuses this request.
            NoReplyError: it gave no reply.
            RunError: the key is missing or no key.
        """
        status = None
        for attempt in range(self.retries + 1):
            found, again, wait, status = self._attempt(request)
            if isinstance(found, dict):
                return found
            if not again:
                break
            if attempt < self.retries:
                time.sleep(min(LONGEST_WAIT, max(wait, self.wait_seconds * 2**attempt)))
        kind = RefusedError if status in REFUSED else NoReplyError
        raise kind(
            f"The {self.who} at {self.base_url} gave no reply ({attempt + 1} attempts): "
            f"{found}. {KEPT_IN} {kept}: put that right, and the same command "
            f"goes on."
        )

    def _attempt(
        self, request: Mapping[str, Any]
    ) -> tuple[dict[str, Any] | str, bool, float, int | None]:
        """The reply or what is wrong; whether to try again, and after how long; the status."""
        import httpx

        key = self.key()
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
        except (httpx.InvalidURL, UnicodeError) as error:
            why = f"{type(error).__name__}: {error}, so base_url is no address"
            return _without(key, why), False, 0.0, None
        except httpx.HTTPError as error:
            return _without(key, f"{type(error).__name__}: {error}"), True, 0.0, None
        text = _without(key, said.text)  # before it is cut, so that no part of the key is left
        code = said.status_code
        if code != 200:
            wait = _asked_wait(said.headers.get("retry-after"))
            return f"status {code}: {text:.300}", code in AGAIN, wait, code
        try:
            return _content(json.loads(text)), False, 0.0, code
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            why = f"no chat completion ({type(error).__name__}): {text:.200}"
            return why, True, 0.0, code

    @cached_property
    def _trusted(self) -> Any:
        """Whose certificates are trusted; read once, which takes longer than a request."""
        import httpx

        return httpx.create_ssl_context()

    def key(self) -> str | None:
        """The key, from the environment.

        Raises:
            RunError: it is not there, or no key.
        """
        if self.key_variable is None:
            return None
        if not (key := os.environ.get(self.key_variable, "").strip()):
            raise RunError(
                f"The environment variable {self.key_variable} is not set, so the {self.who} "
                f"cannot be asked. Set it to the key, or give key_variable=null for an endpoint "
                f"that wants none."
            )
        if not re.fullmatch(r"[!-~]+", key):  # else an error would quote it in another spelling
            raise RunError(
                f"The environment variable {self.key_variable} holds spaces, line ends or other "
                f"signs that no key has, so the {self.who} cannot be asked. Set it to the key "
                f"alone."
            )
        return key


def _content(body: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a chat completion."""
    choice = body["choices"][0]
    content = choice["message"]["content"]
    usage = body.get("usage") or {}
    text, halves = HALF.subn("\ufffd", content if isinstance(content, str) else "")
    return {
        "content": text,
        "halves": halves,
        "read": int(usage.get("prompt_tokens") or 0),
        "written": int(usage.get("completion_tokens") or 0),
        "served": HALF.sub("\ufffd", str(body.get("model") or "not told")),
        "finish": choice.get("finish_reason"),
    }


def _asked_wait(header: str | None) -> float:
    """Seconds that an endpoint asks to be left alone; a date is not read."""
    return float(header) if header and re.fullmatch(r"\d{1,6}(\.\d+)?", header) else 0.0


def _without(key: str | None, text: str) -> str:
    """A text in which the key does not stand: some servers repeat it."""
    return text.replace(key, "<key>") if key else text


def kept_replies(path: Path) -> Iterator[dict[str, Any]]:
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
