"""What ran on what: everything about a run that is not in its id but that a reader may ask for."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
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
    """Commit of heed's own checkout, with `+changes` if files differ; `installed` outside one."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return "installed"

    def git(*words: str) -> str:
        line = ["git", "-C", str(root), *words]
        return subprocess.run(line, capture_output=True, text=True).stdout.strip()  # noqa: S603

    commit = git("rev-parse", "--short=12", "HEAD") or "no commit"
    return commit + ("+changes" if git("status", "--porcelain") else "")
