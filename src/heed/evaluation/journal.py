"""A journal keeps the finished answers of a scoring on disk, so that an interrupted one goes on."""

from __future__ import annotations

import glob
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from heed.core.files import append_jsonl
from heed.core.identity import short_hash
from heed.core.types import Answer, Likelihood


class Journal:
    """Answers by task and key, one JSON object a line, written as each is finished.

    The name of the file holds a hash of what the answers depend on, so that another model or other
    settings have another journal, and none is ever overwritten. Of several ranks each writes a file
    of its own; all are read, whatever the number of ranks now.

    Attributes:
        path: The file that is written; it is made with the first answer.
        resumed: Number of answers that an earlier scoring left there.
        events: What the backend told while it answered: name -> count.
    """

    def __init__(self, path: Path, about: Mapping[str, Any], rank: int = 0):
        """Read what an earlier scoring left.

        Args:
            path: Where the scores will be; the journal stands beside it.
            about: Everything that decides the answers, as plain data: the suite's settings, the
                fingerprint, and what identifies the model.
            rank: Which of several ranks writes it; the number of ranks decides no answer.
        """
        self._name = f"{path.name}.answers-{short_hash(about)}"
        mark = f".rank{rank}" if rank else ""
        self.path = path.with_name(f"{self._name}{mark}.jsonl")
        self._found: dict[str, dict[str, Answer]] = {}
        for row in (row for file in self._files() for row in _whole_lines(file)):
            self._found.setdefault(row["task"], {}).setdefault(row["key"], _answer(row))
        self.resumed = sum(map(len, self._found.values()))
        self.events: Counter[str] = Counter()

    def known(self, task: str) -> dict[str, Answer]:
        """The answers of a task that an earlier scoring left: key -> answer."""
        return dict(self._found.get(task, {}))

    def add(self, task: str, key: str, answer: Answer) -> None:
        """Keep a finished answer; it outlives this process from now on.

        One with a likelihood that is no finite number is not kept: its score is refused anyway.
        """
        if all(math.isfinite(found.nats) for found in answer.likelihoods):
            append_jsonl(self.path, {"task": task, "key": key, **answer._asdict()})

    def remove(self) -> None:
        """Remove the files of all ranks: the scores are whole on disk."""
        for file in self._files():
            file.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        """What there is of any rank, that of a process alone first."""
        ranks = self.path.parent.glob(f"{glob.escape(self._name)}.rank*.jsonl")
        return [self.path.with_name(f"{self._name}.jsonl"), *sorted(ranks)]


def _whole_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    """The objects of the file; what a killed writer left unfinished is answered again."""
    for line in path.read_bytes().split(b"\n") if path.is_file() else ():
        try:
            yield json.loads(line)
        except ValueError:  # empty, or torn: also in the middle of a character
            continue


def _answer(row: Mapping[str, Any]) -> Answer:
    weighed = tuple(Likelihood(*found) for found in row["likelihoods"])
    return Answer(row["text"], row["tokens"], row["stop"], weighed)
