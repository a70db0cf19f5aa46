"""A teacher is a named source of responses to instructions, or of plain text."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from heed.core.component import component
from heed.core.errors import ConfigError, DataError, Mistake
from heed.core.files import digest_file
from heed.core.identity import Incidental
from heed.core.types import Example, Message


class Teacher(ABC):
    """A named source of examples in a fixed order."""

    name: Annotated[str, Incidental]

    @abstractmethod
    def rows(self) -> Iterator[Example]:
        """All examples, always in the same order."""

    @abstractmethod
    def digest(self) -> str:
        """Changes whenever a row changes."""


def need_file(path: str, what: str) -> Path:
    """The path of a data file that must exist.

    Raises:
        DataError: it does not; the message names the setting that points to the data folder.
    """
    found = Path(path)
    if not os.path.isfile(found):  # unlike Path.is_file, for names of any length
        raise DataError(
            f"{what}: there is no file {path} (looked in {Path.cwd()}). Without it there is "
            f"nothing to train on or score. Point to the folder that holds the data with "
            f"data_dir=<folder>, or set the path itself."
        )
    return found


def open_text(path: Path) -> str:
    """The whole text of a file, gunzipped if its name ends in .gz; line ends become newlines.

    Raises:
        DataError: the file is damaged or holds something else; the message names it.
    """
    packed = path.suffix == ".gz"
    try:
        with (gzip.open if packed else open)(path, "rt", encoding="utf-8") as file:
            return file.read()
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read as {'gzipped ' if packed else ''}UTF-8 text ({error}). "
            f"Fetch the file again or convert it."
        ) from error


@component
class Responses(Teacher):
    """Responses of one teacher in a table: a local file, or a dataset on the hub.

    Give either `path` (.jsonl or .jsonl.gz, read here; .json, .csv or .parquet, read by
    `datasets`) or `hub` with a `revision` and a `split`.
    """

    name: Annotated[str, Incidental]
    """How the teacher is called in tables."""

    path: Annotated[str | None, Incidental]
    """Local file; in the run id stands a digest of its content, not its place."""

    hub: str | None
    """Dataset id on the hub, `organisation/name`."""

    revision: str | None
    """Commit or tag of the hub dataset; a branch name would not pin the data."""

    split: str | None
    """Split of the hub dataset."""

    instruction: str
    """Column of the instruction."""

    input: str | None
    """Column of further input to the instruction, joined to it by a blank line; null if none."""

    response: str
    """Column of the response; `a.b` looks into a struct."""

    reward: str | None
    """Column of a score of the response; null if none."""

    def __post_init__(self) -> None:
        if (self.path is None) == (self.hub is None):
            raise ConfigError(
                [Mistake("path", f"path={self.path!r}, hub={self.hub!r}",
                         "a teacher is read from one place.", "Set one of path and hub.")]
            )  # fmt: skip
        pinned = re.fullmatch(r"[0-9a-f]{40}", self.revision or "") and self.split
        if self.hub is not None and not pinned:
            raise ConfigError(
                [Mistake("revision", f"revision={self.revision!r}, split={self.split!r}",
                         "without a whole commit (40 digits) the data may change under the id.",
                         "Set revision=<commit> and split=<name>.")]
            )  # fmt: skip

    def digest(self) -> str:
        """Digest of the file's bytes, or the pinned revision."""
        if self.path is not None:
            return digest_file(need_file(self.path, f"teacher {self.name!r}"))
        return f"{self.hub}@{self.revision}/{self.split}"

    def rows(self) -> Iterator[Example]:
        """One example a row, in file order.

        Raises:
            DataError: the file is missing or a row has not the named columns.
        """
        for number, row in enumerate(self._table(), start=1):
            instruction = self._text(row, self.instruction, number)
            extra = self._text(row, self.input, number) if self.input else ""
            prompt = f"{instruction}\n\n{extra}" if extra else instruction
            reward = _look_up(row, self.reward) if self.reward else None
            yield Example(
                id=hashlib.sha256(prompt.encode()).hexdigest()[:16],
                messages=(
                    Message("user", prompt),
                    Message("assistant", self._text(row, self.response, number)),
                ),
                teacher=self.name,
                reward=None if reward is None else float(reward),
            )

    def _table(self) -> Iterator[Mapping[str, Any]]:
        if self.path is not None:
            path = need_file(self.path, f"teacher {self.name!r}")
            if path.name.endswith((".jsonl", ".jsonl.gz")):
                yield from json_lines(path)
                return
        yield from self._library_table()

    def _library_table(self) -> Iterator[Mapping[str, Any]]:
        import datasets

        try:
            yield from self._dataset(datasets.load_dataset)
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            raise DataError(
                f"teacher {self.name!r}: {self.path or self.hub} could not be read as a table: "
                f"{str(error).splitlines()[0]} Check the path or the id, the revision, the "
                f"split and the network."
            ) from error

    def _dataset(self, load_dataset: Callable[..., Any]) -> Iterator[Mapping[str, Any]]:
        if self.path is not None:
            path = Path(self.path)
            kind = {".json": "json", ".csv": "csv", ".parquet": "parquet"}.get(path.suffix)
            if kind is None:
                raise DataError(
                    f"teacher {self.name!r}: {path} is none of .jsonl, .jsonl.gz, .json, .csv, "
                    f".parquet, so its rows cannot be told apart. Convert it to .jsonl."
                )
            yield from load_dataset(kind, data_files=str(path), split="train")
        else:
            yield from load_dataset(self.hub, revision=self.revision, split=self.split)

    def _text(self, row: Mapping[str, Any], column: str, number: int) -> str:
        value = _look_up(row, column)
        if value is _MISSING:
            raise DataError(
                f"teacher {self.name!r}, {self.path or self.hub}, row {number}: there is no column "
                f"{column!r}, only {', '.join(map(repr, row))}. Name the right one with "
                f"teacher.instruction=, teacher.input= or teacher.response=."
            )
        if value is not None and not isinstance(value, str):
            raise DataError(
                f"teacher {self.name!r}, {self.path or self.hub}, row {number}: column {column!r} "
                f"holds {value!r:.60}, which is not text. Correct the row or name another column."
            )
        return value or ""


_MISSING = object()


def _look_up(row: Mapping[str, Any], column: str) -> Any:
    value: Any = row
    for part in (column,) if column in row else column.split("."):
        value = value.get(part, _MISSING) if isinstance(value, Mapping) else _MISSING
    return value


def json_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    """The objects of a .jsonl or .jsonl.gz file.

    Raises:
        DataError: naming the file, the line and what was found there.
    """
    for _, row in numbered_json_lines(path):
        yield row


def numbered_json_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The objects of a .jsonl or .jsonl.gz file with the numbers of their lines.

    Lines are counted from 1; blank ones, and a byte order mark before the first, are passed over.

    Raises:
        DataError: naming the file, the line and what was found there.
    """
    text = open_text(path).removeprefix("\ufeff")
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # also a number of thousands of digits
            raise DataError(
                f"{path}, line {number}: not JSON ({error}); found {line[:60]!r}. Every line must "
                f"be one JSON object. Correct or remove the line."
            ) from error
        if not isinstance(row, dict):
            raise DataError(
                f"{path}, line {number}: expected a JSON object, found {line[:60]!r}. Correct or "
                f"remove the line."
            )
        yield number, row


@component
class TextCorpus(Teacher):
    """Plain text, every token supervised; documents are held out whole, by a hash of their text."""

    name: Annotated[str, Incidental]
    """How the corpus is called in tables."""

    path: Annotated[str, Incidental]
    """A .txt or .txt.gz file; in the run id stands a digest of its content, not its place."""

    separator: str
    """A line that stands between two documents."""

    part: Literal["train", "heldout"]
    """Which documents: those to train on, or those kept apart."""

    heldout_share: Annotated[float, Field(gt=0, lt=1)]
    """Chance of a document to be held out (the hash decides, so the split never moves)."""

    passage_chars: Annotated[int, Field(gt=0)]
    """Documents are given as passages of about this many characters, cut between paragraphs."""

    def overlaps(self, other: TextCorpus) -> bool:
        """Whether two parts of one file can share a document."""
        same_cut = (self.separator, self.heldout_share) == (other.separator, other.heldout_share)
        return not same_cut or self.part == other.part

    def digest(self) -> str:
        """Digest of the file's bytes."""
        return digest_file(need_file(self.path, f"corpus {self.name!r}"))

    def rows(self) -> Iterator[Example]:
        """One example a passage; ids are `<document>/<passage>`."""
        text = open_text(need_file(self.path, f"corpus {self.name!r}"))
        for number, document in enumerate(text.split(f"\n{self.separator}\n")):
            held_out = share_of(document) < self.heldout_share
            if held_out != (self.part == "heldout"):
                continue
            for place, passage in enumerate(passages(document, self.passage_chars)):
                yield Example(
                    id=f"{number}/{place}",
                    messages=(Message("text", passage),),
                    teacher=self.name,
                )


def share_of(text: str) -> float:
    """A number in [0, 1) that depends on the text alone: splits by it never move.

    Example:
        >>> 0 <= share_of("Once upon a time") < 1
        True
    """
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def passages(document: str, chars: int) -> Iterator[str]:
    r"""Cut a document between paragraphs into passages of at least `chars` characters.

    The blank line after each paragraph counts.

    The passages joined by a blank line are the document again.

    Example:
        >>> list(passages("one\n\ntwo\n\nthree", 6))
        ['one\n\ntwo', 'three']
    """
    part: list[str] = []
    length = 0
    for paragraph in document.split("\n\n"):
        part.append(paragraph)
        length += len(paragraph) + 2
        if length >= chars:
            yield "\n\n".join(part)
            part, length = [], 0
    if part:
        yield "\n\n".join(part)
