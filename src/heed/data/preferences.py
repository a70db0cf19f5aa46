"""Recorded preferences of a judge, and the responses that were judged, as files."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from heed.core.errors import DataError
from heed.data.tables import json_lines, need_file, numbered_json_lines, open_text, shown

Scale = Literal["0 to 1", "1 to 2"]
"""What a recorded preference for the reference and one for the response are written as."""


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


def keys_of(path: Path) -> dict[str, str]:
    """What was judged, in AlpacaEval's layout: instruction -> its key in the table.

    Raises:
        DataError: a row lacks one of the two, or an instruction or a key stands there twice; the
            message names the line.
    """
    found: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, row in numbered_json_lines(path):
        instruction = row.get("instruction")
        if wrong := _wrong_key(row, found, lines):
            raise DataError(
                f"{path}, line {number}: {str(instruction)!r:.60} {wrong}, so its judgements "
                f"cannot be found in the table. Give each instruction one line with idx, its key "
                f"in the table's first column, and instruction, its text."
            )
        key = str(row["idx"])
        found[str(instruction)], lines[key] = key, number
    return found


def _wrong_key(row: Mapping[str, Any], found: Mapping[str, str], lines: Mapping[str, int]) -> str:
    """Why a row is no instruction with a key of its own; empty if it is."""
    key, instruction = row.get("idx"), row.get("instruction")
    lacks = [name for name in ("idx", "instruction") if row.get(name) is None]
    if lacks:
        return f"lacks {' and '.join(lacks)}"
    if isinstance(key, bool) or not isinstance(key, int | str):
        return f"has the idx {shown(key)}, which must be a whole number or a text"
    if not isinstance(instruction, str):
        return "is no text"
    if instruction in found:
        return "stands there twice"
    return f"has the key {key} of line {lines[str(key)]}" if str(key) in lines else ""


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
