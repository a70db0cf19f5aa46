"""An analysis of a finished run: done once, kept inside the run, and shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heed.analysis.analysis import Analysis
from heed.core.console import visible
from heed.core.errors import ConfigError, Mistake, RunError
from heed.core.files import whole_directory, write_json
from heed.core.identity import canonical, digest_model, short_hash, versions
from heed.core.locks import lock
from heed.core.manifest import manifest
from heed.core.types import Item, ItemScore
from heed.evaluation.controls import merged
from heed.evaluation.deltas import refuse_unequal
from heed.evaluation.suite import Suite
from heed.study.bases import Untuned
from heed.study.cell import Cell
from heed.study.controls import with_controls
from heed.study.recorded import recorded_lines
from heed.study.run_cell import refuse_other_base, surroundings
from heed.study.runs import TrainedRun, read_record, read_run, run_lock
from heed.study.scores import SAY, Kept, kept_scores, say_waiting, scores_of
from heed.study.steps import KeptStep, kept_steps, last_step, recorded_steps
from heed.study.subjects import Tuned
from heed.training.processor import use_processor

if TYPE_CHECKING:
    from heed.models.student import Loaded
    from heed.training.fit import Surroundings


@dataclass(frozen=True)
class StudiedRun:
    """A finished run and a suite, as `heed.analysis.analysis.Studied` wants them.

    Its methods are for a caller that holds the lock of the run.

    Attributes:
        of: The run.
        suite: What scores it.
        around: Devices, and the watchers of a pre-training on first use.
        root: Of the outputs, where the base student and its scores are kept.
    """

    of: TrainedRun
    suite: Suite
    around: Surroundings
    root: Path

    @property
    def run(self) -> str:
        """Id of the run."""
        return self.of.id

    @property
    def name(self) -> str:
        """Readable name of the run."""
        return self.of.name

    @property
    def facts(self) -> dict[str, str]:
        """The run, the suite and the versions."""
        found = self._tuned.facts | {"suite": f"{self.suite.name} ({short_hash(self.suite)})"}
        numbers = ", ".join(f"{name} {number}" for name, number in versions().items())
        return found | {"bootstrap": str(self.bootstrap), "versions": numbers}

    @property
    def items(self) -> Sequence[Item]:
        """Items of the suite's first task that is answered in text.

        Raises:
            ConfigError: there is none.
        """
        text = self.suite.in_text()
        if text is not None:
            return next(iter(text.tasks.values())).items()
        why = "none of its tasks is answered in text, and this analysis reads answers."
        action = "Choose a suite that has one, such as suite=ifeval."
        raise ConfigError([Mistake("suite", self.suite.name, why, action)])

    @property
    def max_new_tokens(self) -> int:
        """The suite's cap."""
        return self.suite.max_new_tokens

    @property
    def bootstrap(self) -> Mapping[str, Any]:
        """The suite's `level`, `resamples` and `seed`."""
        return self.suite.bootstrap()

    @property
    def margin(self) -> Mapping[str, float]:
        """Task -> largest change that counts as none."""
        return self.suite.margin

    @property
    def less_is_better(self) -> frozenset[str]:
        """Metrics that are better when they fall."""
        tasks = self.suite.tasks.items()
        return frozenset(f"{name}/{m}" for name, task in tasks for m in task.lower_is_better)

    def base(self) -> Loaded:
        """The untuned student, which must be the one that this run was tuned from."""
        loaded = self._untuned.load()
        now, then = digest_model(loaded.source, loaded.revision), self.of.manifest["base"]
        if now != then:
            raise RunError(
                f"The base student of run {self.of.id} has the weights {now}, and the run was "
                f"tuned from {then}: its pre-training was done again, and their difference would "
                f"not be what tuning did. Put the base back as it was, or train the run again."
            )
        return loaded

    def tuned(self) -> Loaded:
        """What the training wrote."""
        return self._tuned.load()

    def steps(self) -> list[tuple[int, Callable[[], Loaded]]]:
        """Step 0 is the base, the last one the run's student; those between were kept."""
        kept = [(step, self._kept(step).load) for step in kept_steps(self.of)]
        return [(0, self.base), *kept, (last_step(self.of), self.tuned)]

    def scored(self, step: int) -> list[ItemScore]:
        """The suite's scores at a step, made once and kept.

        Raises:
            RunError: the scores of the base are another base's, or were made in another way.
        """
        return list(self._scores_at(step).sheet.items)

    def events(self, step: int) -> Mapping[str, int]:
        """What happened at that scoring."""
        return self._scores_at(step).sheet.events

    def controls(self) -> Mapping[str, Any] | None:
        """Every step beside the controls; None where nothing is answered in text."""
        steps = [step for step, _ in self.steps()]
        return merged({f"step {n}": self._scores_at(n).sheet.controls for n in steps})

    def _scores_at(self, step: int) -> Kept:
        if step == 0:
            return self._base_scores
        subject = self._tuned if step == last_step(self.of) else self._kept(step)
        found = with_controls(subject, kept_scores(subject, self.suite), self.suite, self.root)
        refuse_unequal(self._base_scores.fingerprint, found.fingerprint)
        return found

    @cached_property
    def _base_scores(self) -> Kept:
        made = scores_of(self._untuned, self.suite)
        found = with_controls(self._untuned, made, self.suite, self.root)
        refuse_other_base(found.directory, self.of)
        return found

    @property
    def _untuned(self) -> Untuned:
        return Untuned(self.of.student, self.around, self.root)

    @property
    def _tuned(self) -> Tuned:
        return Tuned(self.of, self.around.trainer.device)

    def _kept(self, step: int) -> KeptStep:
        return KeptStep(self.of, self.around.trainer.device, step)


def analyse(analysis: Analysis, studied: StudiedRun) -> tuple[Path, list[str]]:
    """Do an analysis of a run if that has not been done, and keep it whole inside the run.

    Args:
        analysis: Which.
        studied: The run and the suite.

    Returns:
        The directory, and the lines for the terminal.

    Raises:
        HeedError: what the analysis needs is missing or damaged.
    """
    run = studied.of
    if "recipe" in run.config:
        raise RunError(
            f"Run {run.id} ({run.name}) is a pre-training: it begins with random weights, so there "
            f"is no student before it to be compared with. Give a run that was tuned."
        )
    decides = _decides(analysis, studied.suite, run)
    directory = _place(analysis, decides, run)
    with lock(run_lock(run.directory), say_waiting):
        if is_done(directory):
            return directory, recorded_lines(directory, "analysis")
        SAY.print(f"Analysis {analysis.name} of {run.name} (run {run.id})", markup=False)
        with whole_directory(directory) as beside:
            said = analysis.make(studied, beside)
            about = {"run": run.id, "said": said, "facts": studied.facts}
            write_json(beside / "manifest.json", manifest() | canonical(decides) | about)
    return directory, said


def _decides(analysis: Analysis, suite: Suite, run: TrainedRun) -> dict[str, Any]:
    """What tells an analysis from any other of the run."""
    return {
        "analysis": analysis,
        "suite": suite,
        "versions": versions(),
        "trained": run.manifest["time"],
        "steps": recorded_steps(run),
    }


def _place(analysis: Analysis, decides: Mapping[str, Any], run: TrainedRun) -> Path:
    return run.directory / "analysis" / f"{analysis.name}--{short_hash(decides)}"


def analysis_place(analysis: Analysis, suite: Suite, directory: Path) -> Path:
    """Where an analysis of a run, as it is now, is kept, whether or not it was done.

    Args:
        analysis: Which.
        suite: That of the analysis.
        directory: Of the run, which is finished; its model may be gone.

    Raises:
        RunError: the run is damaged.
    """
    run = read_record(directory)
    return _place(analysis, _decides(analysis, suite, run), run)


def is_analysed(analysis: Analysis, suite: Suite, directory: Path) -> bool:
    """Whether a run has been analysed, as it is now.

    Args:
        analysis: Which.
        suite: That of the analysis.
        directory: Of the run, which is finished.
    """
    return is_done(analysis_place(analysis, suite, directory))


def is_done(place: Path) -> bool:
    """Whether an analysis is kept in a directory."""
    return (place / "manifest.json").is_file()


def analyse_cell(cell: Cell, analysis: Analysis) -> None:
    """An analysis of a finished cell on its own suite.

    Raises:
        HeedError: what the analysis needs is missing or damaged.
    """
    cell.trainer.need_device()
    use_processor(cell.trainer.threads, cell.trainer.device)
    studied = StudiedRun(read_run(cell.directory), cell.suite, surroundings(cell), cell.root)
    directory, said = analyse(analysis, studied)
    for line in (*said, str(directory / "report.html")):
        SAY.print(visible(line), soft_wrap=True, markup=False)
