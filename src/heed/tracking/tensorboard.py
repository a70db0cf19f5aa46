"""The TensorBoard mirror: scalars for `tensorboard --logdir outputs/runs`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from heed.core.component import component
from heed.core.errors import RunError
from heed.tracking.tracker import Ending, Mirror, Mirrored, numbers

FOLDER = "tensorboard"
"""Where the events of a run lie, below its directory."""


@component
class TensorBoard(Mirror):
    """Write event files below the run directory.

    A training that goes on after an interruption writes a file of its own, and tells TensorBoard
    which steps of the earlier ones it does again: none is shown twice.
    """

    @cached_property
    def _open(self) -> dict[str, Any]:
        """Directory and writer of the run that is followed; empty between runs."""
        return {}

    def begin(self, run: Mirrored) -> None:
        """Look for the package; the file is made with the first row."""
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError as error:
            raise RunError(
                f"the package tensorboard cannot be imported ({error}). Install it (pip install "
                f"tensorboard), or take logger=csv."
            ) from error
        self._open.clear()
        self._open["directory"] = run.directory / FOLDER

    def send(self, row: Mapping[str, Any]) -> None:
        """Write the numbers of one row."""
        step = int(row["step"])
        if "writer" not in self._open:
            from torch.utils.tensorboard import SummaryWriter

            self._open["writer"] = SummaryWriter(str(self._open["directory"]), purge_step=step)
        for key, value in numbers(row).items():
            self._open["writer"].add_scalar(key, value, step)
        self._open["writer"].flush()

    def end(self, ending: Ending) -> None:
        """Close the file."""
        writer = self._open.pop("writer", None)
        if writer is not None:
            writer.close()
