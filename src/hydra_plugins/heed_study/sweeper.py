"""Hydra's sweeper of heed: plans, asks the ledger what is missing, and launches just that."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from hydra_plugins.heed_study.slurm_queue import begin_once, is_queue, name_jobs, wait_for

DEAF = ("trap '' INT", "trap : EXIT")
"""What a shell does before it begins submitit's process; that there is a trap for its own end keeps
it from becoming that process, whose parent's number is the job's."""

CELL_CONFIG = "train"
"""What a launcher composes for each cell, whichever command planned it."""


class StudySweeper(Sweeper):
    """Runs the cells of a study (`sweep.py`), or of a product of settings (`train.py -m`).

    Each cell is run once, wherever and however often it is asked for. Any launcher can be chosen:
    what it gives back is not looked at.
    """

    def __init__(self) -> None:
        self.config: DictConfig | None = None
        self.context: HydraContext | None = None
        self.launched = 0

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra gives; the task is our own."""
        self.config, self.context = config, hydra_context

    def sweep(self, arguments: list[str]) -> None:
        """Run what is missing.

        Args:
            arguments: Overrides as typed, but for those of Hydra itself.
        """
        from heed.core.config import build_config
        from heed.study.several import Launch
        from heed.study.study import SWEEP_KEYS, Sweep
        from heed.study.sweep import run_lines, run_sweep

        assert self.config is not None, "Hydra calls setup first"
        conf, root = self._conf(), build_config(self.config)
        launch = Launch(self._launch, stays=is_queue(self.config.hydra.launcher))
        if isinstance(root, Sweep):
            own = re.compile(rf"[+~]*({'|'.join(SWEEP_KEYS)})([.=@]|$)")  # study.seeds=[1] too
            typed = [a for a in arguments if not own.match(a)]
            run_sweep(root, typed, conf, launch)
        else:
            run_lines(self._product(arguments), conf, root.root, launch)

    def _conf(self) -> Path:
        """The config tree of the command."""
        assert self.config is not None
        sources = self.config.hydra.runtime.config_sources
        return Path(next(s.path for s in sources if s.provider == "main"))

    def _product(self, arguments: Sequence[str]) -> list[list[str]]:
        """The lines that Hydra's own sweeper would run."""
        assert self.context is not None
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        (lines,) = BasicSweeper.split_arguments(parser.parse_overrides(list(arguments)), None)
        return lines

    def _launch(self, lines: Sequence[Sequence[str]], task: Any) -> None:
        """Have the chosen launcher call a task with the config of each line."""
        assert self.config is not None
        assert self.context is not None
        config = OmegaConf.create(self.config)
        OmegaConf.set_struct(config, True)
        with open_dict(config):
            config.hydra.job.config_name = CELL_CONFIG
            if 0 < len(lines) < config.hydra.launcher.get("n_jobs", 0):
                config.hydra.launcher.n_jobs = len(lines)  # a worker without a cell is in the way
        queued = name_jobs(config.hydra.launcher)
        begin_once(config.hydra.launcher)
        if is_local(config.hydra.launcher):
            keep_from_ctrl_c(config.hydra.launcher)
            hand_on_gpus()
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.context, task_function=task, config=config
        )
        first, self.launched = self.launched, self.launched + len(lines)
        launch = partial(launcher.launch, [list(line) for line in lines], initial_job_idx=first)
        try:
            if queued is None:
                launch()
            else:
                wait_for(launch, queued)
        finally:
            with suppress(OSError):  # not empty: a launcher keeps something there
                Path(config.hydra.sweep.dir).rmdir()


def keep_from_ctrl_c(launcher: DictConfig) -> None:
    """Keep Ctrl-C from the process by which submitit watches a job of this machine.

    It would end with a traceback, and a second later kill its job, which keeps what it has.

    Args:
        launcher: Its config; `setup` is set, which is submitit's, not the plug-in's.
    """
    with open_dict(launcher):
        launcher.setup = [*DEAF, *(launcher.get("setup") or ())]


def is_local(launcher: DictConfig) -> bool:
    """Whether submitit begins the jobs on this machine."""
    return str(launcher.get("_target_", "")).endswith(".submitit_launcher.LocalLauncher")


def hand_on_gpus() -> None:
    """Tell jobs of submitit on this machine which GPUs we are shown: it hides all from them."""
    from heed.study.gpus import ALL, SHOWN, VISIBLE

    os.environ[SHOWN] = os.environ.get(VISIBLE, ALL)
