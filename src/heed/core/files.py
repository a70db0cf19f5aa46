"""The only writer: whole files appear at once or not at all."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What a shared folder answers that knows no lock of the system."""


def write_text(path: Path, text: str) -> None:
    """Write a whole file atomically (written beside, flushed, renamed)."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write plain data as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_yaml(path: Path, value: Any) -> None:
    """Write plain data as YAML with its keys in the given order, atomically."""
    write_text(path, yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Write one JSON object a line, atomically."""
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    write_text(path, "".join(f"{line}\n" for line in lines))


def append_jsonl(path: Path, row: Any) -> None:
    """Append one JSON object as a line, as `append_line` does."""
    append_line(path, json.dumps(row, ensure_ascii=False, allow_nan=False))


def append_line(path: Path, line: str) -> None:
    """Append one line; whole lines only, also with several writers, and after one that died."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:  # what has several writers is written under a lease, too
            if error.errno not in NO_LOCKS:
                raise
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        torn = b"\n" if size and file.read(1) != b"\n" else b""
        left = memoryview(torn + line.encode() + b"\n")
        while left:
            left = left[file.write(left) :]


def read_json(path: Path) -> Any:
    """Read one JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_jsonl(path: Path) -> list[Any]:
    """Read one JSON object a line."""
    # not splitlines(): a response may hold U+2028 and the like, which are no line ends in JSON
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def digest_file(path: Path) -> str:
    """First 16 hex digits of the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Yield an empty directory beside `path`, and rename it to `path` if the block succeeds.

    A directory that is already there is replaced as a whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield beside
        beside.chmod(0o755)
        for made in beside.rglob("*"):  # some libraries write for their owner only
            made.chmod(0o755 if made.is_dir() else 0o644)
        if path.exists():
            shutil.rmtree(path)
        beside.rename(path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
