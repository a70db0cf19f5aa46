"""The W&B mirror; the only home of wandb."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from heed.core.component import component
from heed.core.console import progress_console
from heed.tracking.tracker import Tracker


@component
class Wandb(Tracker):
    """Mirror runs to Weights & Biases under their run id."""

    project: str
    """Project name."""

    entity: str | None
    """Team or user; null for the account's own."""

    group: str | None
    """Runs of one study share a group."""

    mode: Literal["online", "offline"]
    """Offline writes files below the run directory for `wandb sync`."""

    def start(self, name: str, run_id: str, config: Mapping[str, Any], directory: Path) -> None:
        """Begin or continue the W&B run whose id is the run id."""

        def begin() -> None:
            import wandb

            wandb.init(
                project=self.project,
                entity=self.entity,
                group=self.group,
                mode=self.mode,
                name=name,
                id=run_id,
                resume="allow",
                config=dict(config),
                dir=str(directory),
            )

        _mirror(begin)

    def log(self, row: Mapping[str, float]) -> None:
        """Send one row of metrics."""

        def send() -> None:
            import wandb

            if wandb.run is not None:
                rest = {f"train/{key}": value for key, value in row.items() if key != "step"}
                wandb.run.log(rest, step=int(row["step"]))

        _mirror(send)

    def finish(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """Send the result and end the run, as failed if it failed."""

        def end() -> None:
            import wandb

            if wandb.run is not None:
                wandb.run.summary.update(dict(summary))
                wandb.run.finish(exit_code=1 if failed else 0)

        _mirror(end)


def _mirror(call: Callable[[], None]) -> None:
    """Do something with W&B; an outage is said on the screen and never stops a run."""
    try:
        call()
    except Exception as error:  # an outage may raise anything
        progress_console().print(
            f"W&B mirror: {type(error).__name__}: {error}. The run goes on; its files are whole.",
            markup=False,
        )
