"""The page of a forgetting analysis: what was lost, when, and which items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heed.analysis.markup import Markup, join, table, tag
from heed.analysis.page import page, picture
from heed.analysis.sections import controls_section, flags_box
from heed.core.types import Interval, ItemScore

if TYPE_CHECKING:
    from heed.analysis.forgetting import Curve, Point

SHOWN = 100
"""Most lost items on the page; all of them are in `items.jsonl`."""

HOW = (
    "Step 0 is the untuned student, the last step the student of the run. Every step is scored on "
    "the same items; the change is the value there minus the value at step 0, with a paired "
    "interval, and the verdict follows from it by the rule of every other page. Each interval "
    "speaks of its own step: among many, a few leave zero out by chance alone, so the p values are "
    "adjusted for all steps and metrics of this page (Holm), and a step is called the first only "
    "if its p value says so too. A curve is one training: another seed would give another."
)


@dataclass(frozen=True)
class About:
    """What a page says beside its curves.

    Attributes:
        title: Its heading.
        level: Coverage of the intervals.
        facts: Label -> text: run, suite, versions.
        events: Step -> what happened at its scoring -> how often.
        doubt: Why no adjusted p value can be small here; None where one can.
        controls: Every step beside the controls; None where nothing is answered in text.
    """

    title: str
    level: float
    facts: Mapping[str, str]
    events: Mapping[int, Mapping[str, int]]
    doubt: str | None = None
    controls: Mapping[str, Any] | None = None


def forgetting_page(
    about: About, found: Sequence[Curve], png: bytes, lost: Sequence[ItemScore]
) -> str:
    """The whole page as text.

    Args:
        about: What it says beside the curves.
        found: One curve a metric.
        png: Their picture.
        lost: Items that were right at first and are wrong at the end, as they are at the end.
    """
    sections = [
        tag("h1", about.title),
        tag("p", "Made by heed.", class_="quiet"),
        _answer(found, about.level),
        flags_box([text for text in (unbeaten(about.controls),) if text]),
        *([tag("p", about.doubt, class_="warning")] if about.doubt else []),
        tag("h2", "Curves"),
        picture(png, "Each metric by optimiser step; the numbers are in the table."),
        tag("p", HOW),
        _table(found, about.level),
        *([controls_section(about.controls)] if about.controls else []),
        _lost(lost),
        _events(about.events),
        _facts(about.facts),
    ]
    return page(about.title, *sections)


def unbeaten(controls: Mapping[str, Any] | None) -> str:
    """Which steps do not surely beat the best control that reads nothing; may be empty."""
    beaten = controls["beaten"] if controls else {}
    if all(beaten.values()) or not controls:
        return ""
    best = next(row for row in controls["rows"] if row["control"] == controls["best"])
    return (
        f"Not surely above the control {best['control']} ({controls['metric']} "
        f"{best['value']:.3f}): {', '.join(who for who in beaten if not beaten[who])}."
    )


def _answer(found: Sequence[Curve], level: float) -> Markup:
    lines = []
    for curve in found:
        end, first = curve.last, curve.first_hurt(level)
        note = f" first at step {first}" if first is not None else ""
        if end.verdict in ("helped", "hurt") and not end.stands(level):
            note = f" not after adjusting for all steps and metrics: p {_p(end)}"
        text = f"{curve.base.value:.3f} → {end.here.value:.3f}, {_signed(end.change)} "
        lines.append(tag("li", f"{curve.metric}: {text}", _verdict(end), note))
    kept = len(found[0].points) - 1
    if not kept:
        note = "No step between the first and the last was kept: callbacks.keep.steps keeps some."
        lines.append(tag("li", note))
    return tag("div", tag("ul", *lines), class_="answer")


def _verdict(point: Point) -> Markup:
    kind = point.verdict.replace(" ", "-")
    return tag("span", point.verdict, class_=f"verdict {kind}")


def _signed(change: Interval) -> str:
    return f"{change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}]"


def _number(value: Any) -> Markup:
    return tag("td", value, class_="number")


def _table(found: Sequence[Curve], level: float) -> Markup:
    lines: list[list[Any]] = []
    for curve in found:
        better = tag("span", "less is better", class_="quiet") if curve.less_is_better else ""
        first = [_number(0), *_value(curve.base), *[""] * 5, curve.base.items]
        lines.append([tag("strong", curve.metric), *first])
        rest = [["", *_line(point)] for point in curve.points]
        rest[0][0] = better
        lines += rest
    ends = f"{level:.0%} interval"
    columns = ["metric", "step", "value", ends, f"change, paired {ends}", "adjusted p", "verdict"]
    return table([*columns, "gained", "lost", "items"], lines, id="steps")


def _value(found: Interval) -> list[Markup]:
    return [_number(f"{found.value:.4f}"), _number(f"{found.low:.4f} to {found.high:.4f}")]


def _line(point: Point) -> list[Any]:
    flips = ["" if n is None else n for n in (point.gained, point.lost)]
    ends = [_number(_signed(point.change)), _number(_p(point)), _verdict(point)]
    return [_number(point.step), *_value(point.here), *ends, *map(_number, flips), point.here.items]


def _p(point: Point) -> str:
    return "< 0.001" if point.p < 0.001 else f"{point.p:.3f}"


def _lost(lost: Sequence[ItemScore]) -> Markup:
    title = tag("h2", f"Items that were right at step 0 and are wrong at the end: {len(lost)}")
    if not lost:
        return join(title, tag("p", "None (of the tasks whose items are right or wrong)."))
    lines = [[s.task, tag("code", s.key), s.prompt, _details(s)] for s in lost[:SHOWN]]
    rest = len(lost) - len(lines)
    more = tag("p", f"{rest} more are in items.jsonl.") if rest else join()
    return join(title, table(["task", "item", "asked", "at the end"], lines, id="lost"), more)


def _details(score: ItemScore) -> str:
    """What a task tells of an item: the likeliest value, or the beginning of a response."""
    if score.response is not None:
        return score.response[:200]
    return ", ".join(f"{key}: {value}" for key, value in score.details.items())


def _events(events: Mapping[int, Mapping[str, int]]) -> Markup:
    """What happened, a column a step."""
    title = tag("h2", "What happened at the scorings")
    names = list(dict.fromkeys(name for found in events.values() for name in found))
    if not names:
        return join(title, tag("p", "Nothing out of the ordinary: every item was scored."))
    lines = [[n, *(_number(found.get(n, 0)) for found in events.values())] for n in names]
    return join(title, table(["what", *(f"step {s}" for s in events)], lines, id="events"))


def _facts(facts: Mapping[str, str]) -> Markup:
    lines = [[label, tag("code", text)] for label, text in facts.items()]
    return join(tag("h2", "What was studied, and how"), table(["what", "value"], lines, id="facts"))
