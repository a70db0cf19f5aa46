"""What stands beside scores, as parts of a page: flags, the controls, the form of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heed.analysis.beside import (
    FORM_NAMES,
    NOT_RECORDED,
    READING,
    control_columns,
    control_lines,
    form_lines,
    metric_columns,
    metric_lines,
)
from heed.analysis.markup import Markup, join, table, tag


def flags_box(texts: Sequence[str], title: str = "Flags") -> Markup:
    """Flags as a warning above all numbers; nothing where there are none."""
    if not texts:
        return join()
    items = tag("ul", *(tag("li", text) for text in texts))
    return tag("div", tag("strong", f"⚑ {title}"), items, class_="warning")


def controls_section(controls: Mapping[str, Any] | None) -> Markup:
    """The model beside rules that understand nothing."""
    title = tag("h2", "Beside the controls")
    if controls is None:
        text = f"{NOT_RECORDED.capitalize()}, or nothing here is answered in text."
        return join(title, tag("p", text))
    whats = {row["control"]: row["what"] for row in controls["rows"]}
    lines: list[list[Any]] = []
    for kind, (name, *numbers) in control_lines(controls):
        kind_ = "read" if kind == READING else "blind"
        said = whats[name.removesuffix(" *")]
        lines.append([tag("td", name, class_=kind_), said, kind, *map(number, numbers)])
    name, *rest = control_columns(controls)
    columns = [name, "it answers", "", *rest]
    intro = (
        f"A control answers every prompt by a rule, and understands none. On {controls['metric']}, "
        f"paired over the same items: a model that does not lie above the best of those that read "
        f"nothing has shown nothing. The echo stands apart, because it reads the prompt."
    )
    note = tag("p", f"* the best of those that read nothing. {controls['note']}", class_="quiet")
    rows = table(columns, lines, id="controls")
    return join(title, tag("p", intro), rows, note, every_metric(controls))


def every_metric(controls: Mapping[str, Any]) -> Markup:
    """Each metric beside the best control of its own; nothing for older records."""
    found = metric_lines(controls)
    if not found:
        return join()
    lines = [[name, best, *map(number, rest)] for name, best, *rest in found]
    note = (
        "Every metric, beside the control that is best on it among those that read nothing. Only "
        "the first metric raises a flag: of many, one may well lie above or below by chance."
    )
    return join(tag("p", note), table(metric_columns(controls), lines, id="controls-metrics"))


def form_section(form: Mapping[str, Any] | None) -> Markup:
    """The form of the answers, a table per task."""
    title = tag("h2", "Form of the answers")
    if form is None:
        return join(title, tag("p", f"{NOT_RECORDED.capitalize()}."))
    if not form["tasks"]:
        return join(title, tag("p", "Nothing here is answered in text."))
    tables = []
    for task, models in form["tasks"].items():
        names = ["this model" if who == "this" else who for who in models]
        lines = [[line[0], *map(number, line[1:])] for line in form_lines(models)]
        tables.append(table([task, *names], lines, class_="form"))
    return join(title, *tables, meanings(form))


def meanings(form: Mapping[str, Any]) -> Markup:
    """What each kind of form means, folded away."""
    lines = [
        tag("li", tag("strong", FORM_NAMES.get(kind, kind)), f": {text}.")
        for kind, text in form["meanings"].items()
    ]
    limit = f"A model of which more than {form['limit']:.0%} are degenerate is flagged."
    summary = tag("summary", "What these words mean")
    return tag("details", summary, tag("ul", *lines), tag("p", limit), class_="item")


def number(value: Any) -> Markup:
    """A cell of a table with its digits below those of the others."""
    return tag("td", value, class_="number")
