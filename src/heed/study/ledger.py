"""The ledger: an append-only local record of what ran and what it scored; the truth.

A line tells how a cell ended: `done`, with its deltas and what it cost; `failed`, with the reason;
or `stopped`, where it was asked to end and can go on. What more there is of a result is the
`result.json` beside its scores.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from heed.core.console import progress_console
from heed.core.errors import RunError
from heed.core.files import append_jsonl, read_json
from heed.core.identity import short_hash
from heed.core.locks import lock
from heed.core.secrets import without_secrets

FILE = "ledger.jsonl"
EVENTS = ("done", "failed", "stopped")
SAY = progress_console()
_SAID: set[tuple[Path, int]] = set()

KEPT = (
    "run", "suite", "suite_name", "student", "teacher", "method", "lr", "lr_peak", "seed", "name",
    "directory", "before", "primary", "level", "margin", "deltas", "code", "cost",
)  # fmt: skip
"""What a line says of a result; the rest, many times as long, is in its own file."""

Key = tuple[str, str]
"""Run id and suite hash."""


def record(root: Path, event: str, entry: Mapping[str, Any]) -> None:
    """Append one event: `failed` or `stopped` with a `reason`; `done` by `record_result`.

    Reasons and last words of a log are freed of keys first: others will read them.
    """
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    clean: dict[str, Any] = {}
    if "reason" in entry:
        clean["reason"] = without_secrets(str(entry["reason"]))
    if "log" in entry:
        clean["log"] = [without_secrets(str(line)) for line in entry["log"]]
    with lock(root / "locks" / FILE):  # on some shared folders, appending alone is not enough
        append_jsonl(root / FILE, {"event": event, "time": now, **entry, **clean})


def record_result(root: Path, result: Mapping[str, Any]) -> None:
    """Append `done` with the short form of a result; nothing where the last word says the same."""
    entry = last_word(root, (result["run"], result["suite"]))
    line = short_form(result)
    if entry is None or any(entry.get(key) != value for key, value in line.items()):
        record(root, "done", line)


def short_form(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result as a line of the ledger."""
    also = result.get("also")
    return {key: result[key] for key in KEPT if key in result} | {
        "flags": list(dict.fromkeys(flag["kind"] for flag in result.get("flags", ()))),
        "also": also and {"settings": also["settings"]},
        "digest": short_hash(json.loads(json.dumps(result))),
    }


def latest(root: Path) -> dict[Key, dict[str, Any]]:
    """The last entry of every (run id, suite hash); of lines that are no entry, that is said."""
    return {(row["run"], row["suite"]): row for row in _entries(root / FILE)}


def size_of(root: Path) -> int:
    """Bytes of the ledger, which only grows: what stands behind them was told later."""
    path = root / FILE
    return path.stat().st_size if path.is_file() else 0


def last_word(root: Path, key: Key, size: int | None = None) -> dict[str, Any] | None:
    """The last entry of one run on one suite, without reading those of others.

    Args:
        root: Of the outputs.
        key: Which.
        size: From `size_of`: the last word of that time; None: the last of all.
    """
    found = None
    for row in _entries(root / FILE, json.dumps(key[0], ensure_ascii=False)[1:-1].encode(), size):
        if (row["run"], row["suite"]) == key:
            found = row
    return found


def _entries(path: Path, holding: bytes = b"", size: int | None = None) -> Iterator[dict[str, Any]]:
    """The entries of a ledger in order; lines without some bytes are not looked at."""
    lines = path.read_bytes()[:size].split(b"\n") if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or holding not in line:
            continue
        try:
            row = json.loads(line)
        except ValueError:
            _pass_over(path, number, "is torn (its writer died)")
            continue
        if _is_entry(row):
            yield row
        else:
            _pass_over(path, number, "is no entry of a ledger of heed's")


def _is_entry(row: Any) -> bool:
    """Whether a row says how a run on a suite ended."""
    if not isinstance(row, dict) or row.get("event") not in EVENTS:
        return False
    named = all(isinstance(row.get(name), str) for name in ("run", "suite"))
    return named and (row["event"] == "done" or isinstance(row.get("reason"), str))


def _pass_over(path: Path, number: int, what: str) -> None:
    """Say once of a line that it is not counted."""
    if (path, number) not in _SAID:
        _SAID.add((path, number))
        SAY.print(f"{path}, line {number} {what} and is passed over.", markup=False)


def result_file(directory: Path, suite_name: str) -> Path:
    """Where the result of a run on a suite is kept.

    Args:
        directory: Of the run.
        suite_name: Name of the suite.
    """
    return directory / "scores" / suite_name / "result.json"


def is_lost(root: Path, entry: Mapping[str, Any]) -> bool:
    """Whether the result that a `done` entry is the short form of is not there."""
    if "digest" not in entry:
        return False
    return not result_file(root / entry["directory"], entry["suite_name"]).is_file()


def is_kept(root: Path, entry: Mapping[str, Any] | None) -> bool:
    """Whether a cell has a result, which stays whatever becomes of what more is wanted of it.

    Args:
        root: Of the outputs.
        entry: The ledger's last word on the cell; None: it has heard of none.
    """
    return entry is not None and entry["event"] == "done" and not is_lost(root, entry)


def whole_result(root: Path, entry: Mapping[str, Any]) -> dict[str, Any]:
    """The result that a `done` entry is the short form of.

    Args:
        root: Of the outputs.
        entry: From `latest`; one of an older heed may hold all of it, and is given back.

    Raises:
        RunError: the result is lost, or has been changed since.
    """
    if "digest" not in entry:
        return dict(entry)
    path, run = result_file(root / entry["directory"], entry["suite_name"]), entry["run"]
    found = read_result(path, run)
    if short_hash(found) != entry["digest"]:
        raise RunError(
            f"{path} is not what the ledger recorded of run {run} (digest {short_hash(found)}, "
            f"recorded {entry['digest']}): it was changed. {_again(run)}"
        )
    return found


def read_result(path: Path, run: str) -> dict[str, Any]:
    """The result in a file.

    Args:
        path: From `result_file`.
        run: Its run id.

    Raises:
        RunError: it cannot be read, or is none.
    """
    try:
        found: dict[str, Any] = read_json(path)
        if found["run"] != run:
            raise ValueError(f"it is of run {found['run']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise RunError(
            f"{path}, the result of run {run}, cannot be read ({why}). {_again(run)}"
        ) from error
    return found


def _again(run: str) -> str:
    return (
        f"Put it back; or remove it, and give the command of run {run} again, or that of its "
        "study: the scores are kept, and only the result is made anew."
    )
