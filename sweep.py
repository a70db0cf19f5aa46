"""One study: plan, show, run what the ledger lacks, report.

python sweep.py study=playground
python sweep.py --help
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from heed.core.check import main

if TYPE_CHECKING:
    from heed.study.study import Sweep


@main("sweep")
def sweep(command: Sweep) -> None:
    """Hydra hands a study to its sweeper, which runs the cells one by one or side by side."""
    from heed.study.start import needs_sweeper

    needs_sweeper(command)


if __name__ == "__main__":
    sweep()
