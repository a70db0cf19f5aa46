"""What is asked for, cell by cell, and what of it the ledger already has."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from heed.analysis.analysis import Analysis
from heed.analysis.deltas import flat
from heed.core.component import plain
from heed.core.compose import compose_component, option_names, option_settings
from heed.core.console import progress_console
from heed.core.errors import ConfigError, Mistake
from heed.core.identity import short_hash, slug
from heed.study.also import holds_settings, settings_beside
from heed.study.bases import baseline_directory
from heed.study.cell import Cell
from heed.study.export import lacks_export
from heed.study.ledger import Key, is_kept
from heed.study.open_values import in_its_file
from heed.study.scale import RATE
from heed.study.study import OWN, Study
from heed.study.values import typed as as_typed

State = Literal["done", "missing", "stopped", "failed"]
"""`missing`: never ended; `stopped`: asked to end, goes on; `failed`: see the reason."""

STATES: tuple[State, ...] = ("done", "missing", "stopped", "failed")
LENGTH = {"data.epochs", "data.steps"}
"""Exactly one of them says how long to train."""

SAY = progress_console()
T = TypeVar("T")


@dataclass(frozen=True)
class PlannedCell:
    """One cell.

    Attributes:
        overrides: As typed after `python train.py`.
        cell: The checked cell.
        key: (run id, suite hash), as in the ledger.
        baseline: Directory of the scores before tuning, shared with other cells.
        beside: What tells the second prompting that is wanted from any other; None: none is.
    """

    overrides: tuple[str, ...]
    cell: Cell
    key: Key
    baseline: Path
    beside: Mapping[str, Any] | None

    @property
    def command(self) -> str:
        """The line that runs just this cell."""
        return shlex.join(["python", "train.py", *self.overrides])

    @property
    def ready(self) -> bool:
        """Whether the scores before tuning are there."""
        return (self.baseline / "summary.json").is_file()

    @property
    def names(self) -> dict[str, Any]:
        """How the ledger calls the cell."""
        return self.cell.named(*self.key)

    @property
    def directory(self) -> str:
        """Directory of the run, below `outputs/runs`."""
        words = (self.names[name] for name in ("student", "teacher", "method", "lr"))
        return f"{'-'.join(map(slug, words))}--{self.key[0]}"

    @property
    def not_exported(self) -> str | None:
        """Why it is not made into what others are to have of it; None: it is, or nothing is."""
        return lacks_export(self.cell.root / "runs" / self.directory, self.cell.export)

    def has_result(self, entry: Mapping[str, Any] | None) -> bool:
        """Whether it has the result that is wanted of it, exported or not.

        Args:
            entry: The ledger's last word on it; None: it has heard of none.
        """
        if entry is None or not is_kept(self.cell.root, entry):
            return False
        return holds_settings(self.beside, entry)

    def lacks_export_alone(self, entry: Mapping[str, Any] | None) -> bool:
        """Whether it has the result that is wanted of it, and is still to be exported."""
        return self.has_result(entry) and self.not_exported is not None

    @property
    def file(self) -> Path:
        """The resolved config of its process; its log and its lock are beside it."""
        return self.cell.root / "cells" / f"{self.directory}--{self.key[1]}.yaml"

    @property
    def settings(self) -> dict[str, str]:
        """Key -> value of what is typed."""
        pairs = (text.partition("=") for text in self.overrides)
        return {key.lstrip("+"): value for key, _, value in pairs}


def plan_cells(
    lines: Sequence[Sequence[str]], conf: Path, *, distinct: bool = False
) -> list[PlannedCell]:
    """Check and identify the cells of some command lines.

    Of lines that ask for the same cell, the first stays, and that is said.

    Args:
        lines: Overrides, as typed after `python train.py`.
        conf: The config tree.
        distinct: Whether two lines that ask for the same cell are a mistake.

    Raises:
        ConfigError: with the mistakes of all cells, each once.
    """
    cells: dict[Key, PlannedCell] = {}
    identify, twins = _Identify(), []
    for line, cell in zip(lines, _composed(lines, conf), strict=True):
        planned = identify(line, cell)
        first = cells.setdefault(planned.key, planned)
        if first is not planned:
            twins.append((first, planned))
    mistakes = [_twin(*pair) for pair in twins if distinct] + _over_each_other(cells.values())
    if mistakes:
        raise ConfigError(mistakes)
    for first, second in twins:
        SAY.print(f"{second.command} is the run of {first.command}: run once.", markup=False)
    return list(cells.values())


def _composed(lines: Sequence[Sequence[str]], conf: Path) -> list[Cell]:
    """The cells of all lines; those that hold every setting between them are looked at first.

    Raises:
        ConfigError: with the mistakes of these, each once; or of others, if these have none.
    """
    seen: set[str] = set()
    first: list[int] = []
    rest: list[int] = []
    for number, line in enumerate(lines):
        (rest if seen.issuperset(line) else first).append(number)
        seen.update(line)
    found: dict[int, Cell] = {}
    for numbers in (first, rest):
        mistakes: dict[Mistake, None] = {}
        for number in numbers:
            try:
                found[number] = compose_component(conf, "train", lines[number])
            except ConfigError as error:
                told = (in_its_file(m, lines[number], conf) for m in error.mistakes)
                mistakes |= dict.fromkeys(told)
        if mistakes:
            raise ConfigError(list(mistakes))
    return [found[number] for number in range(len(lines))]


class _Identify:
    """Gives cells their ids; what several share is worked out once."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}

    def __call__(self, line: Sequence[str], cell: Cell) -> PlannedCell:
        """One cell."""
        suite, root = cell.suite, cell.root
        return PlannedCell(
            tuple(line),
            cell,
            (cell.run.id, self._once("suite", [suite], lambda: short_hash(suite))),
            self._once(
                "before", [cell.model, suite], lambda: baseline_directory(cell.model, suite, root)
            ),
            self._once("beside", [suite], lambda: settings_beside(suite)),
        )

    def _once(self, what: str, of: Sequence[Any], make: Callable[[], T]) -> T:
        name = json.dumps([what, plain(of)])
        if name not in self.known:
            self.known[name] = make()
        return self.known[name]


def _over_each_other(cells: Iterable[PlannedCell]) -> list[Mistake]:
    """Repositories of the hub that several runs would be uploaded to, of which the last would stay.

    A run that is scored by several suites is one.
    """
    runs: dict[str, set[str]] = {}
    for planned in cells:
        if (to := planned.cell.export.push_to_hub) is not None:
            runs.setdefault(to, set()).add(planned.key[0])
    why = "{} runs would be uploaded to it, each over the one before."
    told = "'export.push_to_hub=me/x-${model.name}-${teacher.name}-${lr.name}-${seed}'"
    action = f"Name each by what differs, in quotes for the shell: {told}."
    return [
        Mistake("export.push_to_hub", to, why.format(len(ids)), action)
        for to, ids in runs.items()
        if len(ids) > 1
    ]


def _twin(first: PlannedCell, second: PlannedCell) -> Mistake:
    one, two = first.settings, second.settings
    differ = [f"{k}={two.get(k)}" for k in dict.fromkeys([*one, *two]) if one.get(k) != two.get(k)]
    why = (
        f"this is the run of {' '.join(first.overrides)} once more"
        f"{', as what differs decides no result' if differ else ''}."
    )
    given = " ".join(differ or second.overrides)
    return Mistake("cell", given, why, "Name each run once.")


def plan_study(study: Study, conf: Path, typed: Sequence[str] = ()) -> list[PlannedCell]:
    """The cells of a study.

    Args:
        study: Which.
        conf: The config tree.
        typed: Overrides that hold for all of its cells.

    Raises:
        ConfigError: with the mistakes of all cells and of the analyses, each once.
    """
    implied = (key for table in study.implied.values() for one in table.values() for key in one)
    keys = {
        **dict.fromkeys(implied, "implied"),
        **OWN,
        **dict.fromkeys(study.varied, "axes"),
        **dict.fromkeys(study.fixed, "fixed"),
    }
    taken = [text for text in typed if text.partition("=")[0].lstrip("+~") in keys]
    mistakes = [_taken(text, study, keys) for text in taken]
    others = [text for text in typed if text not in taken]
    try:
        analyses_of(study, conf)
    except ConfigError as error:
        mistakes += error.mistakes
    cells: list[PlannedCell] = []
    try:
        shorter = _of_debug(typed, study, conf)
        lines = [[*line, *shorter, *others] for line in study.lines()]
        cells = plan_cells(lines, conf, distinct=True)
    except ConfigError as error:
        mistakes += error.mistakes
    if mistakes:
        raise ConfigError(mistakes)
    return cells


def _of_debug(typed: Sequence[str], study: Study, conf: Path) -> list[str]:
    """What a typed `debug=` sets, to stand behind what a study fixes; what it varies stays."""
    chosen = [value for key, _, value in (t.partition("=") for t in typed) if key == "debug"]
    if not chosen or chosen[-1] not in option_names(conf, "debug"):  # Hydra tells of the second
        return []
    varied = {*study.varied, *(LENGTH if LENGTH & study.varied.keys() else ())}
    settings = option_settings(conf, "debug", chosen[-1])
    return [f"{k}={as_typed(value)}" for k, value in flat(settings) if k not in varied]


def analyses_of(study: Study, conf: Path) -> list[Analysis]:
    """The analyses of a study; the runs are named by whoever makes them.

    Args:
        study: Which.
        conf: The config tree.

    Raises:
        ConfigError: with the mistakes of all.
    """
    found: list[Analysis] = []
    mistakes: list[Mistake] = []
    for name in study.analyses:
        try:
            root = compose_component(conf, "evaluate", [f"analysis={name}", "run=any"])
            found.append(root.analysis)
        except ConfigError as error:
            mistakes += error.mistakes
    if mistakes:
        raise ConfigError(mistakes)
    return found


def _taken(text: str, study: Study, keys: Mapping[str, str]) -> Mistake:
    key, _, value = text.partition("=")
    bare, about = key.lstrip("+~"), study.scale
    kind, name, place = "study", about["study"] if about else study.name, keys[bare]
    if about and (bare in about["sets"] or (place, bare) == ("implied", RATE)):
        kind, name, place = "scale", about["name"], "rate_factor" if bare == RATE else "fixed"
    why = f"{kind} {name} says it itself, in {place}."
    action = f"Leave it out, or change conf/{kind}/{name}.yaml (a copy of another name)."
    return Mistake(key, value, why, action)


def states(cells: Sequence[PlannedCell], known: Mapping[Key, Mapping[str, Any]]) -> list[State]:
    """How each cell ended, by the ledger's last word on it.

    A result without the second prompting or the export that is wanted is missing, and so is one
    whose file is lost: the cell's command adds it, from what is kept.

    Args:
        cells: Which.
        known: The ledger, from `latest`.
    """
    found: list[State] = []
    for planned in cells:
        entry = known.get(planned.key)
        state: State = "missing" if entry is None else entry["event"]
        if state == "done" and not (planned.has_result(entry) and planned.not_exported is None):
            state = "missing"
        found.append(state)
    return found
