"""Signals that ask a training to end: the step under way is finished first."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

from heed.core.ranks import is_follower

ASKING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""A scheduler's wish to end, its warning before that, and Ctrl-C."""


class Asked:
    """Remembers the first signal that asks to end, and leaves the rest to the training.

    A second Ctrl-C ends at once, as everywhere.

    Attributes:
        signal: The one that came; None while none has.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.before: dict[signal.Signals, Any] = {}

    def listen(self) -> None:
        """Take over from whoever handles these signals now; only a main thread can."""
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._note) for number in ASKING}

    def stop_listening(self) -> None:
        """Give the signals back."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = self.signal or signal.Signals(number)
        if not is_follower():  # of a group all are asked, and one says so
            said = "\nAsked to end: this optimiser step is finished, then all is kept.\n"
            os.write(2, said.encode())  # a console may be in the middle of a line
