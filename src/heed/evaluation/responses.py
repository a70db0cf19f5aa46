"""A file of responses, made anywhere, stands in for a model: an answer for each item of a task."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heed.core.component import nearest
from heed.core.errors import DataError
from heed.core.types import Answer, Item
from heed.data.tables import numbered_json_lines
from heed.evaluation.task import item_key

MISSING = "missing: no row for the prompt, scored as failed"
NULL = "null response, scored as failed"
BLANK = "blank response, scored as failed"
STRAY = "row without a prompt in this task, left out"
OTHER_TEXT = "made for another text of the prompt, scored all the same"
BROKEN_TEXT = "half a character (lone surrogate) in the response, replaced by U+FFFD"

SHOWN = 10
"""Most keys that a note names."""


@dataclass(frozen=True)
class Given:
    """What a file of responses gives to a task.

    Attributes:
        answers: Key -> answer, for every item; text None where the file has none or null.
        events: What happened -> how often: the rows of the file, and all that is out of the
            ordinary.
        notes: For each such event, which keys (or lines) it is about, at most ten of them.
    """

    answers: Mapping[str, Answer]
    events: Mapping[str, int]
    notes: list[str]


@dataclass(frozen=True)
class _Row:
    """One line of the file."""

    line: int
    key: str | None
    prompt: str | None
    response: str | None

    @property
    def name(self) -> str:
        return f"line {self.line}" if self.key is None else f"{self.key} (line {self.line})"


def read_responses(path: Path, items: Sequence[Item]) -> Given:
    """Find the response to each item in a file of JSON objects.

    A row belongs to the item with its `key`; where no item has it, to the item with its `prompt`
    (blanks around it do not matter). Keys are compared as text, so that 1000 is "1000".

    Args:
        path: A .jsonl or .jsonl.gz file; rows have `key` or `prompt`, and `response` (text, or
            null for none).
        items: All items of the task.

    Raises:
        DataError: the file cannot be read, a row is malformed, an item has two rows, or no row
            belongs to any item; the message names the file and the line.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "said.jsonl"
        >>> _ = file.write_text('{"key": 7, "response": "Yes."}')
        >>> read_responses(file, [Item("7", "Ask."), Item("8", "Ask on.")]).answers["7"].text
        'Yes.'
    """
    matched, happened = _match(path, items)
    answers = {}
    for item in items:
        row = matched.get(item.key)
        text = row.response if row is not None else None
        kind = _kind(row)
        if kind is not None:
            happened.append((kind, item.key))
        if text is not None and (whole := _without_surrogates(text)) != text:
            happened.append((BROKEN_TEXT, item.key))
            text = whole
        answers[item.key] = Answer(text, 0, None)
    rows = len(matched) + sum(kind == STRAY for kind, _ in happened)
    events = {"rows in the file": rows, **Counter(kind for kind, _ in happened)}
    return Given(answers, events, _notes(happened))


def _match(path: Path, items: Sequence[Item]) -> tuple[dict[str, _Row], list[tuple[str, str]]]:
    """Item key -> its row; and what is to be said about the rows."""
    matched: dict[str, _Row] = {}
    happened = []
    find = _Finder(path, items)
    for row in _rows(path):
        item = find(row)
        if item is None:
            happened.append((STRAY, row.name))
            continue
        if (first := matched.get(item.key)) is not None:
            raise DataError(
                f"{path}, line {row.line}: prompt {item.key} has a response in line {first.line} "
                f"already, and only one of them can be scored. Remove the other."
            )
        if row.prompt is not None and row.prompt.strip() != item.prompt.strip():
            happened.append((OTHER_TEXT, row.name))
        matched[item.key] = row
    _refuse_nothing(path, matched, happened, items)
    return matched, happened


class _Finder:
    """Finds the item that a row belongs to."""

    def __init__(self, path: Path, items: Sequence[Item]):
        self._path = path
        self._by_key = {item.key: item for item in items}
        self._by_prompt: dict[str, list[Item]] = {}
        for item in items:
            self._by_prompt.setdefault(item.prompt.strip(), []).append(item)

    def __call__(self, row: _Row) -> Item | None:
        named = None if row.key is None else self._by_key.get(row.key)
        said = [] if row.prompt is None else self._by_prompt.get(row.prompt.strip(), [])
        if named is None:
            if len(said) > 1:
                raise DataError(
                    f"{self._path}, line {row.line}: {len(said)} prompts of the task have this "
                    f"text, so it is not clear which one is answered. Give the rows their keys."
                )
            return said[0] if said else None
        if said and named not in said:
            raise DataError(
                f"{self._path}, line {row.line}: the key {row.key} is that of one prompt, and the "
                f"text that of another ({said[0].key}), so it is not clear which one is answered. "
                f"Correct the keys, or leave them out."
            )
        return named


def _refuse_nothing(
    path: Path,
    matched: Mapping[str, _Row],
    strays: Sequence[tuple[str, str]],
    items: Sequence[Item],
) -> None:
    """Refuse a file of which no row belongs to the task."""
    if matched:
        return
    if not strays:
        raise DataError(
            f"{path} holds no responses, so there is nothing to score. Give a file with one JSON "
            f"object a line: key or prompt, and response."
        )
    raise DataError(
        f"None of the {len(strays)} rows of {path} belongs to a prompt of this task: the first is "
        f"{strays[0][1]}, and the task's first key is {items[0].key}. Score it with the suite, or "
        f"the prompts=<file>, that the responses were made for."
    )


def _rows(path: Path) -> Iterator[_Row]:
    """The rows of the file, checked."""
    if not os.path.isfile(path):  # unlike Path.is_file, for names of any length
        raise DataError(
            f"There is no file of responses {path} (looked in {Path.cwd()}). Give "
            f"responses=<file.jsonl>, one JSON object a line: key or prompt, and response."
        )
    for number, found in numbered_json_lines(path):
        yield _row(f"{path}, line {number}", number, found)


def _row(where: str, number: int, found: Mapping[str, Any]) -> _Row:
    key, prompt = _key(where, found), _text(where, found, "prompt")
    if key is None and prompt is None:
        raise DataError(
            f"{where}: the row has neither key nor prompt ({_fields(found)}), so it is not clear "
            f"what it answers. Add one of them."
        )
    if "response" not in found:
        raise DataError(
            f"{where}: the row has no response ({_fields(found)}), so there is nothing to score. "
            f"{nearest('response', list(found))} Call the field response; null stands for none."
        )
    return _Row(number, key, prompt, _text(where, found, "response"))


def _fields(found: Mapping[str, Any]) -> str:
    return f"its fields: {', '.join(map(repr, found)) or 'none'}"[:200]


def _key(where: str, found: Mapping[str, Any]) -> str | None:
    key = found.get("key")
    return None if key is None else _without_surrogates(item_key(where, key))


def _text(where: str, found: Mapping[str, Any], field: str) -> str | None:
    text = found.get(field)
    if text is None or isinstance(text, str):
        return text
    raise DataError(
        f"{where}: {field} is {text!r:.60}, which is not text. Give the text itself, or null."
    )


def _kind(row: _Row | None) -> str | None:
    """What is to be said about an item's response, if anything."""
    if row is None:
        return MISSING
    if row.response is None:
        return NULL
    return None if row.response.strip() else BLANK


def _without_surrogates(text: str) -> str:
    """The text as UTF-8 can hold it.

    Example:
        >>> _without_surrogates("a" + chr(0xD800) + "b") == "a" + chr(0xFFFD) + "b"
        True
    """
    return "".join(chr(0xFFFD) if 0xD800 <= ord(c) <= 0xDFFF else c for c in text)


def _notes(happened: Sequence[tuple[str, str]]) -> list[str]:
    """One line per kind of event, with the first of the keys concerned."""
    by_kind: dict[str, list[str]] = {}
    for kind, name in happened:
        by_kind.setdefault(kind, []).append(name)
    return [
        f"{kind}: {', '.join(names[:SHOWN])}" + (", ..." if len(names) > SHOWN else "")
        for kind, names in by_kind.items()
    ]
