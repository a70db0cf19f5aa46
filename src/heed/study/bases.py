"""Base students and their scores: made on first use, once, and shared by every run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heed.core.collector import release
from heed.core.component import plain
from heed.core.errors import RunError
from heed.core.files import write_json, write_text, write_yaml
from heed.core.identity import digest_model, short_hash, slug, versions
from heed.core.locks import lock
from heed.core.manifest import manifest
from heed.core.ranks import leads, rank
from heed.core.secrets import without_secrets
from heed.evaluation.suite import Suite
from heed.models.student import Student
from heed.study.crew import call
from heed.study.fit_job import Pretrain
from heed.study.memory import memory_lines, training_memory
from heed.study.mirror import another, failed_ending, made_ending, mirrored_pretraining
from heed.study.runs import run_lock
from heed.study.scores import SAY, ModelSubject, say_waiting
from heed.tracking.tracker import LocalOnly
from heed.training.run import Run, base_run

if TYPE_CHECKING:
    from heed.models.student import Loaded
    from heed.training.fit import Surroundings


def load_base(student: Student, around: Surroundings, root: Path) -> Loaded:
    """The untuned student in memory; pre-trained first if this is its first use.

    Args:
        student: Which.
        around: Devices and watchers of a pre-training.
        root: Of the outputs.

    Raises:
        RunError: it cannot be read, or this rank does not lead and finds none.
    """
    from heed.training.checkpoint import load_student

    run = base_run(student)
    if run is None:
        return student.fresh()
    make_base(student, around, root)
    return load_student(root / "runs" / run.directory / "model", student.loading)


def make_base(student: Student, around: Surroundings, root: Path) -> None:
    """Pre-train a student, if it is made here and this is its first use.

    Args:
        student: Which.
        around: Devices and watchers of a pre-training.
        root: Of the outputs.

    Raises:
        RunError: this rank does not lead, and finds none.
    """
    run = base_run(student)
    if run is None:
        return
    directory = root / "runs" / run.directory
    done = directory / "DONE"
    if not (done.is_file() or leads()):
        raise RunError(
            f"rank {rank()}: there is no {done}, though rank 0 has made that base. All machines of "
            f"a run must write to one shared folder: give outputs=<folder> on a shared disk."
        )
    if not done.is_file():  # what is done needs no lock: somebody may hold it, to score the base
        with lock(run_lock(directory), say_waiting):
            if not done.is_file():
                _pretrain(run, around, directory)
                write_text(done, f"{run.id}\n")


def _pretrain(run: Run, around: Surroundings, directory: Path) -> None:
    from heed.training.fit import fit
    from heed.training.points import clear

    SAY.print(f"Pre-training [bold]{run.student.name}[/bold] (first use; kept in {directory})")
    write_yaml(directory / "config.yaml", plain(run))
    watch = {n: w for n, w in around.callbacks.items() if not w.tuning_only}
    alone = replace(around, tracker=LocalOnly(), callbacks=watch)  # of other ranks none is mirrored
    for line in memory_lines(run.student, run.recipe, alone.trainer):
        SAY.print(line, markup=False, soft_wrap=True)
    call(Pretrain(run, alone, directory))
    mirror, ending = another(around.tracker), failed_ending("failed", "it ended without a word")
    mirror.start(mirrored_pretraining(run, directory.parents[1]))
    try:
        with training_memory(run.student, run.recipe, alone.trainer):
            loaded, watched = run.student.fresh(), replace(alone, tracker=mirror)
            record = fit(run.recipe, loaded, watched, directory)
        ending = made_ending()
    except BaseException as error:
        ending = failed_ending("failed", without_secrets(f"{type(error).__name__}: {error}"))
        raise
    finally:
        mirror.finish(ending)
    release()
    write_json(directory / "manifest.json", manifest() | {"run": run.id, "fit": record})
    clear(directory)


def baseline_directory(student: Student, suite: Suite, root: Path) -> Path:
    """Where the scores of an untuned student are kept."""
    name = short_hash({"student": student, "suite": suite, "versions": versions()})
    return root / "baselines" / f"{slug(student.name)}--{suite.name}--{name}"


@dataclass(frozen=True)
class Untuned(ModelSubject):
    """A student before tuning, pre-trained first if this is its first use.

    Attributes:
        student: Which.
        around: Devices, and the watchers of a pre-training.
        root: Of the outputs.
    """

    student: Student
    around: Surroundings
    root: Path

    @property
    def title(self) -> str:
        """Its name."""
        return f"{self.student.name}, untuned"

    @property
    def facts(self) -> dict[str, str]:
        """Its name, and the run that pre-trained it."""
        run = base_run(self.student)
        made = f", pre-trained by run {run.id}" if run else ""
        return {"student": f"{self.student.name}, untuned{made}"}

    @property
    def identity(self) -> dict[str, Any]:
        """The student as its config describes it, and the weights that its pre-training made.

        The same pre-training may round otherwise a second time, and end with other weights.
        """
        found = {"student": short_hash(self.student)}
        if run := base_run(self.student):
            model = self.root / "runs" / run.directory / "model"
            found["weights"] = digest_model(str(model), None)
        return found

    def directory(self, suite: Suite) -> Path:
        """Shared by every run of the student."""
        return baseline_directory(self.student, suite, self.root)

    def make(self) -> None:
        """Pre-train the student, if this is its first use."""
        make_base(self.student, self.around, self.root)

    def for_ranks(self) -> Untuned:
        """Without what watches and scores a pre-training: there is none any more."""
        around = replace(self.around, callbacks={}, tracker=LocalOnly(), score=None, ask=None)
        return replace(self, around=around)

    def load(self) -> Loaded:
        """The base student, made on first use."""
        return load_base(self.student, self.around, self.root).to(self.around.trainer.device)

    def files(self, suite: Suite, loaded: Loaded) -> dict[str, Any]:
        """What trivial models reach on the suite's tasks, where a task knows such a model."""
        found = {}
        if self.student.pretraining is not None:
            text = self.student.pretraining.teacher
            tasks = suite.tasks.items()
            found = {name: task.references(text, loaded.tokenizer) for name, task in tasks}
        return {"references.json": {name: values for name, values in found.items() if values}}
