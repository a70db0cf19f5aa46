"""The plan of several cells as it is printed: a table, the commands, what has failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from heed.core.console import duration
from heed.core.manifest import code_state, same_code
from heed.study.estimate import Estimate, estimates
from heed.study.ledger import Key
from heed.study.plan import STATES, PlannedCell, State, states
from heed.study.show import detectable_line

Ledger = Mapping[Key, Mapping[str, Any]]
OTHER_CODE = "*"
SHOWN = 5
"""Most lines of a log that are shown with a failure."""

LONG = 40
"""With more cells than these, they are counted and not listed."""

VALUES = 20
"""Of a setting with more values than these, no value is counted apart."""

OWN = ("model", "teacher", "method", "lr", "lr.peak", "seed")
"""Settings that have a column of their own."""


def plan_table(
    title: str, cells: Sequence[PlannedCell], known: Ledger, *, every: bool = False
) -> Group:
    """A line per cell; below it what they share, what they take, and what can be seen.

    Of many cells, it is counted how those of each setting ended.

    Args:
        title: What the cells are.
        cells: All of them.
        known: The ledger.
        every: Whether many cells are listed too.
    """
    found = states(cells, known)
    taken = estimates(cells, known.values())
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    if every or len(cells) <= LONG:
        _list(table, cells, found, taken, known)
    else:
        _count(table, cells, found)
    head = Text(f"{title}: {status_line(cells, known)}", "bold")
    return Group(head, table, Text("\n".join(_below(cells, found, taken, known))))


def status_line(cells: Sequence[PlannedCell], known: Ledger) -> str:
    """How many cells there are, and how they have ended.

    Args:
        cells: All of them.
        known: The ledger.
    """
    counts = Counter(states(cells, known))
    shown = [f"{counts[state]} {state}" for state in STATES if counts[state]]
    return ", ".join([_cells(len(cells)), *shown])


def command_lines(cells: Sequence[PlannedCell]) -> list[str]:
    """The line that runs each cell alone, with its run id as a comment."""
    return [f"{cell.command}  # {cell.key[0]}" for cell in cells]


def failure_lines(failed: Sequence[Mapping[str, Any]]) -> list[str]:
    """What has failed, why, the last words of its log, and its command.

    Args:
        failed: Entries of the ledger, each with its `command`.
    """
    lines = []
    for entry in failed:
        names = (entry.get(name) for name in ("student", "teacher", "method", "lr"))
        named = f"{'-'.join(map(str, names))} seed {entry.get('seed')}, run {entry['run']}"
        lines.append(f"{named} failed: {entry['reason']}")
        lines += [f"    {line}" for line in entry.get("log", ())[-SHOWN:]]
        lines.append(f"  {entry['command']}")
    return lines


def _list(
    table: Table,
    cells: Sequence[PlannedCell],
    found: Sequence[State],
    taken: Sequence[Estimate],
    known: Ledger,
) -> None:
    """A line per cell, with what tells it from the others."""
    values = [_names(cell) for cell in cells]
    every = dict.fromkeys(name for value in values for name in value)
    shown = [n for n in every if n == "student" or len({v.get(n) for v in values}) > 1]
    for column in ("", *shown, "run", "tokens", "time"):
        table.add_column(column, no_wrap=column in ("", "run", "time"), overflow="fold")
    for planned, state, value, estimate in zip(cells, found, values, taken, strict=True):
        row = [
            _state(planned, state, known),
            *(value.get(name, "") for name in shown),
            planned.key[0],
        ]
        left = _left(planned, state, known)
        table.add_row(*map(Text, (*row, _tokens(estimate), _time(estimate, left))))


def _count(table: Table, cells: Sequence[PlannedCell], found: Sequence[State]) -> None:
    """A line per setting that differs, with how many of its cells ended in which way."""
    counts: dict[str, dict[str, Counter[str]]] = {}
    for cell, state in zip(cells, found, strict=True):
        for key, value in cell.settings.items():
            counts.setdefault(key, {}).setdefault(value, Counter())[state] += 1
    for column in ("setting", "cells", *STATES):
        numeric = column != "setting"
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for key, values in counts.items():
        rows = {f"{key}={value}": count for value, count in values.items()}
        if len(values) > VALUES:
            rows = {f"{key}: {len(values)} values": sum(values.values(), Counter())}
        for text, count in rows.items() if len(values) > 1 else ():
            numbers = [str(count[state] or "") for state in STATES]
            table.add_row(Text(text), str(count.total()), *numbers)


def _names(planned: PlannedCell) -> dict[str, str]:
    """What tells cells apart, in the words of a table: names, then settings as they are typed."""
    cell = planned.cell
    return {
        "student": cell.model.name,
        "teacher": cell.teacher.name,
        "method": cell.method.label,
        "lr": f"{cell.lr.name} {cell.lr.peak:g}",
        "seed": str(cell.seed),
        **{key: value for key, value in planned.settings.items() if key not in OWN},
    }


def _state(planned: PlannedCell, state: State, known: Ledger) -> str:
    return f"{state}{OTHER_CODE}" if _is_other(planned, state, known) else state


def _is_other(planned: PlannedCell, state: State, known: Ledger) -> bool:
    """Whether a finished cell was made by another state of heed's code than this one."""
    return state == "done" and not same_code(known[planned.key].get("code", ""), code_state())


def _left(planned: PlannedCell, state: State, known: Ledger) -> State:
    """How a cell ended, for what it will take: to export it is no work like that of a cell."""
    return "done" if planned.lacks_export_alone(known.get(planned.key)) else state


def _tokens(estimate: Estimate) -> str:
    return "?" if estimate.tokens is None else f"{estimate.tokens:,.0f}"


def _time(estimate: Estimate, state: State) -> str:
    if state == "done":
        return ""
    return "?" if estimate.seconds is None else duration(estimate.seconds)


def _below(
    cells: Sequence[PlannedCell],
    found: Sequence[State],
    taken: Sequence[Estimate],
    known: Ledger,
) -> list[str]:
    """What is said below the table."""
    lines = []
    others = sum(_is_other(c, s, known) for c, s in zip(cells, found, strict=True))
    if others:
        mark = f"{OTHER_CODE} " if len(cells) <= LONG else ""
        lines.append(
            f"{mark}{_cells(others)} made by another state of heed's code than this one "
            f"({code_state()}): kept and marked; outputs=<another folder> makes them anew."
        )
    bases = {cell.baseline: cell.ready for cell in cells}
    ready = sum(bases.values())
    lines.append(
        f"Before tuning: {len(bases)} scoring{'s' if len(bases) > 1 else ''}, shared by all cells "
        f"of a student; {ready} of {len(bases)} done."
    )
    left = [_left(cell, state, known) for cell, state in zip(cells, found, strict=True)]
    bare = sum(one != state for one, state in zip(left, found, strict=True))
    if bare:
        lines.append(f"{_cells(bare)} with a result not exported yet, as export.* asks.")
    lines += _work(left, taken, lacking=ready < len(bases))
    suites = {planned.key[1]: planned.cell.suite for planned in cells}
    return [*lines, *(detectable_line(suite, len(cells)) for suite in suites.values())]


def _work(found: Sequence[State], taken: Sequence[Estimate], *, lacking: bool) -> list[str]:
    """What the cells that are to be run will take, as far as it is known."""
    todo = [t for t, state in zip(taken, found, strict=True) if state in ("missing", "stopped")]
    seconds = [t.seconds for t in todo if t.seconds is not None]
    if not todo:
        return []
    if not seconds:
        return ["How long it takes is not known yet (?): nothing like it was run here before."]
    unknown = len(todo) - len(seconds)
    rest = f"; {_cells(unknown)} more, of which nothing like it was run here" if unknown else ""
    before = "; what is still to be scored before tuning comes on top" if lacking else ""
    return [
        f"To do: about {duration(sum(seconds))} of work for {_cells(len(seconds))}{rest}{before}. "
        f"Measured on finished cells of the same student, teacher and method, else from their "
        f"tokens a second; tokens are supervised ones, all epochs."
    ]


def _cells(number: int) -> str:
    return f"{number} cell" if number == 1 else f"{number} cells"
