"""Where a teacher's rows are: a local file, or a dataset on the hub at a pinned revision."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from heed.core.component import component
from heed.core.errors import ConfigError, DataError, Mistake
from heed.core.files import digest_file
from heed.core.identity import Incidental
from heed.core.types import OnBad
from heed.data.tables import READERS, kept_columns, kind_of, need_file


class Row(NamedTuple):
    """One row of a table as it was found.

    Attributes:
        place: Where it stands, `line 3` or `row 3`, counted from 1.
        value: Column -> what stands there.
    """

    place: str
    value: Mapping[str, Any]


class Source(ABC):
    """A table somewhere, read in a fixed order."""

    @property
    @abstractmethod
    def place(self) -> str:
        """How messages call it."""

    @abstractmethod
    def rows(self, wanted: Sequence[str], on_bad: OnBad) -> Iterator[Row]:
        """All rows that can be read.

        Args:
            wanted: Columns that will be looked at, `a.b` for a field of a struct; others may be
                left out.
            on_bad: Told of each row that cannot be read.

        Raises:
            DataError: the table as a whole cannot be read.
        """

    @abstractmethod
    def digest(self) -> str:
        """Changes whenever a row changes."""

    def events(self) -> Mapping[str, int]:
        """What the source itself leaves out, by kind."""
        return {}


@component
class LocalFile(Source):
    """A file: .jsonl, .json, .csv (each also .gz) or .parquet.

    A .json file is a list of objects, or one object a line. A .csv file has its columns' names in
    the first line, and every value is text.
    """

    path: Annotated[str, Incidental]
    """Where it is; in the run id stands a digest of its content, not its place."""

    def __post_init__(self) -> None:
        if kind_of(self.path) is None:
            known = ", ".join(READERS)
            raise ConfigError(
                [Mistake("path", repr(self.path),
                         f"its ending is none of {known}, so its rows cannot be told apart.",
                         "Convert it to .jsonl.")]
            )  # fmt: skip

    @property
    def place(self) -> str:
        """The path."""
        return self.path

    def rows(self, wanted: Sequence[str], on_bad: OnBad) -> Iterator[Row]:
        """All rows that can be read, in file order."""
        path = need_file(self.path, "a teacher's rows")
        for place, value in READERS[kind_of(self.path) or ""](path, wanted, on_bad):
            yield Row(place, value)

    def digest(self) -> str:
        """Digest of the file's bytes."""
        return digest_file(need_file(self.path, "a teacher's rows"))


def other_commit(tables: Iterable[Any], revision: str) -> Path | None:
    """A cached file of some tables that belongs to another commit; None if there is none.

    Without a network `datasets` takes the copy that was fetched last, of whatever commit, and says
    so in a log line only. The folder of a copy bears the name of its commit.

    Args:
        tables: As `datasets` loads them.
        revision: The commit that was asked for.
    """
    files = [Path(file["filename"]) for table in tables for file in table.cache_files]
    return next((file for file in files if revision not in file.parts), None)


@component
class Hub(Source):
    """A dataset on the Hugging Face hub, pinned to one commit."""

    id: str
    """`organisation/name`."""

    config: str | None
    """Which of the dataset's configurations; null if it has one only."""

    revision: str
    """A whole commit, 40 digits: a branch or a tag may move, and the data would change."""

    split: str
    """Which split."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{40}", self.revision):
            raise ConfigError(
                [Mistake("revision", repr(self.revision),
                         "without a whole commit (40 digits) the data may change under the id.",
                         "Copy the commit from the dataset's page (Files, History).")]
            )  # fmt: skip

    @property
    def place(self) -> str:
        """Id, configuration, commit and split."""
        config = f"/{self.config}" if self.config else ""
        return f"{self.id}{config}@{self.revision[:7]} ({self.split})"

    def rows(self, wanted: Sequence[str], on_bad: OnBad) -> Iterator[Row]:
        """All rows, in the dataset's order; downloaded once, and kept by `datasets`.

        Raises:
            DataError: no such dataset, configuration, revision or split, or no network.
        """
        import datasets

        try:
            table = datasets.load_dataset(
                self.id, name=self.config, revision=self.revision, split=self.split
            )
            if odd := other_commit([table], self.revision):
                raise ValueError(
                    f"the copy in {odd.parent} is of another commit; without a network the one "
                    f"that was fetched last is taken"
                )
            kept = kept_columns(table.column_names, wanted)
            table = table.select_columns(kept or table.column_names[:1])  # of none it has no rows
            for number, value in enumerate(table, start=1):
                yield Row(f"row {number}", value)
        except (OSError, ValueError, MemoryError, datasets.exceptions.DatasetsError) as error:
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(
                f"{self.place} cannot be read from the hub ({said}). Without it there is nothing "
                f"to train on. Check teacher.source (id, config, revision, split) and the network, "
                f"or download it and use a file: teacher=file teacher.source.path=<file>."
            ) from error

    def digest(self) -> str:
        """The commit says it all."""
        return f"{self.id}/{self.config}@{self.revision}/{self.split}"
