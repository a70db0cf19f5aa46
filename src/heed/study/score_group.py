"""A scoring by several devices: a command of `evaluate.py` has a group of ranks do it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from heed.core.component import plain
from heed.core.compose import typed
from heed.core.errors import EXIT_CODE
from heed.core.files import write_yaml
from heed.core.identity import short_hash
from heed.core.locks import lock
from heed.study.devices import claimed
from heed.study.live import shown
from heed.study.scores import Subject, say_waiting, scores_of
from heed.study.srun import NEEDED
from heed.study.supervisor import Limits, Signals, forget_reasons, log_of, watch

if TYPE_CHECKING:
    from heed.study.evaluation import Evaluation

PART = "scores"
"""What the file of such a command asks of `heed.study.child`."""


def score_by_group(command: Evaluation, subject: Subject) -> None:
    """Score a model on all devices of a command; comes back when its scores are on disk.

    What the ranks print is shown while it comes.

    Args:
        command: Scores one model.
        subject: That model.

    Raises:
        RunError: its devices are not to be had.
        SystemExit: there are no scores; why has been shown.
    """
    from heed.study.group import need_nodes

    need_nodes(command.trainer.nodes)
    file, suite = file_of(command, subject), command.asked
    summary = subject.directory(suite) / "summary.json"
    with lock(file.with_suffix(".lock"), say_waiting), Signals() as signals:
        if summary.is_file():
            return
        write_yaml(file, asked_of_ranks(command))
        with claimed(command.trainer, subject.title) as gpus:
            assert gpus is not None, "it waits as long as it takes"
            limits = Limits(command.trainer.threads, None, gpus, NEEDED)
            with signals.only_noted(), shown(log_of(file)):
                ended = watch(file, limits, signals, lambda: False)
                forget_reasons(file)
        signals.hand_on()
    if ended.code or not summary.is_file():
        sys.exit(ended.code if ended.stopped else EXIT_CODE)


def score_as_asked(command: Evaluation) -> None:
    """What the leader of the ranks does: score the model, and show nothing of the scores."""
    from heed.study.evaluation import subject_of

    scores_of(subject_of(command), command.asked)


def asked_of_ranks(command: Evaluation) -> dict[str, object]:
    """What the file says that the ranks read."""
    return {
        "command": ["evaluate.py", *typed()],
        "part": PART,
        "key": key_of(command),
        "cell": plain(command),
    }


def key_of(command: Evaluation) -> list[str]:
    """What must be the same for all ranks: what is scored, in a word, and a hash of it all."""
    name = command.model.name if command.model is not None else str(command.run)
    decides = {"suite": command.asked, "model": command.model, "run": command.run}
    return [name, short_hash(decides)]


def file_of(command: Evaluation, subject: Subject) -> Path:
    """The resolved config of a scoring; its log and its lock are beside it.

    Args:
        command: Scores one model.
        subject: That model.
    """
    where = short_hash([str(subject.directory(command.asked)), command.asked.name])
    return command.root / "cells" / f"{PART}--{where}.yaml"
