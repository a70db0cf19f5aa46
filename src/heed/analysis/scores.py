"""One scoring as a page: what was scored, each metric with its interval, and every single item."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heed.analysis.beside import stratum_columns, stratum_values
from heed.analysis.markup import Markup, join, table, tag
from heed.analysis.page import page
from heed.analysis.sections import controls_section, flags_box, form_section
from heed.core.files import write_text
from heed.core.types import Interval, ItemScore, Stratum

FIRST = 90
"""Characters of a prompt that are shown while its item is folded."""

MARKS = {True: "✓ followed", False: "✗ not followed"}
"""A word and a sign, so that colour is never the only carrier."""


@dataclass(frozen=True)
class Sheet:
    """What is shown of one scoring.

    Attributes:
        title: What was scored, by which suite.
        primary: `<task>/<metric>` that is shown first.
        level: Coverage of the intervals.
        facts: Label -> text: files, digests, versions, seeds.
        summary: Task -> metric -> value with interval.
        strata: Task -> its groups, each followed by its types.
        events: Everything out of the ordinary -> how often.
        notes: Further lines about the events.
        items: The scores of all items.
        form: The form of the answers (`heed.evaluation.form.form_record`); None: not recorded.
        controls: The model beside the controls (`heed.evaluation.controls.beside_controls`); None:
            not recorded, or nothing is answered in text.
        flags: `kind` and `text` of what a reader of the scores must know.
    """

    title: str
    primary: str
    level: float
    facts: Mapping[str, str]
    summary: Mapping[str, Mapping[str, Interval]]
    strata: Mapping[str, Sequence[Stratum]]
    events: Mapping[str, int]
    notes: Sequence[str]
    items: Sequence[ItemScore]
    form: Mapping[str, Any] | None = None
    controls: Mapping[str, Any] | None = None
    flags: Sequence[Mapping[str, str]] = ()

    @property
    def rows(self) -> list[tuple[str, Interval]]:
        """`<task>/<metric>` with its value, the primary metric first."""
        every = [
            (f"{task}/{metric}", found)
            for task, metrics in self.summary.items()
            for metric, found in metrics.items()
        ]
        return sorted(every, key=lambda row: row[0] != self.primary)


def write_scores_page(path: Path, sheet: Sheet) -> Path:
    """Write the self-contained page; returns its path."""
    write_text(path, scores_page(sheet))
    return path


def scores_page(sheet: Sheet) -> str:
    """The whole page as text."""
    sections = [
        tag("h1", sheet.title),
        tag("p", "Scores made by heed.", class_="quiet"),
        _answer(sheet),
        flags_box([flag["text"] for flag in sheet.flags]),
        _metrics(sheet),
        controls_section(sheet.controls),
        form_section(sheet.form),
        _events(sheet),
        *(_strata(task, sheet) for task in sheet.strata),
        _facts(sheet),
        *(_items(task, sheet.items) for task in sheet.summary),
    ]
    return page(sheet.title, *sections)


def short_metric(name: str) -> str:
    """The part of a metric's name that tells it from the others in a table of groups.

    Example:
        >>> short_metric("inst_level_strict_acc"), short_metric("acc")
        ('strict', 'acc')
    """
    return name.removeprefix("inst_level_").removesuffix("_acc") or name


def _answer(sheet: Sheet) -> Markup:
    metric, found = sheet.rows[0]
    ends = f"{found.low:.4f} to {found.high:.4f}"
    text = f" ({sheet.level:.0%} interval {ends}, {found.items} items)."
    return tag("p", f"{metric}: ", tag("strong", f"{found.value:.4f}"), text, class_="answer")


def _metrics(sheet: Sheet) -> Markup:
    lines = [
        [
            metric,
            *map(_number, (f"{i.value:.4f}", f"{i.low:.4f} to {i.high:.4f}")),
            _bar(i),
            i.items,
        ]
        for metric, i in sheet.rows
    ]
    columns = ["metric", "value", f"{sheet.level:.0%} interval", "0 to 1", "items"]
    note = "Intervals resample the items: the instructions of a prompt are kept together."
    return join(tag("h2", "Metrics"), table(columns, lines, id="metrics"), tag("p", note))


def _events(sheet: Sheet) -> Markup:
    """What happened, how often, and to which items."""
    lines = [[what, _number(count)] for what, count in sheet.events.items()]
    title = tag("h2", "What happened")
    if not lines:
        return join(
            title, tag("p", "Nothing out of the ordinary: every item was answered and scored.")
        )
    notes = tag("ul", *(tag("li", note) for note in sheet.notes)) if sheet.notes else join()
    return join(title, table(["what", "times"], lines, id="events"), notes)


def _strata(task: str, sheet: Sheet) -> Markup:
    """A line per group, followed by its types, beside what the controls reach there."""
    strata = sheet.strata[task]
    names = list(strata[0].metrics)
    controls = stratum_columns(sheet.controls, task, names[0])
    lines = []
    for stratum in strata:
        whole = not stratum.name
        title = tag("strong", stratum.group) if whole else stratum.name
        line: list[Any] = [tag("td", title, class_="group" if whole else "type")]
        line += [_number(stratum.items), _number(stratum.asked)]
        for name in names:
            found = stratum.metrics[name]
            line += [_number(f"{found.value:.3f}"), _number(f"{found.low:.3f} to {found.high:.3f}")]
            line.append(_bar(found))
        which = (stratum.group, stratum.name)
        line += map(_number, stratum_values(sheet.controls, task, which, names[0]))
        lines.append(line)
    columns = ["group, type", "prompts", "instructions"]
    for name in names:
        columns += [short_metric(name), f"{sheet.level:.0%} interval", ""]
    columns += [f"{control}: {short_metric(names[0])}" for control in controls]
    note = (
        "Share of instructions followed. Wilson score intervals that count prompts, not "
        "instructions: those of one prompt are not independent."
    )
    if controls:
        note += (
            f" {' and '.join(controls)}: what that control reaches there. It is the best of all "
            f"items, not of each type; the echo reads the prompt."
        )
    return join(tag("h2", f"Groups and types of {task}"), tag("p", note), table(columns, lines))


def _facts(sheet: Sheet) -> Markup:
    lines = [[label, tag("code", text)] for label, text in sheet.facts.items()]
    return join(tag("h2", "What was scored, and how"), table(["what", "value"], lines, id="facts"))


def _items(task: str, items: Sequence[ItemScore]) -> Markup:
    """Every item of a task, folded."""
    own = [item for item in items if item.task == task]
    title = tag("h2", f"Items of {task}: {len(own)}")
    return join(title, tag("div", *map(_item, own), class_="items"))


def _item(item: ItemScore) -> Markup:
    line = " ".join(item.prompt.split())
    short = line if len(line) <= FIRST else line[: FIRST - 1] + "…"
    summary = tag("summary", tag("code", item.key), f" {_marks(item)} ", tag("span", short))
    parts = [tag("h3", "Prompt"), tag("pre", item.prompt)]
    if item.response is not None:
        parts += [tag("h3", f"Response{_end(item)}"), tag("pre", item.response)]
    elif "instructions" in item.details:
        parts.append(tag("p", "There is no response; it is scored as failed."))
    return tag("details", summary, *parts, _verdicts(item), class_="item")


def _end(item: ItemScore) -> str:
    """How a response ended, where that is known."""
    ends = {
        "cap": f", cut at the cap after {item.tokens} tokens",
        "stop": f", {item.tokens} tokens",
    }
    return ends.get(item.stop or "", "")


def _marks(item: ItemScore) -> str:
    """The item's outcome on one line."""
    told = item.details.get("instructions")
    if told is None:
        return ", ".join(f"{name} {r.num:g}/{r.den:g}" for name, r in item.metrics.items())
    strict, loose = (sum(bool(entry[way]) for entry in told) for way in ("strict", "loose"))
    return f"strict {strict}/{len(told)}, loose {loose}/{len(told)}"


def _verdicts(item: ItemScore) -> Markup:
    """A line per instruction, or whatever else the task tells of the item."""
    told = item.details.get("instructions")
    if told is None:
        if not item.details:
            return join()
        return tag("pre", json.dumps(dict(item.details), ensure_ascii=False))
    lines = [
        [entry["id"], *(_mark(bool(entry[way])) for way in ("strict", "loose")), _rest(entry)]
        for entry in told
    ]
    return table(["instruction", "strict", "loose", ""], lines)


def _rest(entry: Mapping[str, Any]) -> str:
    """What else is told of an instruction: a failed verifier, a drawn argument."""
    rest = {k: v for k, v in entry.items() if k not in ("id", "strict", "loose")}
    return "; ".join(f"{name}: {value}" for name, value in rest.items())


def _mark(followed: bool) -> Markup:
    kind = "helped" if followed else "hurt"
    return tag("span", MARKS[followed], class_=f"verdict {kind}")


def _number(value: Any) -> Markup:
    return tag("td", value, class_="number")


def _bar(found: Interval, width: int = 120) -> Markup:
    """A share and its interval as a small picture from 0 to 1; empty for what is no share."""
    if found.low < 0 or found.high > 1:
        return join()

    def x(value: float) -> str:
        return f"{4 + (width - 8) * value:.1f}"

    line = tag("line", x1=x(0), x2=x(1), y1=8, y2=8, class_="zero")
    span = tag("line", x1=x(found.low), x2=x(found.high), y1=8, y2=8, class_="span")
    dot = tag("circle", cx=x(found.value), cy=8, r=3)
    words = tag("title", f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]")
    return tag("svg", words, line, span, dot, width=width, height=16, class_="bar")
