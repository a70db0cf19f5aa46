"""One suite over an untuned student; its scores are kept and shared by every run.

python evaluate.py model=nano suite=play
python evaluate.py --help
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from heed.core.check import main

if TYPE_CHECKING:
    from heed.study.evaluation import Evaluation


@main("evaluate")
def evaluate(command: Evaluation) -> None:
    """Score one student; scores already made are shown."""
    from heed.study.evaluation import run_evaluation

    run_evaluation(command)


if __name__ == "__main__":
    evaluate()
