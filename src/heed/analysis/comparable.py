"""Which cells can be set against each other: those that differ in one studied axis alone."""

from __future__ import annotations

from heed.analysis.cells import Cells

ALONE = (
    "Comparable in: the axes in which some other cell differs from this one and in nothing else. "
    "⚑ not: every cell with another value there differs in something more as well, so that no "
    "difference between two of them can be put down to that axis."
)


def alone_in(cells: Cells) -> dict[str, tuple[list[str], list[str]]]:
    """For each run, the studied axes in which it has a partner equal in all else, and the others.

    Args:
        cells: Of the study.

    Returns:
        Run id -> axes with a partner, axes without; empty where every cell has all partners, or
        where fewer than two axes vary.
    """
    names, places = cells.varied, range(len(cells.rows))
    whole = {cells.rows[i].run: [values[i] for values in cells.facts.values()] for i in places}
    found: dict[str, tuple[list[str], list[str]]] = {run: ([], []) for run in whole}
    for place, name in enumerate(names):
        rest = {run: (*v[:place], *v[place + 1 :]) for run, v in whole.items()}
        sizes: dict[tuple[str, ...], set[str]] = {}
        for run, key in rest.items():
            sizes.setdefault(key, set()).add(whole[run][place])
        for run, key in rest.items():
            found[run][len(sizes[key]) < 2].append(name)
    lacking_some = any(without for _, without in found.values())
    return found if lacking_some and len(names) > 1 else {}
