"""Values that an option of the config tree leaves open: in which file each is to be written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from heed.core.errors import Mistake

OPEN = "???"
"""Stands in a file of the config tree for a value that nobody can guess."""


def in_its_file(mistake: Mistake, line: Sequence[str], conf: Path) -> Mistake:
    """The same mistake; of a value that an option leaves open, with the file to write it into.

    Args:
        mistake: One of a cell.
        line: Overrides of that cell.
        conf: The config tree.
    """
    group = mistake.where.partition(".")[0]
    (*_, option) = ["", *(text for text in line if text.startswith(f"{group}="))]
    if mistake.found != "nothing" or not option or mistake.where == group:
        return mistake
    own = f"{option.replace('=', '/')}.yaml"
    file = f"conf/{next(_open_in(conf, own), own)}"
    return replace(mistake, why=f"{file} leaves it open.", action=f"Write it into {file}.")


def _open_in(conf: Path, file: str) -> Iterator[str]:
    """Files that leave a value open: an option's own, and those that it takes from other groups."""
    text = (conf / file).read_text(encoding="utf-8")
    if OPEN in text:
        yield file
    for default in yaml.safe_load(text).get("defaults", ()):
        for group, name in default.items() if isinstance(default, dict) else ():
            other = f"{group.partition('@')[0].strip('/')}/{name}.yaml"
            if (conf / other).is_file():
                yield from _open_in(conf, other)
