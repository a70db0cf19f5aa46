"""One study from start to end: plan, show, run what the ledger lacks, report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from heed.analysis.deltas import holm_line, row_of
from heed.core.compose import option_names
from heed.core.console import result_console
from heed.core.errors import RunError
from heed.study.execute import execute
from heed.study.ledger import latest
from heed.study.plan import PlannedCell, plan_study, plan_table, states
from heed.study.seeds import over_seeds
from heed.study.study import Study, Sweep


def run_sweep(sweep: Sweep, project: Path) -> None:
    """Run what is missing of a study and write its page; without a study, list the studies.

    Args:
        sweep: The command.
        project: Folder of `train.py` and `conf/`.

    Raises:
        RunError: a cell failed; the others and the page are kept.
    """
    console = result_console()
    if sweep.study is None:
        names = option_names(project / "conf", "study")
        console.print("Choose a study: " + "  ".join(f"python sweep.py study={n}" for n in names))
        return
    root = Path(sweep.outputs).resolve()
    cells = plan_study(sweep.study, project / "conf", str(root))
    found = states(cells, root)
    console.print(plan_table(sweep.study, cells, found))
    missing = [cell for cell, state in zip(cells, found, strict=True) if state != "done"]
    here = root / "studies" / sweep.study.name
    execute(missing, project=project, logs=here / "logs", jobs=sweep.jobs, threads=sweep.threads)
    page, failed = report(sweep.study, cells, root)
    console.print(result_table(cells, root))
    console.print(f"The page: {page}", soft_wrap=True)
    if failed:
        raise RunError(
            f"{len(failed)} of {len(cells)} cells failed; the others and the page are kept:\n"
            + "\n".join(f"  {entry['run']}: {entry['reason']}" for entry in failed)
            + "\nThe same command tries them again."
        )


def report(study: Study, cells: list[PlannedCell], root: Path) -> tuple[Path, list[dict[str, Any]]]:
    """Write table, figures and page of a study from the ledger; returns the page and the failed."""
    from heed.analysis.report import write_report

    known = latest(root)
    entries = [known[c.key] | {"command": c.command} for c in cells if c.key in known]
    done = [entry for entry in entries if entry["event"] == "done"]
    failed = [entry for entry in entries if entry["event"] == "failed"]
    about = {
        "name": study.name,
        "question": study.question,
        "axes": {key: list(values) for key, values in study.axes.items()},
        "seeds": list(study.seeds),
        "cells": len(cells),
        "over_seeds": over_seeds(cells, {(e["run"], e["suite"]): e for e in done}, root),
    }
    return write_report(root / "studies" / study.name, about, done, failed), failed


def result_table(cells: list[PlannedCell], root: Path) -> Table:
    """A line per finished cell with the verdict on the primary metric, and what it differs in."""
    known = latest(root)
    table = Table(title="results on the primary metric")
    done = [known[c.key] for c in cells if c.key in known and known[c.key]["event"] == "done"]
    every = ("student", "teacher", "method", "lr", "seed")
    names = [n for n in every if n == "student" or len({str(e[n]) for e in done}) > 1]
    columns = (
        *names,
        "before",
        "after",
        "delta",
        "interval",
        "verdict",
        "flags",
    )
    for column in columns:
        table.add_column(column, no_wrap=column == "interval")
    table.caption = holm_line([row_of(entry) for entry in done])
    for entry in done:
        delta = next(d for d in entry["deltas"] if d["metric"] == entry["primary"])
        table.add_row(
            *(str(entry[name]) for name in names),
            *(f"{delta[name]:.3f}" for name in ("before", "after")),
            f"{delta['delta']:+.3f}",
            f"[{delta['low']:+.3f}, {delta['high']:+.3f}]".replace("[", r"\["),
            delta["verdict"],
            ", ".join(dict.fromkeys(flag["kind"] for flag in entry.get("flags", ()))),
        )
    return table
