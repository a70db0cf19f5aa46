"""One cell from start to end: before, fit, after, record; every finished stage is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heed.analysis.verdict_page import PLACE, verdict_page
from heed.core.component import plain
from heed.core.errors import RunError
from heed.core.files import lock, read_json, write_json, write_text, write_yaml
from heed.core.identity import canonical, digest_model
from heed.core.manifest import manifest
from heed.core.types import Delta
from heed.data.intake import check_rows
from heed.evaluation.deltas import refuse_unequal
from heed.study.also import holds_beside, scored_beside, suite_beside, why_not_beside
from heed.study.bases import Untuned, load_base
from heed.study.cell import Cell
from heed.study.controls import with_controls
from heed.study.debugging import post_mortem, train_alone
from heed.study.export import export_run
from heed.study.inloop import in_loop
from heed.study.ledger import latest, record
from heed.study.look import look_at_data
from heed.study.memory import memory_lines, training_memory
from heed.study.model_card import write_results
from heed.study.result import result_of, show_result
from heed.study.runs import TrainedRun, read_run, run_lock
from heed.study.scores import (
    SAY,
    Kept,
    kept_scores,
    refuse_other_suite,
    say_other_code,
    say_waiting,
    scores_of,
)
from heed.study.show import plan_table
from heed.study.steps import not_kept
from heed.study.subjects import Tuned
from heed.training.export import refuse_unpushable

if TYPE_CHECKING:
    from heed.training.fit import Surroundings

SUMMARY = ("before", "after", "delta", "low", "high", "verdict")
"""What of each delta is mirrored."""


def run_cell(cell: Cell) -> None:
    """Run what is missing of a cell, and show its result.

    Raises:
        HeedError: the run cannot start or go on; the ledger has the reason.
    """
    with post_mortem(cell):
        if cell.stop_after == "data":
            look_at_data(cell)
        elif cell.debugging in ("overfit", "profile"):
            train_alone(cell, surroundings(cell))
        else:
            _run(cell)


def _run(cell: Cell) -> None:
    """Run what is missing, record it and show it."""
    refuse_unpushable(cell.export)
    directory = cell.directory
    SAY.print(plan_table(cell))
    result_file = directory / "scores" / cell.suite.name / "result.json"
    with lock(run_lock(directory), say_waiting):
        try:
            result = _recorded(cell, result_file)
            if result is None:
                result = _mirrored(cell, directory)
                write_text(result_file.parent / PLACE, verdict_page(result))
                write_results(directory, result)
                write_json(result_file, result)
        except BaseException as error:
            if not (result_file.is_file() and _entered(cell)):
                reason = f"{type(error).__name__}: {error}"
                record(cell.root, "failed", cell.names | {"reason": reason})
            raise
        _keep(cell, result, result_file.parent / PLACE)
    if lacking := not_kept(directory, cell.callbacks):
        SAY.print(lacking, markup=False, soft_wrap=True)
    show_result(result, directory)
    with lock(run_lock(directory), say_waiting):
        export_run(cell)


def _recorded(cell: Cell, result_file: Path) -> dict[str, Any] | None:
    """The result that an earlier call recorded for this cell's run on this very suite.

    None if there is none, or if a second prompting is wanted that it lacks: it is made again then,
    from the scores that are kept.

    Raises:
        RunError: it was made by another suite of the same name.
    """
    if not result_file.is_file():
        return None
    result: dict[str, Any] = read_json(result_file)
    then, now = result["suite_identity"], canonical(cell.suite)
    refuse_other_suite(result_file, cell.suite.name, {"suite": then}, {"suite": now})
    if not holds_beside(cell.suite, result):
        SAY.print("Already done, but for another prompting; what is missing is added.")
        return None
    SAY.print("Already done; this is the recorded result.")
    say_other_code(result_file, result["code"])
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


def _keep(cell: Cell, result: dict[str, Any], page: Path) -> None:
    """Write what is missing of the page, `DONE` and the ledger's entry."""
    if not page.is_file():
        write_text(page, verdict_page(result))
    if not (cell.directory / "DONE").is_file():
        write_text(cell.directory / "DONE", f"{cell.run.id}\n")
    entry = latest(cell.root).get((result["run"], result["suite"]))
    if entry is None or entry["event"] != "done" or entry.get("also") != result.get("also"):
        record(cell.root, "done", result)


def _entered(cell: Cell) -> bool:
    """Whether the ledger has a result of this cell; it holds if what more was wanted fails."""
    names = cell.names
    entry = latest(cell.root).get((names["run"], names["suite"]))
    return entry is not None and entry["event"] == "done"


def surroundings(cell: Cell) -> Surroundings:
    """The part of a cell that does not decide its result."""
    from heed.training.fit import Surroundings

    looks = in_loop(cell.suite)
    return Surroundings(
        cell.trainer,
        cell.callbacks,
        cell.logger,
        cell.root,
        score=looks,
        preflight=cell.preflight,
        ask=None if looks is None else looks.prompts,
    )


def _make(cell: Cell, directory: Path) -> dict[str, Any]:
    """Before, fit, after; returns the result to be recorded."""
    cell.trainer.need_device()
    check_rows(cell.teacher, cell.model.template, cell.data)
    _say_memory(cell, directory)
    around = surroundings(cell)
    base = Untuned(cell.model, around, cell.root)
    before = with_controls(base, scores_of(base, cell.suite), cell.suite, cell.root)
    other = suite_beside(cell.suite)
    # before tuning, so that prompts that do not fit are told of in time
    before_beside = None
    if other is not None:
        before_beside = with_controls(base, scores_of(base, other), other, cell.root)
    if not (directory / "manifest.json").is_file():
        with training_memory(cell.model, cell.run.recipe, cell.trainer):
            _fit(cell, directory)
    tuned = Tuned(read_run(directory), cell.trainer.device)
    refuse_other_base(before.directory, tuned.run)
    after = kept_scores(tuned, cell.suite)  # the caller holds the lock of the run
    after = with_controls(tuned, after, cell.suite, cell.root)
    refuse_unequal(before.fingerprint, after.fingerprint)
    deltas = cell.suite.deltas(before.sheet.items, after.sheet.items)
    also = _beside(cell, before_beside, tuned, deltas)
    result = result_of(cell, deltas, before, after, also)
    why = [] if also else [why_not_beside(cell.suite)]
    return result | {"notes": [*result["notes"], *why]}


def _say_memory(cell: Cell, directory: Path) -> None:
    """What a step needs, where there is still one to be done; nothing is loaded for it."""
    if not (directory / "manifest.json").is_file():
        for line in memory_lines(cell.model, cell.run.recipe, cell.trainer):
            SAY.print(line, markup=False, soft_wrap=True)


def _beside(
    cell: Cell, before: Kept | None, tuned: Tuned, declared: Sequence[Delta]
) -> dict[str, Any] | None:
    """Both students under the suite's second prompting; the caller holds the lock of the run."""
    suite = suite_beside(cell.suite)
    if suite is None or before is None:
        return None
    refuse_other_base(before.directory, tuned.run)
    after = with_controls(tuned, kept_scores(tuned, suite), suite, cell.root)
    return scored_beside(suite, before, after, declared)


def refuse_other_base(baseline: Path, run: TrainedRun) -> None:
    """Refuse a *before* that another base has scored than the one that was tuned.

    Raises:
        RunError: the base was made anew between the two.
    """
    scored = read_json(baseline / "manifest.json")["identity"].get("weights")
    if scored not in (None, run.manifest["base"]):
        raise RunError(
            f"{baseline} holds the scores of a base with the weights {scored}, but {run.directory} "
            f"was tuned from one with {run.manifest['base']}: its pre-training was done again in "
            f"between, and their difference would not be what tuning did. Move the directory that "
            f"is older out of the way, and run this command again."
        )


def _fit(cell: Cell, directory: Path) -> None:
    """Tune the student into `directory/model`; the manifest, written last, says that it is done."""
    from heed.training.fit import fit
    from heed.training.points import clear

    run, around = cell.run, surroundings(cell)
    loaded = load_base(cell.model, around, cell.root)
    SAY.print(f"Tuning [bold]{run.name}[/bold]")
    write_yaml(directory / "config.yaml", plain(cell))
    about = {
        "run": run.id,
        "device": cell.trainer.device,
        "base": digest_model(loaded.source, loaded.revision),
    }
    found = fit(run.recipe, loaded, around, directory, cell.prompts())
    write_json(directory / "manifest.json", manifest() | about | {"fit": found})
    clear(directory)
