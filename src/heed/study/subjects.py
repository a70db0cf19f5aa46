"""What can be scored beside an untuned student: a run, a file of responses, a control."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heed.core.errors import ConfigError, DataError, Mistake, RunError
from heed.core.files import digest_file
from heed.core.identity import short_hash, slug, versions
from heed.core.types import Answer, Item
from heed.evaluation.controls import Control
from heed.evaluation.responses import Given, read_responses
from heed.evaluation.suite import Suite
from heed.models.student import Published
from heed.study.runs import TrainedRun
from heed.study.scores import Made, ModelSubject, Subject

if TYPE_CHECKING:
    from heed.models.student import Loaded


@dataclass(frozen=True)
class Tuned(ModelSubject):
    """The student of a run, as it is on disk.

    Attributes:
        run: Which.
        device: Where it is scored.
        root: Of the outputs.
    """

    run: TrainedRun
    device: str
    root: Path

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
        return self.root / "locks" / self.run.id

    def load(self) -> Loaded:
        """What the training wrote; an adapter is merged."""
        return load_run(self.run, self.device)


def load_run(run: TrainedRun, device: str) -> Loaded:
    """The student of a run in memory.

    Raises:
        RunError: its files are damaged, or its base is not what it was.
    """
    from heed.training.checkpoint import ADAPTER_FILE, load_student

    model, then = run.directory / "model", run.manifest.get("base")
    now = run.student.digest() if isinstance(run.student, Published) else None
    if then is not None and then != now and (model / ADAPTER_FILE).is_file():
        raise RunError(
            f"{run.directory} is an adapter of {run.student.name!r}, whose files have changed "
            f"since the training (digest {then} then, {now} now): together they are another "
            f"student. Put the base back as it was, or train again."
        )
    return load_student(model, run.student.loading).to(device)


class GivenSubject(Subject):
    """A subject whose answers need no model."""

    @property
    def title(self) -> str:
        """What it is."""
        return " ".join(next(iter(self.facts.items())))

    def _scored(
        self, suite: Suite, given: Mapping[str, Given], answer_of: Callable[[str, Item], Answer]
    ) -> Made:
        """The scores of its answers, with what the reading of them met."""
        scores = suite.score_given(answer_of)
        events: Counter[str] = Counter()
        for found in given.values():
            events.update(found.events)
        notes = [note for found in given.values() for note in found.notes]
        settings = suite.settings()
        fingerprint = {key: settings[key] for key in ("tasks", "versions")} | self.made_by
        return Made(scores, fingerprint, events, notes)

    @property
    def made_by(self) -> dict[str, str]:
        """What stands in the fingerprint instead of a model's settings."""
        raise NotImplementedError


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
        """The file."""
        return {"responses": self.path.name, "file": str(self.path)}

    @property
    def made_by(self) -> dict[str, str]:
        """Digest of the file."""
        if not self.path.is_file():
            raise DataError(
                f"There is no file of responses {self.path}, so there is nothing to score. Give "
                f"responses=<file.jsonl>, one JSON object a line: key or prompt, and response."
            )
        return {"answers": f"responses {digest_file(self.path)}"}

    def directory(self, suite: Suite) -> Path:
        """Named after the file; the rest of the name changes with whatever decides the scores."""
        decides = short_hash({"suite": suite, "versions": versions(), **self.made_by})
        return self.root / "responses" / f"{slug(self.path.name)}--{decides}"

    def scored(self, suite: Suite) -> Made:
        """A prompt without a response is a failed one."""
        items = text_items(suite)
        given = {name: read_responses(self.path, found) for name, found in items.items()}
        return self._scored(suite, given, lambda task, item: given[task].answers[item.key])


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
        return {"control": self.control.name, "it answers": self.control.what}

    @property
    def made_by(self) -> dict[str, str]:
        """What it answers to a prompt."""
        said = short_hash(self.control.respond("{prompt}"))
        return {"answers": f"control {self.control.name} {said}"}

    def directory(self, suite: Suite) -> Path:
        """Named after the control and the suite."""
        decides = short_hash({"suite": suite, "versions": versions(), **self.made_by})
        return self.root / "controls" / f"{self.control.name}--{suite.name}--{decides}"

    def scored(self, suite: Suite) -> Made:
        """Its answer to every prompt."""
        text_items(suite)
        respond = self.control.respond
        return self._scored(suite, {}, lambda _, item: Answer(respond(item.prompt), 0, None))


def text_items(suite: Suite) -> dict[str, Sequence[Item]]:
    """The items of each task, if all are answered in text.

    Raises:
        ConfigError: a task weighs likelihoods.
        DataError: a task's data is missing.
    """
    items = {name: task.items() for name, task in suite.tasks.items()}
    weighed = [name for name, found in items.items() if any(item.requests for item in found)]
    if weighed:
        why = (
            f"its task {', '.join(weighed)} weighs likelihoods, which only a model has; a text has "
            f"none."
        )
        action = "Choose a suite that is answered in text throughout, such as suite=ifeval."
        raise ConfigError([Mistake("suite", suite.name, why, action)])
    return items
