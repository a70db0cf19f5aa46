"""What every command that scores says: the suite, the devices, and where everything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from heed.core.component import component
from heed.core.errors import Mistake
from heed.core.identity import Incidental
from heed.evaluation.suite import Suite
from heed.training.callbacks import Watcher
from heed.training.trainer import TrainerSettings


@component
class ScoringCommand:
    """The part that `train.py` and `evaluate.py` share."""

    suite: Suite
    """What scores."""

    trainer: Annotated[TrainerSettings, Incidental]
    """Devices and threads."""

    callbacks: Annotated[dict[str, Watcher], Incidental]
    """What watches a training, a pre-training on first use included."""

    outputs: Annotated[str, Incidental]
    """Root of everything that is written."""

    data_dir: Annotated[str, Incidental]
    """Folder of the data sets that local teachers, corpora and tasks are read from."""

    def rank_mistakes(self) -> list[Mistake]:
        """Of a backend that cannot answer on several ranks; said before anything is trained."""
        if not self.trainer.several or self.suite.backend.on_ranks:
            return []
        given = f"devices {self.trainer.devices}, nodes {self.trainer.nodes}"
        why = (
            f"{type(self.suite.backend).__name__} begins processes of its own, and cannot stand in "
            f"one of several ranks."
        )
        action = "Leave backend=heed, or give trainer.devices=1 trainer.nodes=1."
        return [Mistake("trainer.devices", given, why, action)]

    @property
    def root(self) -> Path:
        """Absolute root of the outputs."""
        return Path(self.outputs).resolve()
