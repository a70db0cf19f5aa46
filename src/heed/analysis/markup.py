"""HTML from Python, in which text can never become markup."""

from __future__ import annotations

from html import escape
from typing import Any


class Markup(str):
    """Text that is HTML already; only `tag` and `join` make it, and constants of this package."""

    __slots__ = ()


def tag(name: str, *children: Any, **attributes: Any) -> Markup:
    """One element. Whatever is not `Markup` is escaped; `class_` stands for `class`.

    Example:
        >>> tag("td", "a < b", tag("b", 1), class_="x")
        '<td class="x">a &lt; b<b>1</b></td>'
    """
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    head = "".join(f' {key}="{escape(str(value))}"' for key, value in given.items())
    return Markup(f"<{name}{head}>{join(*children)}</{name}>")


def join(*children: Any) -> Markup:
    """Elements and texts one after the other."""
    return Markup("".join(c if isinstance(c, Markup) else escape(str(c)) for c in children))


def table(columns: list[Any], rows: list[list[Any]], **attributes: Any) -> Markup:
    """A table; entries that are no cells (`<td>`, `<th>`) yet are put into one."""

    def cells(kind: str, entries: list[Any]) -> list[Markup]:
        return [_cell(kind, entry) for entry in entries]

    head = tag("thead", tag("tr", *cells("th", columns)))
    body = tag("tbody", *(tag("tr", *cells("td", row)) for row in rows))
    return tag("div", tag("table", head, body, **attributes), class_="scroll")


def _cell(kind: str, entry: Any) -> Markup:
    is_cell = isinstance(entry, Markup) and entry.startswith(("<td", "<th"))
    return Markup(entry) if is_cell else tag(kind, entry)
