"""A study as one page: the question, the answer, every cell with its interval and verdict."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heed.analysis.confounds import confounds_of
from heed.analysis.deltas import (
    Row,
    counts_of,
    forgetting_of,
    holm_line,
    less_is_better,
    metrics_of,
    rows_of,
    shared,
    to_csv,
)
from heed.analysis.figures import delta_by_rate
from heed.analysis.markup import Markup, join, table, tag
from heed.analysis.outside import missing_table, other_code_box, published_table
from heed.analysis.style import CSS
from heed.analysis.tables import (
    all_metrics_table,
    bases_table,
    beside_table,
    cells_table,
    controls_of_bases,
    flags_list,
    interval,
    pill,
    rate,
    seeds_table,
)
from heed.core.files import write_bytes, write_text
from heed.core.types import Verdict


def write_report(
    directory: Path,
    study: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    failed: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write `table.csv`, `figures/*.png` and the self-contained `report.html` of a study.

    Args:
        directory: `outputs/studies/<study>`, so that runs are found at `../../<directory>/`.
        study: `name`, `question`, `axes` (config group or key -> values in order), `cells` (their
            number in all), and, if there is more to say, `settings` (label -> text), `seeds` and
            `over_seeds` (of cells that differ in their seed alone: `cell`, `seeds`, `metric`,
            `delta`, `low`, `high`, `verdict`, `control` and `over_control`, or the `reason` why
            these are not known), and `published` (`where`, `metric`, `source`, some of `before`,
            `after`, `delta` and `note`, and `runs`: the ids of the cells that it is about).
        results: `result.json` of each finished cell.
        failed: The cells that failed: `student teacher method lr seed`, `reason`, `log` (the last
            lines of it) and `command`.

    Returns:
        The page.
    """
    axes = _axes(study)
    rows = rows_of(results, axes)
    pictures = _pictures(rows)
    write_text(directory / "table.csv", to_csv(rows))
    for name, data in pictures.items():
        write_bytes(directory / "figures" / f"{name}.png", data)
    write_text(directory / "report.html", page(study, rows, failed, pictures))
    return directory / "report.html"


def _axes(study: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The study's axes in the words of the table: noise and weights are a part of the method."""
    named = {"model": "student", "noise": "method", "weights": "method"}
    axes: dict[str, list[Any]] = {}
    for key, values in study["axes"].items():
        axes.setdefault(named.get(key, key), []).extend(values)
    return axes


def _pictures(rows: Sequence[Row]) -> dict[str, bytes]:
    """File name -> PNG, one for each student."""
    shown = [m for m in (*metrics_of(rows)[:1], forgetting_of(rows)) if m]
    students = dict.fromkeys(row.student for row in rows)
    return {
        f"delta_by_rate_{_file_name(s)}_{i}": delta_by_rate(rows, s, shown)
        for i, s in enumerate(students)
    }


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-." else "_" for c in name).strip(".")


def page(
    study: Mapping[str, Any],
    rows: Sequence[Row],
    failed: Sequence[Mapping[str, Any]],
    pictures: Mapping[str, bytes],
) -> str:
    """The whole page as text."""
    sections = [
        tag("h1", study["question"]),
        tag("p", f"Study '{study['name']}', made by heed.", class_="quiet"),
        _answer(study, rows, failed),
        other_code_box(rows),
        flags_list(rows),
        _caveats(study, rows),
        _figures(rows, pictures),
        cells_table(rows, list(_axes(study))),
        seeds_table(study.get("over_seeds", ())),
        beside_table(rows, list(_axes(study))),
        published_table(study.get("published", ()), rows),
        missing_table(failed),
        _how_to_read(rows),
        bases_table(rows),
        controls_of_bases(rows),
        all_metrics_table(rows),
        _notes(rows),
        _settings(study, rows),
    ]
    head = tag(
        "head",
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width">'),
        tag("title", f"{study['name']}: {study['question']}"),
        tag("style", Markup(CSS)),
    )
    body = tag("body", tag("main", *sections))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _answer(
    study: Mapping[str, Any], rows: Sequence[Row], failed: Sequence[Mapping[str, Any]]
) -> Markup:
    missing = int(study["cells"]) - len(rows)
    if not rows:
        text = f"None of {missing} cells has a result yet, so there is no answer."
        return tag("p", text, class_="answer")
    counts = counts_of(rows)
    parts: list[Any] = [f"Of {len(rows)} cells: "]
    for i, (verdict, count) in enumerate(counts.items()):
        parts += [", " if i else "", f"{count} ", pill(verdict)]  # type: ignore[arg-type]
    parts.append(f" on {' and '.join(dict.fromkeys(row.primary for row in rows))}. ")
    parts += [_best(rows), f" {holm_line(rows)}".rstrip()]
    metric = forgetting_of(rows)
    if metric:
        forgotten = sum(bool((d := r.delta(metric)) and d.verdict == "hurt") for r in rows)
        parts.append(f" {forgotten} of {len(rows)} cells lost on {metric}.")
    if missing:
        parts.append(f" Cells without a result: {missing} (failed: {len(failed)}).")
    return tag("p", *parts, class_="answer")


def _best(rows: Sequence[Row]) -> str:
    helped = [row for row in rows if row.decisive.verdict == "helped"]
    if not helped:
        return "No cell helped."
    best = max(helped, key=lambda row: abs(row.decisive.delta))
    cell = f"{best.student} taught by {best.teacher} at {rate(best)}"
    return f"The largest gain is {cell}: {interval(best.decisive)}."


def _caveats(study: Mapping[str, Any], rows: Sequence[Row]) -> Markup:
    seeds = ["seed"] if len(study.get("seeds", ())) > 1 else []
    notes = confounds_of(rows, [*_axes(study), *seeds]) if rows else []
    if not notes:
        return join()
    items = [tag("li", note) for note in notes]
    title = tag("strong", "Confounded comparisons. ")
    text = "Between these cells a difference cannot be put down to one cause:"
    return tag("div", title, text, tag("ul", *items), class_="warning")


def _figures(rows: Sequence[Row], pictures: Mapping[str, bytes]) -> Markup:
    if not pictures:
        return join()
    students = list(dict.fromkeys(row.student for row in rows))
    shown = [tag("h2", "Delta by learning rate")]
    for student, data in zip(students, pictures.values(), strict=True):
        source = "data:image/png;base64," + base64.b64encode(data).decode()
        words = f"Delta by peak learning rate, student {student}; the numbers are in the table."
        image = tag("img", src=source, alt=words).removesuffix("</img>")
        seeds = ", ".join(map(str, sorted({row.seed for row in rows if row.student == student})))
        note = f"Student {student}, seed {seeds}. All students are drawn to the same scale."
        shown.append(tag("figure", Markup(image), tag("figcaption", note)))
    return join(*shown)


def _how_to_read(rows: Sequence[Row]) -> Markup:
    if not rows:
        return join()
    margin = shared(f"{row.margin:g}" for row in rows)
    level = shared(f"{row.level:.0%}" for row in rows)
    meanings: dict[Verdict, str] = {
        "helped": "the whole interval of the delta lies above zero.",
        "hurt": "the whole interval lies below zero.",
        "unchanged": f"the interval holds zero and lies within +/- {margin}: no effect of a size "
        "that matters here.",
        "cannot tell": "the interval holds zero and is too wide to rule out an effect.",
    }
    items = [tag("li", pill(word), " ", text) for word, text in meanings.items()]
    counts = shared(sorted({row.decisive.items for row in rows}))
    intro = (
        f"Delta = after - before over the same items. The {level} interval resamples "
        f"{counts} items, keeping each item's two scores together. "
        "It is about these very students: it covers the choice of items, not the luck of one "
        "training seed."
    )
    chance = (
        f"Each verdict stands alone: with {len(rows)} cells, some may come out beside zero by "
        "chance, and the best of many looks better than it is. p (Holm) allows for their number."
    )
    falling = [m for m in metrics_of(rows) if less_is_better(rows, m)]
    if falling:
        chance += f" Of {', '.join(falling)} less is better: there, read above for below."
    flags = (
        "A flag changes no verdict: controls (the tuned student does not surely beat one answer "
        "given to every prompt), degenerate (too many answers are empty, a loop, or an echo), "
        "prompting (asked in another way, the delta has another sign), short (few steps or "
        "examples), warm-up (the learning rate hardly reached its peak, or never), debug (made to "
        "look for mistakes), preflight (a proof before the training failed); what is marked "
        "@ a prompting is said of that one."
    )
    said = [tag("p", intro), tag("ul", *items), tag("p", chance), tag("p", flags)]
    return join(tag("h2", "How to read a verdict"), *said)


def _notes(rows: Sequence[Row]) -> Markup:
    notes = dict.fromkeys(note for row in rows for note in row.notes)
    items = [tag("li", note) for note in notes]
    return join(tag("h2", "Notes on the scores"), tag("ul", *items)) if items else join()


def _settings(study: Mapping[str, Any], rows: Sequence[Row]) -> Markup:
    said = {
        "suite": shared(row.suite for row in rows),
        "seeds": shared(sorted({row.seed for row in rows})),
        "interval": shared(f"{row.level:.0%}" for row in rows),
        "margin of no change": shared(f"{row.margin:g}" for row in rows),
        "heed's code": shared(row.code for row in rows),
    } | dict(study.get("settings", {}))
    lines = [[key, tag("code", value)] for key, value in said.items()]
    files = tag("a", "table.csv", href="table.csv")
    note = tag("p", "The same numbers as a file: ", files, ".")
    return join(tag("h2", "Settings"), table(["setting", "value"], lines), note)
