"""Whether cells that are compared differ in more than what is studied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from heed.analysis.deltas import AXES, Row
from heed.core.manifest import code_state, same_code

OTHER_CODE = "other code"
"""Mark of a cell that was made by another state of heed's code than this one."""


class Coded(Protocol):
    """What knows the state of heed's code that made it."""

    @property
    def code(self) -> str:
        """As `heed.core.manifest.code_state` says it."""
        ...


C = TypeVar("C", bound=Coded)


def code_groups(rows: Sequence[C]) -> list[list[C]]:
    """Cells by the state of heed's code that made them, in the order in which they come."""
    groups: list[list[C]] = []
    for row in rows:
        same = next((group for group in groups if same_code(group[0].code, row.code)), None)
        if same is None:
            groups.append([row])
        else:
            same.append(row)
    return groups


def other_code_line(rows: Sequence[Row]) -> str:
    """Which cells were made by another state of heed's code than this one; empty if none were."""
    now = code_state()
    others = [group for group in code_groups(rows) if not same_code(group[0].code, now)]
    if not others:
        return ""
    said = ", ".join(f"{len(group)} by {group[0].code}" for group in others)
    count = sum(map(len, others))
    return (
        f"{count} of {len(rows)} cells were made by another state of heed's code than this one "
        f"({now}): {said}. They are marked '{OTHER_CODE}'; outputs=<another folder> makes all anew."
    )


def _mixed_code(rows: Sequence[Row]) -> list[str]:
    """Two states of heed's code among cells that are compared."""
    groups = code_groups(rows)
    if len(groups) < 2:
        return []
    said = ", ".join(f"{len(group)} by {group[0].code}" for group in groups)
    return [f"heed's code is no studied axis but differs: {said}."]


def confounds_of(rows: Sequence[Row], axes: Sequence[str]) -> list[str]:
    """Why a difference between two cells may be due to something else than the studied axis.

    Args:
        rows: The cells that are compared.
        axes: The studied ones: of `AXES`, or dotted config keys.

    Returns:
        One sentence where heed's code differs, for each setting outside the axes that differs, and
        for each pair of values of an axis that is never seen with all other axes equal.
    """
    every = tuple(dict.fromkeys([*AXES, *axes]))
    pairs = [line for axis in axes for line in _unpaired(rows, axis, every)]
    return _mixed_code(rows) + _other_settings(rows, axes) + pairs


def varying_settings(rows: Sequence[Row], axes: Sequence[str]) -> dict[str, list[str]]:
    """Settings outside the studied axes that differ between cells, with their values.

    Args:
        rows: The cells; those whose results do not say their settings are left out.
        axes: The studied ones.
    """
    studied = tuple(f"{'model' if axis == 'student' else axis}." for axis in axes)
    keys = dict.fromkeys(key for row in rows for key in row.settings)
    found = {}
    for key in (k for k in keys if not f"{k}.".startswith(studied)):
        values = dict.fromkeys(str(r.settings.get(key, "not set")) for r in rows if r.settings)
        if len(values) > 1:
            found[key] = list(values)
    return found


def _other_settings(rows: Sequence[Row], axes: Sequence[str]) -> list[str]:
    bare = sum(not row.settings for row in rows)
    lines = [f"{bare} results do not say their settings: not compared."] if bare else []
    return lines + [
        f"'{key}' is not a studied axis but differs: {', '.join(values)}."
        for key, values in varying_settings(rows, axes).items()
    ]


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
