"""Where the time of a training step goes, by torch's own profiler."""

from __future__ import annotations

from typing import Any

from pydantic import NonNegativeInt, PositiveInt

from heed.core.component import component
from heed.core.console import progress_console
from heed.core.files import write_text
from heed.training.callbacks import Watched, Watcher, ending

TOP = 8
"""Lines on the console."""


@component
class Profile(Watcher):
    """Profile the steps after the first few, and write the operations by their own time.

    The table is `profile.txt` in the run. Profiling slows the steps; no speed is to be read from
    such a run, only shares.
    """

    skip: NonNegativeInt
    """Steps that are left out: the first ones allocate and warm up."""

    rows: PositiveInt
    """Operations in the table."""

    tuning_only = True

    def build(self, watched: Watched) -> Any:
        """The callback."""
        import lightning
        import torch

        skip, rows = self.skip, self.rows
        kinds = [torch.profiler.ProfilerActivity.CPU]
        if torch.cuda.is_available():
            kinds.append(torch.profiler.ProfilerActivity.CUDA)
        profiler = torch.profiler.profile(activities=kinds)

        class Look(lightning.Callback):
            steps, running = 0, False

            def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
                if module.done >= skip and not self.running:
                    profiler.start()
                    self.running = True

            def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
                self.steps += self.running
                if self.running and ending(trainer, module):
                    profiler.stop()
                    _tell(watched, profiler.key_averages(), self.steps, rows)

        return Look()


def _tell(watched: Watched, found: Any, steps: int, rows: int) -> None:
    """Write the table, and print its first lines."""
    device = any(one.self_device_time_total for one in found)
    by = "self_device_time_total" if device else "self_cpu_time_total"
    path = watched.directory / "profile.txt"
    write_text(path, f"{steps} optimiser steps\n{found.table(sort_by=by, row_limit=rows)}\n")
    total = sum(getattr(one, by) for one in found) or 1
    console = progress_console()
    where = "device" if device else "CPU"
    console.print(f"  {steps} steps profiled; the operations' own {where} time:", markup=False)
    for one in sorted(found, key=lambda one: -getattr(one, by))[:TOP]:
        share = getattr(one, by) / total
        console.print(f"  {share:6.1%}  {one.count:>7} calls  {one.key:.70}", markup=False)
    console.print(f"  {path}", markup=False, soft_wrap=True)
