"""A component is its own configuration: a frozen, strict dataclass built from one YAML node.

This is the only place where a `_target_` is resolved. A target must name a *registered* component
of a trusted package: the object is looked at, not its name, because a name's prefix proves
nothing (`heed.core.files.os.system` starts with `heed.` too).
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar, dataclass_transform

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from heed.core.errors import ConfigError, Mistake

T = TypeVar("T")
TRUSTED = ("heed",)
"""Packages whose modules a config may cause to be imported."""

_COMPONENTS: set[type] = set()
_BROKEN = object()
_STRICT = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def component(cls: type[T]) -> type[T]:
    """Register a class as a component and make it a frozen, strict pydantic dataclass.

    Strict means that `"8"` or `true` is not an int: a config that says something else than it
    means is refused, never bent.

    Example:
        >>> @component
        ... class Doubled:
        ...     rank: int
        >>> Doubled(rank=8)
        Doubled(rank=8)
    """
    made = pydantic_dataclass(frozen=True, kw_only=True, config=_STRICT)(cls)
    _COMPONENTS.add(made)
    return made  # type: ignore[return-value]


def is_component(value: object) -> bool:
    """Whether a value is an instance of a registered component."""
    return type(value) in _COMPONENTS


def target_of(value: object) -> str:
    """The `_target_` that builds this kind of component."""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def plain(value: Any) -> Any:
    """The config node that builds a value again: `build(plain(x)) == x`."""
    if is_component(value):
        node = {f.name: plain(getattr(value, f.name)) for f in fields(value)}
        return {"_target_": target_of(value), **node}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def nearest(word: str, choices: Sequence[str]) -> str:
    """A 'did you mean' for a mistyped word, or an empty string.

    Example:
        >>> nearest("peek", ["peak", "warmup"])
        "Did you mean 'peak'?"
    """
    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f"Did you mean {near[0]!r}?" if near else ""


def build(node: Any, at: str = "") -> Any:
    """Build a plain config node (dicts, lists, scalars) into components.

    Args:
        node: Resolved config; a dict with `_target_` becomes that component.
        at: Where the node stands in the whole config, for messages.

    Raises:
        ConfigError: with *every* mistake found in the node and below it.
    """
    mistakes: list[Mistake] = []
    built = _build(node, at, mistakes)
    if mistakes:
        raise ConfigError(mistakes)
    return built


def _build(node: Any, at: str, mistakes: list[Mistake]) -> Any:
    if isinstance(node, Mapping):
        parts = {
            str(key): _build(value, f"{at}.{key}" if at else str(key), mistakes)
            for key, value in node.items()
            if key != "_target_"
        }
        if "_target_" in node:
            return _construct(node["_target_"], parts, at, mistakes)
        return _BROKEN if any(value is _BROKEN for value in parts.values()) else parts
    if isinstance(node, list | tuple):
        items = tuple(_build(value, f"{at}[{i}]", mistakes) for i, value in enumerate(node))
        return _BROKEN if any(value is _BROKEN for value in items) else items
    if node == "???":
        mistakes.append(Mistake(at, "nothing", "this value is required.", f"Add {at}=<value>."))
        return _BROKEN
    return node


def _construct(target: Any, parts: dict[str, Any], at: str, mistakes: list[Mistake]) -> Any:
    cls = _resolve(target, at, mistakes)
    if cls is None or any(value is _BROKEN for value in parts.values()):
        if cls is not None:
            mistakes += _wrong_fields(cls, parts, at)
        return _BROKEN
    try:
        return cls(**parts)
    except ValidationError as error:
        mistakes += _explain(cls, error, at)
        return _BROKEN
    except ConfigError as error:  # a rule between fields, checked by the component itself
        mistakes += [
            Mistake(f"{at}.{m.where}" if at else m.where, m.found, m.why, m.action)
            for m in error.mistakes
        ]
        return _BROKEN


def _wrong_fields(cls: type, parts: dict[str, Any], at: str) -> list[Mistake]:
    """Check the whole fields of a component of which other fields are already known broken."""
    broken = {key for key, value in parts.items() if value is _BROKEN}
    try:
        cls(**{key: value for key, value in parts.items() if key not in broken})
    except ValidationError as error:
        return _explain(cls, error, at, leave_out=broken)
    except ConfigError:  # a rule between fields says nothing while one of them is broken
        return []
    return []


def _resolve(target: Any, at: str, mistakes: list[Mistake]) -> type | None:
    """The registered component that a target names; anything else is a mistake."""

    def refuse(why: str) -> None:
        where = f"{at}._target_" if at else "_target_"
        mistakes.append(
            Mistake(
                where,
                repr(target),
                why,
                "Choose an option of the group, or register the class with @component.",
            )
        )

    if not isinstance(target, str) or target.split(".")[0] not in TRUSTED or "." not in target:
        refuse(f"only components of {', '.join(TRUSTED)} may be named in a config.")
        return None
    module, _, name = target.rpartition(".")
    try:
        found = vars(importlib.import_module(module)).get(name)
    except ModuleNotFoundError as error:
        refuse(f"there is no such module ({error}).")
        return None
    if not isinstance(found, type) or found not in _COMPONENTS or found.__module__ != module:
        refuse("this is not a registered component.")
        return None
    return found


_RANGES = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "multiple_of")
"""Pydantic's names of what is wrong with a number of the right kind."""


def _explain(
    cls: type, error: ValidationError, at: str, leave_out: set[str] | None = None
) -> list[Mistake]:
    """Put pydantic's findings in the words of a command line, one mistake a field."""
    names = [f.name for f in fields(cls)]
    found: dict[str, Mistake] = {}
    for entry in error.errors(include_url=False):
        key = str(entry["loc"][0]) if entry["loc"] else ""
        place = [str(part) for part in entry["loc"] if not _is_kind(str(part))]
        where = ".".join(part for part in (at, *place) if part)
        if key in (leave_out or ()) or key in found:
            continue
        given = repr(entry.get("input"))[:80]
        if entry["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            action = f"{nearest(key, names)} Valid keys: {', '.join(names)}.".strip()
            found[key] = Mistake(where, given, f"{cls.__name__} has no such key.", action)
        elif entry["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
            found[key] = Mistake(
                where, "nothing", "this value is required.", f"Add {where}=<value>."
            )
        else:
            found[key] = Mistake(where, given, f"{entry['msg']}.", _right_value(where, entry))
    return list(found.values())


def _is_kind(part: str) -> bool:
    """Whether a part of a place names no field but the kind of a union that did not fit."""
    return "[" in part or part.startswith("constrained-")


def _right_value(where: str, entry: Mapping[str, Any]) -> str:
    """What to give instead of a value that pydantic refuses."""
    if entry["type"] in _RANGES:
        return f"Give {where} a value {entry['msg'].removeprefix('Input should be ')}."
    if entry["type"] == "literal_error":
        return f"Give {where} one of these: {entry['ctx']['expected']}."
    return f"Give {where} a value of the right kind."
