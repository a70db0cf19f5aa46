"""One suite over one subject, or a chat with it; the root of `conf/evaluate.yaml`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from heed.analysis.analysis import Analysis
from heed.analysis.ranking import CAR
from heed.analysis.score_panel import show_scores
from heed.core.component import component, nearest
from heed.core.console import result_console, visible
from heed.core.errors import ConfigError, Mistake
from heed.data.align import TeacherSet
from heed.evaluation.chat_endpoint import ChatEndpoint
from heed.evaluation.controls import CONTROLS
from heed.evaluation.ifeval import PromptFile
from heed.evaluation.suite import Suite
from heed.models.student import Student
from heed.study.cell import heldout_leaks
from heed.study.command import ScoringCommand
from heed.study.generation import Generation, generation_mistakes, run_generation
from heed.study.rank_teachers import Asked, rank_teachers, ranking_mistakes
from heed.study.runs import TrainedRun, find_run
from heed.study.scores import SAY, ModelSubject, Subject, scores_of
from heed.tracking.tracker import LocalOnly
from heed.training.processor import use_processor

if TYPE_CHECKING:
    from heed.training.fit import Surroundings

SUBJECTS = {
    "model": "<student>",
    "run": "<id, name or directory>",
    "responses": "<file.jsonl>",
    "control": f"<{', '.join(CONTROLS)}>",
    "chat": "<id, name or directory>",
    "compare": "[<run>,<run>]",
    "endpoint": "<name>",
}
"""What a command may be about, and what is typed for it; it takes exactly one of them."""

Word = str | int | float | bool | None
"""A word that Hydra may have read as a number or a truth: run ids are made of digits."""


@component
class Evaluation(ScoringCommand):
    """Everything that one `python evaluate.py` command says."""

    model: Student | None = None
    """An untuned student to be scored."""

    run: Word = None
    """A run to be scored: id, beginning of an id, name or directory."""

    responses: str | None = None
    """A file of responses to be scored; no model is loaded."""

    control: str | None = None
    """A control to be scored."""

    chat: Word = None
    """A run to talk with in the terminal."""

    compare: tuple[Word, ...] | Word = None
    """Two to be compared on the suite: runs, directories of scores, responses or controls."""

    analysis: Analysis | CAR | None = None
    """What is asked of a run beside its scores; or how teachers are ranked for a student."""

    teachers: TeacherSet | None = None
    """Whom `analysis=car` ranks."""

    generate: str | None = None
    """A file of instructions to which the model, run or endpoint gives a teacher's responses."""

    generation: Generation | None = None
    """How these are made."""

    endpoint: ChatEndpoint | None = None
    """A model elsewhere that makes them."""

    prompts: str | None = None
    """A file that stands in for that of the suite's only task of prompts from a file."""

    def __post_init__(self) -> None:
        found = [*self._subject_mistakes(), *self._prompts_mistakes(), *self._further_mistakes()]
        if self.model is not None:
            found += heldout_leaks(self.model, self.suite, {})
        if found:
            raise ConfigError(found)

    def _subject_mistakes(self) -> list[Mistake]:
        given = [name for name in SUBJECTS if getattr(self, name) is not None]
        found = [_changed_by_hydra(n, getattr(self, n)) for n in ("run", "chat") if n in given]
        found += [_empty(n, getattr(self, n), SUBJECTS[n]) for n in ("run", "responses", "chat")]
        ways = ", ".join(f"{name}={what}" for name, what in SUBJECTS.items())
        if not given:
            why = "there is nothing to score."
            found.append(Mistake("model", "nothing", why, f"Give exactly one of {ways}."))
        elif len(given) > 1:
            why = f"a command is about one thing only; {', '.join(given[1:])} is given as well."
            shown = "..." if given[0] == "model" else str(getattr(self, given[0]))
            found.append(Mistake(given[0], shown, why, f"Give exactly one of {ways}."))
        if self.control is not None and self.control not in CONTROLS:
            action = f"{nearest(self.control, [*CONTROLS])} Controls: {', '.join(CONTROLS)}."
            why = "there is no such control."
            found.append(Mistake("control", self.control, why, action.strip()))
        return [mistake for mistake in found if mistake is not None]

    def _further_mistakes(self) -> list[Mistake]:
        """Of what a command may ask beside scores."""
        found = []
        if self.compare is not None:
            found += [_changed_by_hydra("compare", one) for one in self.compared]
            found += [_empty("compare", one, "[<run>,<run>]") for one in self.compared]
            if len({str(one) for one in self.compared}) < 2:
                why = "a comparison needs two different runs at least."
                action = "Give compare=[<run>,<run>], each an id, a name or a directory."
                found.append(Mistake("compare", f"[{_joined(self.compared)}]", why, action))
        if isinstance(self.analysis, Analysis) and self.run is None:
            why = "an analysis is of a finished run, and none is given."
            action = "Give run=<id, name or directory>, and nothing else to be scored."
            found.append(Mistake("analysis", self.analysis.name, why, action))
        found += ranking_mistakes(self.analysis, self.model, self.teachers)
        found += [*self._several_mistakes(), *self.rank_mistakes(), *generation_mistakes(self)]
        return [mistake for mistake in found if mistake is not None]

    def _several_mistakes(self) -> Iterator[Mistake]:
        """Of several devices where there is nothing that they could share."""
        asks = {"chat": self.chat, "compare": self.compare, "analysis": self.analysis}
        named = [name for name, asked in asks.items() if asked is not None]
        given = f"devices {self.trainer.devices}, nodes {self.trainer.nodes}"
        if self.trainer.several and named:
            why = f"devices share the scoring of a model only, and {named[0]}= is more than that."
            action = "Give trainer.devices=1 trainer.nodes=1; score a run before by run=<id>."
            yield Mistake("trainer.devices", given, why, action)

    def _prompts_mistakes(self) -> list[Mistake]:
        if self.prompts is None:
            return []
        if empty := _empty("prompts", self.prompts, "<file.jsonl>"):
            return [empty]
        if self.chat is not None:
            why = "a chat asks no prompts of a file."
            return [Mistake("prompts", self.prompts, why, "Leave it out.")]
        read = self._prompt_tasks()
        if len(read) == 1:
            return []
        many = f"several, {', '.join(read)}" if read else "none"
        why = (
            f"it replaces the file of the suite's task that reads prompts from a file; suite "
            f"{self.suite.name} has {many}."
        )
        action = "Choose suite=ifeval, or set the path of the one that is meant"
        example = f": suite.tasks.{read[0]}.path=<file>." if read else "."
        return [Mistake("prompts", self.prompts, why, action + example)]

    def _prompt_tasks(self) -> list[str]:
        return [n for n, task in self.suite.tasks.items() if isinstance(task, PromptFile)]

    @property
    def compared(self) -> tuple[Word, ...]:
        """The runs to be compared, none if the command is about something else."""
        if self.compare is None:
            return ()
        return self.compare if isinstance(self.compare, tuple) else (self.compare,)

    @property
    def asked(self) -> Suite:
        """The suite, reading its prompts from where the command says."""
        if self.prompts is None:
            return self.suite
        (name,) = self._prompt_tasks()
        task = replace(self.suite.tasks[name], path=self.prompts)  # type: ignore[type-var]
        return replace(self.suite, tasks={**self.suite.tasks, name: task})


def _joined(given: tuple[Word, ...]) -> str:
    return ",".join(map(str, given))


def _changed_by_hydra(name: str, given: Word) -> Mistake | None:
    """A run id such as 12e4 is a number to Hydra, and the digits that were typed are lost."""
    if not isinstance(given, float | bool):
        return None
    kind = "a truth value" if isinstance(given, bool) else "a number"
    why = f"this was read as {kind}, so it is not the text that was typed."
    return Mistake(name, str(given), why, f"Quote it twice: \"{name}='<id>'\".")


def _empty(name: str, given: Word, kind: str) -> Mistake | None:
    """Nothing after the equals sign: an empty shell variable, for one."""
    if not isinstance(given, str) or given.strip():
        return None
    why = "nothing was given, which names nothing."
    return Mistake(name, given, why, f"Give {name}={kind}, or leave it out.")


def run_evaluation(command: Evaluation) -> None:
    """Score what the command is about, if that has not been done, and show it; or talk with it.

    Raises:
        HeedError: there is no such run, file or device, or it cannot be scored.
    """
    if command.chat is not None:
        from heed.study.chat import chat_with

        run = find_run(str(command.chat), command.root)
        _ready(command)
        chat_with(run, command.trainer.device, command.suite.max_new_tokens)
        return
    if command.generate is not None:
        run_generation(command, lambda: subject_of(command))
        return
    if command.compare is not None:
        from heed.study.compare import compare

        compare([str(given) for given in command.compared], command)
        return
    if isinstance(command.analysis, CAR):
        _rank(command, command.analysis)
        return
    if command.analysis is not None:
        _analyse(command, command.analysis)
        return
    from heed.study.controls import with_controls

    suite, subject = command.asked, subject_of(command)
    known = (subject.directory(suite) / "summary.json").is_file()
    if command.trainer.several and not known and isinstance(subject, ModelSubject):
        from heed.study.score_group import score_by_group

        score_by_group(command, subject)
    kept = with_controls(subject, scores_of(subject, suite), suite, command.root)
    if known:
        SAY.print("Already scored; these are the recorded scores.")
    console = result_console()
    show_scores(console, kept.sheet)
    console.print(str(kept.directory / "report.html"), soft_wrap=True, markup=False)


def _rank(command: Evaluation, analysis: CAR) -> None:
    """Rank the command's teachers for its student, if that has not been done, and show it."""
    assert command.model is not None, "a ranking is for a student"
    assert command.teachers is not None, "a ranking is of teachers"

    def around() -> Surroundings:
        _ready(command)
        return _around(command)

    bootstrap, root = command.suite.bootstrap(), command.root
    asked = Asked(analysis, command.model, command.teachers, bootstrap, around, root)
    _tell(*rank_teachers(asked))


def _tell(directory: Path, said: Sequence[str]) -> None:
    """Print the lines of an analysis, and where its page is."""
    console = result_console()
    for line in said:
        console.print(visible(line), soft_wrap=True, markup=False)
    console.print(str(directory / "report.html"), soft_wrap=True, markup=False)


def _analyse(command: Evaluation, analysis: Analysis) -> None:
    """Do an analysis of the command's run, if that has not been done, and show it."""
    from heed.study.analyses import StudiedRun, analyse

    run = find_run(str(command.run), command.root)
    _refuse_leaks(run, command.suite)
    _ready(command)
    studied = StudiedRun(run, command.asked, _around(command), command.root)
    _tell(*analyse(analysis, studied))


def subject_of(command: Evaluation) -> Subject:
    """What a command scores.

    Raises:
        HeedError: there is no such run or device, or it was trained on what it is weighed on.
    """
    from heed.study.subjects import Controlled, Responses, Tuned

    if command.responses is not None:
        return Responses(Path(command.responses).resolve(), command.root)
    if command.control is not None:
        return Controlled(CONTROLS[command.control], command.root)
    if command.run is not None:
        run = find_run(str(command.run), command.root)
        _refuse_leaks(run, command.suite)
        _ready(command)
        return Tuned(run, command.trainer.device)
    assert command.model is not None, "a command is about exactly one thing"
    _ready(command)
    return _untuned(command, command.model)


def _untuned(command: Evaluation, model: Student) -> Subject:
    from heed.study.bases import Untuned

    return Untuned(model, _around(command), command.root)


def _around(command: Evaluation) -> Surroundings:
    """Devices, and the watchers of a pre-training on first use."""
    from heed.training.fit import Surroundings

    return Surroundings(command.trainer, command.callbacks, LocalOnly(), command.root)


def _refuse_leaks(run: TrainedRun, suite: Suite) -> None:
    if found := heldout_leaks(run.student, suite, {f"run {run.id}": run.teacher}):
        raise ConfigError(found)


def _ready(command: Evaluation) -> None:
    """Refuse a device that is not there; threads and memory as the command says."""
    command.trainer.need_device()
    use_processor(command.trainer.threads, command.trainer.device)
