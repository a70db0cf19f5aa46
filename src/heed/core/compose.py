"""Compose a config outside a command: what `python train.py <overrides>` would run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from heed.core.command import Command, mistakes_of
from heed.core.config import build_config
from heed.core.errors import ConfigError


def compose_component(conf: Path, config_name: str, overrides: Sequence[str]) -> Any:
    """The root component of a config with overrides.

    Raises:
        ConfigError: with every mistake of the overrides.
    """
    command = Command(conf=conf, config_name=config_name, overrides=tuple(overrides))
    with initialize_config_dir(str(conf), version_base="1.3"):
        try:
            return build_config(compose(config_name, list(overrides)))
        except Exception as error:
            raise ConfigError(mistakes_of(command)) from error


def option_names(conf: Path, group: str) -> list[str]:
    """Options of a config group, folders included as `folder/option`."""
    root = conf / group
    return sorted(str(p.relative_to(root).with_suffix("")) for p in root.rglob("*.yaml"))


def show_config(component: Any) -> str:
    """A component as YAML text."""
    from heed.core.component import plain

    return OmegaConf.to_yaml(OmegaConf.create(plain(component)))
