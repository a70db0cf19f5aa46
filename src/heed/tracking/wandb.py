"""The W&B mirror; the only home of wandb."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from heed.core.component import component
from heed.core.errors import RunError
from heed.tracking.tracker import Mirror, numbers


@component
class Wandb(Mirror):
    """Mirror runs to Weights & Biases under their run id.

    A training that goes on after an interruption goes on with the same W&B run. Rows of steps that
    it does again are equal to those that are there, and W&B keeps the first.
    """

    project: str
    """Project name."""

    entity: str | None
    """Team or user; null for the account's own."""

    group: str | None
    """Runs of one study share a group."""

    mode: Literal["online", "offline"]
    """Offline writes files below the run directory for `wandb sync`."""

    def begin(self, name: str, run_id: str, config: Mapping[str, Any], directory: Path) -> None:
        """Begin or continue the W&B run whose id is the run id."""
        import wandb

        if self.mode == "online" and not wandb.login(prompt=False):  # a run asks nobody anything
            raise RunError(
                "no key of W&B is known here. Log in (wandb login, or the variable WANDB_API_KEY), "
                "or take logger.mode=offline and `wandb sync` later."
            )
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

    def send(self, row: Mapping[str, Any]) -> None:
        """Send one row of metrics."""
        import wandb

        if wandb.run is None:
            raise ConnectionError("the W&B run was ended from elsewhere.")
        if int(row["step"]) >= wandb.run.step:  # what is below it is there already
            wandb.run.log(numbers(row), step=int(row["step"]))

    def end(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """Send the result and end the run, as failed if it failed."""
        import wandb

        if wandb.run is not None:
            wandb.run.summary.update(dict(summary))
            wandb.run.finish(exit_code=1 if failed else 0)
