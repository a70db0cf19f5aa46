"""Who is mirrored and what of it, from the local files: cells, bases and their making.

| kind | one for each | id |
|---|---|---|
| `tuned` | run and suite | `<run id>-<suite hash>`, so two suites of one run stand side by side |
| `base` | student before tuning and suite | `base-<hash of both and the versions>` |
| `pretraining` | student that is made here | the run id of its pre-training |
| `report` | study | `report-<name>`, see `heed.study.send` |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from heed.core.console import progress_console
from heed.core.errors import HeedError
from heed.core.files import read_json, read_jsonl
from heed.core.identity import deciding
from heed.core.locks import HeldError, lock
from heed.study.cell import Cell
from heed.study.ledger import Key
from heed.study.runs import run_lock
from heed.tracking.tracker import Ending, Mirrored, Rows, Tracker
from heed.training.run import Run

AXES = ("student", "teacher", "method", "lr", "suite", "seed")
"""Names that every cell is tagged with."""

PARTS = {p: p for p in ("before", "after", "delta", "low", "high", "verdict")} | {"items": "n"}
"""What of each delta stands in a summary -> its name there, as in `delta/<task>/<metric>`."""

OWN_PARTS = {"value": "before", "low": "before_low", "high": "before_high", "items": "n"}
"""The same of a value before tuning, whose interval is another than that of a delta."""


def mirrored_cell(cell: Cell, key: Key, *, live: bool = True) -> Mirrored:
    """A cell as it is mirrored.

    Args:
        cell: Which.
        key: Its run id and suite hash.
        live: Whether it is under way.
    """
    run, suite = key
    names = cell.named(run, suite)
    flat = names | {"suite": names["suite_name"], "suite_hash": suite}
    return Mirrored(
        id=f"{run}-{suite}",
        name=f"{cell.run.name}-s{cell.seed} {cell.suite.name}",
        kind="tuned",
        config=flat_settings(deciding(cell)) | flat | {"primary": cell.suite.primary},
        directory=cell.root / "runs" / f"{cell.run.name}--{run}",
        root=cell.root,
        tags=[f"{axis}:{flat[axis]}" for axis in AXES],
        live=live,
    )


def mirrored_base(cell: Cell, scores: Path) -> Mirrored:
    """The scores of a cell's student before tuning, as they are mirrored; other cells share them.

    Args:
        cell: One of these.
        scores: Their directory; the last part of its name is the hash of what decides them.
    """
    names = {"student": cell.model.name, "suite": cell.suite.name}
    settings = {"model": deciding(cell.model), "suite": deciding(cell.suite)}
    return Mirrored(
        id=f"base-{scores.name.rpartition('--')[2]}",
        name=f"{cell.model.name} before tuning {cell.suite.name}",
        kind="base",
        config=flat_settings(settings) | names | {"primary": cell.suite.primary},
        directory=scores,
        root=cell.root,
        group="bases",
        tags=[f"{name}:{value}" for name, value in names.items()],
        live=False,
    )


def mirrored_pretraining(run: Run, root: Path, *, live: bool = True) -> Mirrored:
    """The making of a base, as it is mirrored.

    Args:
        run: The pre-training.
        root: Of the outputs.
        live: Whether it is under way.
    """
    recipe = run.recipe
    names = {
        "run": run.id,
        "student": run.student.name,
        "teacher": recipe.teacher.name,
        "method": recipe.method.label,
        "lr": recipe.lr.name,
        "lr_peak": recipe.lr.peak,
        "seed": recipe.seed,
    }
    return Mirrored(
        id=run.id,
        name=run.name,
        kind="pretraining",
        config=flat_settings(deciding(run)) | names,
        directory=root / "runs" / run.directory,
        root=root,
        group="bases",
        tags=[f"student:{run.student.name}"],
        live=live,
    )


def flat_settings(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Settings by their dotted keys, as they are typed.

    Example:
        >>> flat_settings({"lr": {"peak": 0.1, "tags": ["a"]}, "seed": 1})
        {'lr.peak': 0.1, 'lr.tags': ['a'], 'seed': 1}
    """
    found: dict[str, Any] = {}
    for name, value in tree.items():
        key = f"{above}{name}"
        if isinstance(value, Mapping) and value:
            found |= flat_settings(value, f"{key}.")
        elif isinstance(value, list | tuple) and any(isinstance(v, Mapping) for v in value):
            found |= flat_settings({str(i): v for i, v in enumerate(value)}, f"{key}.")
        else:
            found[key] = value
    return found


def done_ending(result: Mapping[str, Any], root: Path) -> Ending:
    """How a finished cell has ended.

    Args:
        result: What is recorded of it.
        root: Of the outputs.
    """
    summary: dict[str, Any] = {
        f"{name}/{delta['metric']}": delta[part]
        for delta in result["deltas"]
        for part, name in PARTS.items()
        if part in delta
    }
    cost = {f"cost/{name}": value for name, value in (result.get("cost") or {}).items()}
    flags = ", ".join(dict.fromkeys(flag["kind"] for flag in result.get("flags", ())))
    run = root / result["directory"]
    metrics = [delta["metric"] for delta in result["deltas"]]
    scores = root / result["before"], run / "scores" / result["suite_name"]
    return made_ending(
        summary | cost | {"flags": flags, "code": result.get("code")},
        tables=lambda: item_tables(metrics, *scores),
        model=run / "model",
    )


def made_ending(summary: Mapping[str, Any] | None = None, **more: Any) -> Ending:
    """How something has ended that is done; the reason of an earlier failure goes.

    Args:
        summary: Further numbers and texts.
        more: Of the ending.
    """
    return Ending({**(summary or {}), "ended": "done", "reason": ""}, **more)


def failed_ending(event: str, reason: str) -> Ending:
    """How a cell has ended that has no result.

    Args:
        event: `failed` or `stopped`.
        reason: Why.
    """
    return Ending({"ended": event, "reason": reason}, failed=True)


def base_ending(scores: Path) -> Ending:
    """What a student scores before tuning; `before/...` as in the cells that are compared with it.

    Args:
        scores: Their directory.
    """
    summary: dict[str, Any] = {}
    for task, metrics in read_json(scores / "summary.json").items():
        for metric, found in metrics.items():
            summary |= {f"{name}/{task}/{metric}": found[p] for p, name in OWN_PARTS.items()}
    metrics = [key.removeprefix("before/") for key in summary if key.startswith("before/")]
    return Ending(summary | {"ended": "done"}, tables=lambda: item_tables(metrics, scores))


def item_tables(metrics: Sequence[str], before: Path, after: Path | None = None) -> dict[str, Rows]:
    """A table for each task: what was asked, what was answered, and each metric of each item.

    Args:
        metrics: `<task>/<metric>` that are shown.
        before: Directory of the scores before tuning.
        after: Of those after; None: there are none.

    Returns:
        `items/<task>` -> the items of both sides, in the order of the suite.
    """
    sides = {"before": _items(before)} | ({"after": _items(after)} if after else {})
    names: dict[str, list[str]] = {}
    for one in metrics:
        task, _, metric = one.partition("/")
        names.setdefault(task, []).append(metric)
    found = {}
    for task, own in names.items():
        keys = dict.fromkeys(key for items in sides.values() for key in items if key[0] == task)
        columns = ["key", "prompt", *(f"answer {side}" for side in sides)]
        for metric in own:
            columns += [f"{metric} {side}" for side in sides]
            columns += [f"{metric} change"] if after else []
        rows = [_row([side.get(key) for side in sides.values()], own) for key in keys]
        found[f"items/{task}"] = Rows(columns, rows)
    return found


def _items(scores: Path) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["task"], row["key"]): row for row in read_jsonl(scores / "items.jsonl")}


def _row(sides: Sequence[Mapping[str, Any] | None], metrics: Sequence[str]) -> list[Any]:
    """One item."""
    known = next(side for side in sides if side is not None)
    row = [known["key"], known["prompt"], *(side and side["response"] for side in sides)]
    for metric in metrics:
        values = [_value(side, metric) for side in sides]
        row += values
        if len(values) > 1:
            whole = all(value is not None for value in values)
            row.append(values[1] - values[0] if whole else None)  # type: ignore[operator]
    return row


def _value(item: Mapping[str, Any] | None, metric: str) -> float | None:
    """What an item scores; None where it has no such score."""
    ratio = ((item or {}).get("metrics") or {}).get(metric)
    return ratio["num"] / ratio["den"] if ratio and ratio["den"] else None


def axis_tags(axes: Sequence[str], overrides: Sequence[str]) -> tuple[str, ...]:
    """Tags of the further keys in which a study's cells differ.

    Args:
        axes: Of the study.
        overrides: Of the cell, as typed.

    Example:
        >>> axis_tags(["lr", "data.examples"], ["lr=gentle", "data.examples=1000", "seed=1"])
        ('data.examples:1000',)
    """
    pairs = (text.lstrip("+").partition("=") for text in overrides)
    known = {*AXES, "model"}
    return tuple(f"{k}:{value}" for k, _, value in pairs if k in axes and k not in known)


def another(tracker: Tracker) -> Tracker:
    """A mirror of the same settings that follows no run yet."""
    return replace(tracker)  # type: ignore[type-var]


@dataclass(frozen=True)
class Parcel:
    """What is sent as one run.

    Attributes:
        run: Who is mirrored.
        ending: Makes what is told of its end.
        tracker: A mirror of the same settings as the one that does it.
    """

    run: Mirrored
    ending: Callable[[], Ending]
    tracker: Tracker


REFUSED = "the mirror did not take it, see above."


def delivered(parcel: Parcel) -> str | None:
    """Send one run, unless somebody is at it; why it has not arrived.

    Args:
        parcel: The run; files of it that are not whole are told of, and stop nothing.
    """
    mirror, run = another(parcel.tracker), parcel.run
    own = run.kind in ("tuned", "pretraining")
    path = run_lock(run.directory) if own else run.root / "locks" / f"mirror-{run.id}"
    try:
        ending = parcel.ending()
        with lock(path, wait=False):
            mirror.start(run)
            mirror.finish(ending)
    except HeldError:
        return "another process is at it, and sends it itself."
    except (HeedError, OSError, ValueError, KeyError, TypeError) as error:
        return f"its files are not whole ({type(error).__name__}: {error})."
    return None if mirror.arrived() else REFUSED


def base_parcel(tracker: Tracker, cell: Cell, scores: Path) -> Parcel:
    """The scores of a cell's student before tuning, to be sent.

    Args:
        tracker: The mirror.
        cell: Which.
        scores: Their directory.
    """
    return Parcel(mirrored_base(cell, scores), lambda: base_ending(scores), tracker)


def send_base(tracker: Tracker, cell: Cell, scores: Path) -> None:
    """Send the scores of a cell's student before tuning; what does not arrive is said.

    Args:
        tracker: One of the same settings does it.
        cell: Which.
        scores: Their directory.
    """
    parcel = base_parcel(tracker, cell, scores)
    if (why := delivered(parcel)) not in (None, REFUSED):  # a mirror has told of a refusal
        said = f"base {parcel.run.name} is not sent: {why}"
        progress_console().print(said, markup=False, soft_wrap=True)
