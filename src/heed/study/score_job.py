"""The scoring of a model as a job of all ranks: what those that do not lead do of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heed.core.errors import RunError
from heed.core.ranks import from_leader, rank, world
from heed.evaluation.journal import Journal
from heed.evaluation.suite import Suite
from heed.evaluation.together import SharedAsking, agree
from heed.study.crew import call
from heed.study.memory import scoring_memory

if TYPE_CHECKING:
    from heed.models.student import Loaded
    from heed.study.scores import ModelSubject

Place = tuple[Path, dict[str, Any]]
"""Where scores will be, and what decides the answers: what a journal is made of."""


@dataclass(frozen=True)
class Score:
    """Answer a share of a suite's items; the leader has made sure that the model is on disk.

    Attributes:
        subject: Whose model, as it looks for another rank.
        suite: Which.
    """

    subject: ModelSubject
    suite: Suite

    def take_part(self) -> None:
        """Load the model on this rank's device and answer; of scores it writes a journal only."""
        loaded = self.subject.load()
        directory, about = agreed(loaded, self.suite.fingerprint(loaded))
        journal = Journal(directory, about, rank())
        with scoring_memory(loaded, self.suite.backend):
            SharedAsking(self.suite, loaded, journal).take_part()


def share_out(subject: ModelSubject, suite: Suite) -> bool:
    """Have the other ranks take part in a scoring, if there are any; the leader calls.

    Returns:
        Whether they do.

    Raises:
        RunError: the suite's backend answers in one process only.
    """
    if world() == 1:
        return False
    if not suite.backend.on_ranks:
        raise RunError(
            f"Suite {suite.name} is answered by {type(suite.backend).__name__}, which begins "
            f"processes of its own and cannot stand in one of {world()} ranks. Give trainer.devices"
            f"=1: what is trained is kept and only scored; or leave backend=heed."
        )
    subject.make()
    call(Score(subject.for_ranks(), suite))
    return True


def agreed(loaded: Loaded, fingerprint: Mapping[str, Any], place: Place | None = None) -> Place:
    """Where the leader keeps the answers, once it is known that all ranks answer as it does.

    All ranks must ask at the same place.

    Args:
        loaded: The model, as this rank has it.
        fingerprint: How it is scored here.
        place: What the leader says.

    Raises:
        RunError: a rank would answer otherwise.
    """
    agree(fingerprint, loaded)
    found: Place = from_leader(place)
    return found
