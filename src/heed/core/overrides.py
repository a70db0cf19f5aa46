"""One override of a command line: what it stands for, and whether its key exists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override, ValueType

from heed.core.component import nearest
from heed.core.errors import Mistake

_LISTED = 40  # options shown one by one; beyond that, folders are counted


def choices(override: Override) -> list[Any]:
    """The plain values that an override stands for: one, or those of a sweep."""
    if not override.is_sweep_override():
        return [override.value()]
    if override.value_type == ValueType.INTERVAL_SWEEP:
        return []  # cannot be enumerated
    return [Override._convert_value(value) for value in override.sweep_iterator()]


def texts(override: Override) -> list[str]:
    """The override once for each value that it stands for, as typed."""
    if not override.is_sweep_override():
        return [override.input_line or ""]
    if override.value_type == ValueType.INTERVAL_SWEEP:
        return []
    key = override.get_key_element()
    return [f"{key}={text}" for text in override.sweep_string_iterator()]


def firsts(overrides: Iterable[Override]) -> list[str]:
    """One run of a sweep: the first value of each override."""
    return [text for override in overrides for text in texts(override)[:1]]


def value_text(override: Override) -> str:
    """The value as typed."""
    return (override.input_line or "").partition("=")[2]


def variants(overrides: Iterable[Override]) -> Iterator[list[str]]:
    """Runs that together show each value of each sweep at least once."""
    every = [values for override in overrides if (values := texts(override))]
    first = [values[0] for values in every]
    yield first
    for i, values in enumerate(every):
        for other in values[1:]:
            yield [*first[:i], other, *first[i + 1 :]]


def unknown_key(
    key: str, given: str, config: Any, options: Mapping[str, Sequence[str]]
) -> Mistake | None:
    """The mistake of naming a key that is not in the config, or None if it is there.

    Args:
        key: Dotted, as typed.
        given: The value as typed, for the message.
        config: The composed config as unresolved plain data.
        options: Groups, which are valid at the top as well.

    Example:
        >>> unknown_key("lr.peek", "1", {"lr": {"peak": 2.0}}, {}).action
        "Did you mean 'lr.peak'? Valid here: peak."
    """
    parts = re.split(r"[.\[\]]+", key.rstrip("]"))
    for depth, part in enumerate(parts):
        node = _at(config, parts[:depth])
        if node is None or (isinstance(node, str) and ("${" in node or node == "???")):
            return None  # what stands there is not known before it is resolved: Hydra decides
        if _has(node, part):
            continue
        at = ".".join(parts[:depth])
        if not isinstance(node, dict):
            return Mistake(key, given, f"'{at}' has no keys.", f"Write {at}=<value>.")
        valid = [str(name) for name in node if name != "_target_"]
        valid += [] if at else [g for g in options if g not in node and "/" not in g]
        keys = [*_full_keys(config, ""), *options]
        if at and not valid:
            return Mistake(
                key, given, f"{at!r} has no keys as it is chosen now.", _other(at, options)
            )
        why = f"'{at}' has no such key." if at else "there is no such key or group."
        hint = _did_you_mean(key, at, valid, keys)
        return Mistake(key, given, why, f"{hint} Valid here: {', '.join(valid)}.".strip())
    return None


def _other(at: str, options: Mapping[str, Sequence[str]]) -> str:
    """What to do about a key of something that has none: another choice may have it."""
    group = at.partition(".")[0]
    if group not in options:
        return "Leave it out."
    return f"Leave it out, or choose another {group}. {options_hint('', options[group])}"


def number_hint(given: str, group: str, config: Any) -> str:
    """The key to which a number belongs that was given instead of an option; may be empty.

    Args:
        given: As typed.
        group: For which it was given.
        config: The composed config as unresolved plain data.

    Example:
        >>> number_hint("1e-3", "lr", {"lr": {"name": "x", "peak": 2.0}})
        'A number goes to a key: lr.peak=1e-3.'
    """
    try:
        float(given)
    except ValueError:
        return ""
    node = config.get(group) if isinstance(config, dict) else None
    kinds = (int, float)
    numbers = [k for k, v in node.items() if type(v) in kinds] if isinstance(node, dict) else []
    return f"A number goes to a key: {group}.{numbers[0]}={given}." if numbers else ""


def places_of(group: str, config: Any) -> list[str]:
    """Where below the top of a config something stands that has the name of a group."""
    return [key for key in _full_keys(config, "") if key.endswith(f".{group}")]


def _has(node: Any, part: str) -> bool:
    if isinstance(node, list):
        return part.isdigit() and int(part) < len(node)
    return isinstance(node, dict) and part in node


def _at(node: Any, parts: Sequence[str]) -> Any:
    for part in parts:
        node = node[int(part)] if isinstance(node, list) else node[part]
    return node


def _did_you_mean(key: str, at: str, siblings: Sequence[str], keys: Sequence[str]) -> str:
    """The likeliest key: the same words deeper down, else a near sibling, else any near key."""
    deeper = [known for known in keys if known.endswith(f".{key}")]
    if deeper:
        return f"Did you mean {deeper[0]!r}?"
    prefix = f"{at}." if at else ""
    near = nearest(key.removeprefix(prefix).partition(".")[0], siblings)
    return near.replace("'", f"'{prefix}", 1) if near else nearest(key, keys)


def _full_keys(node: Any, at: str) -> list[str]:
    """Every dotted key, also of nodes that have keys themselves."""
    if not isinstance(node, dict):
        return [at]
    below = (k for name in node for k in _full_keys(node[name], f"{at}.{name}".lstrip(".")))
    return [key for key in (*([at] if at else []), *below) if not key.endswith("_target_")]


def options_hint(name: str, options: Sequence[str]) -> str:
    """Did-you-mean and the valid options; those of the same folder if a folder was named."""
    folder = name.rpartition("/")[0]
    shown = [o for o in options if o.rpartition("/")[0] == folder] if folder else list(options)
    shown = shown or list(options)
    if len(shown) > _LISTED:
        folders = {o.partition("/")[0] for o in shown if "/" in o}
        count = {f: sum(o.startswith(f"{f}/") for o in shown) for f in sorted(folders)}
        shown = [o for o in shown if "/" not in o] + [f"{f}/... ({n})" for f, n in count.items()]
    hint = nearest(name, options) if name else ""
    return f"{hint} Options: {', '.join(shown)}.".strip()
