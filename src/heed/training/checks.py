"""What is proved before a training: a line each, collected, shown together, kept in the record."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from heed.core.console import progress_console, visible
from heed.core.errors import HeedError, RunError
from heed.training.run import Recipe

State = Literal["ok", "warn", "block", "left"]
"""Holds; is out of the ordinary; would ruin the run; is not proved here."""

Mode = Literal["block", "warn"]
"""What a proof that fails does: it ends the run, or is told, counted and flagged."""

SHOWN = {
    "ok": "ok   ",
    "warn": "warn  in doubt:",
    "block": "BLOCK fails:",
    "left": "left ",
}


class Check(NamedTuple):
    """One proof.

    Attributes:
        name: What should hold.
        state: Whether it does.
        line: What was found, with its number.
        advice: What to do, if it does not hold.
    """

    name: str
    state: State
    line: str
    advice: str = ""

    @property
    def text(self) -> str:
        """The line as it is shown.

        Example:
            >>> Check("the model is causal", "ok", "0 nats").text
            'ok    the model is causal: 0 nats'
        """
        said = f"{SHOWN[self.state]} {self.name}: {self.line}"
        return f"{said} {self.advice}" if self.advice and self.state != "ok" else said


@dataclass(frozen=True)
class Preflight:
    """What was proved before a training.

    Attributes:
        checks: All of them, in the order of the data flow.
        packed_difference: Largest difference of a token's loss, in nats, between what is trained
            and the model's own, document by document; None if that could not be computed.
        neighbour_effect: Largest change of a token's loss, in nats, when the documents beside it
            in its row change; 0 where each has a row of its own.
        alone: Why each document has a row of its own; None if documents share rows.
        ends_supervised: Share of the examples whose last supervised token is a stop token.
        base_loss: Nats per supervised token of the first examples, before training.
        learned: Tokens of the template that the student cannot be trusted to know, and why; their
            rows move.
        seconds: What the proofs took.
    """

    checks: tuple[Check, ...]
    packed_difference: float | None
    neighbour_effect: float | None
    alone: str | None
    ends_supervised: float
    base_loss: float | None
    learned: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def failures(self) -> list[Check]:
        """The proofs whose failure would ruin the run."""
        return [check for check in self.checks if check.state == "block"]

    def events(self, examples: int, recipe: Recipe) -> dict[str, int]:
        """What is not as the recipe asks, counted."""
        found = (
            {"tokens of the template that are learned": len(self.learned)} if self.learned else {}
        )
        if self.alone is not None and recipe.data.packing != "none":
            found[f"trained unpacked: {self.alone}"] = examples
        for check in self.failures:
            found[f"trained although preflight failed ({check.name})"] = 1
        return found

    def settle(self, mode: Mode) -> None:
        """Show every line, and end the run if a proof failed, unless told only to warn.

        Raises:
            RunError: with all failures.
        """
        self.show()
        if self.failures and mode == "block":
            told = "\n\n".join(f"{c.name}: {c.line} {c.advice}".strip() for c in self.failures)
            raise RunError(
                f"Preflight: {len(self.failures)} of {len(self.checks)} proofs failed, so nothing "
                f"was trained.\n\n{told}\n\nTo train all the same (the result is flagged): "
                f"preflight=warn."
            )

    def show(self) -> None:
        """Print a line per proof; those that are left to another stage share one."""
        console = progress_console()
        left = [check for check in self.checks if check.state == "left"]
        for check in self.checks:
            if check.state != "left":
                console.print(f"  {visible(check.text)}", markup=False, soft_wrap=True)
        if left:
            told = "; ".join(f"{check.name} ({check.line})" for check in left)
            console.print(f"  left  not proved here: {told}", markup=False, soft_wrap=True)

    def record(self, mode: Mode) -> dict[str, Any]:
        """What the manifest says of it; numbers that are not finite are null."""
        numbers = ("packed_difference", "neighbour_effect", "ends_supervised", "base_loss")
        return {
            "mode": mode,
            "failed": [check.name for check in self.failures],
            "checks": [check._asdict() for check in self.checks],
            **{name: finite(getattr(self, name)) for name in numbers},
            "alone": self.alone,
            "learned": self.learned,
            "seconds": round(self.seconds, 2),
        }


def finite(value: float | None) -> float | None:
    """A number that JSON can hold, or None."""
    return value if value is not None and math.isfinite(value) else None


def tried(name: str, prove: Callable[[], Check]) -> Check:
    """The outcome of a proof; what heed itself refuses is a failure with that text."""
    try:
        return prove()
    except HeedError as error:
        return Check(name, "block", str(error))


def left_to_others() -> Sequence[Check]:
    """What holds by another stage's doing, and is not looked at before a training."""
    return (
        Check("resumed = never stopped", "left", "a test of the training path"),
        Check("every prompt is scored once", "left", "counted by each scoring"),
        Check("verifiers seeded and offline", "left", "tried by each scoring"),
    )
