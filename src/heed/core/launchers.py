"""What is wrong with a chosen launcher: its options come with packages of their own."""

from __future__ import annotations

from collections.abc import Iterable

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException

from heed.core.errors import Mistake
from heed.core.overrides import options_hint, value_text

GROUP = "hydra/launcher"

PACKAGES = {
    "joblib": "hydra-joblib-launcher",
    "submitit_local": "hydra-submitit-launcher",
    "submitit_slurm": "hydra-submitit-launcher",
}
"""Launchers of Hydra's that are packages of their own; heed's extra `launchers` has them."""


def launcher_mistakes(overrides: Iterable[Override], config_name: str) -> list[Mistake]:
    """The mistakes among the choices of a launcher; Hydra must be initialised over the tree.

    Args:
        overrides: Those of a command, whatever they choose.
        config_name: Its primary config.
    """
    chosen = [value_text(o) for o in overrides if o.key_or_group == GROUP and not o.is_delete()]
    return [mistake for name in chosen if (mistake := _mistake(name, config_name))]


def _mistake(name: str, config_name: str) -> Mistake | None:
    try:
        compose(config_name, [f"{GROUP}={name}"])
    except MissingConfigException as error:
        missing = (error.missing_cfg_file or "").removeprefix(f"{GROUP}/")
    except HydraException:  # something else of the command, which has a check of its own
        return None
    else:
        return None
    if missing in PACKAGES:
        why = f"the launcher {missing!r} is not installed: it comes with {PACKAGES[missing]}."
        return Mistake(GROUP, name, why, "pip install 'heed[launchers]'")
    if missing == name:
        options = GlobalHydra.instance().config_loader().get_group_options(GROUP)
        hint = options_hint(name, sorted({*options, *PACKAGES}))
        return Mistake(GROUP, name, f"the group '{GROUP}' has no such option.", hint)
    return None
