"""One run: compose, check, score before, tune, score after, record.

python train.py model=nano teacher=play_clear method=lora lr=play_reference
python train.py --help
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from heed.core.check import main

if TYPE_CHECKING:
    from heed.study.cell import Cell


@main("train")
def train(cell: Cell) -> float | None:
    """Run one cell; one of several (`-m`) in a process of its own."""
    from heed.study.start import start

    return start(cell)


if __name__ == "__main__":
    train()
