"""What ran on what: everything about a run that is not in its id but that a reader may ask for."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

from heed.core.console import visible
from heed.core.identity import versions


def manifest() -> dict[str, Any]:
    """Versions, machine, code state and time, as plain JSON data."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "versions": versions(),
        "code": code_state(),
        "command": [visible(word) for word in (Path(sys.argv[0]).name, *sys.argv[1:])],
    }


def code_state() -> str:
    """Which code of heed this is: `<commit> source <digest>`; `installed` outside a checkout.

    Two states with the same digest run the same code, whatever else their commits differ in.
    """
    package = Path(__file__).parents[1]
    root = package.parents[1]
    commit = _commit(root) if (root / ".git").exists() else "installed"
    return f"{commit} {SOURCE} {_source_digest(package)}"


def same_code(one: str, two: str) -> bool:
    """Whether two `code_state` are of the same source.

    Example:
        >>> same_code("4f1 source 1a2b", "c0d source 1a2b"), same_code("4f1", "c0d source 1a2b")
        (True, False)
    """
    return one.rpartition(f" {SOURCE} ")[2] == two.rpartition(f" {SOURCE} ")[2]


SOURCE = "source"


def _commit(root: Path) -> str:
    line = ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(line, capture_output=True, text=True).stdout.strip() or "no commit"  # noqa: S603


@cache
def _source_digest(package: Path) -> str:
    """First 8 hex digits of the SHA-256 of all modules, by name and content."""
    whole = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        whole.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes() + b"\0")
    return whole.hexdigest()[:8]
