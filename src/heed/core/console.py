"""Where words for a person go: results to stdout, everything else to stderr."""

from __future__ import annotations

import sys

from rich.console import Console

PIPED_WIDTH = 110
"""Columns where the output is no terminal: tables stay whole in a log."""


def result_console() -> Console:
    """For what a command was asked for: tables and paths."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)


def progress_console() -> Console:
    """For what happens meanwhile."""
    width = None if sys.stderr.isatty() else PIPED_WIDTH
    return Console(stderr=True, highlight=False, width=width)
