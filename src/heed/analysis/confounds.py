"""Whether cells that are compared differ in more than what is studied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heed.analysis.deltas import AXES, Row


def confounds_of(rows: Sequence[Row], axes: Sequence[str]) -> list[str]:
    """Why a difference between two cells may be due to something else than the studied axis.

    Args:
        rows: The cells that are compared.
        axes: The studied ones: of `AXES`, or dotted config keys.

    Returns:
        One sentence for each setting outside the axes that differs, and for each pair of values of
        an axis that is never seen with all other axes equal.
    """
    every = tuple(dict.fromkeys([*AXES, *axes]))
    pairs = [line for axis in axes for line in _unpaired(rows, axis, every)]
    return _other_settings(rows, axes) + pairs


def _other_settings(rows: Sequence[Row], axes: Sequence[str]) -> list[str]:
    studied = tuple(f"{'model' if axis == 'student' else axis}." for axis in axes)
    keys = dict.fromkeys(key for row in rows for key in row.settings)
    bare = sum(not row.settings for row in rows)
    lines = [f"{bare} results do not say their settings: not compared."] if bare else []
    for key in (k for k in keys if not f"{k}.".startswith(studied)):
        values = dict.fromkeys(str(r.settings.get(key, "not set")) for r in rows if r.settings)
        if len(values) > 1:
            lines.append(f"'{key}' is not a studied axis but differs: {', '.join(values)}.")
    return lines


def _unpaired(rows: Sequence[Row], axis: str, every: Sequence[str]) -> list[str]:
    """Pairs of values of an axis without any two cells that differ in it alone."""
    others = [name for name in every if name != axis]
    seen: dict[Any, set[tuple[Any, ...]]] = {}
    for row in rows:
        rest = tuple(row.value(name) for name in others)
        seen.setdefault(row.value(axis), set()).add(rest)
    lines, values = [], list(seen)
    for i, one in enumerate(values):
        for two in values[i + 1 :]:
            if seen[one] & seen[two]:
                continue
            mixed = [
                name
                for j, name in enumerate(others)
                if {rest[j] for rest in seen[one]} != {rest[j] for rest in seen[two]}
            ]
            also = " and ".join(mixed) or "a combination of the other axes"
            lines.append(f"{axis} {one} and {two} also differ in {also} in every pair of cells.")
    return lines
