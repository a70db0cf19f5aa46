"""HTML from Python, in which text can never become markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
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


def spaced(parts: Sequence[Markup]) -> list[Any]:
    """Elements with a space between each two, where a line may end."""
    return [piece for part in parts for piece in (part, " ")][:-1]


def breakable(name: str) -> Markup:
    """A long name that may be broken after each part, for the head of a narrow column.

    Example:
        >>> breakable("books/bits_per_byte")
        'books/<wbr>bits_<wbr>per_<wbr>byte'
    """
    first, *rest = re.split(r"(?<=[/_])", name)
    return join(first, *(piece for part in rest for piece in (Markup("<wbr>"), part)))


def table(columns: Sequence[Any], rows: Iterable[Sequence[Any]], **attributes: Any) -> Markup:
    """A table; entries that are no cells (`<td>`, `<th>`) yet are put into one.

    Args:
        columns: The heads.
        rows: Each the entries of a row, or a row that `line` made.
        attributes: Of the table.
    """
    head = tag("thead", tag("tr", *(_cell("th", entry) for entry in columns)))
    body = tag("tbody", *(row if isinstance(row, Markup) else line(row) for row in rows))
    return tag("div", tag("table", head, body, **attributes), class_="scroll")


def line(entries: Sequence[Any], **attributes: Any) -> Markup:
    """A row of a table with attributes of its own.

    Example:
        >>> line(["nano", 3], data_cell=0)
        '<tr data-cell="0"><td>nano</td><td>3</td></tr>'
    """
    return tag("tr", *(_cell("td", entry) for entry in entries), **attributes)


def value(shown: Any, by: float | None = None) -> Markup:
    """A number in a table, with its digits below those of the others.

    Args:
        shown: How it is written.
        by: What the rows are sorted by in this column; None: by what is shown.

    Example:
        >>> value("+0.100", 0.1)
        '<td class="number" data-value="0.1">+0.100</td>'
    """
    sorted_by = {} if by is None else {"data_value": f"{by:.6g}"}
    return tag("td", shown, class_="number", **sorted_by)


def _cell(kind: str, entry: Any) -> Markup:
    is_cell = isinstance(entry, Markup) and entry.startswith(("<td", "<th"))
    return Markup(entry) if is_cell else tag(kind, entry)
