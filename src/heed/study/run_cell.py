"""One cell from start to end: before, fit, after, record; every finished stage is kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from heed.core.component import plain
from heed.core.errors import RunError
from heed.core.files import lock, read_json, write_json, write_text, write_yaml
from heed.core.identity import canonical, first_difference
from heed.core.manifest import manifest
from heed.data.encode import check_rows
from heed.evaluation.record import read_scores, write_scores
from heed.evaluation.suite import refuse_unequal
from heed.study.bases import SAY, before_scores, load_base, progress_line, say_waiting
from heed.study.cell import Cell
from heed.study.ledger import latest, record
from heed.study.result import result_of, show_result
from heed.study.show import plan_table

if TYPE_CHECKING:
    from heed.training.fit import Surroundings

SUMMARY = ("before", "after", "delta", "low", "high", "verdict")
"""What of each delta is mirrored."""


def run_cell(cell: Cell) -> None:
    """Run what is missing of a cell, and show its result.

    Raises:
        HeedError: the run cannot start or go on; the ledger has the reason.
    """
    run, directory = cell.run, cell.directory
    SAY.print(plan_table(cell))
    result_file = directory / "scores" / cell.suite.name / "result.json"
    with lock(cell.root / "locks" / run.id, say_waiting):
        known = result_file.is_file()
        try:
            result = _recorded(cell, result_file) if known else _mirrored(cell, directory)
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
            record(cell.root, "failed", cell.names | {"reason": reason})
            raise
        _keep(cell, result, result_file)
    show_result(result, directory)


def _recorded(cell: Cell, result_file: Path) -> dict[str, Any]:
    """The result that an earlier call recorded for this cell's run on this very suite.

    Raises:
        RunError: it was made by another suite of the same name.
    """
    result: dict[str, Any] = read_json(result_file)
    if result["suite"] != cell.names["suite"]:
        name = cell.suite.name
        key, then, now = first_difference(result["suite_identity"], canonical(cell.suite))
        raise RunError(
            f"{result_file} was made by another suite that is also called {name!r} (suite.{key} "
            f"was {then!r} and is {now!r} now), so it does not answer this command, and is not "
            f"overwritten. Give this suite a name of its own: suite.name={name}2."
        )
    SAY.print("Already done; this is the recorded result.")
    if result["code"] != (now := manifest()["code"]):
        SAY.print(f"It was made by heed's code {result['code']}; the code is {now} now.")
    return result


def _mirrored(cell: Cell, directory: Path) -> dict[str, Any]:
    """Make the result, and tell the mirror of either outcome."""
    summary: dict[str, Any] = {}
    failed = True
    cell.logger.start(cell.run.name, cell.run.id, plain(cell), directory)
    try:
        result = _make(cell, directory)
        summary = {d["metric"]: {k: d[k] for k in SUMMARY} for d in result["deltas"]}
        failed = False
    finally:
        cell.logger.finish(summary, failed=failed)
    return result


def _keep(cell: Cell, result: dict[str, Any], result_file: Path) -> None:
    """Write what is missing of `result.json`, `DONE` and the ledger's entry."""
    if not result_file.is_file():
        write_json(result_file, result)
    if not (cell.directory / "DONE").is_file():
        write_text(cell.directory / "DONE", f"{cell.run.id}\n")
    entry = latest(cell.root).get((result["run"], result["suite"]))
    if entry is None or entry["event"] != "done":
        record(cell.root, "done", result)


def surroundings(cell: Cell) -> Surroundings:
    """The part of a cell that does not decide its result."""
    from heed.training.fit import Surroundings

    return Surroundings(cell.trainer, cell.callbacks, cell.logger)


def _make(cell: Cell, directory: Path) -> dict[str, Any]:
    """Before, fit, after; returns the result to be recorded."""
    cell.trainer.need_device()
    check_rows(cell.teacher, cell.model.template)
    around = surroundings(cell)
    before, before_print, baseline = before_scores(cell.model, cell.suite, around, cell.root)
    if not (directory / "manifest.json").is_file():
        _fit(cell, directory)
    after, after_print = _after(cell, directory)
    refuse_unequal(before_print, after_print)
    return result_of(cell, cell.suite.deltas(before, after), baseline)


def _fit(cell: Cell, directory: Path) -> None:
    """Tune the student into `directory/model`; the manifest, written last, says that it is done."""
    from heed.training.fit import fit

    run, around = cell.run, surroundings(cell)
    loaded = load_base(cell.model, around, cell.root)
    SAY.print(f"Tuning [bold]{run.name}[/bold]")
    write_yaml(directory / "config.yaml", plain(cell))
    (directory / "metrics.jsonl").unlink(missing_ok=True)
    found = fit(run.recipe, loaded, around, directory)
    write_json(directory / "manifest.json", _about(cell) | {"fit": found})


def _about(cell: Cell) -> dict[str, Any]:
    return manifest() | {"run": cell.run.id, "device": cell.trainer.device}


def _after(cell: Cell, directory: Path) -> tuple[list[Any], dict[str, Any]]:
    """Scores of the tuned student as it is on disk."""
    from heed.training.checkpoint import load_student

    scores_directory = directory / "scores" / cell.suite.name
    if not _scored_alike(scores_directory, cell):
        model = directory / "model"
        loaded = load_student(model, cell.model.loading).to(cell.trainer.device)
        SAY.print(f"Scoring [bold]{cell.run.name}[/bold] after tuning")
        scores = cell.suite.score(loaded, progress_line(SAY))
        write_scores(scores_directory, cell.suite, scores, cell.suite.fingerprint(loaded))
    return read_scores(scores_directory)


def _scored_alike(directory: Path, cell: Cell) -> bool:
    """Whether whole scores of these settings are there, of a run that died before its end."""
    if not (directory / "summary.json").is_file():
        return False
    found: dict[str, Any] = read_json(directory / "fingerprint.json")
    return all(found.get(key) == value for key, value in cell.suite.settings().items())
