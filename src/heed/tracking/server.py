"""Whether a server answers, asked within a few seconds: an outage must not cost a run more."""

from __future__ import annotations

import ssl
import threading
import urllib.error
import urllib.request

SECONDS = 2.0
"""Longest time that a server is waited for."""

AWAY = frozenset((502, 503, 504))
"""What a gateway answers for a server that is down."""

_SILENT: dict[str, str] = {}


def why_silent(url: str, *, again: bool = False) -> str | None:
    """Why a server is out of reach; None: it answers.

    A server that was out of reach once is not asked a second time by this process. It is asked
    through the proxy of the environment, if there is one, and is sent no key.

    Args:
        url: Of the server.
        again: Whether to ask one, too, that was out of reach before.
    """
    if again or url not in _SILENT:
        said = _asked(url)
        if said is None:
            _SILENT.pop(url, None)
            return None
        _SILENT[url] = said
    return _SILENT[url]


def _asked(url: str) -> str | None:
    """Ask in a thread: to look a name up has no time limit of its own."""
    told: list[str | None] = []
    thread = threading.Thread(target=lambda: told.append(_answer(url)), daemon=True)
    thread.start()
    thread.join(SECONDS)
    return told[0] if told else f"no answer in {SECONDS:g} s"


def _answer(url: str) -> str | None:
    """What is wrong; any answer of the server's own, a refusal too, is nothing wrong."""
    query = b'{"query": "{__typename}"}'
    headers = {"Content-Type": "application/json", "User-Agent": "heed"}
    try:
        request = urllib.request.Request(f"{url.rstrip('/')}/graphql", query, headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=SECONDS):  # noqa: S310
            return None
    except urllib.error.HTTPError as error:
        error.close()
        return f"it answers {error.code}" if error.code in AWAY else None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        # the library has certificates of its own, and says itself what is wrong with one
        return None if isinstance(reason, ssl.SSLCertVerificationError) else str(reason)
