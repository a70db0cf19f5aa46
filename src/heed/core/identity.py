"""The run id: a hash of what decides the result, and of nothing else.

In it: every field of every component, the digest of the data, the versions that matter, the seed.
Not in it: fields marked `Incidental` (paths, devices, workers, labels), comments, key order.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Hashable, Mapping
from dataclasses import fields
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from pydantic import Field

from heed.core.component import is_component, target_of
from heed.core.files import digest_file

Incidental = "heed: does not decide the result"
"""Annotation of a field that changes where or how fast, never what: `Annotated[T, Incidental]`."""

FileName = Annotated[str, Field(pattern=r"^\w[\w.-]*$", max_length=64)]
"""A name that is also a folder."""

MODEL_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.py")
"""What a model in Hugging Face layout is made of: settings, weights, tokenizer, code."""

SLUG_BYTES = 56
"""Most bytes of a name within a file name: four of them and a hash fit into the 255 of a disk."""

LACKING = "not there"
"""Stands for what one of two trees has no key for."""

VERSIONS_THAT_MATTER = ("heed", "torch", "transformers", "tokenizers", "peft", "lightning")


@cache
def _incidental(cls: Hashable) -> frozenset[str]:
    hints = get_type_hints(cls, include_extras=True)
    return frozenset(
        name for name, hint in hints.items() if Incidental in getattr(hint, "__metadata__", ())
    )


def canonical(value: Any) -> Any:
    """Reduce a component to plain JSON data that holds just what decides the result.

    A component that stands for data outside the config has a `digest()`; it stands in for the data.
    """
    if is_component(value):
        cls: Any = type(value)
        skip = _incidental(cls)
        out = {
            f.name: canonical(getattr(value, f.name)) for f in fields(value) if f.name not in skip
        }
        if hasattr(value, "digest"):
            out["content"] = value.digest()
        return {"_target_": target_of(value), **out}
    if isinstance(value, Mapping):
        return {str(key): canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{value!r} cannot be part of an identity: only components and plain data can")


def deciding(value: Any) -> Any:
    """A component as plain data, without the fields that do not decide a result.

    Args:
        value: A component, or what its fields hold.
    """
    if is_component(value):
        cls: Any = type(value)
        skip = _incidental(cls)
        kept = [f.name for f in fields(value) if f.name not in skip]
        return {"_target_": target_of(value), **{k: deciding(getattr(value, k)) for k in kept}}
    if isinstance(value, Mapping):
        return {key: deciding(item) for key, item in value.items()}
    return [deciding(item) for item in value] if isinstance(value, list | tuple) else value


def short_hash(value: Any) -> str:
    """First 12 hex digits of the SHA-256 of the canonical JSON.

    Example:
        >>> short_hash({"b": 1, "a": [2.0]}) == short_hash({"a": [2.0], "b": 1})
        True
    """
    text = json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def first_difference(one: Any, two: Any) -> tuple[str, Any, Any]:
    """Where two unequal trees of plain data first differ, and what stands there.

    Example:
        >>> first_difference({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}})
        ('a.c', 2, 3)
        >>> first_difference({"a": None}, {})
        ('a', None, 'not there')
    """
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        pairs = {k: (one.get(k, LACKING), two.get(k, LACKING)) for k in (*one, *two)}
        key = next(k for k, (then, now) in pairs.items() if then != now)
        below, then, now = first_difference(*pairs[key])
        return (f"{key}.{below}" if below else key), then, now
    return "", one, two


def slug(name: str) -> str:
    """A name as part of a file name, cut at `SLUG_BYTES`.

    Example:
        >>> slug("../organisation/student 1")
        '.._organisation_student_1'
    """
    return re.sub(r"[^\w.]+", "_", name).encode()[:SLUG_BYTES].decode(errors="ignore")


def digest_model(path: str, revision: str | None) -> str:
    """What tells the files of one model from those of any other.

    Args:
        path: Hub id, or a directory in the same layout.
        revision: The pinned commit of a hub id; None for a directory, whose files are read.
    """
    if revision is not None:
        return f"{path}@{revision}"
    files = sorted(file for kind in MODEL_FILES for file in Path(path).glob(kind))
    return short_hash({file.name: digest_file(file) for file in files})


def versions() -> dict[str, str]:
    """Versions of the packages that can change a number."""
    return dict(_versions())


@cache
def _versions() -> Mapping[str, str]:
    """The same, read once: what is imported stays what it is while the process lives."""
    return {name: version(name) for name in VERSIONS_THAT_MATTER}
