"""Recorded results as rows: one per cell of a study, with every metric's delta and verdict."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from heed.analysis.best_control import best_control, control_entries, lacking
from heed.core.stats import holm
from heed.core.types import Delta

AXES = ("student", "teacher", "method", "lr", "seed")
"""The names that tell cells apart."""

CELL_COLUMNS = ("student", "teacher", "method", "lr", "lr_peak", "seed", "run", "name", "verdict")
BESIDE_COLUMNS = ("p_holm", "flags")
CONTROL_COLUMNS = (
    "control", "control_value", "after_minus_control", "after_minus_control.low",
    "after_minus_control.high", "echo",
)  # fmt: skip
DELTA_COLUMNS = ("before", "after", "delta", "low", "high", "items", "verdict", "mde", "p")


@dataclass(frozen=True)
class Row:
    """One finished cell.

    Attributes:
        student: Name of the base model.
        teacher: Name of the source of responses.
        method: Name of the tuning method.
        lr: Name of the learning-rate option.
        lr_peak: Its peak.
        seed: The run's seed.
        run: The run id.
        name: The readable name of the run.
        directory: Of the run, below the root of the outputs.
        primary: `<task>/<metric>` that decides the cell's verdict.
        deltas: One per metric, the primary first.
        suite: Name and hash of the suite that scored it.
        level: Coverage of the intervals.
        margin: Largest change that counts as none, in the unit of the metric.
        code: State of heed's own code.
        notes: What the suite says about the scores.
        settings: Dotted config keys -> values, to find what else differs between cells.
        flags: `kind` and `text` of what a reader of the verdict must know; None: not recorded.
        beside: What else the result records beside the deltas: `controls`, `form` and `also`.
        before: Directory of the scores before tuning, below the root of the outputs.
        typed: Config group or key -> what the cell's command line has for it; empty: not known.
    """

    student: str
    teacher: str
    method: str
    lr: str
    lr_peak: float
    seed: int
    run: str
    name: str
    directory: str
    primary: str
    deltas: tuple[Delta, ...]
    suite: str
    level: float
    margin: float
    code: str
    notes: tuple[str, ...]
    settings: Mapping[str, Any]
    flags: tuple[Mapping[str, str], ...] | None = None
    beside: Mapping[str, Any] = field(default_factory=dict)
    before: str = ""
    typed: Mapping[str, str] = field(default_factory=dict)

    def delta(self, metric: str) -> Delta | None:
        """The delta of one metric, or None if the suite did not measure it."""
        return next((d for d in self.deltas if d.metric == metric), None)

    def value(self, axis: str) -> Any:
        """The cell's value on an axis: one of `AXES`, a dotted config key, or a config group."""
        if axis in AXES:
            return getattr(self, axis)
        unknown = "as in conf" if self.typed else "not recorded"
        return self.settings.get(axis, self.typed.get(axis, unknown))

    @property
    def decisive(self) -> Delta:
        """The delta of the primary metric."""
        found = self.delta(self.primary)
        assert found is not None, f"{self.run} has no delta of its primary metric {self.primary}"
        return found


def row_of(result: Mapping[str, Any]) -> Row:
    """Read one `result.json`."""
    deltas = [delta_of(entry) for entry in result["deltas"]]
    primary = str(result["primary"])
    return Row(
        **{name: str(result[name]) for name in ("student", "teacher", "method", "lr")},
        **{name: str(result[name]) for name in ("run", "name", "directory", "code")},
        suite=f"{result['suite_name']} ({result['suite']})",
        level=float(result["level"]),
        margin=float(result["margin"]),
        notes=tuple(map(str, result.get("notes", ()))),
        lr_peak=float(result["lr_peak"]),
        seed=int(result["seed"]),
        primary=primary,
        deltas=tuple(sorted(deltas, key=lambda d: d.metric != primary)),
        settings={k: as_typed(v) for k, v in flat(result.get("settings", {}))},
        flags=tuple(result["flags"]) if "flags" in result else None,
        beside={k: result[k] for k in ("controls", "form", "also") if k in result},
        before=str(result.get("before", "")),
        typed=dict(result.get("typed", {})),
    )


def delta_of(entry: Mapping[str, Any]) -> Delta:
    """Read a recorded delta; what an older record lacks is as `Delta` says."""
    given = {f.name: entry[f.name] for f in fields(Delta) if f.name in entry}
    flips = given.get("flips")
    return Delta(**{**given, "flips": None if flips is None else tuple(flips)})


def rows_of(
    results: Sequence[Mapping[str, Any]], axes: Mapping[str, Sequence[Any]] | None = None
) -> list[Row]:
    """Read all results, in an order that depends on the cells only, not on when they were run.

    Args:
        results: `result.json` of each cell.
        axes: Axis -> its values in the order in which they are to be shown.
    """
    order = {name: [str(as_typed(v)) for v in values] for name, values in (axes or {}).items()}

    def place(row: Row, name: str) -> tuple[int, str]:
        value, known = str(row.value(name)), order.get(name, [])
        return (known.index(value) if value in known else len(known), value)

    names = ("student", "teacher", "method")
    further = [name for name in order if name not in AXES and not name.startswith("lr.")]
    return sorted(
        map(row_of, results),
        key=lambda r: (
            *(place(r, n) for n in (*names, *further)),
            *(r.lr_peak, r.lr, r.seed, r.run),
        ),
    )


def as_typed(value: Any) -> Any:
    """A value of a setting in the words of a config.

    Example:
        >>> as_typed(None), as_typed(1000)
        ('null', 1000)
    """
    return "null" if value is None else value


def metrics_of(rows: Sequence[Row]) -> list[str]:
    """Every metric once, primary ones first."""
    primary = dict.fromkeys(row.primary for row in rows)
    return list(primary | dict.fromkeys(d.metric for row in rows for d in row.deltas))


def forgetting_of(rows: Sequence[Row]) -> str | None:
    """The first metric of a task other than the primary one: what tuning may cost."""
    tasks = {row.primary.partition("/")[0] for row in rows}
    return next((m for m in metrics_of(rows) if m.partition("/")[0] not in tasks), None)


def less_is_better(rows: Sequence[Row], metric: str) -> bool:
    """Whether a metric is better when it falls (bits per byte, say)."""
    return any(d.lower_is_better for row in rows if (d := row.delta(metric)))


def flat(node: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of each leaf of a config, targets left out.

    Example:
        >>> dict(flat({"lr": {"_target_": "x", "peak": 0.1}, "seed": 1}))
        {'lr.peak': 0.1, 'seed': 1}
    """
    for key, value in node.items():
        where = f"{at}.{key}" if at else str(key)
        if isinstance(value, Mapping):
            yield from flat(value, where)
        elif key != "_target_":
            yield where, value


def shared(values: Iterable[Any]) -> str:
    """What cells have in common, or all of it where they differ: `0.95`, `0.9 / 0.95`."""
    return " / ".join(map(str, dict.fromkeys(values)))


def counts_of(rows: Sequence[Row]) -> dict[str, int]:
    """Verdict -> number of cells, for all four verdicts."""
    seen = Counter(row.decisive.verdict for row in rows)
    return {word: seen[word] for word in ("helped", "hurt", "unchanged", "cannot tell")}


def adjusted_of(rows: Sequence[Row]) -> list[float | None]:
    """Each cell's p value on its primary metric, adjusted for the number of cells (Holm).

    None for all of them if one of them is not recorded: all that was tested has to count.
    """
    ps = [row.decisive.p for row in rows]
    known = [p for p in ps if p is not None]
    return list(holm(known)) if len(known) == len(ps) else [None] * len(ps)


def holm_line(rows: Sequence[Row]) -> str:
    """How many verdicts of helped or hurt are left if the number of cells is allowed for.

    Empty for a single cell; of cells without a recorded p value, that is said.
    """
    if len(rows) < 2:
        return ""
    called = sum(row.decisive.verdict in ("helped", "hurt") for row in rows)
    adjusted = [(row, p) for row, p in zip(rows, adjusted_of(rows), strict=True) if p is not None]
    if not adjusted:
        return f"Not corrected for {len(rows)} cells: p values of older results are not recorded."
    sure = (row for row, p in adjusted if p < 1 - row.level)
    kept = sum(row.decisive.verdict in ("helped", "hurt") for row in sure)
    return f"Corrected for {len(rows)} cells (Holm), {kept} of {called} helped or hurt stay so."


def beside_line(rows: Sequence[Row]) -> str:
    """What the counts of verdicts do not say: who beats a control, and where the sign turns.

    Args:
        rows: The finished cells; flags and what stands beside are as they were recorded.

    Returns:
        Two sentences; empty where there are no cells.
    """
    if not rows:
        return ""
    return f"{_controls_line(rows)} {_prompting_line(rows)}"


def _controls_line(rows: Sequence[Row]) -> str:
    told = [row for row in rows if row.flags is not None and row.beside.get("controls")]
    if not told:
        return f"Controls that read nothing: {shared(lacking(row.beside) for row in rows)}."
    beating = sum(not _flagged(row, "controls") for row in told)
    line = f"The best control that reads nothing is surely beaten by {_of(beating, told)}"
    return f"{line}{_rest(rows, told, 'this is not recorded')}."


def _prompting_line(rows: Sequence[Row]) -> str:
    told = [row for row in rows if row.flags is not None and row.beside.get("also")]
    if not told:
        return "None was asked in another way."
    names = shared(row.beside["also"]["prompting"] for row in told)
    turned = sum(_flagged(row, "prompting") for row in told)
    line = f"Asked in another way ({names}), the delta has the other sign in {_of(turned, told)}"
    return f"{line}{_rest(rows, told, 'there is no other prompting')}."


def _flagged(row: Row, kind: str) -> bool:
    return any(flag["kind"] == kind for flag in row.flags or ())


def _of(count: int, rows: Sequence[Row]) -> str:
    return f"{count or 'none'} of {len(rows)} cells"


def _rest(rows: Sequence[Row], told: Sequence[Row], why: str) -> str:
    missing = len(rows) - len(told)
    return f" (of {missing} more {why})" if missing else ""


def to_csv(rows: Sequence[Row]) -> str:
    """The table as CSV: cell columns, then `<metric>.<part>` for each metric in turn.

    `verdict` is the primary metric's; `p_holm` its p value, adjusted for the number of cells;
    `control` the best control on it that reads nothing, with its value, the tuned student minus it,
    and what the echo reaches. Of a cell without, `control` says whether controls are not recorded,
    or none, as the metric is not answered in text. What a cell lacks else is left empty.
    """
    metrics = metrics_of(rows)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    parts = [f"{metric}.{part}" for metric in metrics for part in DELTA_COLUMNS]
    table.writerow([*CELL_COLUMNS, *BESIDE_COLUMNS, *CONTROL_COLUMNS, *parts])
    for row, adjusted in zip(rows, adjusted_of(rows), strict=True):
        cells: list[Any] = [getattr(row, name) for name in CELL_COLUMNS[:-1]]
        kinds = ";".join(dict.fromkeys(flag["kind"] for flag in row.flags or ()))
        cells += [row.decisive.verdict, "" if adjusted is None else adjusted, kinds]
        best = best_control(row.beside.get("controls"), row.primary)
        cells += control_entries(best, "after", lacking(row.beside))
        for metric in metrics:
            delta = row.delta(metric)
            cells += [getattr(delta, part) if delta else "" for part in DELTA_COLUMNS]
        table.writerow(cells)
    return text.getvalue()


def signed(value: float) -> str:
    """A difference with its sign, to three places.

    Example:
        >>> signed(0.25), signed(-0.0004), signed(-0.5)
        ('+0.250', '0.000', '-0.500')
    """
    text = f"{value:+.3f}"
    return "0.000" if text in ("+0.000", "-0.000") else text


def peak_text(value: float) -> str:
    """A learning rate as it is typed.

    Example:
        >>> peak_text(0.0003), peak_text(0.02)
        ('3e-4', '2e-2')
    """
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"
