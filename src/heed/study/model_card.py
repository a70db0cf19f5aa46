"""The card of a run's student with what was measured on it: both leave the house together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heed.analysis.beside import (
    SURE_COLUMNS,
    SURE_NOTE,
    also_line,
    control_columns,
    control_lines,
    flag_texts,
    sound_line,
    sure_line,
)
from heed.analysis.deltas import delta_of, signed
from heed.core.files import read_json, write_text
from heed.training.card import CARD_FILE, escaped, markdown_table, with_result

FOLDERS = ("model", "merged")
"""Of a run: what may leave the house."""

COLUMNS = ("metric", "before", "after", "delta", "interval", "items", "verdict")
"""Heads of the table of a run."""


def write_results(directory: Path, result: Mapping[str, Any]) -> None:
    """Put a run's results into the card of its student; nothing else of the card changes.

    Args:
        directory: Of the run; results of other suites are there already.
        result: Of the suite that has just scored it.
    """
    found = {path.parent.name: read_json(path) for path in directory.glob("scores/*/result.json")}
    found[result["suite_name"]] = result
    section = results_section([found[name] for name in sorted(found)])
    for name in FOLDERS:
        card = directory / name / CARD_FILE
        if card.is_file():
            write_text(card, with_result(card.read_text(encoding="utf-8"), section))


def results_section(results: Sequence[Mapping[str, Any]]) -> str:
    """What was measured, as Markdown; the heading tells suites apart."""
    return "\n\n".join(_section(result) for result in results)


def _section(result: Mapping[str, Any]) -> str:
    """One suite's verdicts, and what must be known beside them."""
    deltas = [delta_of(entry) for entry in result["deltas"]]
    task = result["primary"].partition("/")[0]
    parts = [
        f"## Result on {escaped(result['suite_name'])}",
        _opening(result),
        markdown_table(COLUMNS, [_line(delta, result["primary"]) for delta in deltas]),
        f"\\* the metric that decides the verdict; {result['level']:.0%} paired intervals.",
        *_flags(result.get("flags")),
        "### How sure",
        markdown_table(SURE_COLUMNS, [sure_line(d) for d in deltas if d.metric.startswith(task)]),
        SURE_NOTE,
        *_controls(result.get("controls")),
        *(escaped(line) for line in (sound_line(result.get("form") or {}), also_line(result))),
        "### Settings, and what was dropped",
        "\n".join(f"- {escaped(line)}" for line in _settings(result)),
    ]
    return "\n\n".join(part for part in parts if part)


def _opening(result: Mapping[str, Any]) -> str:
    primary = next(d for d in result["deltas"] if d["metric"] == result["primary"])
    return (
        f"**{primary['verdict']}**: the same student scored before and after tuning, over the same "
        f"{primary['items']} items. One training, seed {result['seed']}: what another seed would "
        f"give is not in the interval."
    )


def _line(delta: Any, primary: str) -> list[str]:
    return [
        delta.metric + (" *" if delta.metric == primary else ""),
        f"{delta.before:.3f}",
        f"{delta.after:.3f}",
        signed(delta.delta),
        f"{signed(delta.low)} to {signed(delta.high)}",
        str(delta.items),
        delta.verdict,
    ]


def _flags(flags: Sequence[Mapping[str, str]] | None) -> list[str]:
    if not flags:
        return ["No flags." if flags is not None else ""]
    return ["\n".join(f"- Flag: {escaped(text)}" for text in flag_texts(flags))]


def _controls(controls: Mapping[str, Any] | None) -> list[str]:
    if controls is None:
        return []
    lines = [entries for _, entries in control_lines(controls)]
    return [
        f"### Beside controls, on {escaped(controls['metric'])}",
        markdown_table(control_columns(controls), lines),
        f"\\* the best of those that read nothing. {escaped(controls['note'])}",
    ]


def _settings(result: Mapping[str, Any]) -> list[str]:
    """The names of a run, its numbers, and its notes: what was dropped stands among them."""
    fit = result["fit"]
    names = ("student", "teacher", "method", "lr", "lr_peak", "seed")
    return [
        ", ".join(f"{name} {result[name]}" for name in names),
        f"run {result['run']}, {fit['optimiser_steps']} optimiser steps, "
        f"{fit['parameters_trained']:,} of {fit['parameters']:,} parameters trained",
        f"made by heed {result['code']}; every setting is in config.yaml of the run",
        *result["notes"],
    ]
