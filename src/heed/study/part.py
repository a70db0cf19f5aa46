"""A part of a cell, which has a process of its own: its file, its devices, and if it is missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from heed.core.identity import short_hash
from heed.study.analyses import is_analysed
from heed.study.bases import baseline_directory
from heed.study.cell import Cell
from heed.study.wanted import has_all, has_result

if TYPE_CHECKING:
    from heed.study.apart import Apart

Part = Literal["before", "cell", "analysis"]
"""The scores before tuning, the whole cell, or an analysis of the finished one."""


def file_of(cell: Cell, how: Apart) -> Path:
    """The resolved config of the process of a part of a cell; its log and its lock are beside it.

    Args:
        cell: Which.
        how: Which part.
    """
    folder = cell.root / "cells"
    if how.part == "before":
        baseline = baseline_directory(cell.model, cell.suite, cell.root)
        return folder / f"before--{baseline.name}.yaml"
    name = f"{cell.run.directory}--{short_hash(cell.suite)}"
    return folder / f"{name if how.analysis is None else f'{name}--{how.analysis.name}'}.yaml"


def title_of(cell: Cell, how: Apart) -> str:
    """What is done, for people."""
    if how.part == "before":
        return f"{cell.model.name} before tuning"
    return f"{how.analysis.name} of {cell.run.directory}" if how.analysis else cell.run.directory


def is_missing(cell: Cell, how: Apart) -> bool:
    """Whether a part of a cell is still to be done."""
    if how.part == "before":
        baseline = baseline_directory(cell.model, cell.suite, cell.root)
        return not (baseline / "summary.json").is_file()
    if how.analysis is not None:
        return has_result(cell) and not is_analysed(how.analysis, cell.suite, cell.directory)
    return not has_all(cell)


def on_what_it_uses(cell: Cell, how: Apart) -> Cell:
    """The cell with the devices that a part of it uses: one for an analysis, none to export it."""
    if how.part == "analysis":
        return replace(cell, trainer=replace(cell.trainer, devices=1, nodes=1))
    if how.part == "cell" and has_result(cell):
        processor = replace(cell.trainer, accelerator="cpu", devices=1, nodes=1)
        return replace(cell, trainer=processor)
    return cell
