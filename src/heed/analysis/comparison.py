"""Two scorings as a page: paired metrics, flips, types, and the items that change most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heed.analysis.beside import flag_texts, stratum_columns, stratum_values
from heed.analysis.deltas import signed
from heed.analysis.markup import Markup, join, table, tag
from heed.analysis.page import page
from heed.analysis.paired import Flips, Pair, change_of
from heed.analysis.sections import controls_section, flags_box, form_section
from heed.core.files import write_text
from heed.core.types import Delta, ItemScore, StratumDelta

WORDS = {
    "helped": "▲ B is better",
    "hurt": "▼ B is worse",
    "unchanged": "= unchanged",
    "cannot tell": "? cannot tell",
}
"""A verdict in the words of a comparison: neither side need be a tuned version of the other."""

LAYOUT = """
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 12px; }
.sides > div { min-width: 0; }
.sides pre { max-height: 340px; overflow: auto; }
.change { border-top: 2px solid var(--line); margin: 22px 0; padding-top: 8px; }
.change > pre { max-height: 240px; overflow: auto; }
.flips { display: flex; flex-wrap: wrap; gap: 26px; }
.label { font-weight: 600; color: var(--quiet); }
h1, h3 { overflow-wrap: anywhere; }
.scroll code.whole { white-space: nowrap; }
#facts code { display: inline-block; min-width: 12em; }
@media (max-width: 700px) {
  main { margin: 0; padding: 14px 12px 24px; border: 0; border-radius: 0; }
  .sides { grid-template-columns: 1fr; }
  .scroll code.whole { white-space: normal; display: inline-block; min-width: 10em; }
}
"""
"""What this page adds to the style of all pages: two columns, one below the other on a phone."""


@dataclass(frozen=True)
class Side:
    """One of the two things that are compared.

    Attributes:
        title: What was scored.
        directory: Where its scores are.
        facts: Label -> text: what it is and how it was made.
        events: Everything out of the ordinary in its scores -> how often.
        flags: `kind` and `text` of what a reader of its scores must know.
    """

    title: str
    directory: str
    facts: Mapping[str, str]
    events: Mapping[str, int]
    flags: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True)
class Comparison:
    """What is shown of a comparison.

    Attributes:
        suite: Name of the suite that scored both.
        level: Coverage of the intervals.
        first: A.
        second: B.
        deltas: B minus A of each metric, the primary first.
        flips: Metric of which an item is right or wrong -> its two-by-two table.
        types: B minus A of each type of instruction.
        ranked: `<task>/<metric>` by which `changes` are ranked.
        changed: How many items change in it.
        changes: The items that change most.
        unlike: Setting -> what it is for A and for B, where the two were not made alike.
        left_out: What was left out of the pairs -> how often.
        form: The form of the answers of A and B (`heed.evaluation.form.form_record`).
        controls: A and B beside the controls, those of them that are recorded and no control.
    """

    suite: str
    level: float
    first: Side
    second: Side
    deltas: Sequence[Delta]
    flips: Mapping[str, Flips]
    types: Sequence[StratumDelta]
    ranked: str
    changed: int
    changes: Sequence[Pair]
    unlike: Mapping[str, tuple[str, str]]
    left_out: Mapping[str, int]
    form: Mapping[str, Any] | None = None
    controls: Mapping[str, Any] | None = None

    @property
    def flags(self) -> list[str]:
        """The flags of both sides as sentences, each with the name of its side."""
        sides = (("A", self.first), ("B", self.second))
        return [f"{name}: {text}" for name, side in sides for text in flag_texts(side.flags)]


def write_comparison_page(path: Path, comparison: Comparison) -> Path:
    """Write the self-contained page; returns its path."""
    write_text(path, comparison_page(comparison))
    return path


def comparison_page(comparison: Comparison) -> str:
    """The whole page as text."""
    title = f"A and B on suite {comparison.suite}"
    sections = [
        tag("h1", title),
        tag("p", tag("span", "A ", class_="label"), comparison.first.title),
        tag("p", tag("span", "B ", class_="label"), comparison.second.title),
        _answer(comparison),
        flags_box(comparison.flags),
        _warnings(comparison),
        _metrics(comparison),
        _flips(comparison),
        _types(comparison),
        controls_section(comparison.controls),
        form_section(comparison.form),
        _changes(comparison),
        _facts(comparison),
    ]
    return page(title, tag("style", Markup(LAYOUT)), *sections)


def interval_text(delta: Delta | StratumDelta) -> str:
    """The ends of a paired interval, or why there is none.

    Example:
        >>> interval_text(StratumDelta("m", "a:b", 1, 0.0, 1.0, 1.0, None, None, 1.0, 1.0))
        'one prompt only'
    """
    if delta.low is None or delta.high is None:
        return "one prompt only"
    return f"{signed(delta.low)} to {signed(delta.high)}"


def p_text(p: float | None) -> str:
    """A p value, no more exactly than it is known.

    Example:
        >>> p_text(0.0321), p_text(0.00002), p_text(None)
        ('0.032', '< 0.001', '')
    """
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _answer(comparison: Comparison) -> Markup:
    delta = comparison.deltas[0]
    ends = f" ({comparison.level:.0%} paired interval {interval_text(delta)}, {delta.items} items)."
    return tag(
        "p",
        f"{delta.metric}: A {delta.before:.4f}, B {delta.after:.4f}, B minus A ",
        tag("strong", signed(delta.delta)),
        ends,
        " ",
        _pill(delta),
        class_="answer",
    )


def _warnings(comparison: Comparison) -> Markup:
    """What sets the two apart beside the models, and what was left out."""
    lines = [
        tag("li", tag("code", key), f": A {one}, B {two}")
        for key, (one, two) in comparison.unlike.items()
    ]
    found = []
    if lines:
        said = (
            "The two were not made alike, or it is not known that they were. Prompts and rules are "
            "the same; a difference may still come from what follows, and not from the models:"
        )
        found.append(tag("div", tag("p", said), tag("ul", *lines), class_="warning"))
    if comparison.left_out:
        left = [tag("li", f"{what}: {times}") for what, times in comparison.left_out.items()]
        found.append(tag("div", tag("p", "Left out:"), tag("ul", *left), class_="warning"))
    return join(*found)


def _metrics(comparison: Comparison) -> Markup:
    lines = [
        [
            delta.metric,
            *map(_number, (f"{delta.before:.4f}", f"{delta.after:.4f}", signed(delta.delta))),
            *map(_number, (interval_text(delta), p_text(delta.p))),
            _number("" if delta.mde is None else f"{delta.mde:.4f}"),
            _number(delta.items),
            _pill(delta),
        ]
        for delta in comparison.deltas
    ]
    columns = ["metric", "A", "B", "B - A", f"{comparison.level:.0%} paired interval", "p"]
    note = (
        "The first metric decides. Items are resampled as wholes and the same ones for A and B; p "
        "is two-sided. MDE: the smallest true difference that items like these show four times "
        "out of five."
    )
    rows = table([*columns, "MDE", "items", "verdict"], lines, id="metrics")
    return join(tag("h2", "Metrics"), rows, tag("p", note, class_="quiet"))


def _flips(comparison: Comparison) -> Markup:
    """A two-by-two table for each metric that an item passes or fails."""
    if not comparison.flips:
        return join()
    deltas = {delta.metric: delta for delta in comparison.deltas}
    boxes = []
    for metric, flips in comparison.flips.items():
        lines = [
            ["A right", _number(flips.both), _number(flips.lost)],
            ["A wrong", _number(flips.gained), _number(flips.neither)],
        ]
        exact = p_text(deltas[metric].mcnemar)
        note = f"Better {flips.gained}, worse {flips.lost}"
        note += f"; McNemar's exact p {exact}." if exact else "."
        square = table(["", "B right", "B wrong"], lines)
        boxes.append(tag("div", tag("h3", metric), square, tag("p", note, class_="quiet")))
    return join(tag("h2", "Flips"), tag("div", *boxes, class_="flips", id="flips"))


def _types(comparison: Comparison) -> Markup:
    if not comparison.types:
        return join()
    task, _, metric = comparison.types[0].metric.partition("/")
    controls = comparison.controls
    lines = [
        [
            tag("code", row.name, class_="whole"),
            *map(_number, (row.items, f"{row.before:.3f}", f"{row.after:.3f}", signed(row.delta))),
            *map(_number, (interval_text(row), p_text(row.p), p_text(row.adjusted))),
            *map(_number, stratum_values(controls, task, _part(row.name), metric)),
        ]
        for row in comparison.types
    ]
    columns = ["type", "prompts", "A", "B", "B - A", f"{comparison.level:.0%} paired interval"]
    note = (
        f"Share of instructions followed ({comparison.types[0].metric}). One of "
        f"{len(comparison.types)} types may well leave zero out by chance alone: the last column "
        f"holds p after Holm's correction for their number."
    )
    columns += ["p", "p (Holm)", *stratum_columns(controls, task, metric)]
    rows = table(columns, lines, id="types")
    return join(tag("h2", "Types of instruction"), tag("p", note, class_="quiet"), rows)


def _part(name: str) -> tuple[str, str]:
    """Group and name of a type."""
    return name.partition(":")[0], name


def _changes(comparison: Comparison) -> Markup:
    """The items that change most, side by side."""
    shown = len(comparison.changes)
    metric = comparison.ranked.partition("/")[2]
    title = tag("h2", f"The {shown} items with the largest change")
    if not shown:
        return join(title, tag("p", f"No item changes in {comparison.ranked}."))
    note = (
        f"{comparison.changed} items change in {comparison.ranked}; these change most, up or down, "
        f"ties in the order of their keys. They are not a sample."
    )
    items = [_change(pair, metric) for pair in comparison.changes]
    return join(title, tag("p", note, class_="quiet"), *items)


def _change(pair: Pair, metric: str) -> Markup:
    """One item: the prompt, a tick per instruction and side, both responses."""
    change = change_of(pair, metric)
    asked = pair.first.metrics[metric].den
    counts = " to ".join(f"{score.metrics[metric].num:g}" for score in pair)
    head = tag("h3", tag("code", pair.first.key), f" {change:+g} (from {counts} of {asked:g})")
    sides = [tag("div", _said(name, score)) for name, score in zip("AB", pair, strict=True)]
    return tag(
        "div",
        head,
        tag("pre", pair.first.prompt),
        _ticks(pair),
        tag("div", *sides, class_="sides"),
        class_="change",
    )


def _ticks(pair: Pair) -> Markup:
    """One line per instruction, followed or not by A and by B."""
    told = [score.details.get("instructions") for score in pair]
    if not told[0] or not told[1]:
        return join()
    lines = [
        [tag("code", one["id"], class_="whole"), _tick(one), _tick(two)]
        for one, two in zip(told[0], told[1], strict=True)
    ]
    return table(["instruction (strict)", "A", "B"], lines)


def _tick(told: Mapping[str, Any]) -> Markup:
    text, kind = ("✓ followed", "helped") if told["strict"] else ("✗ not followed", "hurt")
    return tag("span", text, class_=f"verdict {kind}")


def _said(name: str, score: ItemScore) -> Markup:
    """One side's response."""
    ends = {
        "cap": f", cut at the cap after {score.tokens} tokens",
        "stop": f", {score.tokens} tokens",
    }
    title = tag("h3", f"{name}{ends.get(score.stop or '', '')}")
    if score.response is None:
        return join(title, tag("p", "There is no response."))
    words = len(score.response.split())
    return join(title, tag("pre", score.response), tag("p", f"{words} words", class_="quiet"))


def _facts(comparison: Comparison) -> Markup:
    """What A and B are, and what happened while they were scored."""
    sides = (comparison.first, comparison.second)
    labels = dict.fromkeys(label for side in sides for label in side.facts)
    lines: list[list[Any]] = [
        [label, *(tag("code", side.facts.get(label, "")) for side in sides)] for label in labels
    ]
    lines.append(["scores", *(tag("code", side.directory) for side in sides)])
    for what in dict.fromkeys(event for side in sides for event in side.events):
        lines.append([what, *(_number(side.events.get(what, 0)) for side in sides)])
    return join(tag("h2", "What was compared"), table(["what", "A", "B"], lines, id="facts"))


def _pill(delta: Delta) -> Markup:
    kind = delta.verdict.replace(" ", "-")
    return tag("span", WORDS[delta.verdict], class_=f"verdict {kind}")


def _number(value: Any) -> Markup:
    return tag("td", value, class_="number")
