"""Whether W&B can be reached: a key, and a server that answers within a few seconds."""

from __future__ import annotations

import ssl
import threading
import urllib.error
import urllib.request

from heed.core.errors import RunError
from heed.core.secrets import without_secrets

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


def has_key() -> bool:
    """Whether the library finds a key; the server is not asked.

    Raises:
        RunError: the library cannot read its key or its settings.
    """
    try:
        import wandb
        from wandb.sdk.lib import wbauth

        settings = wandb.setup().settings
        host = wbauth.HostUrl(settings.base_url, app_url=settings.app_url)
        # `wandb.login` would ask the server, and waits for one that is away
        return bool(
            wbauth.authenticate_session(
                host=host, source="heed", prompt=False, update_session=False
            )
        )
    except Exception as error:  # of the library or of what it is built on: any kind
        kind, said = type(error).__name__, " ".join(without_secrets(str(error)).split())
        raise RunError(
            f"W&B cannot be used as it is set up here ({kind}: {said}) Look at the variables "
            f"WANDB_API_KEY, WANDB_BASE_URL and WANDB_MODE and at W&B's own settings, or take "
            f"logger.mode=offline."
        ) from error
