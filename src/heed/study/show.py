"""The resolved plan of a cell on one screen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from rich.markup import escape
from rich.table import Table

from heed.core.component import is_component
from heed.study.cell import Cell

GROUPS = ("model", "teacher", "method", "lr", "data", "optim", "suite", "trainer", "logger")


def plan_table(cell: Cell) -> Table:
    """Every setting of a cell, a line per group; what decides the result and what does not."""
    table = Table(title=f"run {cell.run.id}  seed {cell.seed}  precision {cell.precision}")
    table.add_column("group")
    table.add_column("settings", overflow="fold")
    for name in GROUPS:
        table.add_row(name, escape(described(getattr(cell, name))))
        if name == "model" and cell.model.pretraining is not None:
            table.add_row("  pre-trained by", escape(described(cell.model.pretraining)))
    return table


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
