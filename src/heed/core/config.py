"""From a composed config to components: the last place that a `DictConfig` reaches."""

from __future__ import annotations

from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import (
    InterpolationResolutionError,
    InterpolationToMissingValueError,
    OmegaConfBaseException,
)

from heed.core.component import build
from heed.core.errors import ConfigError, Mistake

LIBRARY_ERRORS = (HydraException, OmegaConfBaseException)
"""How Hydra and OmegaConf refuse a config."""


def build_config(config: DictConfig) -> Any:
    """Build the whole composed config; what Hydra adds for itself is left out.

    Raises:
        ConfigError: with every interpolation that cannot be resolved, and every value that its
            component refuses.
    """
    found: list[Mistake] = []
    root = _resolved(config, "", found)
    root.pop("hydra", None)
    try:
        built = build(root)
    except ConfigError as error:
        unresolved = {mistake.where for mistake in found}
        found += [m for m in error.mistakes if m.where not in unresolved]
    if found:
        raise ConfigError(found)
    return built


def _resolved(node: DictConfig | ListConfig, at: str, found: list[Mistake]) -> Any:
    """Plain data with interpolations resolved; what cannot be resolved becomes `???`."""

    def value(key: Any) -> Any:
        where = f"{at}[{key}]" if isinstance(node, ListConfig) else f"{at}.{key}".lstrip(".")
        if OmegaConf.is_missing(node, key):
            return "???"
        try:
            item = node[key]
        except InterpolationToMissingValueError:
            return "???"
        except InterpolationResolutionError as error:
            raw: Any = OmegaConf.to_container(node, resolve=False)
            given = str(raw[key])
            found.append(
                Mistake(where, given, first_line(error), f"Set {where}, or what it refers to.")
            )
            return "???"
        return _resolved(item, where, found) if OmegaConf.is_config(item) else item

    if isinstance(node, ListConfig):
        return [value(i) for i in range(len(node))]
    return {str(key): value(key) for key in node if at or key != "hydra"}


def first_line(error: BaseException) -> str:
    """The first line of a library's message, with its cause where the message alone is empty."""
    while not str(error) and error.__cause__ is not None:
        error = error.__cause__
    line = str(error).strip().split("\n")[0] or type(error).__name__
    return line if line.endswith(".") else f"{line}."
