"""What a study's page says of several cells together: from their items, logs and manifests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heed.analysis.contrasts import SEED, contrasts, said
from heed.analysis.deltas import forgetting_of, row_of
from heed.analysis.rates import Tried, best_rate
from heed.core.errors import DataError
from heed.core.files import read_json
from heed.core.identity import short_hash
from heed.study.measured import Measured, MeasuredCell, called, measured
from heed.study.plan import PlannedCell
from heed.study.study import Study

RATES = ("lr", "lr.peak", "lr.name")
"""Axes that are the learning rate; what else stands below `lr` tells groups of rates apart."""

NAMED = ("student", "teacher", "method")
"""What names a group of rates by itself."""

NO_SEED = "no seed is finished at every rate: its effect would be taken for that of a rate."

LEARNED = ("examples", "tokens", "supervised_tokens")
"""Sums that tell training data of one source apart."""

Done = Mapping[tuple[str, str], Mapping[str, Any]]
"""(run id, suite hash) -> result of a finished cell."""


def study_numbers(
    study: Study, cells: Sequence[PlannedCell], done: Done, root: Path
) -> dict[str, Any]:
    """`contrasts`, `rates`, `types`, `losses`, `environment` and `commands` of a study.

    Args:
        study: Which.
        cells: All of them.
        done: The finished ones.
        root: Of the outputs.

    Returns:
        As `heed.analysis.report.write_report` takes them. `left_out` has a line for each finished
        cell whose items are lost, or were scored in another way than the others' (it names the
        metric where it is left out of comparisons on one alone), and for each without a training
        curve.
    """
    axes = [axis for axis in study.varied if axis != SEED]
    known = measured(cells, done, axes, root)
    ended = [planned for planned in cells if planned.key in done]
    cost = forgetting_of([row_of(done[planned.key]) for planned in ended])
    every = {ended[0].cell.suite.primary: known} if ended else {}
    every |= {cost: measured(cells, done, axes, root, cost)} if cost else {}
    losses = losses_of(ended, done, root)
    return {
        **_contrasts(list(every.values()), axes),
        "rates": rates_of(known, axes),
        "types": types_of(known),
        "left_out": [
            *_left_out(every),
            *without_curve(ended, losses),
        ],
        "losses": losses,
        "environment": environment_of([root / done[c.key]["directory"] for c in ended]),
        "commands": {planned.key[0]: planned.command for planned in cells},
    }


def _left_out(every: Mapping[str, Measured]) -> list[str]:
    """A line for each cell that is left out on a metric, named unless it is left out on all.

    And one for the items that are: cells are set against each other on those that all have.
    """
    found: dict[str, None] = {}
    for metric, known in every.items():
        found |= {f"on {metric}: {n} items {what}": None for what, n in known.unscored.items()}
        for line in known.left_out:
            on_all = all(line in other.left_out for other in every.values())
            found[line if on_all else f"on {metric}: {line}"] = None
    return list(found)


def _contrasts(every: Sequence[Measured], axes: Sequence[str]) -> dict[str, Any]:
    """`contrasts` on each metric, and `contrasts_reason` where they cannot be made on one."""
    found: list[dict[str, Any]] = []
    reasons: list[str] = []
    for known in (one for one in every if one.cells):
        first = known.cells[0]
        try:
            told = contrasts(
                [cell.change for cell in known.cells],
                [called(axis) for axis in axes],
                first.planned.cell.suite.bootstrap(),
                list(first.beside),
            )
        except DataError as error:
            reasons.append(f"{first.metric}: {error}")
            continue
        found += [one | {"metric": first.metric} for one in told]
    return {"contrasts": found, **({"contrasts_reason": " ".join(reasons)} if reasons else {})}


def rates_of(known: Measured, axes: Sequence[str]) -> list[dict[str, Any]]:
    """The best learning rate of each group of cells that differ in rate and seed alone.

    Args:
        known: The cells.
        axes: The studied ones.
    """
    others = [called(axis) for axis in axes if axis not in RATES]
    others += known.cells[0].beside if known.cells else []
    told = [name for name in others if name not in NAMED]
    groups: dict[tuple[str, ...], list[MeasuredCell]] = {}
    for cell in known.cells:
        groups.setdefault(tuple(cell.change.place[axis] for axis in others), []).append(cell)
    found = []
    for every in groups.values():
        group = of_shared_seeds(every)
        one, place = every[0].planned.cell, every[0].change.place
        task, _, metric = one.suite.primary.partition("/")
        about = {
            "student": one.model.name,
            "teacher": one.teacher.name,
            "method": one.method.label,
            "metric": one.suite.primary,
            "seeds": len({cell.planned.cell.seed for cell in group}),
            "without": _other_seeds(every, group),
            "context": said(told, [place[name] for name in told]),
            "runs": [cell.planned.key[0] for cell in group],
        }
        less = metric in one.suite.tasks[task].lower_is_better
        best = best_rate(_tried(group), every[0].keys, one.suite.bootstrap(), less=less)
        found.append(about | best | ({} if group else {"reason": NO_SEED}))
    return found


def of_shared_seeds(group: Sequence[MeasuredCell]) -> list[MeasuredCell]:
    """The cells of those seeds that are finished at every rate of a group.

    A rate with a seed of its own would be chosen, or not, for what that seed does.

    Args:
        group: Cells that differ in rate and seed alone.
    """
    seeds = [{change.place[SEED] for change in rate.changes} for rate in _tried(group)]
    shared = set[str].intersection(*seeds)
    return [one for one in group if one.change.place[SEED] in shared]


def _other_seeds(every: Sequence[MeasuredCell], kept: Sequence[MeasuredCell]) -> list[str]:
    """The seeds of a group that some rate lacks."""
    used = {one.change.place[SEED] for one in kept}
    found = dict.fromkeys(one.change.place[SEED] for one in every)
    return [seed for seed in found if seed not in used]


def _tried(group: Sequence[MeasuredCell]) -> list[Tried]:
    """The rates of a group, each with its seeds."""
    found: dict[tuple[float, str], list[MeasuredCell]] = {}
    for one in group:
        lr = one.planned.cell.lr
        found.setdefault((lr.peak, lr.name), []).append(one)
    return [
        Tried(name, peak, tuple(one.change for one in cells))
        for (peak, name), cells in found.items()
    ]


def types_of(known: Measured) -> dict[str, Any] | None:
    """Before and after of each part of the primary task's items; None where it has no parts."""
    rows: dict[str, dict[str, list[float]]] = {}
    metric = ""
    for cell in known.cells:
        suite = cell.planned.cell.suite
        sums: dict[str, list[float]] = {}
        name, _, metric = suite.primary.partition("/")
        for side, scores in enumerate((cell.before, cell.after)):
            for score in scores:
                for part, ratio in suite.tasks[name].parts(score, metric).items():
                    of_part = sums.setdefault(part, [0.0] * 5)
                    of_part[2 * side] += ratio.num
                    of_part[2 * side + 1] += ratio.den
                    of_part[4] += side
        rows[cell.planned.key[0]] = {
            part: [one[0] / one[1], one[2] / one[3], int(one[4])] for part, one in sums.items()
        }
    names = sorted({part for row in rows.values() for part in row})
    return {"metric": metric, "names": names, "rows": rows} if names else None


def losses_of(cells: Sequence[PlannedCell], done: Done, root: Path) -> list[dict[str, Any]]:
    """Loss by step of each run, apart for each kind of data.

    Losses per token can be set beside each other where the same tokens were learned: the same
    responses, treatment, template and tokenizer. What differs in one of these is in another group.

    Args:
        cells: Finished ones.
        done: Their results.
        root: Of the outputs.
    """
    groups: dict[str, dict[str, Any]] = {}
    for planned in cells:
        result = done[planned.key]
        rows = _rows(root / result["directory"] / "metrics.jsonl")
        fit, settings = result.get("fit") or {}, result.get("settings", {})
        data = fit.get("data") or {
            "examples": None,
            "run": planned.key[0],
        }  # unknown: like no other
        learned = {key: data.get(key) for key in LEARNED}
        about = {key: settings.get(key) for key in ("teacher", "data")} | learned
        about |= {"template": fit.get("template"), "run": data.get("run")}
        group = groups.setdefault(
            short_hash(about),
            {
                "data": f"{result['teacher']}, {learned['examples'] or '?'} examples",
                "tokens": f"{learned['supervised_tokens'] or '?'} supervised tokens",
                "runs": {},
                "validation": {},
            },
        )
        for kind, key in (("runs", "loss"), ("validation", "validation_loss")):
            if curve := [[r["step"], r[key]] for r in rows if r.get(key) is not None]:
                group[kind][planned.key[0]] = curve
    return [group for group in groups.values() if group["runs"]]


def without_curve(cells: Sequence[PlannedCell], losses: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each finished cell whose training has left no rows that can be read."""
    known = {run for group in losses for run in group["runs"]}
    why = "metrics.jsonl is lost or damaged, so it has no training curve."
    return [f"{planned.directory}: {why}" for planned in cells if planned.key[0] not in known]


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a training; none where there is no file, or one of them cannot be read."""
    if not path.is_file():
        return []
    whole, _, _ = path.read_text(encoding="utf-8", errors="replace").rpartition("\n")
    try:
        return [json.loads(line) for line in whole.split("\n") if line]
    except ValueError:
        return []


def environment_of(runs: Sequence[Path]) -> dict[str, Any]:
    """Versions, machines and devices of trainings, each once; of a lost manifest, that is said.

    Args:
        runs: Their directories.
    """
    found: dict[str, dict[str, None]] = {"machines": {}, "devices": {}}
    versions: dict[str, dict[str, None]] = {}
    for directory in runs:
        try:
            made = dict(read_json(directory / "manifest.json"))
        except (OSError, ValueError, TypeError):
            made = {}
        found["machines"][str(made.get("machine", "not recorded"))] = None
        found["devices"][str(made.get("device", "not recorded"))] = None
        for name, number in (made.get("versions") or {}).items():
            versions.setdefault(name, {})[str(number)] = None
    said = {name: " / ".join(numbers) for name, numbers in versions.items()}
    return {"versions": said} | {key: list(values) for key, values in found.items()}
