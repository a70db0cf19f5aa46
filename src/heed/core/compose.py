"""Compose a config outside a command: what `python train.py <overrides>` would run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

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
        if isinstance(error, ConfigError) and not any(text.startswith("+") for text in overrides):
            raise  # it composes, so what its components refuse is all; an addition may be misplaced
        mistakes = mistakes_of(Command(conf, config_name, tuple(overrides)))
        if not mistakes:
            raise
        raise ConfigError(mistakes) from error


def read_option(conf: Path, group: str, name: str) -> dict[str, Any]:
    """One option of a group as plain data, what is still to be given as `???`.

    Args:
        conf: The config tree.
        group: As in `conf/<group>/<name>.yaml`.
        name: Of the option.
    """
    with own_hydra(conf):
        node: Any = OmegaConf.to_container(compose(f"{group}/{name}"), resolve=False)
    for part in group.split("/"):
        node = node[part]
    return dict(node)


def option_names(conf: Path, group: str) -> list[str]:
    """Options of a config group, folders included as `folder/option`."""
    root = conf / group
    return sorted(str(p.relative_to(root).with_suffix("")) for p in root.rglob("*.yaml"))


def option_settings(conf: Path, group: str, option: str) -> dict[str, Any]:
    """What the file of an option says, as plain data, its defaults left out and not composed."""
    settings: Any = OmegaConf.to_container(OmegaConf.load(conf / group / f"{option}.yaml"))
    return {key: value for key, value in settings.items() if key != "defaults"}


def one_of_several() -> bool:
    """Whether the command under way runs several of its kind (`-m`), this one among them."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def typed() -> list[str]:
    """The overrides of the run under way, as they would be typed; Hydra's own are left out."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
