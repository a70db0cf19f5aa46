"""Families and sizes of teachers as tables: own family, the next larger one, size in all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heed.analysis.deltas import signed
from heed.analysis.markup import Markup, join, line, table, tag, value


def family_tables(teaching: Mapping[str, Any]) -> Markup:
    """What families and sizes say; nothing where no teacher has one.

    Args:
        teaching: `families`, `larger` and `sizes` as `heed.analysis.families` makes them.
    """
    return join(*(make(teaching) for make in (_own, _larger, _sizes)))


def _own(teaching: Mapping[str, Any]) -> Markup:
    found = teaching.get("families") or ()
    if not found:
        return join()
    columns = ["student", "own family", "teachers", "best rank", "mean rank"]
    columns += ["as good by chance (p)", "places gained beyond the others [interval]"]
    lines = [
        line(
            [
                one["student"],
                one["family"],
                value(f"{one['teachers']} of {one['of']}", one["teachers"]),
                value(f"{one['best_rank']:g}", one["best_rank"]),
                value(f"{one['mean_rank']:.1f}", one["mean_rank"]),
                value(f"{one['p']:.3f}", one["p"]),
                _number(one, "gain"),
            ]
        )
        for one in found
    ]
    note = (
        "p: share of all groups of as many teachers that rank as well. Places gained: how much "
        "better the own family ranks with this student than with those whose own families are "
        "others, minus the same of all other teachers, with Welch's t interval over teachers."
    )
    return _part("Teachers of the student's own family", columns, lines, note)


def _larger(teaching: Mapping[str, Any]) -> Markup:
    found = teaching.get("larger") or ()
    if not found:
        return join()
    columns = ["family", "smaller", "larger", "students for whom the smaller is better"]
    columns += ["larger minus smaller [interval]"]
    lines = [
        line(
            [
                one["family"],
                one["smaller"],
                one["larger"],
                value(f"{one['smaller_wins']} of {one['students']}", one["smaller_wins"]),
                _number(one, "difference"),
            ]
        )
        for one in found
    ]
    note = "Student's t interval over students, who have the same teachers."
    return _part("Is the larger teacher of a family the better one?", columns, lines, note)


def _sizes(teaching: Mapping[str, Any]) -> Markup:
    found = teaching.get("sizes") or ()
    if not found:
        return join()
    columns = ["family", "teachers", "rho of size and delta, mean over students [interval]"]
    lines = [
        line(
            [
                one["family"] or "all of known size",
                value(one["teachers"], one["teachers"]),
                _number(one, "mean"),
            ]
        )
        for one in found
    ]
    return _part("Size of the teacher", columns, lines, "Student's t interval over students.")


def _number(one: Mapping[str, Any], name: str) -> Markup:
    """A number with its interval, or why it has none."""
    if one[name] is None:
        return tag("td", one.get("reason", "not known"))
    if one["low"] is None:
        return value(f"{signed(one[name])} ({one['reason']})", one[name])
    return value(f"{signed(one[name])} [{signed(one['low'])}, {signed(one['high'])}]", one[name])


def _part(title: str, columns: list[str], lines: list[Markup], note: str) -> Markup:
    return join(tag("h3", title), tag("p", note, class_="quiet"), table(columns, lines))
