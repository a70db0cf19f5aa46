"""What a study may say of a setting, and how that is typed on a command line."""

from __future__ import annotations

import re

Value = str | int | float | bool | None
"""What an axis may have: the name of an option, or the value of a key."""

Keyed = dict[str, Value]
"""Config group or key -> value."""

PLAIN = re.compile(r"[A-Za-z0-9_./@%-][A-Za-z0-9_./@%+-]*")
OTHER = re.compile(
    r"[+-]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(e[+-]?\d[\d_]*)?|true|false|null|[+-]?inf|nan", re.I
)
"""What Hydra reads as a text without quotes, and what of that it reads as something else."""


def typed(value: Value) -> str:
    """A value as it is typed on a command line of Hydra.

    Example:
        >>> typed(True), typed(1e-05), typed("lora"), typed("a b"), typed("12"), typed(None)
        ('true', '1e-05', 'lora', "'a b'", "'12'", 'null')
    """
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if not isinstance(value, str) or (PLAIN.fullmatch(value) and not OTHER.fullmatch(value)):
        return str(value)
    return f"'{_escaped(value)}'"


def said(value: Value) -> str:
    """A value as it is named in a YAML: a text without quotes.

    Example:
        >>> said("a b"), said(1000), said(None)
        ('a b', '1000', 'null')
    """
    return value if isinstance(value, str) else typed(value)


def _escaped(text: str) -> str:
    """A text for between single quotes: backslashes count where a quote or `${` follows."""
    quotes = re.sub(r"(\\*)'", r"\1\1\'", re.sub(r"(\\*)\$\{", r"\1\1\\${", text))
    return re.sub(r"(\\+)$", r"\1\1", quotes)
