"""A launcher that is not installed, or that is none, is named on the same screen as the rest."""

from contextlib import contextmanager
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from heed.core.command import Command, mistakes_of, own_hydra
from heed.core.launchers import PACKAGES, launcher_mistakes

CONF = Path(__file__).parents[2] / "conf"
READY = sorted(path.stem for path in (CONF / "hydra/launcher").glob("*.yaml"))


def found(*typed: str, lacking: tuple[str, ...] = ()):
    """The mistakes of a choice where some launchers are not installed."""
    with own_hydra(CONF), without(lacking):
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        return launcher_mistakes(parser.parse_overrides(list(typed)), "train")


@contextmanager
def without(launchers: tuple[str, ...]):
    stored = ConfigStore.instance().repo["hydra"]["launcher"]
    taken = {name: stored.pop(f"{name}.yaml") for name in launchers}
    try:
        yield
    finally:
        stored.update({f"{name}.yaml": node for name, node in taken.items()})


@pytest.mark.parametrize("name", ["basic", *PACKAGES, *READY])
def test_every_launcher_composes(name):
    assert found(f"hydra/launcher={name}", "model=micro") == []


@pytest.mark.parametrize("name", [*PACKAGES, *READY])
def test_a_launcher_that_is_not_installed_is_told_with_what_to_install(name):
    [mistake] = found(f"hydra/launcher={name}", lacking=tuple(PACKAGES))
    needed = name if name in PACKAGES else "submitit_slurm"
    assert (mistake.where, mistake.found) == ("hydra/launcher", name)
    assert needed in mistake.why
    assert PACKAGES[needed] in mistake.why
    assert mistake.action == "pip install 'heed[launchers]'"


def test_a_mistyped_launcher_is_told_with_what_was_meant_installed_or_not():
    for lacking in ((), tuple(PACKAGES)):
        [mistake] = found("hydra/launcher=submitit_slrm", lacking=lacking)
        assert "Did you mean 'submitit_slurm'?" in mistake.action
        assert "slurm_gpu" in mistake.action


def test_a_launcher_is_told_together_with_the_other_mistakes_of_a_command():
    command = Command(CONF, "train", ("hydra/launcher=joblib", "model=nono"))
    with without(("joblib",)):
        assert {m.where for m in mistakes_of(command)} == {"hydra/launcher", "model"}


def test_other_choices_of_hydras_are_left_alone():
    assert found("hydra/job_logging=none_such", "hydra.launcher.n_jobs=2") == []
