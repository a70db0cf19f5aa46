"""One cell from start to end: before, fit, after, record; every finished stage is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heed.analysis.panel import console_table
from heed.core.component import plain
from heed.core.console import result_console
from heed.core.files import lock, read_json, write_json, write_text, write_yaml
from heed.core.manifest import manifest
from heed.core.types import Delta
from heed.evaluation.record import read_scores, write_scores
from heed.evaluation.suite import refuse_unequal
from heed.study.bases import SAY, before_scores, load_base, progress_line
from heed.study.cell import Cell
from heed.study.ledger import record
from heed.study.show import plan_table

if TYPE_CHECKING:
    from heed.training.fit import Surroundings


def run_cell(cell: Cell) -> None:
    """Run what is missing of a cell, and show its result.

    Raises:
        HeedError: the run cannot start or go on; the ledger has the reason.
    """
    run, directory = cell.run, cell.directory
    SAY.print(plan_table(cell))
    result_file = directory / "scores" / cell.suite.name / "result.json"
    with lock(cell.root / "locks" / run.id):
        if not result_file.is_file():
            try:
                result = _make(cell, directory)
            except BaseException as error:
                reason = f"{type(error).__name__}: {error}"
                record(cell.root, "failed", cell.names | {"reason": reason})
                raise
            write_json(result_file, result)
            write_text(directory / "DONE", f"{run.id}\n")
            record(cell.root, "done", result)
        else:
            SAY.print("Already done; this is the recorded result.")
    show_result(read_json(result_file), directory)


def show_result(result: dict[str, Any], directory: Path) -> None:
    """Print the table of a finished run."""
    console = result_console()
    deltas = [Delta(**delta) for delta in result["deltas"]]
    console.print(console_table(deltas, primary=result["primary"], level=result["level"]))
    for line in result["notes"]:
        console.print(line, markup=False)
    console.print(f"run {result['run']}  {directory}", soft_wrap=True)


def surroundings(cell: Cell) -> Surroundings:
    """The part of a cell that does not decide its result."""
    from heed.training.fit import Surroundings

    return Surroundings(cell.trainer, cell.callbacks, cell.logger)


def _make(cell: Cell, directory: Path) -> dict[str, Any]:
    """Before, fit, after; returns the result to be recorded."""
    around = surroundings(cell)
    before, before_print, baseline = before_scores(cell.model, cell.suite, around, cell.root)
    if not (directory / "model").is_dir():
        _fit(cell, directory)
    after, after_print = _after(cell, directory)
    refuse_unequal(before_print, after_print)
    deltas = cell.suite.deltas(before, after)
    return cell.names | {
        "name": cell.run.name,
        "directory": str(directory.relative_to(cell.root)),
        "before": str(baseline.relative_to(cell.root)),
        "primary": cell.suite.primary,
        "level": cell.suite.level,
        "margin": cell.suite.margin,
        "deltas": [asdict(delta) for delta in deltas],
        "notes": reference_notes(deltas, read_json(baseline / "references.json")),
        "fit": read_json(directory / "manifest.json")["fit"],
        "code": manifest()["code"],
        "settings": plain(cell),
    }


def _fit(cell: Cell, directory: Path) -> None:
    """Tune the student into `directory/model`."""
    from heed.training.fit import fit

    run, around = cell.run, surroundings(cell)
    loaded = load_base(cell.model, around, cell.root)
    SAY.print(f"Tuning [bold]{run.name}[/bold]")
    write_yaml(directory / "config.yaml", plain(cell))
    (directory / "metrics.jsonl").unlink(missing_ok=True)
    cell.logger.start(run.name, run.id, plain(cell), directory)
    failed = True
    try:
        found = fit(run.recipe, loaded, around, directory)
        failed = False
    finally:
        cell.logger.finish({}, failed=failed)
    write_json(directory / "manifest.json", manifest() | {"run": run.id, "fit": found})


def _after(cell: Cell, directory: Path) -> tuple[list[Any], dict[str, Any]]:
    """Scores of the tuned student as it is on disk."""
    from heed.training.checkpoint import load_student

    scores_directory = directory / "scores" / cell.suite.name
    if not (scores_directory / "summary.json").is_file():
        model = directory / "model"
        loaded = load_student(model, name=cell.model.name, template=cell.model.template)
        SAY.print(f"Scoring [bold]{cell.run.name}[/bold] after tuning")
        scores = cell.suite.score(loaded, progress_line(SAY))
        write_scores(scores_directory, cell.suite, scores, cell.suite.fingerprint(loaded))
    return read_scores(scores_directory)


def reference_notes(deltas: Sequence[Delta], references: Mapping[str, Any]) -> list[str]:
    """Lines that set a task's values beside those of trivial models."""
    return [
        f"{delta.metric}: before {delta.before:.3f}, after {delta.after:.3f}; "
        + ", ".join(f"{name} {value:.3f}" for name, value in references[task].items())
        for delta in deltas
        if (task := delta.metric.split("/")[0]) in references
    ]
