"""Sweeps that are killed, stopped, or begun twice lose nothing and do nothing twice."""

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sweeps import BASE_STEPS, CELL, EVERY, RATES, STEPS, WORK, Swept, wait_for
from tiny import ROOT

from heed.core.compose import compose_component
from heed.core.files import read_jsonl

pytestmark = pytest.mark.slow
TWO_AT_A_TIME = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Swept:
    """The study in one go, cell by cell."""
    swept = Swept(tmp_path_factory.mktemp("sweeps") / "whole")
    code, said = swept.run()
    assert code == 0, said
    return swept


@pytest.fixture
def swept(tmp_path: Path) -> Iterator[Swept]:
    one = Swept(tmp_path / "outputs")
    yield one
    one.end()


def as_whole(swept: Swept, whole: Swept) -> None:
    """Every cell was trained once, all steps once, and the table is that of the sweep in one go."""
    assert swept.table == whole.table
    assert swept.done() == sorted(RATES)
    for run, fit in swept.fits().items():
        assert fit["optimiser_steps"] == (BASE_STEPS if "pretrain" in run else STEPS)
        rows = read_jsonl(swept.outputs / "runs" / run / "metrics.jsonl")
        assert [r["step"] for r in rows if "loss" in r] == list(range(1, 1 + len(rows)))
    assert swept.left_behind() == []
    left = {path.name for path in (swept.outputs / "cells").iterdir()}
    assert not [name for name in left if "halt" in name]


class Watch:
    """Looks on while sweeps are killed: steps may be lost since the last checkpoint, no more."""

    def __init__(self, swept: Swept):
        self.swept, self.before = swept, swept.rows()

    def look(self) -> None:
        now = self.swept.rows()
        for run, steps in self.before.items():
            assert steps - now.get(run, 0) < 2 * EVERY, f"{run} had {steps} steps, and has {now}"
        self.before = now


def kill_one(swept: Swept, chance: random.Random, kinds: Sequence[str]) -> bool:
    """Kill a process of the first kind of which there is one."""
    there = next(filter(None, map(swept.processes, kinds)), [])
    if there:
        os.kill(chance.choice(there), signal.SIGKILL)
    return bool(there)


def test_ten_kills_at_random_moments_lose_nothing(swept: Swept, whole: Swept):
    chance, watch, kills = random.Random(6), Watch(swept), 0
    kinds = ("sweep", "worker", "child", "grandchild")
    process = swept.start(*TWO_AT_A_TIME)
    while kills < 10 or process.poll() is None:
        moment = WORK * (kills + chance.random()) / 11
        kind = kinds[kills % len(kinds)]
        while process.poll() is None:
            watch.look()
            work = swept.work()
            if kills < 10 and work >= moment:
                time.sleep(chance.uniform(0, 0.5))
                late = work >= moment + WORK / 20  # it may be that no other of that kind will come
                if kill_one(swept, chance, (kind, "child", "sweep") if late else (kind,)):
                    kills += 1
                    break
            time.sleep(0.01)
        if process.poll() is not None and (kills < 10 or process.returncode):
            assert process.returncode, f"all was done after {kills} kills"
            process = swept.start("retry=failed", *TWO_AT_A_TIME)
    assert process.wait() == 0, swept.log.read_text()
    as_whole(swept, whole)
    assert sum(len(fit["resumed"]) for fit in swept.fits().values()) > 0


def test_two_sweeps_at_once_share_the_cells_and_one_may_be_killed(swept: Swept, whole: Swept):
    first = swept.start("hydra/launcher=basic")
    second = swept.start("hydra/launcher=submitit_local")
    watch = Watch(swept)
    wait_for(lambda: watch.look() or sum(watch.before.values()) > BASE_STEPS + STEPS / 4, first)
    first.kill()
    first.wait()
    assert second.wait(240) == 0, swept.log.read_text()
    as_whole(swept, whole)
    assert len(list(swept.outputs.glob("baselines/*"))) == 1


STOPS = [
    (TWO_AT_A_TIME, signal.SIGINT, True),
    ((), signal.SIGINT, True),
    (("hydra/launcher=submitit_local",), signal.SIGINT, True),
    (TWO_AT_A_TIME, signal.SIGTERM, False),
]


def test_a_sweep_that_is_asked_to_end_keeps_everything_and_goes_on(swept: Swept, whole: Swept):
    """Ctrl-C reaches all processes of a terminal; a scheduler's wish to end just the command."""
    shutil.copytree(whole.outputs, swept.outputs, ignore=shutil.ignore_patterns(
        "studies", "ledger.jsonl", "cells", "nano-play_clear*"))  # fmt: skip
    for launcher, number, to_all in STOPS:
        size = swept.log.stat().st_size if swept.log.exists() else 0
        steps = sum(swept.rows().values())
        process = swept.start(*launcher)
        wait_for(lambda steps=steps: sum(swept.rows().values()) > steps + STEPS / 10, process)
        (os.killpg if to_all else os.kill)(process.pid, number)
        assert process.wait(60) == 128 + number
        said = swept.log.read_text()[size:]
        assert said.count("the same command goes on") == 1
        assert "Traceback" not in said
        assert swept.left_behind() == []
        rows = {run: steps for run, steps in swept.rows().items() if "pretrain" not in run}
        assert swept.kept() == rows, "no step is lost"
        assert {entry["event"] for entry in swept.ledger} == {"stopped"}
    assert swept.run(*TWO_AT_A_TIME)[0] == 0
    as_whole(swept, whole)


def test_several_cells_of_one_command_are_those_of_the_study(swept: Swept, whole: Swept):
    shutil.copytree(whole.outputs, swept.outputs)
    line = (f"lr={','.join(RATES)}", "seed=1")
    code, said = swept.run(*line, script=("train.py", "-m", *CELL))
    assert (code, said.count("start ")) == (0, 0), said
    assert "results on the primary metric" in said
    assert swept.ledger == whole.ledger


def test_under_hydras_own_sweeper_cells_have_processes_of_their_own_too(swept, whole):
    shutil.copytree(whole.outputs, swept.outputs)
    line = [*CELL, f"outputs={swept.outputs}", f"lr={RATES[0]}", "seed=2"]
    run = compose_component(ROOT / "conf", "train", line).directory
    run.write_text("in the way")
    code, said = swept.run(
        f"lr={RATES[0]}", "seed=2,1", "hydra/sweeper=basic", script=("train.py", "-m", *CELL)
    )
    assert code == 2
    assert said.count("start ") == said.count("Cannot go on") == 1, said
    new = swept.ledger[len(whole.ledger) :]
    assert {(e["event"], e["seed"]) for e in new} == {("failed", 2)}
    assert new[-1]["log"]
