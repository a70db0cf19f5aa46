"""One study: plan, show, run what the ledger lacks, report.

python sweep.py study=playground
python sweep.py --help
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from heed.core.check import main

if TYPE_CHECKING:
    from heed.study.study import Sweep


@main("sweep")
def sweep(command: Sweep) -> None:
    """Run one study; a finished one only writes its page again."""
    from heed.study.sweep import run_sweep

    run_sweep(command, Path(__file__).resolve().parent)


if __name__ == "__main__":
    sweep()
