"""Where and how fast a training runs: nothing here decides the result."""

from __future__ import annotations

import logging
from typing import Any, Literal

from pydantic import PositiveInt

from heed.core.component import component


@component
class TrainerSettings:
    """Arguments of Lightning's Trainer."""

    accelerator: Literal["auto", "cpu", "gpu", "mps"]
    """Kind of device."""

    devices: PositiveInt
    """Devices per node."""

    threads: PositiveInt | None
    """CPU threads of torch; null leaves torch's choice."""

    deterministic: bool
    """Whether to insist on deterministic kernels."""

    arguments: dict[str, Any]
    """Further arguments of `lightning.Trainer`: `+trainer.arguments.profiler=simple`."""

    @property
    def device(self) -> str:
        """Where a student is scored, in torch's words."""
        import torch

        found = {"gpu": "cuda", "cpu": "cpu", "mps": "mps"}
        if self.accelerator == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        return found[self.accelerator]

    def build(self, *, precision: str, callbacks: list[Any]) -> Any:
        """A Trainer for one fit; heed writes its own metrics and model, so Lightning does not."""
        import lightning
        import torch

        # Lightning's own notes on devices, workers and products: the plan says what matters.
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        return lightning.Trainer(
            accelerator=self.accelerator,
            devices=self.devices,
            deterministic=self.deterministic,
            precision=precision,  # type: ignore[arg-type]
            callbacks=callbacks,
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            **self.arguments,
        )
