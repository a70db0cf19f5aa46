"""One suite over one untuned student; the root of `conf/evaluate.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from rich.table import Table

from heed.core.component import component
from heed.core.console import result_console
from heed.core.errors import ConfigError
from heed.core.identity import Incidental
from heed.evaluation.suite import Suite
from heed.models.student import Student
from heed.study.cell import heldout_leaks
from heed.tracking.tracker import LocalOnly
from heed.training.callbacks import Watcher
from heed.training.trainer import TrainerSettings


@component
class Evaluation:
    """Everything that one `python evaluate.py` command says."""

    model: Student
    """The student."""

    suite: Suite
    """What scores it."""

    trainer: Annotated[TrainerSettings, Incidental]
    """Devices and threads of a pre-training, if this is the student's first use."""

    callbacks: Annotated[dict[str, Watcher], Incidental]
    """What watches that pre-training."""

    outputs: Annotated[str, Incidental]
    """Root of everything that is written."""

    data_dir: Annotated[str, Incidental]
    """Folder of the data sets that local corpora and tasks are read from."""

    def __post_init__(self) -> None:
        if found := heldout_leaks(self.model, self.suite, {}):
            raise ConfigError(found)


def run_evaluation(command: Evaluation) -> None:
    """Score the student if that has not been done, and show the scores."""
    from heed.study.bases import before_scores
    from heed.training.fit import Surroundings

    command.trainer.need_device()
    around = Surroundings(command.trainer, command.callbacks, LocalOnly())
    root = Path(command.outputs).resolve()
    scores, _, directory = before_scores(command.model, command.suite, around, root)
    table = Table(title=f"{command.model.name} on suite {command.suite.name}, untuned")
    for column in ("metric", "value", "interval", "items"):
        table.add_column(column)
    for task, metrics in command.suite.summarise(scores).items():
        for metric, found in metrics.items():
            interval = f"{found.low:.4f} to {found.high:.4f}"
            table.add_row(f"{task}/{metric}", f"{found.value:.4f}", interval, str(found.items))
    console = result_console()
    console.print(table)
    console.print(str(directory), soft_wrap=True)
