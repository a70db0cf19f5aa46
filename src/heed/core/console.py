"""Where words for a person go: results to stdout, everything else to stderr."""

from __future__ import annotations

import sys
import time
import unicodedata
from collections.abc import Callable

from rich.console import Console

from heed.core.ranks import is_follower

PIPED_WIDTH = 110
"""Columns where the output is no terminal: tables stay whole in a log."""

LINES = 10
"""About how many lines a long piece of work prints."""

SECONDS = 1.0
"""Least time between two of them; the first and the last are always printed."""


def result_console() -> Console:
    """For what a command was asked for: tables and paths."""
    width = None if sys.stdout.isatty() else PIPED_WIDTH
    return Console(highlight=False, emoji=False, width=width)


def progress_console() -> Console:
    """For what happens meanwhile; of several ranks, only the first tells it."""
    width, quiet = None if sys.stderr.isatty() else PIPED_WIDTH, is_follower()
    return Console(stderr=True, highlight=False, emoji=False, width=width, quiet=quiet)


BIDI = frozenset(("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"))
"""Unicode's names of the characters that turn the direction of what follows them."""


def visible(text: str) -> str:
    r"""A text from outside, without what could steer a terminal; all else stays as it is.

    Spelt out are control characters but newline and tab, changes of direction, and half characters
    (lone surrogates), which no terminal can be sent.

    Example:
        >>> visible("one\n\ttwo\x1b[2J")
        'one\n\ttwo\\x1b[2J'
    """
    return "".join(repr(c)[1:-1] if _steers(c) else c for c in text)


def _steers(c: str) -> bool:
    hidden = unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"
    return hidden or unicodedata.bidirectional(c) in BIDI


class Answered:
    """Prints how far a scoring is: about ten lines a task, with rate and time left.

    Call it with the task's name, the number of answered items and the number of all. The first
    call of a task says where it begins: answers that are there already do not count for the rate.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic):
        self.console, self.clock = console, clock
        self.begun: dict[str, tuple[int, float]] = {}
        self.shown: dict[str, tuple[int, float]] = {}

    def __call__(self, task: str, done: int, total: int) -> None:
        """Take note of answers; print if another tenth is done."""
        now = self.clock()
        first, since = self.begun.setdefault(task, (done, now))
        tenth = LINES * done // max(total, 1)
        before, at = self.shown.get(task, (-1, since - SECONDS))
        if tenth != before and (now - at >= SECONDS or done == total):
            self.shown[task] = tenth, now
            line = answered_line(task, done, total, done - first, now - since)
            self.console.print(f"  {line}", markup=False)


def answered_line(task: str, done: int, total: int, fresh: int, seconds: float) -> str:
    """One line about a scoring under way.

    Args:
        task: Its name.
        done: Answered items.
        total: All items.
        fresh: Those of `done` that were answered in the given time.
        seconds: Time taken for these; no rate is told before there is one.

    Example:
        >>> answered_line("ifeval", 120, 541, fresh=120, seconds=35.0)
        'ifeval: 120/541 prompts, 3.4 prompts/s, about 2 min left'
        >>> answered_line("ifeval", 0, 541, fresh=0, seconds=0.0)
        'ifeval: 0/541 prompts'
    """
    said = f"{task}: {done}/{total} prompts"
    if not (fresh and seconds > 0):
        return said
    rate = fresh / seconds
    said += f", {rate:.1f} prompts/s" if rate < 10 else f", {rate:.0f} prompts/s"
    return said if done == total else f"{said}, about {duration((total - done) / rate)} left"


def duration(seconds: float) -> str:
    """A time that is only estimated, no more exactly than one can know it.

    Example:
        >>> duration(7), duration(130), duration(8000)
        ('7 s', '2 min', '2 h 13 min')
    """
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
