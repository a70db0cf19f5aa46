"""What a measurement of the training benchmark says, and its tables. Nothing here needs torch."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from train_rows import Task, work_of

MIXED = 1e-3
"""Log-probabilities of a document may differ so much from those of the document alone."""


@dataclass
class Measured:
    """The repeats of one task.

    Attributes:
        task: It.
        runs: What `train_child.py` printed, one for each repeat.
        failed: The last line of an error; empty if every repeat went through.
    """

    task: Task
    runs: list[Mapping[str, Any]] = field(default_factory=list)
    failed: str = ""

    def rate(self, *, supervised: bool, cpu: bool) -> float:
        """Median over the repeats of tokens per second, of the clock or of the processor.

        The first step is not in it: it ends at the first mark.
        """
        return statistics.median(
            (run["marks"][-1][2 + supervised] - run["marks"][0][2 + supervised])
            / (run["marks"][-1][cpu] - run["marks"][0][cpu])
            for run in self.runs
        )

    @property
    def speed(self) -> float:
        """Supervised tokens per second of the processor; of the clock on CUDA."""
        return self.rate(supervised=True, cpu=self.task.device == "cpu")

    @property
    def peak(self) -> float:
        """Median of the peak memory, in MiB."""
        return statistics.median(run["peak"] for run in self.runs) / 2**20

    @property
    def fault(self) -> str:
        """What makes the way no correct training; empty if it is one."""
        cut = sum(run.get("cut", 0) for run in self.runs)
        mixed = max(run.get("mixed", 0.0) for run in self.runs)
        return "cuts" * bool(cut) + "+" * (bool(cut) and mixed > MIXED) + "mixes" * (mixed > MIXED)

    def share(self, matmul: Mapping[str, float]) -> float:
        """Of the measured rate of a matrix product, in the precision of the way."""
        total = self.rate(supervised=False, cpu=self.task.device == "cpu")
        return (
            work_of(self.task)
            * total
            / matmul["fp32" if self.task.way.precision == "fp32" else "bf16"]
        )


def table(found: Sequence[Measured], unit: float, matmul: Mapping[str, float]) -> str:
    """One line for each way.

    Args:
        found: The ways.
        unit: The speed that counts as 1.
        matmul: Operations per second of a large product, by precision.
    """
    head = (
        f"{'way':34} {'tok/s':>8} {'sup/s':>8} {'tok/cpu s':>9} {'sup/cpu s':>9} {'ratio':>6} "
        f"{'MiB':>7} {'matmul':>7}  fault"
    )
    return "\n".join([head, *(_line(one, unit, matmul) for one in found)])


def _line(one: Measured, unit: float, matmul: Mapping[str, float]) -> str:
    if not one.runs:
        return f"{one.task.way.name:34} failed: {one.failed}"
    rates = [one.rate(supervised=s, cpu=c) for c in (False, True) for s in (False, True)]
    return (
        f"{one.task.way.name:34} {rates[0]:8.0f} {rates[1]:8.0f} {rates[2]:9.0f} {rates[3]:9.0f} "
        f"{one.speed / unit:6.2f} {one.peak:7.0f} {one.share(matmul):7.1%}  "
        f"{one.failed or one.fault or '-'}"
    )


def best_correct(found: Sequence[Measured]) -> Measured:
    """The fastest way that neither cuts documents nor lets them see each other."""
    return max((one for one in found if one.runs and not one.fault), key=lambda one: one.speed)


def verdicts(
    heed: Measured, bare: Measured, peers: Mapping[str, tuple[Measured, float]]
) -> list[tuple[str, float, float, bool]]:
    """What is asked of heed on a CPU: name, found, asked, whether it is reached.

    Args:
        heed: Its fastest way.
        bare: A loop over the same model and plan, in the same precision.
        peers: Name -> a setting of TRL, and how many times its speed is asked; of each no more
            memory than it takes is asked too.
    """
    over = [
        (f"supervised tokens/s, heed / {name}", heed.speed / peer.speed, asked)
        for name, (peer, asked) in peers.items()
    ]
    over.append(
        ("Lightning + heed / a bare loop over the same plan", heed.speed / bare.speed, 0.95)
    )
    under = [
        (f"peak memory, heed / {name}", heed.peak / peer.peak, 1.0)
        for name, (peer, _) in peers.items()
    ]
    return [(name, found, asked, found >= asked) for name, found, asked in over] + [
        (name, found, asked, found <= asked) for name, found, asked in under
    ]
