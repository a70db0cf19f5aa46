"""A look at the training data of a cell, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from heed.core.console import result_console
from heed.core.files import whole_directory, write_json, write_text
from heed.core.identity import short_hash, slug
from heed.data.intake import check_rows
from heed.data.statistics import happened
from heed.study.cell import Cell

WIDTH = 40
"""Characters of the longest bar."""


def look_at_data(cell: Cell) -> Path:
    """Encode what a cell would train on, print what it is, and write a page of examples.

    Nothing is trained, scored or entered in the ledger, and of the student no more is loaded than
    its tokenizer. The tokens stay in the cache, where a run finds them.

    Returns:
        The directory that was written.

    Raises:
        DataError: a row cannot be read, or nothing is left to train on.
    """
    from heed.training.examples import examples_page
    from heed.training.fit import dataset_for

    check_rows(cell.teacher, cell.model.template, cell.data)
    recipe = cell.run.recipe
    dataset, numbers = dataset_for(recipe, cell.model.speech(), cell.root, cell.prompts())
    parts = (cell.teacher, cell.model, short_hash({"recipe": recipe, "student": cell.model}))
    name = "-".join(slug(part.name) for part in parts[:2]) + f"--{parts[2]}"
    directory = cell.root / "data" / name
    with whole_directory(directory) as beside:
        write_json(beside / "statistics.json", numbers)
        page = examples_page(dataset.sample, cell.teacher.name, numbers)
        write_text(beside / "examples.html", page)
    console = result_console()
    for table in data_tables(cell.teacher.name, numbers):
        console.print(table)
    console.print(f"{directory / 'examples.html'}", soft_wrap=True)
    return directory


def data_tables(name: str, numbers: Mapping[str, Any]) -> list[Table]:
    """What `heed.data.statistics` found, as tables: sums, events, lengths."""
    return [_sums(name, numbers), _events(numbers), _lengths(numbers)]


def _sums(name: str, numbers: Mapping[str, Any]) -> Table:
    table = Table(title=f"Training data of {escape(name)}")
    for head in ("", "mean", "5 %", "median", "95 %", "longest", "all"):
        table.add_column(head, justify="left" if not head else "right")
    total = {"lengths": numbers["tokens"], "supervised": numbers["supervised_tokens"]}
    for key, label in (("lengths", "tokens"), ("supervised", "supervised tokens")):
        found = numbers[key]
        cells = [found[k] for k in ("p5", "p50", "p95", "longest")] + [total[key]]
        table.add_row(label, f"{found['mean']:.1f}", *(f"{cell:,}" for cell in cells))
    table.caption = (
        f"{numbers['examples']:,} examples to train on, {numbers['validation_examples']:,} kept "
        f"apart; {numbers['supervised_share']:.1%} of the tokens are supervised"
    )
    return table


def _events(numbers: Mapping[str, Any]) -> Table:
    table = Table(title="What happened to the rows")
    table.add_column("event")
    table.add_column("times", justify="right")
    for event, times in happened(numbers).items():
        table.add_row(escape(event), times)
    return table


def _lengths(numbers: Mapping[str, Any]) -> Table:
    table = Table(title="Lengths in tokens")
    table.add_column("tokens", justify="right")
    table.add_column("examples", justify="right")
    table.add_column("")
    most = max(count for *_, count in numbers["histogram"])
    for low, high, count in numbers["histogram"]:
        bar = "█" * -(-count * WIDTH // most)
        table.add_row(f"{low}-{high}", f"{count:,}", bar)
    return table
