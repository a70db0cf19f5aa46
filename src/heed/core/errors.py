"""Errors that say what was given, why it cannot be right, and what to do next.

HeedError            one clear screen, no traceback, exit code 2
├─ ConfigError       every mistake of a command at once
├─ DataError         a file, row or token that would have trained or scored the wrong thing
├─ RunError          a run that cannot start, or whose parts do not fit together
└─ StoppedError      a run that was asked to end and can go on; exit code 128 + the signal
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

EXIT_CODE = 2
"""Exit code of a command that the user can put right."""


class HeedError(Exception):
    """Something the user can put right; its text is the whole message.

    Attributes:
        title: What stands above the message.
    """

    title = "Cannot go on"


class DataError(HeedError):
    """Data that would be trained on or scored wrongly."""


class RunError(HeedError):
    """A run that cannot start or go on."""


class StoppedError(HeedError):
    """A run that ended because a signal asked for it; the same command goes on.

    Args:
        message: What is kept, and how to go on.
        number: Of the signal.

    Attributes:
        exit_code: Of a command that it ends.
    """

    title = "Stopped"

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.exit_code = 128 + number


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
