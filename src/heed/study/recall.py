"""The plan of a study as it was made last: read again where all that decides it is as it was.

To compose and identify a cell takes a third of a second, and a look at a big study would take
minutes. What is run is always planned anew.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from heed.core.component import build, plain
from heed.core.errors import HeedError
from heed.core.files import read_json, write_json, write_text
from heed.core.identity import short_hash, versions
from heed.core.manifest import code_state, same_code
from heed.study.plan import PlannedCell

FILE = "plan.json"
COLUMNS = ("student", "teacher", "method", "lr", "lr_peak", "seed", "run", "suite")
ENVIRONMENT = re.compile(rb"\$\{oc\.env:(\w+)")


def keep_plan(
    directory: Path, cells: Sequence[PlannedCell], conf: Path, typed: Sequence[str]
) -> None:
    """Write `plan.json`, to be recalled, and `plan.csv`, to be read.

    Args:
        directory: Of the study.
        cells: Of the plan.
        conf: The config tree.
        typed: Overrides that hold for all cells.
    """
    rows = [
        {
            "overrides": list(one.overrides),
            "key": list(one.key),
            "baseline": str(one.baseline),
            "beside": one.beside,
            "cell": plain(one.cell),
        }
        for one in cells
    ]
    made = {"made": time.strftime("%Y-%m-%d %H:%M:%S"), "code": code_state()}
    files = _stamps(_leaves([row["cell"] for row in rows]))
    decides = {"of": _decides(conf, typed), "files": files}
    write_json(directory / FILE, made | decides | {"cells": rows})
    write_text(directory / "plan.csv", _csv(cells))


def cells_left_out(directory: Path, cells: Sequence[PlannedCell]) -> int:
    """How many cells of the plan that was kept last are none of these.

    Args:
        directory: Of the study.
        cells: Of the plan that is to be kept now.
    """
    try:
        before = {tuple(row["key"]) for row in read_json(directory / FILE)["cells"]}
    except (OSError, ValueError, KeyError, TypeError):
        return 0  # none was kept, or it is damaged
    return len(before - {one.key for one in cells})


def recall_plan(
    directory: Path, conf: Path, typed: Sequence[str]
) -> tuple[list[PlannedCell], str] | None:
    """The cells of the last plan, and when it was made; None if anything has changed since.

    Args:
        directory: Of the study.
        conf: The config tree.
        typed: Overrides that hold for all cells.
    """
    try:
        found = read_json(directory / FILE)
        of_this = same_code(found["code"], code_state()) and found["of"] == _decides(conf, typed)
        if not of_this or found["files"] != _stamps(found["files"]):
            return None
        return [_planned(row) for row in found["cells"]], str(found["made"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, HeedError):
        return None  # of another heed, or damaged: it is made again


def _planned(row: Mapping[str, Any]) -> PlannedCell:
    run, suite = row["key"]
    overrides, baseline = tuple(row["overrides"]), Path(row["baseline"])
    return PlannedCell(overrides, build(row["cell"]), (run, suite), baseline, row["beside"])


def _decides(conf: Path, typed: Sequence[str]) -> str:
    """A hash of all that makes a plan, but for code and data."""
    whole, named = hashlib.sha256(), set()
    for path in sorted(conf.rglob("*.yaml")):
        content = path.read_bytes()
        named.update(ENVIRONMENT.findall(content))
        whole.update(f"{path.relative_to(conf)}\0".encode() + content + b"\0")
    named.update(ENVIRONMENT.findall("\n".join(typed).encode()))
    environment = {name: os.environ.get(name) for name in sorted(n.decode() for n in named)}
    place = {"folder": str(Path.cwd()), "environment": environment}
    return short_hash(
        {"conf": whole.hexdigest(), "typed": list(typed), "versions": versions(), **place}
    )


def _leaves(node: Any, at: str = "") -> set[str]:
    """Every text of a config that names a file or folder to be read."""
    if isinstance(node, Mapping):
        return set().union(*(_leaves(v, k) for k, v in node.items() if k != "outputs"))
    if isinstance(node, list | tuple):
        return set().union(*(_leaves(item) for item in node))
    is_name = isinstance(node, str) and "\n" not in node and 0 < len(node) < 1024
    if not is_name or not os.path.exists(node):
        return set()
    around = (Path.cwd(), *Path.cwd().parents)  # no data: a word that happens to name a folder
    return set() if Path(node).resolve() in around else {node}


def _stamps(paths: Sequence[str] | set[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Path -> size and time of last change, of all files below a folder."""
    return {
        name: sorted([str(file), *_stamp(file)] for file in _files(Path(name)))
        for name in sorted(paths)
    }


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (file for file in path.rglob("*") if file.is_file())
    elif path.is_file():
        yield path


def _stamp(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def _csv(cells: Sequence[PlannedCell]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*COLUMNS, "command"])
    for one in cells:
        names = one.names
        table.writerow([*(names[column] for column in COLUMNS), one.command])
    return text.getvalue()
