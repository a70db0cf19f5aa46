"""Errors that say what was given, why it cannot be right, and what to do next.

HeedError            one clear screen, no traceback, exit code 2
├─ ConfigError       every mistake of a command at once
├─ DataError         a file, row or token that would have trained or scored the wrong thing
└─ RunError          a run that cannot start, or whose parts do not fit together
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class HeedError(Exception):
    """Something the user can put right; its text is the whole message."""


class DataError(HeedError):
    """Data that would be trained on or scored wrongly."""


class RunError(HeedError):
    """A run that cannot start or go on."""


@dataclass(frozen=True)
class Mistake:
    """One thing wrong with a command or a config.

    Attributes:
        where: The key as typed on a command line, `method.adapter.rank`.
        found: What was given there.
        why: Why it cannot be used.
        action: The next thing to type.
    """

    where: str
    found: str
    why: str
    action: str


class ConfigError(HeedError):
    """All mistakes of one command or config.

    Attributes:
        mistakes: In the order in which they were found.
    """

    def __init__(self, mistakes: Sequence[Mistake]):
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(f"{m.where}: {m.why} {m.action}" for m in self.mistakes))
