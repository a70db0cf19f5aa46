"""Several cells from start to end: plan, show, run what the ledger lacks, report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from heed.core.compose import option_names
from heed.core.console import progress_console, result_console
from heed.core.errors import RunError
from heed.study.apart import Apart
from heed.study.ledger import latest
from heed.study.outcome import Outcomes, failed_of, outcomes, report
from heed.study.plan import PlannedCell, analyses_of, plan_cells, plan_study
from heed.study.recall import cells_left_out, keep_plan, recall_plan
from heed.study.results_table import result_table
from heed.study.scaling import at_scale, scale_lines
from heed.study.send import send_failed, send_study
from heed.study.several import Launch, Several, sign_of
from heed.study.show_plan import command_lines, failure_lines, plan_table
from heed.study.study import Study, Sweep

SAY = progress_console()


def run_sweep(sweep: Sweep, typed: Sequence[str], conf: Path, launch: Launch) -> None:
    """Run what is missing of a study and write its page; without a study, list what can be chosen.

    Args:
        sweep: The command.
        typed: Its settings that hold for all cells.
        conf: The config tree.
        launch: How cells are begun.

    Raises:
        RunError: cells or analyses have failed; the others and the page are kept.
    """
    sweep = at_scale(sweep, conf)
    console, study = result_console(), sweep.study
    if study is None:
        console.print("\n".join(_choices(conf)), soft_wrap=True, markup=False)
        return
    cells = _planned(sweep, typed, conf)
    _show_plan(sweep, study, cells)
    if sweep.plan_only or sweep.status:
        return
    earlier = {key for key, entry in latest(sweep.root).items() if entry["event"] == "done"}
    failed = _run_missing(sweep, cells, conf, launch)
    found = outcomes(cells, sweep.root)
    page, lacking = report(study, cells, found, sweep.root, analyses_of(study, conf))
    failed += lacking
    console.print(result_table(found.done, study.varied))
    console.print(f"The page: {page}", soft_wrap=True, markup=False)
    if not sweep.report_only:
        sync = sweep.sync
        failed += send_study(study, cells, found, page, everything=sync, earlier=earlier)
    runs = not (sweep.report_only or sweep.sync)
    asked = len(cells) if runs else len(found.done) + len(found.failed)
    _raise_failed(asked, found, failed, "retry=failed runs them again.")


def _show_plan(sweep: Sweep, study: Study, cells: Sequence[PlannedCell]) -> None:
    """Print what there is to do, as far as the command asks to see it."""
    console, known = result_console(), latest(sweep.root)
    if not sweep.report_only:
        for line in scale_lines(study):
            console.print(line, soft_wrap=True, markup=False)
        console.print(plan_table(f"study {study.name}", cells, known, every=sweep.plan_only))
    if sweep.plan_only:
        console.print("\n".join(command_lines(cells)), soft_wrap=True, markup=False)
    if sweep.plan_only or sweep.status:
        for line in failure_lines(failed_of(cells, known)):
            console.print(line, soft_wrap=True, markup=False)


def _run_missing(
    sweep: Sweep, cells: Sequence[PlannedCell], conf: Path, launch: Launch
) -> list[str]:
    """Run what is missing, if the command runs anything; a line for each that failed beside."""
    assert sweep.study is not None, "a sweep without a study has no cells"
    if sweep.sync:
        _need_mirror(sweep)
    if sweep.sync or sweep.report_only:
        return []
    how = _how(sweep, sweep.study, launch)
    return Several(cells, sweep.root, launch, how).run(analyses_of(sweep.study, conf))


def _how(sweep: Sweep, study: Study, launch: Launch) -> Apart:
    """How the cells of a study are seen through.

    Whether a server can be reached is asked once, here, unless cells run on other machines.
    """
    return Apart(
        retry=bool(sweep.retry),
        on_fail=sweep.on_fail,
        cell_timeout=sweep.cell_timeout,
        halt=sign_of(sweep.root),
        study=study.name,
        axes=tuple(study.varied),
        offline=not (launch.stays or sweep.logger.reachable()),
    )


def _need_mirror(sweep: Sweep) -> None:
    """Refuse to send anything where nothing can be sent, or to a server that does not answer.

    Raises:
        RunError: it is so.
    """
    if why := sweep.logger.why_not():
        raise RunError(f"Nothing was sent: {why}")
    if not sweep.logger.reachable():
        raise RunError(
            "the mirror's server does not answer, so nothing was sent; the local files are whole. "
            "Give this command again later, or add logger.mode=offline to write folders for "
            "`wandb sync`."
        )


def _choices(conf: Path) -> list[str]:
    """What to say where no study is chosen."""
    studies, scales = option_names(conf, "study"), option_names(conf, "scale")
    return [
        "Choose a study:",
        *(f"  python sweep.py study={name}" for name in studies),
        "and, to run it smaller, a scale:",
        *(f"  python sweep.py study=<name> scale={name}" for name in scales),
    ]


def _planned(sweep: Sweep, typed: Sequence[str], conf: Path) -> list[PlannedCell]:
    """The cells of a study; those of the last plan where nothing is run and nothing has changed."""
    assert sweep.study is not None, "a sweep without a study has no plan"
    directory = sweep.root / "studies" / sweep.study.name
    own = [*typed, *(" ".join(line) for line in sweep.study.lines())]
    recalled = recall_plan(directory, conf, own) if sweep.status or sweep.report_only else None
    if recalled is not None:
        cells, made = recalled
        SAY.print(f"As planned on {made}; settings, code and data are as they were.", markup=False)
        return cells
    cells = plan_study(sweep.study, conf, typed)
    if left_out := cells_left_out(directory, cells):
        SAY.print(
            f"{left_out} cells of the last plan of study {sweep.study.name} are none of this one: "
            f"settings, code or data differ. Their runs stay; table and page in {directory} will "
            f"be of this one's cells. A study.name of its own keeps both.",
            markup=False,
        )
    keep_plan(directory, cells, conf, own)
    return cells


def run_lines(lines: Sequence[Sequence[str]], conf: Path, root: Path, launch: Launch) -> None:
    """Run what is missing of the cells that `python train.py -m ...` asks for.

    Args:
        lines: The settings of each.
        conf: The config tree.
        root: Of the outputs.
        launch: How cells are begun.

    Raises:
        RunError: cells or what was wanted of them have failed; the others are kept.
    """
    cells, console = plan_cells(lines, conf), result_console()
    console.print(plan_table("train.py -m", cells, latest(root)))
    lacking = Several(cells, root, launch, Apart(retry=True, halt=sign_of(root))).run()
    found = outcomes(cells, root)
    console.print(result_table(found.done, [key for cell in cells for key in cell.settings]))
    send_failed(cells, found)
    _raise_failed(len(cells), found, lacking, "The same command runs them again.")


def _raise_failed(cells: int, found: Outcomes, others: Sequence[str], again: str) -> None:
    """Tell what is not done, unless all is.

    Raises:
        RunError: with a line for each.
    """
    failed, left = len(found.failed) + len(others), cells - len(found.done) - len(found.failed)
    told = [f"{failed} failed"] * bool(failed) + [f"{left} not finished"] * bool(left)
    if told:
        lines = [*failure_lines(found.failed), *others]
        total = f"{' and '.join(told)} of {cells} cells and what belongs to them; all else is kept."
        goes_on = ["The same command goes on with what is not finished."] * bool(left or others)
        runs_again = any(entry["event"] == "failed" for entry in found.failed)
        raise RunError("\n".join([total, *lines, *[again] * runs_again, *goes_on]))
