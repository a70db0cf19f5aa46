"""heed's sweeper: the lines of Hydra's own, whatever launcher; mistakes are one screen."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext
from omegaconf import OmegaConf

from heed.core.command import own_hydra
from hydra_plugins.heed_study.slurm_queue import is_queue
from hydra_plugins.heed_study.sweeper import StudySweeper

ROOT = Path(__file__).resolve().parents[2]
RATES = ["lr=play_gentle", "lr=play_harsh", "lr=play_reference"]


@pytest.fixture
def product():
    """The lines of `python train.py -m ...`."""
    with own_hydra(ROOT / "conf"):
        sweeper, loader = StudySweeper(), GlobalHydra.instance().config_loader()
        sweeper.context = HydraContext(config_loader=loader, callbacks=None)
        yield sweeper._product


@pytest.mark.parametrize(
    ("typed", "lines"),
    [
        (["seed=1"], [["seed=1"]]),
        (["seed=1,2", "lr.peak=0.1"], [["seed=1", "lr.peak=0.1"], ["seed=2", "lr.peak=0.1"]]),
        (["seed=choice(3,1)"], [["seed=3"], ["seed=1"]]),
        (["seed=range(1,4)"], [["seed=1"], ["seed=2"], ["seed=3"]]),
        (["lr=glob(play_*)"], [[rate] for rate in RATES]),
        (
            ["model=nano,micro", "seed=1,2"],
            [[f"model={m}", f"seed={s}"] for m in ("nano", "micro") for s in (1, 2)],
        ),
        (["callbacks.keep.steps=[1,2]"], [["callbacks.keep.steps=[1,2]"]]),
        (["+experiment=a,b", "~data.limit=null"], [["+experiment=a", "~data.limit=null"],
                                                  ["+experiment=b", "~data.limit=null"]]),
    ],
)  # fmt: skip
def test_several_values_are_the_lines_that_hydra_runs(product, typed, lines):
    assert product(typed) == lines


def test_shuffled_values_are_all_there(product):
    random.seed(0)
    drawn = [tuple(line for (line,) in product(["seed=shuffle(1,2,3,4)"])) for _ in range(9)]
    assert {frozenset(lines) for lines in drawn} == {frozenset(f"seed={n}" for n in range(1, 5))}
    assert len(set(drawn)) > 1
    assert sorted(product(["seed=shuffle(range(1,4))"])) == [["seed=1"], ["seed=2"], ["seed=3"]]


@pytest.mark.parametrize(
    ("typed", "cells"),
    [
        (["study=playground", "lr.peak=1"], ["lr.peak=1"]),
        (["plan_only=true", "+study.seeds=[1]", "~study.exclude", "retry=failed"], []),
        (["study@study=playground", "studio=1", "seed=3"], ["studio=1", "seed=3"]),
    ],
)
def test_what_is_said_to_the_sweep_is_not_said_to_its_cells(monkeypatch, typed, cells):
    import heed.core.config
    import heed.study.sweep
    from heed.study.study import Sweep

    told = []
    sweep = object.__new__(Sweep)
    monkeypatch.setattr(heed.core.config, "build_config", lambda _: sweep)
    monkeypatch.setattr(heed.study.sweep, "run_sweep", lambda *given: told.append(given[1]))
    sources = [{"provider": "main", "path": "conf"}]
    sweeper = StudySweeper()
    sweeper.config = OmegaConf.create(
        {"hydra": {"runtime": {"config_sources": sources}, "launcher": {"_target_": "Basic"}}}
    )
    sweeper.sweep(typed)
    assert told == [cells]


def test_jobs_of_a_slurm_are_in_a_queue_and_no_others():
    for name, queued in (("SlurmLauncher", True), ("LocalLauncher", False), ("BasicLauncher", 0)):
        assert is_queue(OmegaConf.create({"_target_": f"some.{name}"})) == queued


COMMANDS = {
    "list": ("sweep.py",),
    "conflict": ("sweep.py", "study=playground", "lr=play_gentle", "teacher=play_clear"),
    "another sweeper": ("sweep.py", "study=playground", "hydra/sweeper=basic"),
    "unknown": ("sweep.py", "study=playgruond"),
    "one of several": ("train.py", "-m", "seed=1,2", "lr=play_gentle,play_hrash"),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict[str, tuple[int, str, str]]:
    """What commands end with and print; they are run side by side."""
    folder = tmp_path_factory.mktemp("outputs")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    begun = {
        name: subprocess.Popen(
            [sys.executable, *line, f"outputs={folder / 'out'}"], cwd=ROOT, env=env, **pipes
        )
        for name, line in COMMANDS.items()
    }
    found = {}
    for name, process in begun.items():
        out, err = process.communicate(timeout=120)
        found[name] = (process.returncode, out, " ".join(err.split()))
    left = [path.name for path in folder.rglob("*")]  # of Hydra's own sweeper
    assert set(left) <= {"out", "multirun", "multirun.yaml"}, "something was run"
    return found


@pytest.mark.slow
def test_without_a_study_the_studies_are_listed(said):
    code, out, err = said["list"]
    assert (code, err) == (0, "")
    assert "python sweep.py study=playground" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("conflict", "2 mistakes; nothing was run. 1 lr=play_gentle study playground says it"),
        ("another sweeper", "Leave hydra/sweeper out."),
        ("unknown", "Did you mean 'playground'?"),
        ("one of several", "1 mistake; nothing was run. 1 lr=play_hrash"),
    ],
)
def test_a_mistake_is_one_screen(said, name, words):
    code, out, err = said[name]
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err
    assert "HYDRA" not in err
