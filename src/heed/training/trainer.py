"""Where and how fast a training runs: nothing here decides the result."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

from pydantic import PositiveInt

from heed.core.component import component
from heed.core.errors import ConfigError, Mistake, RunError

OWN_SETTINGS = "data.steps, data.epochs, data.examples_per_step, optim.clip_norm, precision"
"""Where what the Trainer is not asked is said instead."""

OWN = frozenset(
    (
        "accelerator", "devices", "num_nodes", "deterministic", "precision",
        "callbacks", "logger", "max_epochs", "max_steps", "min_epochs", "min_steps",
        "max_time", "limit_train_batches", "overfit_batches", "fast_dev_run",
        "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm",
        "enable_checkpointing", "enable_progress_bar", "enable_model_summary",
        "use_distributed_sampler", "strategy", "plugins"
    )
)  # fmt: skip
"""Arguments of the Trainer that would change a result or break the plan."""


@component
class TrainerSettings:
    """Arguments of Lightning's Trainer."""

    accelerator: Literal["auto", "cpu", "gpu", "mps"]
    """Kind of device."""

    devices: PositiveInt | Literal["all"]
    """Devices of each node; `all` takes every GPU that torch sees there."""

    nodes: PositiveInt
    """Machines; several need a SLURM job that holds them."""

    strategy: Literal["ddp", "fsdp"]
    """What several devices share: `ddp` the examples of a step, each holding the whole student;
    `fsdp` its weights, gradients and moments too (FSDP2). One device needs neither."""

    threads: PositiveInt | None
    """CPU threads of torch; null leaves torch's choice."""

    deterministic: bool
    """Whether to insist on deterministic kernels."""

    activation_checkpointing: bool
    """Whether each block keeps its input alone and is computed again for the gradient: memory for
    time. Loss and gradient stay as they are."""

    compile: bool
    """Whether torch compiles the blocks for the training. Loss and gradient stay as they are, up to
    rounding."""

    arguments: dict[str, Any]
    """Further arguments of `lightning.Trainer`: `+trainer.arguments.profiler=simple`."""

    def __post_init__(self) -> None:
        found = [*self._several_mistakes()]
        for name in sorted(OWN.intersection(self.arguments)):
            why = "this argument of the Trainer is set by the run itself."
            action = f"Leave it out; see {OWN_SETTINGS}."
            found.append(Mistake(f"arguments.{name}", repr(self.arguments[name]), why, action))
        if found:
            raise ConfigError(found)

    @property
    def several(self) -> bool:
        """Whether a process group is wanted."""
        return self.devices == "all" or self.devices * self.nodes > 1

    @property
    def divides(self) -> bool:
        """Whether no device holds the whole student."""
        return self.several and self.strategy == "fsdp"

    def _several_mistakes(self) -> Iterator[Mistake]:
        if self.several and self.accelerator in ("auto", "mps"):
            why = "several devices are GPUs of CUDA, or processes on a CPU."
            yield Mistake("accelerator", self.accelerator, why, "Give gpu or cpu, or devices=1.")
        if self.devices == "all" and self.accelerator == "cpu":
            why = "how many processes share a CPU has to be said."
            yield Mistake("devices", "all", why, "Give a number.")
        if self.divides and self.compile:
            why = "compiled blocks are not proved to be exact where FSDP2 divides them."
            yield Mistake("compile", "true", why, "Give compile=false, or strategy=ddp.")

    def need_device(self) -> None:
        """Refuse devices and compilers that are not there, before anything is computed.

        Raises:
            RunError: they are not there.
        """
        import torch

        self.before_products()
        mps = self.device == "mps" and not torch.backends.mps.is_available()
        if mps or (self.device == "cuda" and not torch.cuda.is_available()):
            raise RunError(
                f"trainer.accelerator={self.accelerator}: torch finds no such device here. Choose "
                f"trainer=cpu, or install a torch build for the device."
            )
        if self.compile:
            from heed.models.blocks import need_compiler

            need_compiler(self.device)

    def before_products(self) -> None:
        """Set what CUDA reads once, when it multiplies for the first time: in each process."""
        if self.deterministic and self.device == "cuda":  # torch refuses products without it
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

    def engaged(self, model: Any) -> AbstractContextManager[None]:
        """A `with` inside which the blocks of a model train as these settings ask.

        Args:
            model: A transformers causal language model; adapters stand inside it.
        """
        from heed.models.blocks import engaged

        asked = {"activation_checkpointing": self.activation_checkpointing, "compile": self.compile}
        return engaged(model, **asked)

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
        from heed.training.processor import use_processor

        # Lightning's own notes on devices, workers and products: the plan says what matters.
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        use_processor(self.threads, self.device)
        # On any machine of a cluster one is told to use srun, twice; heed's ranks need none.
        warnings.filterwarnings("ignore", message="The `srun` command is available")
        # trainer=cpu on a machine with a GPU was asked for
        warnings.filterwarnings("ignore", message="(GPU|MPS) available but not used")
        try:
            return self._trainer(precision, callbacks)
        except (TypeError, ValueError) as error:
            raise RunError(
                f"Lightning's Trainer refuses trainer.arguments={self.arguments}: {error}. Correct "
                f"or leave out the argument."
            ) from error

    @contextmanager
    def own_kernels(self) -> Iterator[None]:
        """Which kernels are insisted on is as before after the block: Lightning leaves its own."""
        import torch

        before = torch.get_deterministic_debug_mode()
        try:
            yield
        finally:
            torch.set_deterministic_debug_mode(before)

    def _trainer(self, precision: str, callbacks: list[Any]) -> Any:
        import lightning

        from heed.training.strategy import arguments_for

        made = lightning.Trainer(
            accelerator="gpu" if self.device == "cuda" else self.device,
            deterministic=self.deterministic,
            # told of bf16-true, Lightning rounds buffers too; heed has cast what trains
            precision="bf16-mixed" if precision == "bf16-mixed" else "32-true",
            callbacks=callbacks,
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            **arguments_for(self.strategy),
            **self.arguments,
        )
        # Lightning's handler of SIGTERM has the ranks talk, wherever each of them is at the moment
        connector: Any = made._signal_connector
        connector.register_signal_handlers = lambda: None
        return made
