"""Cells that differ in their seed alone, taken together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heed.analysis.best_control import NO_TEXT, NOT_RECORDED
from heed.core.errors import DataError, RunError
from heed.core.identity import first_difference
from heed.core.stats import verdict_of
from heed.core.types import ItemScore
from heed.evaluation.controls import CONTROLS
from heed.evaluation.deltas import refuse_unequal, seeds_delta
from heed.evaluation.prompting import Declared
from heed.evaluation.record import read_scores
from heed.evaluation.suite import Suite
from heed.study.controls import common
from heed.study.plan import PlannedCell
from heed.study.subjects import Controlled

Scored = tuple[list[ItemScore], dict[str, Any]]
"""Scores and their fingerprint, as `read_scores` gives them."""


def over_seeds(
    cells: Sequence[PlannedCell], done: Mapping[tuple[str, str], Mapping[str, Any]], root: Path
) -> list[dict[str, Any]]:
    """The delta of the primary metric to be expected of another seed, for each group of cells.

    Args:
        cells: Of a study.
        done: (run id, suite hash) -> result of the finished ones.
        root: Of the outputs, where the scores of all items are.

    Returns:
        One entry for each group of two or more finished cells that differ in their seed alone:
        `cell` (its name without the seed), `seeds`, `runs` (ids), `metric`, `delta`, `low`, `high`,
        `items` and `verdict`, and `control` with `over_control`: the best control that reads
        nothing, and the mean over seeds of after minus it, as `delta`, `low` and `high`; in the
        order of the study.
        Where there is no such mean, `over_control` is None and `control` says so: `none` (the
        metric is not answered in text) or `not recorded`, of lost scores with a `control_reason`.
        Of cells whose items are lost, or were scored in different ways, instead of all from
        `delta` on: `reason`.
    """
    groups: dict[tuple[str, ...], list[PlannedCell]] = {}
    for planned in cells:
        alike = tuple(text for text in planned.overrides if not text.startswith("seed="))
        if planned.key in done:
            groups.setdefault(alike, []).append(planned)
    return [_together(group, done, root) for group in groups.values() if len(group) > 1]


def _together(
    group: Sequence[PlannedCell],
    done: Mapping[tuple[str, str], Mapping[str, Any]],
    root: Path,
) -> dict[str, Any]:
    results = [done[planned.key] for planned in group]
    suite = group[0].cell.suite
    names = [results[0][key] for key in ("student", "teacher", "method", "lr")]
    about = {
        "cell": ", ".join(map(str, names)),
        "seeds": [result["seed"] for result in results],
        "runs": [planned.key[0] for planned in group],
        "metric": suite.primary,
    }
    try:
        scored = _scored(results, suite.name, root)
        found = seeds_delta(suite, [(before[0], after[0]) for before, after in scored])
    except RunError as error:
        return about | {"reason": str(error)}
    name, _, metric = suite.primary.partition("/")
    less = metric in suite.tasks[name].lower_is_better
    gain = (-found.high, -found.low) if less else (found.low, found.high)
    tried = any(flag["kind"] == "debug" for result in results for flag in result.get("flags", ()))
    return about | {
        "delta": found.value,
        "low": found.low,
        "high": found.high,
        "items": found.items,
        "verdict": "cannot tell" if tried else verdict_of(*gain, suite.margin[name]),
        **_over_control(results, suite, [after for _, after in scored], root),
    }


def _over_control(
    results: Sequence[Mapping[str, Any]], suite: Suite, after: Sequence[Scored], root: Path
) -> dict[str, Any]:
    """`control` and `over_control`; what is missing stops no page, and is said."""
    if any("controls" not in result for result in results):
        return {"control": NOT_RECORDED, "over_control": None}
    records = [result["controls"] for result in results]
    if any(record is None or record["metric"] != suite.primary for record in records):
        return {"control": NO_TEXT, "over_control": None}
    try:
        best = _one_control([record["best"] for record in records])
        found = _after_minus(best, suite, after, root)
    except (DataError, RunError) as error:
        reason = {"control_reason": str(error)}
        return {"control": NOT_RECORDED, "over_control": None} | reason
    return {"control": best, "over_control": found}


def _one_control(names: Sequence[str]) -> str:
    """The best control of all seeds.

    Raises:
        RunError: they were set against different ones, or against one that is no more.
    """
    if len(set(names)) > 1:
        raise RunError(
            f"The best control is recorded as {' and '.join(dict.fromkeys(names))}: the controls "
            f"changed between these runs. Score them again with one state of heed's code."
        )
    if names[0] not in CONTROLS:
        raise RunError(
            f"The best control is recorded as {names[0]}, which is none of {', '.join(CONTROLS)} "
            f"any more. Score these runs again."
        )
    return names[0]


def _after_minus(
    control: str, suite: Suite, after: Sequence[Scored], root: Path
) -> dict[str, float]:
    """The mean over seeds of after minus a control on the primary metric, with its interval.

    Raises:
        RunError: the control's scores are lost, or are those of other items.
        DataError: a task's data is missing.
    """
    text = suite.asked_as(Declared())
    assert text is not None, "the metric of recorded controls is answered in text"
    said, made = read_scores(Controlled(CONTROLS[control], root).directory(text))
    for _, fingerprint in after:
        refuse_unequal(common(made, text), common(fingerprint, text))
    own = [[score for score in scores if score.task in text.tasks] for scores, _ in after]
    found = seeds_delta(text, [(said, scores) for scores in own])
    return {"delta": found.value, "low": found.low, "high": found.high}


def _scored(
    results: Sequence[Mapping[str, Any]], suite: str, root: Path
) -> list[tuple[Scored, Scored]]:
    """Scores before and after of each seed, with their fingerprints.

    Raises:
        RunError: some are lost, or were made in another way than the first.
    """
    found = [
        (
            read_scores(root / result["before"]),
            read_scores(root / result["directory"] / "scores" / suite),
        )
        for result in results
    ]
    first = found[0][0][1]
    for result, (before, after) in zip(results, found, strict=True):
        for _, fingerprint in (before, after):
            if fingerprint != first:
                where, one, two = first_difference(first, fingerprint)
                raise RunError(
                    f"Seeds {results[0]['seed']} and {result['seed']} were scored in different "
                    f"ways: {where} is {one!r} and {two!r}. Score all of them with one suite and "
                    f"one installation."
                )
    return found
