"""Tokens kept on disk under the hash of everything that makes them, and mapped into memory."""

from __future__ import annotations

import hashlib
import inspect
import json
import mmap
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

from heed.core.console import progress_console
from heed.core.errors import DataError
from heed.core.files import read_json, whole_directory, write_json
from heed.core.identity import canonical, short_hash, versions
from heed.core.locks import lock
from heed.core.ranks import leader_first
from heed.core.types import ChatTemplate, Rendered, RowSource, Span
from heed.data.dataset import Dataset, Gathered, dataset_of, tokens_of
from heed.data.encode import Encoder, encode_into
from heed.data.spelling import forget_limits
from heed.data.treatment import Treatment

FILES = ("ids.bin", "mask.bin", "names.bin", "table.bin")
ENCODING = (
    "max_tokens",
    "over_long",
    "on_bad_row",
    "duplicates",
    "loss_on",
    "validation_share",
    "limit",
)
"""Fields of a treatment that decide what is kept; the others say what is done with it."""

SAY = progress_console()


class Shelf(NamedTuple):
    """Where the tokens of some source are kept.

    Attributes:
        root: Of the outputs.
        about: What makes the tokens, as plain data.
    """

    root: Path
    about: dict[str, Any]

    @property
    def name(self) -> str:
        """The hash of what makes the tokens."""
        return short_hash(self.about)

    @property
    def directory(self) -> Path:
        """Of the tokens."""
        return self.root / "cache" / "tokens" / self.name

    @property
    def lock(self) -> Path:
        """Held by the process that makes them."""
        return self.root / "locks" / f"tokens-{self.name}"


def shelf_of(source: RowSource, encoder: Encoder, root: Path) -> Shelf:
    """Where the tokens of a source belong: another place if anything that makes them differs."""
    treatment = encoder.treatment
    return Shelf(
        root,
        {
            "source": canonical(source),
            "name": source.name,
            "template": canonical(encoder.template),
            "tokenizer": tokenizer_digest(encoder.tokenizer),
            "treatment": {name: getattr(treatment, name) for name in ENCODING},
            "code": code_digest(source, encoder.template, treatment),
            "versions": {name: versions()[name] for name in ("heed", "tokenizers", "transformers")},
        },
    )


def tokenizer_digest(tokenizer: Any) -> str:
    """Changes whenever the tokenizer would spell a text otherwise."""
    if (fast := getattr(tokenizer, "backend_tokenizer", None)) is not None:
        forget_limits(tokenizer)
        said = fast.to_str()
    else:
        named = sorted(tokenizer.get_vocab().items())
        said = json.dumps([type(tokenizer).__name__, named, repr(tokenizer.init_kwargs)])
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def code_digest(*made: Any) -> str:
    """Changes with the code that reads, renders and encodes.

    It is that of this part, of everything given, and of everything that is a field of it: the
    source and the layout of a teacher, the teachers of a mix.
    """
    classes = {cls for each in made for part in _components(each) for cls in type(part).__mro__}
    named = {Path(inspect.getfile(cls)) for cls in classes if not _of_python(cls)}
    here = Path(__file__).parent
    files = sorted(named | set(here.glob("*.py")) | {here.parent / "core" / "types.py"})
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _components(value: Any) -> Iterator[Any]:
    """A component and all that it is made of, through fields, mappings and lists."""
    below: list[Any] = []
    if is_dataclass(value):
        yield value
        below = [getattr(value, field.name) for field in fields(value)]
    elif isinstance(value, Mapping):
        below = list(value.values())
    elif isinstance(value, list | tuple):
        below = list(value)
    for part in below:
        yield from _components(part)


def _of_python(cls: type) -> bool:
    """Whether a class comes with Python itself, whose version is not heed's."""
    module = cls.__module__.partition(".")[0]
    return module in sys.stdlib_module_names and module != "__main__"


def cached(
    source: RowSource,
    template: ChatTemplate,
    tokenizer: Any,
    treatment: Treatment,
    root: Path,
    *,
    workers: int | None = None,
) -> Dataset:
    """The encoded source, from disk if it has been encoded before; made by one process only.

    Of several ranks, which must all ask for it, that is the leader.

    Args:
        source: The rows.
        template: How they become text.
        tokenizer: How text becomes ids.
        treatment: What is dropped, cut and kept apart.
        root: Of the outputs.
        workers: Threads; None takes as many as there are cores for us.

    Raises:
        DataError: nothing is left to train on.
    """
    encoder = Encoder(template, tokenizer, treatment)
    shelf = shelf_of(source, encoder, root)

    def say_waiting() -> None:
        SAY.print("Another process makes these tokens; waiting.")

    with leader_first(), lock(shelf.lock, say_waiting):
        if (found := _read(shelf)) is not None:
            return found
        for left in shelf.directory.parent.glob(f".{shelf.name}.*"):  # of a process that was killed
            shutil.rmtree(left)
        _make(shelf, source, encoder, workers)
        made = _read(shelf)
    assert made is not None, f"{shelf.directory} does not hold what was just written"
    return made


def _make(shelf: Shelf, source: RowSource, encoder: Encoder, workers: int | None) -> None:
    """Encode the source into a directory that appears as a whole or not at all."""
    with whole_directory(shelf.directory) as beside:
        with ExitStack() as stack:
            files = [stack.enter_context((beside / name).open("wb")) for name in FILES]
            gathered = Gathered(files, len(encoder.tokenizer))
            events, sample = encode_into(
                gathered, source, encoder, workers=workers, on_progress=_progress(source.name)
            )
            for file in files:
                file.flush()
                os.fsync(file.fileno())
        record = {
            "about": shelf.about,
            "kind": gathered.kind,
            "bytes": {name: (beside / name).stat().st_size for name in FILES},
            "events": dict(events),
            "sample": sample,
        }
        write_json(beside / "about.json", record)


def _read(shelf: Shelf) -> Dataset | None:
    """What is on the shelf, mapped into memory; None if nothing is there.

    Raises:
        DataError: what is there is damaged.
    """
    directory = shelf.directory
    if not directory.is_dir():
        return None
    try:
        record = read_json(directory / "about.json")
        sizes = {name: (directory / name).stat().st_size for name in FILES}
        if sizes != record["bytes"]:
            raise ValueError(f"its files have {sizes} bytes, not {record['bytes']}")
        tokens = tokens_of([_mapped(directory / name) for name in FILES], record["kind"])
        sample = [
            (int(row), Rendered(text, *(tuple(Span(*span) for span in part) for part in spans)))
            for row, (text, *spans) in record["sample"]
        ]
        return dataset_of(tokens, Counter(record["events"]), sample)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"the tokens kept in {directory} are damaged ({type(error).__name__}: {error}), so "
            f"what would be trained on is not what was read. Remove that directory; the same "
            f"command makes it again."
        ) from error


def _mapped(path: Path) -> mmap.mmap | bytes:
    """A file's bytes, read when they are needed."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _progress(name: str, every: float = 5.0) -> Callable[[int], None]:
    """Prints how far a source is encoded, a line every few seconds."""
    begun = shown = time.monotonic()

    def say(rows: int) -> None:
        nonlocal shown
        if (now := time.monotonic()) - shown >= every:
            shown = now
            SAY.print(f"  {name}: {rows:,} rows tokenised, {rows / (now - begun):,.0f} rows/s")

    return say
