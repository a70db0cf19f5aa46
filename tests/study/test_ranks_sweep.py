"""Cells of several ranks in sweeps: each on its cell's config, and one that is killed is named."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from sweeps import Swept, wait_for
from tiny import TINY

from heed.core.files import read_jsonl
from heed.study.rank import digest_of

pytestmark = pytest.mark.slow
TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.threads=1")
CELLS = (*TINY, "also=none")
SHUFFLED = ("train.py", "-m", *CELLS, "lr=shuffle(play_gentle,play_reference)")
STUDY = (
    "sweep.py", "study=playground", "study.axes.model=[nano]", "study.axes.teacher=[play_clear]",
    "study.axes.lr=[play_gentle,play_reference]", *CELLS,
)  # fmt: skip
AT_ONCE = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
RATES = ["play_gentle", "play_reference"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Iterator[Swept]:
    """A shuffled product, two groups at a time, of which one loses its leader; then a study."""
    one = Swept(tmp_path_factory.mktemp("ranks") / "several")
    try:
        process = one.start(*AT_ONCE, *TWO, script=SHUFFLED)
        wait_for(lambda: all(len(ranks_of(one, rate)) == 2 for rate in RATES), process)
        os.kill(ranks_of(one, "play_reference")["0"], signal.SIGKILL)
        assert process.wait(120) == 2, one.log.read_text()
        assert one.done() == ["play_gentle"], "the group beside it goes on"
        code, said = one.run("retry=failed", *TWO, script=STUDY)
        assert code == 0, said
        yield one
    finally:
        one.end()


def ranks_of(swept: Swept, rate: str) -> dict[str, int]:
    """The processes of ranks of a cell that are alive, by rank."""
    found = {}
    for pid in swept.processes("child"):
        try:
            folder = Path(f"/proc/{pid}")
            line, said = (folder / "cmdline").read_text(), (folder / "environ").read_bytes()
        except OSError:  # it has ended
            continue
        if f"-{rate}-" in line:
            names = said.split(b"\0")
            found |= {one[5:].decode(): pid for one in names if one.startswith(b"RANK=")}
    return found


def test_every_rank_is_on_its_cells_config(swept: Swept):
    rates = []
    for file in swept.outputs.glob("cells/nano-*.yaml"):
        asked = yaml.safe_load(file.read_text())
        lines = [s for s in file.with_suffix(".log").read_text().splitlines() if "of 2 (" in s]
        told = sorted((line.split(" (")[0], line.split()[-1]) for line in lines)
        mine = digest_of(asked)
        assert told == [("[rank 1] rank 1 of 2", mine), ("rank 0 of 2", mine)]
        rates.append(asked["cell"]["lr"]["name"])
    assert sorted(rates) == RATES


def test_each_cell_is_done_once_and_trained_at_its_own_rate(swept: Swept):
    assert swept.done() == RATES
    steps = [
        tuple(row["lr"] for row in read_jsonl(path) if "lr" in row)
        for path in swept.outputs.glob("runs/nano-play_clear-*/metrics.jsonl")
    ]
    assert len(set(steps)) == len(steps) == len(RATES)
    assert swept.left_behind() == []


def test_a_leader_that_is_killed_fails_its_cell_by_name_and_the_cell_goes_on(swept: Swept):
    (failed,) = (row for row in swept.ledger if row["event"] == "failed")
    assert failed["lr"] == "play_reference"
    assert failed["reason"].startswith("rank 0 of 2: killed by SIGKILL")
