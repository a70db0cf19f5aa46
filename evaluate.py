"""One suite over one subject: a student, a run, responses, a control; two compared; a chat.

python evaluate.py model=nano suite=play
python evaluate.py run=<id, name or directory> suite=ifeval
python evaluate.py compare=[<run>,<run>] suite=play
python evaluate.py run=<id, name or directory> analysis=forgetting suite=forgetting
python evaluate.py --help
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from heed.core.check import main

if TYPE_CHECKING:
    from heed.study.evaluation import Evaluation


@main("evaluate")
def evaluate(command: Evaluation) -> None:
    """Score what the command is about; scores already made are shown."""
    from heed.study.evaluation import run_evaluation

    run_evaluation(command)


if __name__ == "__main__":
    evaluate()
