"""What the hub says when it gives nothing, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

LOG_IN = (
    "log in as somebody who may read it: `hf auth login`, or a token of https://huggingface.co/"
    "settings/tokens in the environment variable HF_TOKEN"
)
ELSEWHERE = "or give a local directory with config.json, *.safetensors and a tokenizer"


GATED = (
    "its owner gives it to those who have asked. Ask on {page} (the answer may take hours), and "
    f"{LOG_IN}."
)
CLOSED = f"the hub has closed it; see {{page}}. Choose another student, {ELSEWHERE} as model.path."
UNKNOWN = (
    "the hub knows no such id, or it is private. Look at its spelling on {page}; if it is private, "
    f"{LOG_IN}."
)
NO_COMMIT = (
    "it has no commit {revision}. Take one from {page}/commits/main: model.revision=<commit>, all "
    "40 digits."
)
OFFLINE = (
    "it is not kept here, and the hub cannot be reached (no network, or HF_HUB_OFFLINE is set). "
    "Fetch it where there is a network, `hf download {path} --revision {revision}`, "
    f"{ELSEWHERE} as model.path."
)
NO_FILE = (
    "it lacks a file that a student needs (config.json, *.safetensors and a tokenizer). See "
    "{page}/tree/{revision}."
)


def said_by_hub(error: BaseException, path: str, revision: str | None) -> str | None:
    """What is wrong and what to do next, if the hub or the way to it is what failed.

    Nothing of the library's own words is repeated: they may hold what was sent, a token with it.

    Args:
        error: As a library raised it; what it was made of is looked at too.
        path: The hub id.
        revision: The commit that was asked for.
    """
    chain = list(_causes(error))
    for kinds, said in _known():
        if any(isinstance(one, kinds) for one in chain):
            page = f"https://huggingface.co/{path}"
            return said.format(page=page, path=path, revision=revision)
    return _by_code(chain)


def _known() -> list[tuple[tuple[type[BaseException], ...], str]]:
    """The hub's errors, those that are kinds of others first."""
    from huggingface_hub import errors

    return [
        ((errors.GatedRepoError,), GATED),
        ((errors.DisabledRepoError,), CLOSED),
        ((errors.RepositoryNotFoundError,), UNKNOWN),
        ((errors.RevisionNotFoundError, errors.RevisionResolutionError), NO_COMMIT),
        ((errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError), OFFLINE),
        ((errors.RemoteEntryNotFoundError,), NO_FILE),
    ]


def _by_code(chain: Sequence[BaseException]) -> str | None:
    """Of another answer over HTTP, if there was one."""
    from huggingface_hub.errors import HfHubHTTPError

    codes = {_status(one) for one in chain if isinstance(one, HfHubHTTPError)}
    if codes & {401, 403}:
        return f"the hub refuses the token that it was sent, or was sent none: {LOG_IN}."
    if codes:
        return f"the hub answers with {', '.join(map(str, codes))}. Try again later, {ELSEWHERE}."
    return None


def _status(error: BaseException) -> int | None:
    """The code of an answer over HTTP."""
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it was made of, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
