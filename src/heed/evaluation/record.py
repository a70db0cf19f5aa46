"""Scores on disk: one directory with the summary, its parts, every item, and how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from heed.core.errors import RunError
from heed.core.files import read_json, read_jsonl, whole_directory, write_json, write_jsonl
from heed.core.types import ItemScore, Ratio
from heed.evaluation.suite import Suite


def write_scores(
    directory: Path,
    suite: Suite,
    scores: Sequence[ItemScore],
    fingerprint: Mapping[str, Any],
    events: Mapping[str, int] | None = None,
) -> None:
    """Write the scores of one model as a whole directory, or not at all.

    `summary.json` holds task -> metric -> value with interval, `strata.json` task -> list of
    groups and types, `items.jsonl` one row per item, `events.json` what happened -> how often.

    Args:
        directory: Made anew; one that is there is replaced.
        suite: What made the scores.
        scores: From `Suite.score`; all numbers finite.
        fingerprint: From `Suite.fingerprint`.
        events: What happened before the scoring; those that the suite finds in the scores are
            added.
    """
    summary = {
        task: {metric: asdict(value) for metric, value in metrics.items()}
        for task, metrics in suite.summarise(scores).items()
    }
    strata = {
        task: [asdict(stratum) for stratum in found]
        for task, found in suite.breakdown(scores).items()
    }
    with whole_directory(directory) as made:
        write_json(made / "summary.json", summary)
        write_jsonl(made / "items.jsonl", [_row(score) for score in scores])
        write_json(made / "strata.json", strata)
        write_json(made / "events.json", dict(events or {}) | suite.events(scores))
        write_json(made / "fingerprint.json", dict(fingerprint))


def read_scores(directory: Path) -> tuple[list[ItemScore], dict[str, Any]]:
    """The scores that `write_scores` wrote, and their fingerprint.

    Raises:
        RunError: something is missing or does not read as scores.
    """
    try:
        scores = [_score(row) for row in read_jsonl(directory / "items.jsonl")]
        fingerprint: dict[str, Any] = read_json(directory / "fingerprint.json")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{directory} does not hold whole scores ({type(error).__name__}: {error}). Remove the "
            f"directory and run the command that made it again."
        ) from error
    return scores, fingerprint


def _row(score: ItemScore) -> dict[str, Any]:
    """One line of `items.jsonl`: the score's fields, its ratios by name."""
    row = {field.name: getattr(score, field.name) for field in fields(score)}
    row["metrics"] = {name: ratio._asdict() for name, ratio in score.metrics.items()}
    return row


def _score(row: Mapping[str, Any]) -> ItemScore:
    metrics = {name: Ratio(**ratio) for name, ratio in row["metrics"].items()}
    return ItemScore(**{**row, "metrics": metrics})
