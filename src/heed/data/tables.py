"""Files of rows: every reader gives each row with its place, and tells of those it cannot read."""

from __future__ import annotations

import csv
import gzip
import json
import os
import reprlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from heed.core.errors import DataError
from heed.core.types import OnBad

Placed = tuple[str, Mapping[str, Any]]
"""A row behind its place, `line 3` or `row 3`."""

BROKEN_FILE = (OSError, EOFError, UnicodeDecodeError, zlib.error, MemoryError)
NOT_JSON = (ValueError, RecursionError, MemoryError)
"""What `json` raises: a number of 5,000 digits is a plain ValueError, deep nesting the second."""

LONGEST_FIELD = 2**31 - 1


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


def damaged(path: Path, error: Exception) -> DataError:
    """The error that names a file which cannot be read to its end."""
    packed = "gzipped " if path.suffix == ".gz" else ""
    return DataError(
        f"{path} cannot be read as {packed}UTF-8 text ({error or type(error).__name__}). "
        f"Fetch the file again or convert it."
    )


def open_text(path: Path) -> str:
    """The whole text of a file, gunzipped if its name ends in .gz; line ends become newlines.

    Raises:
        DataError: the file is damaged or holds something else; the message names it.
    """
    try:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8") as file:
            return file.read()
    except BROKEN_FILE as error:
        raise damaged(path, error) from error


def lines_of(path: Path) -> Iterator[tuple[int, str | DataError]]:
    """The lines of a file, one at a time; U+2028 and the like are no line ends.

    A line that is not UTF-8 is given as the error that says so. A byte-order mark is left out. The
    sum at the end of a gzipped file is checked before any line is given: garbled text may look
    like rows.

    Raises:
        DataError: the file is damaged; the message names it.
    """
    try:
        opened: Any = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rb") as file:
            if path.suffix == ".gz":
                while file.read(2**20):
                    pass
                file.seek(0)
            for number, line in enumerate(file, start=1):
                try:
                    yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    said = f"{path}, line {number}: not UTF-8 ({error}); found {shown(line)}."
                    yield number, DataError(f"{said} Expected UTF-8 text: convert the file.")
    except BROKEN_FILE as error:
        raise damaged(path, error) from error


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_SHORT.maxdict = _SHORT.maxlist = _SHORT.maxtuple = 3
_SHORT.maxlevel = 2


def shown(value: Any) -> str:
    """A value in few words for a message, however long or deep; half characters are escaped.

    Example:
        >>> shown({"a": [[["deep"]]]})
        "{'a': [[...]]}"
    """
    text = _SHORT.repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def json_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    """The objects of a .jsonl or .jsonl.gz file.

    Raises:
        DataError: naming the file, the line and what was found there.
    """
    for _, value in numbered_json_lines(path):
        yield value


def numbered_json_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The objects of a .jsonl or .jsonl.gz file with the numbers of their lines, from 1.

    Raises:
        DataError: naming the file, the line and what was found there.
    """
    for place, value in read_json_lines(path, (), raised):
        yield int(place.removeprefix("line ")), value


def raised(error: Exception) -> None:
    """What is told of a bad row where none may be left out."""
    raise error


def read_json_lines(path: Path, wanted: Sequence[str], on_bad: OnBad) -> Iterator[Placed]:
    """One JSON object a line; blank lines are nothing."""
    del wanted  # a line is read whole
    for number, line in lines_of(path):
        if isinstance(line, DataError):
            on_bad(line)
        elif line.strip():
            found = json_object(line, f"{path}, line {number}")
            if isinstance(found, DataError):
                on_bad(found)
            else:
                yield f"line {number}", found


def json_object(line: str, place: str) -> Mapping[str, Any] | DataError:
    """The object that a line holds, or the error that says what it holds instead."""
    try:
        row = json.loads(line)
    except NOT_JSON as error:
        why = str(error) or type(error).__name__
        return DataError(
            f"{place}: not JSON ({why}); found {shown(line.strip())}. Every line must be one JSON "
            f"object. Correct or remove the line."
        )
    if isinstance(row, dict):
        return row
    return DataError(f"{place}: expected a JSON object, found {shown(line.strip())}.")


def read_json(path: Path, wanted: Sequence[str], on_bad: OnBad) -> Iterator[Placed]:
    """A list of objects, or one object a line: the first character says which."""
    first = next((line for _, line in lines_of(path) if isinstance(line, str) and line.strip()), "")
    if not first.lstrip().startswith("["):
        yield from read_json_lines(path, wanted, on_bad)
        return
    try:
        table = json.loads(open_text(path).removeprefix("\ufeff"))
    except NOT_JSON as error:
        raise DataError(
            f"{path}: not a JSON list ({str(error) or type(error).__name__}). Its rows cannot be "
            f"told apart. Correct it, or convert it to .jsonl: there a broken row costs one row."
        ) from error
    for number, row in enumerate(table, start=1):
        if isinstance(row, dict):
            yield f"row {number}", row
        else:
            on_bad(DataError(f"{path}, row {number}: expected an object, found {shown(row)}."))


def read_csv(path: Path, wanted: Sequence[str], on_bad: OnBad) -> Iterator[Placed]:
    """Comma-separated text under a line of column names; blank lines are nothing.

    Raises:
        DataError: there are no column names or one stands twice, or a quotation is wrong or never
            closed, or one over several lines does not give as many values as there are names:
            where the rows around it begin and end is then unknown.
    """
    del wanted  # a line is read whole
    csv.field_size_limit(LONGEST_FIELD)  # of the process; its default is 128 KiB
    rows = csv.reader(_text_lines(path), strict=True)
    names: list[str] | None = None
    while True:
        place = f"line {rows.line_num + 1}"
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise DataError(
                f"{path}, {place}: a quotation that begins here is wrong or never closed "
                f"({error}), so the rows from here on cannot be told apart, and none of them can "
                f"be left out alone. Correct it, or convert the file to .jsonl."
            ) from error
        if row is None:
            return
        if names is None:
            names = _column_names(path, row)
        elif row:
            value = _named(names, row, f"{path}, {place}")
            if isinstance(value, DataError):
                (on_bad if place == f"line {rows.line_num}" else raised)(value)
            else:
                yield place, value


def _text_lines(path: Path) -> Iterator[str]:
    """Lines for the csv reader, in which a value may go on."""
    for _, line in lines_of(path):
        if isinstance(line, DataError):
            raise line
        yield line


def _column_names(path: Path, names: list[str]) -> list[str]:
    if len(set(names)) < len(names) or not all(names):
        raise DataError(
            f"{path}, line 1: expected the columns' names, each once; found {shown(names)}. "
            f"A value's column would be unknown. Write the names into the first line."
        )
    return names


def _named(names: list[str], row: list[str], place: str) -> Mapping[str, Any] | DataError:
    if len(row) == len(names):
        return dict(zip(names, row, strict=True))
    return DataError(f"{place}: expected {len(names)} values, found {len(row)}: {shown(row)}.")


def read_parquet(path: Path, wanted: Sequence[str], on_bad: OnBad) -> Iterator[Placed]:
    """A parquet file, in pieces; only the columns that are wanted.

    Raises:
        DataError: the file is damaged or no parquet at all.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        with ParquetFile(path) as file:
            columns = kept_columns(file.schema_arrow.names, wanted)
            for batch in file.iter_batches(batch_size=1024, columns=columns):
                for at in range(batch.num_rows):
                    number += 1
                    try:
                        (value,) = batch.slice(at, 1).to_pylist()
                    except (ValueError, OverflowError, RecursionError) as error:
                        on_bad(DataError(f"{path}, row {number}: cannot be read ({error})."))
                        continue
                    yield f"row {number}", value
    except (OSError, ValueError, MemoryError, pyarrow.ArrowException) as error:
        raise DataError(
            f"{path} cannot be read as a parquet file (after row {number}: {error}). Fetch the "
            f"file again or convert it."
        ) from error


def kept_columns(names: Sequence[str], wanted: Iterable[str]) -> list[str]:
    """The columns that hold what is wanted; all if something is missing, so that a message can say.

    Example:
        >>> kept_columns(["id", "gemma-2.5", "said"], ["said", "gemma-2.5.content"])
        ['gemma-2.5', 'said']
        >>> kept_columns(["id", "said"], ["asked"])
        ['id', 'said']
    """
    kept = set()
    for path in wanted:
        found = {name for name in names if path == name or path.startswith(f"{name}.")}
        if not found:
            return list(names)
        kept |= found
    return [name for name in names if name in kept]


READERS: Mapping[str, Callable[[Path, Sequence[str], OnBad], Iterator[Placed]]] = {
    ".jsonl": read_json_lines,
    ".json": read_json,
    ".csv": read_csv,
    ".parquet": read_parquet,
}


def kind_of(path: str) -> str | None:
    """The reader's name for a path, by its ending; None if there is none.

    Example:
        >>> kind_of("rows.jsonl.gz"), kind_of("rows.parquet"), kind_of("rows.parquet.gz")
        ('.jsonl', '.parquet', None)
    """
    suffix = Path(path.removesuffix(".gz")).suffix
    packed_table = suffix == ".parquet" and path.endswith(".gz")
    return suffix if suffix in READERS and not packed_table else None
