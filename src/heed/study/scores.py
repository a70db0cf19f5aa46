"""The scores of one subject by one suite: made once, kept whole, and read back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heed.analysis.scores import Sheet, write_scores_page
from heed.core.console import Answered, progress_console, visible
from heed.core.errors import RunError
from heed.core.files import read_json, whole_directory, write_json
from heed.core.identity import canonical, first_difference, versions
from heed.core.locks import lock
from heed.core.manifest import code_state, manifest, same_code
from heed.core.ranks import world
from heed.core.types import Interval, ItemScore
from heed.evaluation.ifeval import InstructionFollowing
from heed.evaluation.journal import Journal
from heed.evaluation.record import read_scores, write_scores
from heed.evaluation.rules import rules_versions
from heed.evaluation.suite import Suite
from heed.evaluation.task import Measured
from heed.evaluation.verifiers import SEED
from heed.study.memory import loading_memory, scoring_memory
from heed.study.score_job import agreed, share_out

if TYPE_CHECKING:
    from heed.models.student import Loaded

SAY = progress_console()


@dataclass(frozen=True)
class Made:
    """What a scoring gives.

    Attributes:
        scores: One per item.
        fingerprint: How they were made.
        events: Everything out of the ordinary -> how often.
        notes: Further lines about the events.
        files: Further JSON files to be kept beside the scores: name -> value.
        journal: Where the answers were kept meanwhile.
        ranks: How many processes answered.
    """

    scores: Sequence[ItemScore]
    fingerprint: Mapping[str, Any]
    events: Mapping[str, int]
    notes: Sequence[str] = ()
    files: Mapping[str, Any] = field(default_factory=dict)
    journal: Journal | None = None
    ranks: int = 1


class Subject(ABC):
    """What a suite scores: an untuned student, a run, a file of responses, a control."""

    @property
    @abstractmethod
    def title(self) -> str:
        """How it is called above a table."""

    @property
    @abstractmethod
    def facts(self) -> dict[str, str]:
        """What it is: label -> text, for the page and the manifest."""

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What tells this subject from any other, as plain data."""

    @abstractmethod
    def directory(self, suite: Suite) -> Path:
        """Where its scores are kept."""

    @abstractmethod
    def scored(self, suite: Suite) -> Made:
        """Its scores, made now."""

    def lock_file(self, suite: Suite) -> Path:
        """What is held while the scores are made, so that two processes do not both make them."""
        scores = self.directory(suite)
        return scores.parents[1] / "locks" / scores.name


class ModelSubject(Subject):
    """A subject that has to be asked; its finished answers outlive an interruption."""

    @abstractmethod
    def load(self) -> Loaded:
        """The model in memory, on its device."""

    def make(self) -> None:
        """Make what `load` reads, where it is not on disk yet; the leader of ranks does that."""
        return

    def for_ranks(self) -> ModelSubject:
        """The same for another rank, which only loads it: without what cannot travel there."""
        return self

    def files(self, suite: Suite, loaded: Loaded) -> dict[str, Any]:
        """Further JSON files to be kept beside the scores."""
        return {}

    def scored(self, suite: Suite) -> Made:
        """Ask the model what an interrupted scoring has not asked yet; on all ranks there are."""
        for task in suite.tasks.values():
            if isinstance(task, Measured):
                task.items()  # data that are missing are told of before a model is made or loaded
        shared = share_out(self, suite)
        with loading_memory(self.title):
            loaded = self.load()
        fingerprint = suite.fingerprint(loaded)
        place = self.directory(suite), {**fingerprint, "subject": self.identity}
        journal = Journal(*(agreed(loaded, fingerprint, place) if shared else place))
        on = f", on {world()} ranks" if shared else ""
        SAY.print(f"Scoring {self.title} on suite {suite.name}{on}", markup=False)
        if journal.resumed:
            SAY.print(f"  {journal.resumed} answers of an interrupted scoring are kept")
        with scoring_memory(loaded, suite.backend):
            scores = suite.score(loaded, journal, Answered(SAY), shared=shared)
        blank = sum(score.response is not None and not score.response.strip() for score in scores)
        events = {"blank answer": blank, "answer kept from an interrupted scoring": journal.resumed}
        more = self.files(suite, loaded)
        told = {what: times for what, times in events.items() if times} | dict(journal.events)
        answered = world() if shared else 1
        return Made(scores, fingerprint, told, files=more, journal=journal, ranks=answered)


@dataclass(frozen=True)
class Kept:
    """Scores as they are on disk.

    Attributes:
        directory: Where.
        sheet: What is shown of them.
        fingerprint: How they were made.
    """

    directory: Path
    sheet: Sheet
    fingerprint: dict[str, Any]


def scores_of(subject: Subject, suite: Suite) -> Kept:
    """The scores of a subject, made if this is the first time, by one process only."""
    with lock(subject.lock_file(suite), say_waiting):
        return kept_scores(subject, suite)


def kept_scores(subject: Subject, suite: Suite) -> Kept:
    """The same for a caller that holds the lock.

    Raises:
        RunError: scores of another suite are in the way, or the recorded ones are damaged.
    """
    directory = subject.directory(suite)
    if (directory / "summary.json").is_file():
        say_other_code(directory, _refuse_others(directory, suite)["code"])
        return _read(directory, subject, suite)
    made = subject.scored(suite)
    about = manifest() | {
        "subject": subject.facts,
        "identity": subject.identity,
        "suite_name": suite.name,
        "suite": canonical(suite),
        "rules": _rules(suite),
        "ranks": made.ranks,
        "items": Counter(score.task for score in made.scores),
        "notes": [*made.notes, *suite.notes(made.scores)],
    }
    with whole_directory(directory) as beside:
        write_scores(beside, suite, made.scores, made.fingerprint, made.events)
        write_json(beside / "manifest.json", about)
        for name, value in made.files.items():
            write_json(beside / name, value)
        write_scores_page(beside / "report.html", _read(beside, subject, suite).sheet)
    if made.journal is not None:
        made.journal.remove()
    return _read(directory, subject, suite)


def _rules(suite: Suite) -> dict[str, str | None]:
    """Versions of the packages that hold the rules of instruction following."""
    tasks = [t for t in suite.tasks.values() if isinstance(t, InstructionFollowing)]
    return {
        name: number for task in tasks for name, number in rules_versions(task.verifiers()).items()
    }


def refuse_other_suite(where: Path, name: str, then: Any, now: Any) -> None:
    """Refuse what another suite of the same name has made.

    Args:
        where: The file or directory that it made.
        name: Of both suites.
        then: Plain data that identify the suite that made it, below the key `suite`.
        now: The same of the suite that is asked for.

    Raises:
        RunError: they differ, naming the first difference.
    """
    if then == now:
        return
    key, one, two = first_difference(then, now)
    given = name.partition("@")[0].removesuffix(".text")  # the rest is added by the suite itself
    raise RunError(
        f"{where} was made in another way by a suite that is also called {name!r} ({key} was "
        f"{one!r} and is {two!r} now), so it does not answer this command, and is not overwritten. "
        f"Give this suite a name of its own: suite.name={given}2."
    )


def say_other_code(what: Path, then: str) -> None:
    """Tell if what is recorded was made by other code of heed than this."""
    if not same_code(then, now := code_state()):
        said = f"{what} was made by heed's code {then}; the code is {now} now."
        SAY.print(said, markup=False, soft_wrap=True)


def _refuse_others(directory: Path, suite: Suite) -> dict[str, Any]:
    """The manifest of recorded scores, if this very suite made them."""
    try:
        found: dict[str, Any] = read_json(directory / "manifest.json")
        then = {key: found[key] for key in ("suite", "versions")}
        str(found["code"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(directory, error) from error
    now = {"suite": canonical(suite), "versions": versions()}
    refuse_other_suite(directory, suite.name, then, now)
    return found


def _read(directory: Path, subject: Subject, suite: Suite) -> Kept:
    scores, fingerprint = read_scores(directory)
    try:
        summary = {
            task: {metric: Interval(**found) for metric, found in metrics.items()}
            for task, metrics in read_json(directory / "summary.json").items()
        }
        events = read_json(directory / "events.json")
        about = read_json(directory / "manifest.json")
        facts, notes = _facts(about, fingerprint, suite), about["notes"]
        _check_whole(suite, about["items"], summary, scores)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(directory, error) from error
    sheet = Sheet(
        title=f"{subject.title} on suite {suite.name}",
        primary=suite.primary,
        level=suite.level,
        facts=facts,
        summary=summary,
        strata=suite.breakdown(scores),
        events=events,
        notes=notes,
        items=scores,
    )
    return Kept(directory, sheet, fingerprint)


def _check_whole(
    suite: Suite,
    counts: Mapping[str, int],
    summary: Mapping[str, Mapping[str, Interval]],
    scores: Sequence[ItemScore],
) -> None:
    """Refuse scores of which a part is lost.

    Raises:
        ValueError: naming the task of which metrics or items are not all there.
    """
    for name, task in suite.tasks.items():
        own = [score for score in scores if score.task == name]
        there = [summary.get(name, {}), *(score.metrics for score in own)]
        if any(set(metrics) != set(task.metrics) for metrics in there):
            raise ValueError(f"metrics of {name} are lost")
        items = len({score.key for score in own})
        if not items == len(own) == counts[name]:
            raise ValueError(f"{items} items of {name} are left of {counts[name]}")


def _damaged(directory: Path, error: Exception) -> RunError:
    return RunError(
        f"{directory} does not hold whole scores ({type(error).__name__}: {error}). Remove the "
        f"directory and run the command that made it again."
    )


def _facts(
    about: Mapping[str, Any], fingerprint: Mapping[str, Any], suite: Suite
) -> dict[str, str]:
    """Label -> text: what was scored, on what, by which rules."""
    tasks = {
        f"prompts of {name}": f"{visible(getattr(task, 'path', type(task).__name__))} "
        f"(content {fingerprint['tasks'][name]})"
        for name, task in suite.tasks.items()
    }
    rest = {k: v for k, v in fingerprint.items() if k not in ("tasks", "versions", "subject")}
    return {
        **about["subject"],
        "suite": about["suite_name"],
        **tasks,
        **{key.replace("_", " "): _shown(value) for key, value in rest.items()},
        "rules": ", ".join(f"{name} {number}" for name, number in about["rules"].items()),
        "versions": ", ".join(f"{name} {number}" for name, number in about["versions"].items()),
        "seeds": f"bootstrap {suite.seed}; verifiers {SEED}, set anew for each item",
        "made": f"{about['time']} by code {about['code']}: {' '.join(about['command'])}",
    }


def _shown(value: Any) -> str:
    """A part of a fingerprint as a line of text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    return str(value)


def say_waiting() -> None:
    """Tell why nothing happens."""
    SAY.print("Another process is at work on this; waiting for it.")
