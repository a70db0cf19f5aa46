"""What looking at a command costs, beside importing Hydra alone.

    python bench/startup.py

Prints the median CPU seconds of five runs each, and the ratio to the import.
"""

import resource
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINES = {
    "import hydra": ["-c", "import hydra"],
    "train.py --help": ["train.py", "--help"],
    "train.py --cfg job": ["train.py", "--cfg", "job"],
    "sweep.py --help": ["sweep.py", "--help"],
    "one screen of three mistakes": ["train.py", "teacher=x", "lr.peek=1", "seed=one"],
}


def cpu_seconds(line: list[str]) -> float:
    """CPU seconds of one child process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *line], cwd=ROOT, capture_output=True)  # noqa: S603
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure in turn, so that a drift of the machine meets all alike."""
    rounds = [[cpu_seconds(line) for line in LINES.values()] for _ in range(6)][1:]
    medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
    for name, seconds in zip(LINES, medians, strict=True):
        print(f"{name:32} {seconds:5.2f} s  {seconds / medians[0]:5.1f} x import hydra")


if __name__ == "__main__":
    main()
