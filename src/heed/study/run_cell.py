"""One cell from start to end: before, fit, after, record; every finished stage is kept."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heed.analysis.verdict_page import PLACE, verdict_page
from heed.core.collector import loading, release
from heed.core.component import plain
from heed.core.errors import RunError, StoppedError
from heed.core.files import read_json, write_json, write_text, write_yaml
from heed.core.identity import canonical, digest_model, short_hash
from heed.core.locks import lock
from heed.core.manifest import manifest
from heed.core.ranks import world
from heed.core.secrets import without_secrets
from heed.core.types import Delta
from heed.data.intake import check_rows
from heed.evaluation.deltas import refuse_unequal
from heed.study.also import holds_beside, scored_beside, suite_beside, why_not_beside
from heed.study.bases import Untuned, load_base
from heed.study.cell import Cell
from heed.study.controls import with_controls
from heed.study.crew import call
from heed.study.debugging import post_mortem, train_alone
from heed.study.export import export_run
from heed.study.fit_job import Tune
from heed.study.inloop import in_loop
from heed.study.ledger import read_result, record, record_result, result_file
from heed.study.look import look_at_data
from heed.study.memory import memory_lines, training_memory
from heed.study.mirror import done_ending, failed_ending, mirrored_cell, send_base
from heed.study.model_card import write_results
from heed.study.rank import has_lost_others
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
from heed.study.wanted import keeps_result
from heed.tracking.tracker import LocalOnly
from heed.training.export import refuse_unpushable

if TYPE_CHECKING:
    from heed.training.fit import Surroundings

STOPS = (StoppedError, KeyboardInterrupt, SystemExit)
"""What ends a cell that can go on."""


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
    if not keeps_result(cell):  # else its export says so, and notes it
        refuse_unpushable(cell.export)
    directory = cell.directory
    with loading():  # the rules of its tasks
        plan = plan_table(cell)
    SAY.print(plan)
    path = result_file(directory, cell.suite.name)
    with lock(run_lock(directory), say_waiting):
        try:
            recorded = _recorded(cell, path)
            if recorded is None:
                result = _mirrored(cell, directory)
                write_text(path.parent / PLACE, verdict_page(result))
                write_results(directory, result)
                write_json(path, result)
            else:
                result = recorded
        except BaseException as error:
            follows = world() > 1 and has_lost_others(error)  # who began us knows why
            if not (follows or keeps_result(cell)):
                event = "stopped" if isinstance(error, STOPS) else "failed"
                reason = f"{type(error).__name__}: {error}"
                record(cell.root, event, cell.names | {"reason": reason})
            raise
        _keep(cell, result, path.parent / PLACE)
    if recorded is None and cell.logger.afar and cell.logger.alone:
        # after all is kept; a sweep sends the bases of all cells, each once
        send_base(cell.logger, cell, cell.root / result["before"])
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
        RunError: it cannot be read, or was made by another suite of the same name.
    """
    if not result_file.is_file():
        return None
    result = read_result(result_file, cell.run.id)
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
    ending = failed_ending("failed", "it ended without a word")
    cell.logger.start(mirrored_cell(cell, (cell.run.id, short_hash(cell.suite))))
    try:
        result = _make(cell, directory)
        ending = done_ending(result, cell.root)
    except BaseException as error:
        event = "stopped" if isinstance(error, STOPS) else "failed"
        ending = failed_ending(event, without_secrets(f"{type(error).__name__}: {error}"))
        raise
    finally:
        cell.logger.finish(ending)
    return result


def _keep(cell: Cell, result: dict[str, Any], page: Path) -> None:
    """Write what is missing of the page, `DONE` and the ledger's entry."""
    if not page.is_file():
        write_text(page, verdict_page(result))
    if not (cell.directory / "DONE").is_file():
        write_text(cell.directory / "DONE", f"{cell.run.id}\n")
    record_result(cell.root, result)


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


def _import_libraries() -> None:
    """Import at once what would be imported bit by bit."""
    with loading():
        import heed.training.fit  # noqa: F401


def _make(cell: Cell, directory: Path) -> dict[str, Any]:
    """Before, fit, after; returns the result to be recorded."""
    began, resumed = time.monotonic(), directory.is_dir()
    with loading():
        cell.trainer.need_device()
    check_rows(cell.teacher, cell.model.template, cell.data)
    _import_libraries()
    _say_memory(cell, directory)
    before, before_beside = score_before(cell)
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
    seconds = None if resumed else round(time.monotonic() - began, 1)
    return result | {"notes": [*result["notes"], *why], "cost": cost_of(result["fit"], seconds)}


def score_before(cell: Cell) -> tuple[Kept, Kept | None]:
    """The scores of the untuned student, made on first use: as declared, and as asked beside.

    They are made before tuning, so that prompts that do not fit are told of in time.
    """
    _import_libraries()
    base = Untuned(cell.model, surroundings(cell), cell.root)
    suites = [cell.suite, suite_beside(cell.suite)]
    before, beside = (
        None if suite is None else with_controls(base, scores_of(base, suite), suite, cell.root)
        for suite in suites
    )
    assert before is not None, "every suite has a declared prompting"
    return before, beside


def cost_of(fit: Mapping[str, Any], seconds: float | None) -> dict[str, Any]:
    """What a cell took.

    Args:
        fit: Its record of the training.
        seconds: Of the whole cell; None where it was not made in one go.

    Returns:
        `seconds`, `fit_seconds` and `supervised_tokens` of the training.
    """
    tokens = fit["plan"]["supervised_tokens"]
    return {"seconds": seconds, "fit_seconds": fit["seconds"], "supervised_tokens": tokens}


def _say_memory(cell: Cell, directory: Path) -> None:
    """What a step needs, where there is still one to be done; nothing is loaded for it."""
    if not (directory / "manifest.json").is_file():
        for line in memory_lines(cell.model, cell.run.recipe, cell.trainer):
            SAY.print(line, markup=False, soft_wrap=True)
    if cell.trainer.strategy == "fsdp" and not cell.trainer.several:
        SAY.print("  trainer.strategy=fsdp has nothing to divide on one device: it trains as ever.")


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
    call(Tune(replace(cell, logger=LocalOnly())))
    found = fit(run.recipe, loaded, around, directory, cell.prompts())
    del loaded
    release()
    write_json(directory / "manifest.json", manifest() | about | {"fit": found})
    clear(directory)
