"""The data of lm-eval's tasks: rows of a file, or a commit of the hub, checked before use.

Nothing of a dataset's own code is run: `datasets` no longer can.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heed.core.errors import DataError
from heed.core.files import digest_file
from heed.core.identity import short_hash
from heed.data.source import other_commit
from heed.data.tables import need_file

SUBTASK = "*"
"""Stands in a path for the name of a group's task."""


@dataclass(frozen=True)
class Asked:
    """Which task of lm-eval is asked, and on which data.

    Attributes:
        task: lm-eval's name of a task, or of a group of tasks.
        take: Metrics that are taken from it.
        num_fewshot: Solved examples before each question.
        fewshot_seed: Of the draw of these, where the task draws them.
        revision: Commit of the data on the hub; without meaning where a file is given.
        file: Local rows of the same columns; None for the hub's.
        fewshot_file: Local rows that the solved examples are taken from.
    """

    task: str
    take: tuple[str, ...]
    num_fewshot: int
    fewshot_seed: int
    revision: str | None
    file: str | None
    fewshot_file: str | None

    def local(self, path: str, what: str) -> list[Path]:
        """The files of a path, which may name one for each task of a group.

        Raises:
            DataError: there is none.
        """
        if SUBTASK not in path:
            return [need_file(path, what)]
        folder, _, name = path.rpartition("/")
        found = sorted(Path(folder or ".").glob(name))
        return found or [need_file(path, what)]

    @property
    def data(self) -> str:
        """What the data are, in a word that changes with them."""
        if self.file is None:
            return f"data at commit {self.revision}"
        given = {"rows": self.file, "solved examples": self.fewshot_file}
        found = [
            [digest_file(file) for file in self.local(path, f"{what} of {self.task}")]
            for what, path in given.items()
            if path is not None
        ]
        return f"rows {short_hash(found)}"


def check_data(asked: Asked, leaf: str, task: Any) -> None:
    """Refuse what would end in a number that means nothing, or in the middle of a scoring.

    Raises:
        DataError: data of another commit; too few solved examples, or some that are asked too; a
            question with an empty choice, or whose right answer is no choice of its own.
    """
    solved = (task.fewshot_docs() or ()) if asked.num_fewshot else ()
    where = (asked.file or f"lm-eval's {leaf}").replace(SUBTASK, leaf)
    examples = (asked.fewshot_file or "").replace(SUBTASK, leaf)
    if len(solved) < asked.num_fewshot:
        raise DataError(
            f"{examples or where}: {asked.num_fewshot} solved examples are to stand before each "
            f"question, and there are {len(solved)}. Give more rows, or a smaller num_fewshot."
        )
    if asked.file is None:
        _check_commit(asked, leaf, task.dataset)
        return
    questions = _checked(where, task, task.task_docs)
    shown = _checked(examples, task, solved)
    if both := questions.keys() & shown.keys():
        place = min(questions[question] for question in both)
        raise DataError(
            f"{where}: {len(both)} of its questions stand among the solved examples too, question "
            f"{place} for one, so their answers could be read there. Give other solved examples."
        )


def _checked(where: str, task: Any, docs: Iterable[Mapping[str, Any]]) -> dict[Any, int]:
    """Questions with their choices -> the place of each row, once every row was found fit."""
    found = {}
    for place, doc in enumerate(docs, start=1):
        text, choices = task.doc_to_text(doc), task.doc_to_choice(doc)
        right = text if task.multiple_input else task.doc_to_target(doc)
        places = right if isinstance(right, list) else [right]
        if not all(p in choices if isinstance(p, str) else 0 <= p < len(choices) for p in places):
            raise DataError(
                f"{where}: question {place} has {len(choices)} choices, and the right one is said "
                f"to be {'' if isinstance(right, str) else 'number '}{right!r:.60}, which is none "
                f"of them (numbers count from 0). It could only be answered wrongly. Correct the "
                f"row."
            )
        if not all(map(str.strip, choices)):
            raise DataError(
                f"{where}: question {place} has a choice without text. Such a choice has no length "
                f"to weigh it by, and is no answer. Correct the row."
            )
        found[text, tuple(choices)] = place
    return found


def _check_commit(asked: Asked, leaf: str, splits: Any) -> None:
    """Refuse a cached copy of another commit."""
    assert asked.revision is not None, "data of the hub are pinned"
    if odd := other_commit(splits.values(), asked.revision):
        raise DataError(
            f"lm-eval's {leaf}: the copy of its data in {odd.parent} is not of commit "
            f"{asked.revision}; without a network any copy is taken that was fetched last. Fetch "
            f"the data again with a network, or say that this commit is meant: "
            f"suite.tasks.{asked.task}.revision={odd.parent.name}."
        )
