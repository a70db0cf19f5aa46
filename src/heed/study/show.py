"""The resolved plan of a cell on one screen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from rich.markup import escape
from rich.table import Table

from heed.core.component import is_component
from heed.core.errors import DataError
from heed.core.power import POWER, detectable_flips, least_detectable
from heed.evaluation.suite import Suite
from heed.study.cell import Cell

GROUPS = (
    "model",
    "teacher",
    "method",
    "lr",
    "data",
    "optim",
    "suite",
    "trainer",
    "logger",
    "export",
)

CHANGED = (0.1, 0.2, 0.3)
"""Shares of items that change, for which a plan says what can be seen: the true one comes later."""


def plan_table(cell: Cell) -> Table:
    """Every setting of a cell, a line per group; what decides the result and what does not."""
    table = Table(title=f"run {cell.run.id}  seed {cell.seed}  precision {cell.precision}")
    table.add_column("group")
    table.add_column("settings", overflow="fold")
    for name in GROUPS:
        table.add_row(name, escape(described(getattr(cell, name))))
        if name == "model" and cell.model.pretraining is not None:
            table.add_row("  pre-trained by", escape(described(cell.model.pretraining)))
    table.add_row("detectable", escape(detectable_line(cell.suite)))
    return table


def detectable_line(suite: Suite, tests: int = 1) -> str:
    """The smallest delta that a suite's primary metric is likely to show, before anything is run.

    How many items will change is not known yet: it is said for some shares of them, all items being
    right or wrong (`heed.core.power.detectable_flips`); `none`, where so few changed items show no
    delta at all. Of several instructions in a prompt, less can be enough. Needs no model.

    Args:
        suite: Its primary task's items are counted.
        tests: Number of cells that are tested together; the level is then that of Holm's first.
    """
    name, _, metric = suite.primary.partition("/")
    task = suite.tasks[name]
    try:
        items = 0 if metric in task.lower_is_better else len(task.items())
    except DataError as error:  # the scoring itself will stop at it, where the ledger hears of it
        return f"{suite.primary}: unknown, its items cannot be made. {error}"
    if not items:
        return f"{suite.primary}: known once it is scored"
    level = 1 - (1 - suite.level) / tests
    shares = " / ".join(f"{100 * share:.0f}" for share in CHANGED)
    least = least_detectable(items, level)
    effects = [(share, max(least, detectable_flips(share, items, level))) for share in CHANGED]
    found = [f"{100 * effect:.1f}" if effect <= share else "none" for share, effect in effects]
    over = f", the first of {tests} cells by Holm" if tests > 1 else ""
    return (
        f"{suite.primary}: if {shares} % of {items} items change, each right or wrong, a delta of "
        f"{' / '.join(found)} points shows in {100 * POWER:.0f} of 100 runs "
        f"(level {suite.level:g}{over})"
    )


def described(value: Any) -> str:
    """A component on a line: its kind, its name, its settings.

    Example:
        >>> from heed.training.optim import LearningRate
        >>> described(LearningRate(name="toy", peak=1e-3, schedule="constant",
        ...                        warmup_steps=0, final=0.0))
        'LearningRate name=toy peak=0.001 schedule=constant warmup_steps=0 final=0.0'
    """
    if not is_component(value):
        if isinstance(value, Mapping):
            return "{" + ", ".join(str(key) for key in value) + "}"
        return repr(value) if isinstance(value, str) and not value.isprintable() else str(value)
    parts = []
    for f in fields(value):
        if f.name == "pretraining":  # a line of its own
            continue
        item = getattr(value, f.name)
        text = f"({described(item)})" if is_component(item) else described(item)
        parts.append(f"{f.name}={text}")
    return " ".join([type(value).__name__, *parts])
