"""Compose a config outside a command: what `python train.py <overrides>` would run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from heed.core.command import Command, mistakes_of, own_hydra
from heed.core.config import LIBRARY_ERRORS, build_config
from heed.core.errors import ConfigError


def compose_component(conf: Path, config_name: str, overrides: Sequence[str]) -> Any:
    """The root component of a config with overrides.

    Raises:
        ConfigError: with every mistake of the overrides.
    """
    try:
        with own_hydra(conf):
            return build_config(compose(config_name, list(overrides)))
    except (ConfigError, *LIBRARY_ERRORS) as error:
        mistakes = mistakes_of(Command(conf, config_name, tuple(overrides)))
        if not mistakes:
            raise
        raise ConfigError(mistakes) from error


def option_names(conf: Path, group: str) -> list[str]:
    """Options of a config group, folders included as `folder/option`."""
    root = conf / group
    return sorted(str(p.relative_to(root).with_suffix("")) for p in root.rglob("*.yaml"))


def one_of_several() -> bool:
    """Whether the command under way runs several of its kind (`-m`), this one among them."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def typed() -> list[str]:
    """The overrides of the run under way, as they would be typed; Hydra's own are left out."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
