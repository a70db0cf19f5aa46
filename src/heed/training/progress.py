"""The progress line: where a training stands, how fast it is, what it holds, when it ends."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass
from typing import Any

from pydantic import PositiveFloat

from heed.core.component import component
from heed.core.console import progress_console
from heed.training.callbacks import Watched, Watcher, ending


@dataclass
class Seen:
    """What this process has seen of a training.

    Attributes:
        steps: Optimiser steps.
        tokens: Tokens, supervised or not.
        supervised: Tokens with loss.
        seconds: Time taken.
    """

    steps: int = 0
    tokens: int = 0
    supervised: int = 0
    seconds: float = 0.0


@component
class Progress(Watcher):
    """A line with step, loss, tokens per second, supervised share, memory and the time left."""

    every_seconds: PositiveFloat
    """Seconds from one line to the next; the last step is always told."""

    def build(self, watched: Watched) -> Any:
        """The callback."""
        import lightning

        every, console = self.every_seconds, progress_console()

        class Show(lightning.Callback):
            def on_train_start(self, trainer: Any, module: Any) -> None:
                self.began = self.shown = time.monotonic()
                self.seen = Seen()

            def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
                seen, now = self.seen, time.monotonic()
                seen.steps += 1
                seen.tokens += module.row["tokens"]
                seen.supervised += module.row["supervised_tokens"]
                seen.seconds = now - self.began
                due = now - self.shown >= every or ending(trainer, module)
                if due and trainer.is_global_zero:
                    self.shown = now
                    line = progress_line(module, seen, peak_memory(module.device))
                    console.print(line, markup=False, soft_wrap=True)

        return Show()


def progress_line(module: Any, seen: Seen, memory: str) -> str:
    """One line about a training under way.

    Args:
        module: Anything with `done`, `steps` and `row["loss"]`.
        seen: What this process has seen: steps that another one did say nothing of its speed.
        memory: What it holds, in words.
    """
    left = int(seen.seconds / seen.steps * max(0, module.steps - module.done))
    hours, minutes, seconds = left // 3600, left // 60 % 60, left % 60
    eta = f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
    loss = "left out" if module.row["loss"] is None else f"{module.row['loss']:.3f} nats/token"
    return (
        f"step {module.done:>5}/{module.steps}  loss {loss}  "
        f"{seen.tokens / max(seen.seconds, 1e-9):,.0f} tokens/s, "
        f"{seen.supervised / max(seen.tokens, 1):.0%} supervised  {memory}  ETA {eta}"
    )


def peak_memory(device: Any) -> str:
    """The most that this process has held, on the device where it trains.

    Args:
        device: As torch calls it.
    """
    if device.type == "cuda":
        import torch

        return f"peak {torch.cuda.max_memory_allocated(device) / 2**30:.2f} GiB on the device"
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"peak {held * (1 if sys.platform == 'darwin' else 1024) / 2**30:.2f} GiB in all"
