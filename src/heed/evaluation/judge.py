"""A judge says which of two responses to an instruction is better; recorded ones are looked up."""

from __future__ import annotations

import csv
import io
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from heed.core.component import component, nearest
from heed.core.errors import DataError
from heed.core.files import digest_file
from heed.core.identity import Incidental, short_hash
from heed.data.tables import json_lines, need_file, open_text

UNREAD = "judgement that could not be read, no score"
OTHER_TEXT = "no judgement of this very response, no score"
NOT_RECORDED = "no judgement on record, no score"

Scale = Literal["0 to 1", "1 to 2"]
"""What a recorded preference for the reference and one for the response are written as."""


class Pairwise(NamedTuple):
    """What a judge is shown.

    Attributes:
        key: Of the instruction.
        instruction: What was asked.
        reference: The response that all others are compared with.
        response: The one that is judged.
    """

    key: str
    instruction: str
    reference: str
    response: str


@dataclass(frozen=True)
class Judgement:
    """What a judge says of a pair.

    Attributes:
        preference: From 0 (the reference is better) to 1 (the response is), 0.5 for a tie; None if
            there is none: it is counted, and never a score.
        missing: Why there is none.
        replies: What the judge wrote, one per question.
        orders: Whether the reference stood first, one per question.
        read: Tokens that it was charged for reading.
        written: Tokens that it was charged for writing.
        served: What the endpoint calls the model that replied.
        kept: Replies that were on disk from before, and not asked (and paid) for again.
        swayed: Whether the verdict went with the place of a response, not with the response.
    """

    preference: float | None
    missing: str | None = None
    replies: tuple[str, ...] = ()
    orders: tuple[bool, ...] = ()
    read: int = 0
    written: int = 0
    served: tuple[str, ...] = ()
    kept: int = 0
    swayed: bool = False


class Judge(ABC):
    """What says which of two responses is better; an option of `conf/judge/<name>.yaml`."""

    @abstractmethod
    def judge(self, pair: Pairwise) -> Judgement:
        """Compare the two responses of a pair.

        Raises:
            RunError: it cannot be asked.
            DataError: what is on record is damaged.
        """


@component
class Recorded(Judge):
    """Judgements that were made before: a table with a line per instruction, a column per model.

    A judgement belongs to the text that was judged. Any other response has none, and is counted.
    """

    path: Annotated[str, Incidental]
    """The table, .csv or .csv.gz; its first column holds the instructions' keys."""

    model: str
    """The column."""

    scale: Scale
    """How the table writes a preference."""

    outputs: Annotated[str, Incidental]
    """What was judged: a .jsonl or .jsonl.gz file with instruction and output."""

    def digest(self) -> str:
        """Hash of the table and of what was judged."""
        files = (need_file(self.path, "judgements"), need_file(self.outputs, "judged responses"))
        return short_hash([digest_file(file) for file in files])

    def judge(self, pair: Pairwise) -> Judgement:
        """What the table says, if this very response was judged."""
        if self._judged.get(pair.instruction) != pair.response:
            return Judgement(None, OTHER_TEXT)
        found = self._preferences.get(pair.key)
        return Judgement(found, None if found is not None else NOT_RECORDED)

    @cached_property
    def _preferences(self) -> Mapping[str, float | None]:
        columns = read_preferences(Path(self.path), self.scale)
        if self.model not in columns:
            raise DataError(
                f"{self.path} has no judgements of {self.model!r}. "
                f"{nearest(self.model, list(columns))} It has: {', '.join(columns)}."
            )
        return columns[self.model]

    @cached_property
    def _judged(self) -> Mapping[str, str]:
        path = need_file(self.outputs, f"responses of {self.model} that were judged")
        return outputs_of(path)


def read_preferences(path: Path, scale: Scale) -> dict[str, dict[str, float | None]]:
    r"""A table of preferences: model -> key -> preference from 0 to 1, or None where it has none.

    Args:
        path: A .csv or .csv.gz file; the first column holds keys, every other one a model's.
        scale: How the table writes a preference.

    Raises:
        DataError: the file is missing or damaged, a key stands there twice, or a preference is no
            number or not on the scale; the message names the line.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "said.csv"
        >>> _ = file.write_text("idx,small,large\n0,1.25,2\n1,,1.5\n")
        >>> read_preferences(file, "1 to 2")["small"]
        {'0': 0.25, '1': None}
    """
    lines = csv.reader(io.StringIO(open_text(need_file(str(path), "judgements"))))
    names = next(lines, [])[1:]
    if not names or len(set(names)) != len(names):
        raise DataError(
            f"{path}: the first line names the models {names!r:.80}, which are none, or the same "
            f"twice. Give a key and one column for each model."
        )
    found: dict[str, dict[str, float | None]] = {name: {} for name in names}
    for number, line in enumerate(lines, start=2):
        if len(line) != len(names) + 1 or line[0] in found[names[0]]:
            raise DataError(
                f"{path}, line {number}: {len(line)} values for {len(names) + 1} columns, or the "
                f"key {line[:1]} for the second time. Give each instruction one line."
            )
        for name, value in zip(names, line[1:], strict=True):
            found[name][line[0]] = _preference(f"{path}, line {number}, {name}", value, scale)
    return found


def outputs_of(path: Path) -> dict[str, str]:
    """The responses of a model in AlpacaEval's layout: instruction -> output.

    Raises:
        DataError: a row lacks one of the two, or an instruction stands there twice.
    """
    found: dict[str, str] = {}
    for row in json_lines(path):
        instruction, output = row.get("instruction"), row.get("output")
        if not (isinstance(instruction, str) and isinstance(output, str)) or instruction in found:
            raise DataError(
                f"{path}: a row with the fields {', '.join(map(str, row))} lacks instruction or "
                f"output as text, or its instruction stands there twice "
                f"({str(instruction)!r:.60}). Give each instruction one output."
            )
        found[instruction] = output
    return found


def _preference(where: str, value: str, scale: Scale) -> float | None:
    """A value of the table as a share; nothing, or nan, is none."""
    if value.strip().lower() in ("", "nan"):
        return None
    try:
        number = float(value) - (scale == "1 to 2")
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise DataError(
            f"{where}: {value!r:.40} is no preference on the scale {scale}. Correct the table, or "
            f"the scale; leave the value empty where there is no judgement."
        )
    return number
