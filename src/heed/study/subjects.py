"""What can be scored beside an untuned student: a run, a file of responses, a control."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heed.core.console import visible
from heed.core.errors import DataError
from heed.core.files import digest_file
from heed.core.identity import short_hash, slug, versions
from heed.core.types import Answer, Item
from heed.evaluation.controls import Control
from heed.evaluation.responses import Given, read_responses
from heed.evaluation.suite import Suite
from heed.study.overlap import overlap_notes
from heed.study.runs import TrainedRun, run_lock
from heed.study.scores import Made, ModelSubject, Subject

if TYPE_CHECKING:
    from heed.models.student import Loaded


@dataclass(frozen=True)
class Tuned(ModelSubject):
    """The student of a run, as it is on disk.

    Attributes:
        run: Which.
        device: Where it is scored.
    """

    run: TrainedRun
    device: str

    @property
    def title(self) -> str:
        """Its name and id."""
        return f"{self.run.name} (run {self.run.id})"

    @property
    def facts(self) -> dict[str, str]:
        """Its name, and when it was trained."""
        trained = f"{self.run.manifest['time']} by code {self.run.manifest['code']}"
        return {"run": f"{self.run.name}, {self.run.id}", "trained": trained}

    @property
    def identity(self) -> dict[str, Any]:
        """The run, and the time of its training: a second training may round otherwise."""
        return {"run": self.run.id, "trained": self.run.manifest["time"]}

    def directory(self, suite: Suite) -> Path:
        """Inside the run."""
        return self.run.directory / "scores" / suite.name

    def lock_file(self, suite: Suite) -> Path:
        """That of the run, as in `run_cell`."""
        return run_lock(self.run.directory)

    def load(self) -> Loaded:
        """What the training wrote; an adapter is merged."""
        return load_run(self.run, self.device)

    def scored(self, suite: Suite) -> Made:
        """Its scores; it is said if nobody has looked for the prompts in its training text."""
        made = super().scored(suite)
        return replace(
            made, notes=[*made.notes, *overlap_notes(self.run.manifest.get("fit", {}), suite)]
        )


def load_run(run: TrainedRun, device: str) -> Loaded:
    """The student of a run in memory.

    Raises:
        RunError: its files are damaged, or an adapter's base is not what it was.
    """
    from heed.training.checkpoint import load_student

    base = str(run.manifest.get("base") or "not recorded")
    return load_student(run.directory / "model", run.student.loading, base).to(device)


class GivenSubject(Subject):
    """A subject whose answers need no model."""

    @property
    def title(self) -> str:
        """What it is."""
        return " ".join(next(iter(self.facts.items())))

    @property
    @abstractmethod
    def identity(self) -> dict[str, str]:
        """What stands in the fingerprint instead of a model's settings."""

    @abstractmethod
    def given(self, items: Sequence[Item]) -> Given:
        """Its answers to the items of a task, and what happened on the way."""

    def scored(self, suite: Suite) -> Made:
        """The scores of its answers; of several tasks, each event and note names its own."""
        events: Counter[str] = Counter()
        notes: list[str] = []

        def answers(task: str, items: Sequence[Item]) -> Mapping[str, Answer]:
            found = self.given(items)
            named = f"{task}: " if len(suite.tasks) > 1 else ""
            events.update({f"{named}{what}": times for what, times in found.events.items()})
            notes.extend(f"{named}{note}" for note in found.notes)
            return found.answers

        scores = suite.score_given(answers)
        settings = suite.settings()
        fingerprint = {key: settings[key] for key in ("tasks", "versions")} | self.identity
        return Made(scores, fingerprint, events, notes)


@dataclass(frozen=True)
class Responses(GivenSubject):
    """A file of responses, made anywhere.

    Attributes:
        path: The file.
        root: Of the outputs.
    """

    path: Path
    root: Path

    @property
    def facts(self) -> dict[str, str]:
        """The file; a name may hold what no text can."""
        return {"responses": visible(self.path.name), "file": visible(str(self.path))}

    @property
    def identity(self) -> dict[str, str]:
        """Digest of the file."""
        if not os.path.isfile(self.path):  # unlike Path.is_file, for names of any length
            raise DataError(
                f"There is no file of responses {self.path}, so there is nothing to score. Give "
                f"responses=<file.jsonl>, one JSON object a line: key or prompt, and response."
            )
        return {"answers": f"responses {digest_file(self.path)}"}

    def directory(self, suite: Suite) -> Path:
        """Named after the file; the rest of the name changes with whatever decides the scores."""
        decides = short_hash({"suite": suite, "versions": versions(), **self.identity})
        return self.root / "responses" / f"{slug(self.path.name)}--{decides}"

    def given(self, items: Sequence[Item]) -> Given:
        """What the file has; a prompt without a response is a failed one."""
        return read_responses(self.path, items)


@dataclass(frozen=True)
class Controlled(GivenSubject):
    """A control: what a score is worth.

    Attributes:
        control: Which.
        root: Of the outputs.
    """

    control: Control
    root: Path

    @property
    def facts(self) -> dict[str, str]:
        """Its name and what it answers."""
        return {
            "control": self.control.name,
            "it answers": self.control.what,
            "it reads the prompt": "no" if self.control.input_blind else "yes",
        }

    @property
    def identity(self) -> dict[str, str]:
        """What it answers to a prompt."""
        said = short_hash(self.control.respond("{prompt}"))
        return {"answers": f"control {self.control.name} {said}"}

    def directory(self, suite: Suite) -> Path:
        """Named after the control and the suite."""
        decides = short_hash({"suite": suite, "versions": versions(), **self.identity})
        return self.root / "controls" / f"{self.control.name}--{suite.name}--{decides}"

    def given(self, items: Sequence[Item]) -> Given:
        """Its answer to every prompt."""
        respond = self.control.respond
        return Given({item.key: Answer(respond(item.prompt), 0, None) for item in items}, {}, [])
