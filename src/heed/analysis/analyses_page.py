"""What the analyses of a study's cells found: as tables, as a file, and in a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from heed.analysis.analysed import Analysed, AnalysedCell, Sided, TwoValues, all_else_equal
from heed.analysis.cells import Cells, home
from heed.analysis.confounds import OTHER_CODE, code_groups
from heed.analysis.deltas import Row
from heed.analysis.markup import Markup, breakable, join, table, tag, value
from heed.analysis.number import UNITS, Number, difference, shown
from heed.core.manifest import code_state, same_code

NOT_DONE, OTHERWISE, DAMAGED = "not done", "not done (otherwise only)", "cannot be read"

PAIRS = (
    "Second minus first, the mean over pairs of cells that differ in this axis alone; below it the "
    "smallest and the largest difference, and in how many of the pairs it is above zero. "
    "These are counts over the pairs of this study, which share students and data: no interval is "
    "given, and none would be sound."
)
STEPS = (
    " Of a step: in how many it comes earlier and later with the second; never is later than all. "
    "Only kept steps are looked at, and trainings of other lengths may have kept others."
)
NAMED_BY_ITSELF = ("student", "teacher", "method", "lr")
"""Axes whose values say by themselves what they are of."""

FEWEST_PAIRS, AGREE = 5, 80
"""The answer tells of an axis where so many pairs, and so many per cent of them, agree."""


def analyses_section(analyses: Sequence[Analysed], cells: Cells) -> Markup:
    """For each analysis what its numbers are, a line a cell, and cells equal in all else.

    Args:
        analyses: Of the study, in order; nothing is shown where there are none.
        cells: Of the study.
    """
    if not (analyses and cells.rows):
        return join()
    file = tag("a", "analyses.csv", href="analyses.csv")
    shown = [_section(found, cells, place) for place, found in enumerate(analyses)]
    return join(tag("h2", "What the analyses found"), tag("p", "As a file: ", file), *shown)


def _section(found: Analysed, cells: Cells, place: int) -> Markup:
    title = tag("h3", f"Analysis {found.name}")
    if not found.cells:
        return join(title, _lacking(found, cells))
    columns = [*cells.heads, *_heads(found), "page", "run"]
    known, now = {cell.run: cell for cell in found.cells}, code_state()
    lines = [cells.line(row, _entries(found, known.get(row.run), row, now)) for row in cells.rows]
    return join(
        title,
        tag("p", " ".join(filter(None, (found.about, _unhurt(found))))),
        _lacking(found, cells),
        _other_code(found, now),
        table(columns, lines, id=f"analysis-{place}"),
        _equal(found, cells, place),
    )


def _heads(found: Analysed) -> list[Markup]:
    """The names of the numbers with their units."""
    units = [UNITS[found.every[name].kind] for name in found.names]
    pairs = zip(found.names, units, strict=True)
    return [breakable(f"{name}, {unit}" if unit else name) for name, unit in pairs]


def _entries(found: Analysed, cell: AnalysedCell | None, row: Row, now: str) -> list[Any]:
    """The numbers of a cell, where its page is and whose code made it, or why there are none."""
    if cell is None:
        return [*[""] * len(found.names), _why(found, row.run)]
    page = tag("a", found.name, href=f"{home(row)}{cell.page}") if cell.page else "lost"
    other = "" if same_code(cell.code, now) else tag("small", OTHER_CODE)
    return [*(_number(cell.numbers.get(name)) for name in found.names), join(page, other)]


def _why(found: Analysed, run: str) -> str:
    """Why a cell has no numbers."""
    if run in found.damaged:
        return DAMAGED
    return OTHERWISE if run in found.otherwise else NOT_DONE


def _other_code(found: Analysed, now: str) -> Markup:
    """How many analyses other code did than this one; nothing where none did."""
    others = [group for group in code_groups(found.cells) if not same_code(group[0].code, now)]
    if not others:
        return join()
    said = ", ".join(f"{len(group)} by {group[0].code}" for group in others)
    text = (
        f"{sum(map(len, others))} of {len(found.cells)} analyses {found.name} were made by another "
        f"state of heed's code than this one ({now}): {said}. They are marked '{OTHER_CODE}', and "
        "two are set side by side only where one state made both. To have them of this one, "
        "remove the folders in which their pages lie and give the study's command again."
    )
    return tag("div", tag("strong", "Other code. "), text, class_="warning")


def _number(number: Number | None) -> Any:
    if number is None:
        return ""
    finite = number.value is not None and math.isfinite(number.value)
    ends = tag("small", number.ends) if number.ends else ""
    return value(join(number.main, ends), number.value if finite else None)


def _unhurt(found: Analysed) -> str:
    """How many parts are not shown, and which."""
    if not found.unhurt:
        return ""
    return (
        f"Surely hurt in no cell, so in analyses.csv alone: {len(found.unhurt)} "
        f"({', '.join(found.unhurt)})."
    )


def _lacking(found: Analysed, cells: Cells) -> Markup:
    """How many cells lack it, which, and why what is there cannot be read."""
    damaged, rows = found.damaged, {row.run: row for row in cells.rows}
    done = len(found.cells)
    lacking = len(found.missing) + len(damaged)
    if not lacking:
        return tag("p", f"Done of all {done} cells.", class_="quiet")
    title = tag("strong", f"Analysis {found.name} is there of {done} of {done + lacking} cells.")
    other = f" ({len(found.otherwise)} with other settings or versions only)"
    said = [f" Not done: {len(found.missing)}{other if found.otherwise else ''}."]
    said += [f" Cannot be read: {len(damaged)}."] if damaged else []
    said += [" The study's command does what is not done."] if found.missing else []
    names = [tag("li", f"{_label(run, rows, cells)}: {why}") for run, why in damaged.items()]
    names += [tag("li", f"{_label(run, rows, cells)}: {NOT_DONE}") for run in found.missing]
    listed = tag("details", tag("summary", "Which"), tag("ul", *names))
    return tag("div", title, *said, listed, class_="warning")


def _label(run: str, rows: Mapping[str, Row], cells: Cells) -> str:
    return f"{cells.label(rows[run])} (run {run})" if run in rows else f"run {run}"


def _equal(found: Analysed, cells: Cells, place: int) -> Markup:
    """Each two values of an axis over the pairs of cells that differ in it alone."""
    told, without = all_else_equal(found)
    if not (found.names and (told or without)):
        return join()
    steps = any(found.every[name].kind == "step" for name in found.names)
    rest = STEPS if steps else ""
    rest += f" Without a pair: {without} pairs of values." if without else ""
    title = tag("h3", f"All else equal: {found.name}")
    if not told:
        why = "No two cells differ in one axis alone, so nothing can be set side by side."
        return join(title, tag("p", why))
    columns = ["axis", "first", "second", "pairs", *_heads(found)]
    lines = [
        cells.several(
            [
                *(two.axis, two.one, two.two, value(cells.runs(two.pairs, two.runs), two.pairs)),
                *(_sided(one, two.pairs) for one in two.numbers),
            ],
            two.runs,
        )
        for two in told
    ]
    shown = table(columns, lines, id=f"analysis-{place}-pairs", class_="pairs")
    return join(title, tag("p", f"{PAIRS}{rest}", class_="quiet"), shown)


def _sided(one: Sided, pairs: int) -> Markup:
    """The mean difference, its ends, and the count above zero; of fewer pairs, that is said."""
    unknown = [tag("small", f"not known: {one.unknown} of {pairs} pairs")] if one.unknown else []
    if not one.pairs:
        return tag("td", *unknown)
    if one.kind == "step":  # there is no mean of what never came
        said = f"earlier in {one.below}, later in {one.above} of {one.pairs}"
        return value(join(said, *unknown), one.above - one.below)
    equal = f", {one.equal} equal" if one.equal else ""
    count = tag("small", f"> 0 in {one.above} of {one.pairs}{equal}")
    found = one.differences
    mean = math.fsum(found) / len(found)
    ends = tag("small", " to ".join(difference(one.kind, end) for end in (min(found), max(found))))
    return value(join(difference(one.kind, mean), ends, count, *unknown), mean)


def analyses_line(analyses: Sequence[Analysed], rows: Sequence[Row]) -> str:
    """What can be said in a sentence: of axes of two values on which every cell has its partner.

    Args:
        analyses: Of the study.
        rows: All finished cells.

    Returns:
        A sentence for each analysis; empty where nothing can be said.
    """
    said = []
    for found in analyses:
        told, _ = all_else_equal(found)
        clauses = [_clause(found, two) for two in told if _is_whole(two, rows)]
        clauses = [clause for clause in clauses if clause]
        said += [f"Analysis {found.name}: {'; '.join(clauses)}."] if clauses else []
    return " ".join(said)


def _is_whole(two: TwoValues, rows: Sequence[Row]) -> bool:
    """Whether each finished cell is in just one pair, so that the axis has no third value."""
    return sorted(two.runs) == sorted(row.run for row in rows)


def _clause(found: Analysed, two: TwoValues) -> str:
    """Which value has more in most pairs, of the first number that makes a sentence.

    Empty where a pair does not know the number, where there are fewer than `FEWEST_PAIRS`, where
    fewer than `AGREE` per cent of them agree, and where the mean of the other is no lower.
    """
    one = next((one for one in two.numbers if found.every[one.number].more), None)
    if one is None or one.unknown or one.means is None:
        return ""
    names = [n if two.axis in NAMED_BY_ITSELF else f"{two.axis} {n}" for n in (two.one, two.two)]
    sides = [(one.below, one.means[0], names[0]), (one.above, one.means[1], names[1])]
    (_, other, less), (most, mean, more) = sorted(sides)
    if one.pairs < FEWEST_PAIRS or 100 * most < AGREE * one.pairs or mean <= other:
        return ""
    unit = f" {UNITS[one.kind]}".rstrip()
    return (
        f"{more} {found.every[one.number].more} than {less} in {most} of {one.pairs} pairs equal "
        f"in all else ({shown(one.kind, mean)} against {shown(one.kind, other)}{unit} on "
        "average)"
    )


def analyses_csv(analyses: Sequence[Analysed], cells: Cells) -> list[list[Any]]:
    """Head and lines of the file: one a cell, analysis and number, in the units of `summary.json`.

    A cell without the analysis has one line that says so. A step that never came is `never`; what
    is not known is left empty.
    """
    lines: list[list[Any]] = [
        ["analysis", "run", "cell", "state", "number", "kind", "value", "low", "high", "code"]
    ]
    for found in analyses:
        known = {cell.run: cell for cell in found.cells}
        for row in cells.rows:
            which = [found.name, row.run, cells.label(row)]
            cell = known.get(row.run)
            if cell is None or not cell.numbers:
                state, code = ("done", cell.code) if cell else (_why(found, row.run), "")
                lines.append([*which, state, *[""] * 5, code])
                continue
            for name, one in cell.numbers.items():
                ends = map(_plain, _ends(one))
                lines.append([*which, "done", name, one.kind, *ends, cell.code])
    return lines


def _ends(one: Number) -> tuple[float | None, float | None, float | None]:
    return one.value, one.low, one.high


def _plain(found: float | None) -> Any:
    if found is None:
        return ""
    return found if math.isfinite(found) else "never"
