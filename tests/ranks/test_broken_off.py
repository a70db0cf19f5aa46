"""A training of several ranks that is asked to end goes on, on as many ranks or on others."""

from __future__ import annotations

import shutil
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from forked import run_ranks
from scenes import STEPS, Scene, exported, losses, play_all, validation

from heed.core.files import read_json

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

CUT = 3
PARTS = [(m, s) for m in ("full", "lora") for s in ("ddp", "fsdp")]
ENDS = [(1, "ddp"), (2, "ddp"), (2, "fsdp"), (4, "ddp"), (4, "fsdp")]


class Played:
    """What was played: records by directory."""

    def __init__(self, root: Path, rest: tuple):
        self.root, self.rest, self.told = root, rest, {}

    def play(self, world: int, scenes: list[Scene]) -> None:
        said = run_ranks(world, partial(play_all, scenes, *self.rest))
        for number, scene in enumerate(scenes):
            self.told[scene.directory.name] = [of_rank[number] for of_rank in said]


@pytest.fixture(scope="module")
def played(saved_base, recipe_of, around, template, tmp_path_factory) -> Played:
    """All scenes: one group for each number of ranks in each act."""
    root = tmp_path_factory.mktemp("played")
    made = Played(root, (saved_base, recipe_of, around, template))
    drops = [(f"drops-{s}", s) for s in ("ddp", "fsdp")]
    alone = [Scene(root / f"whole-{m}", method=m) for m in ("full", "lora")]
    made.play(1, [*alone, Scene(root / "early-alone", early=True)])
    first = [
        Scene(root / f"cut-{m}-{s}", s, m, CUT, asked=1) for m, s in PARTS
    ]  # fmt: skip
    first += [Scene(root / f"{name}-cut", s, "drops", CUT, asked=1) for name, s in drops]
    first += [Scene(root / f"{name}-whole", s, "drops") for name, s in drops]
    first += [Scene(root / f"early-{r}", asked=r, early=True) for r in (0, 1)]
    first += [Scene(root / "best", "fsdp", "full", best=True, fresh=True)]
    made.play(2, first)
    for (m, s), (world, strategy) in ((a, b) for a in PARTS for b in ENDS):
        shutil.copytree(root / f"cut-{m}-{s}", root / f"{m}-{s}-{world}-{strategy}")
    for world in (1, 2, 4):
        acts = [
            Scene(root / f"{m}-{s}-{world}-{strategy}", strategy, m)
            for m, s in PARTS
            for many, strategy in ENDS
            if many == world
        ]
        if world == 2:
            acts += [Scene(root / f"{name}-cut", s, "drops") for name, s in drops]
        made.play(world, acts)
    return made


@pytest.mark.parametrize(("method", "strategy"), PARTS)
def test_asking_one_rank_ends_all_and_keeps_everything(played, method: str, strategy: str):
    cut = played.root / f"cut-{method}-{strategy}"
    assert played.told[cut.name] == [128 + signal.SIGTERM] * 2
    state = read_json(cut / f"checkpoints/{CUT}/state.json")
    names = ["optimizer", "weights"]
    of_rank = [f"{n}-{r}-of-2.safetensors" for n in names for r in range(2)]
    whole = [f"{n}.safetensors" for n in names]
    assert sorted(state["files"]) == (of_rank if strategy == "fsdp" else whole)
    assert len(state["random"]) == 2
    assert not (cut / "model").exists()


@pytest.mark.parametrize("name", ["early-alone", "early-0", "early-1"])
def test_who_is_asked_before_the_first_step_keeps_that_step(played, name: str):
    assert set(played.told[name]) == {128 + signal.SIGTERM}
    assert (played.root / name / "checkpoints/1/state.json").is_file()


@pytest.mark.parametrize(("world", "after"), ENDS)
@pytest.mark.parametrize(("method", "strategy"), PARTS)
def test_it_goes_on_with_the_same_data_on_any_number_of_ranks(
    played, method: str, strategy: str, world: int, after: str
):
    whole, found = (
        played.root / f"whole-{method}",
        played.root / f"{method}-{strategy}-{world}-{after}",
    )
    record = played.told[found.name][0]
    assert record["resumed"] == [CUT]
    assert record["plan"]["order"] == played.told[whole.name][0]["plan"]["order"]
    for read in (losses, validation):
        want, got = read(whole), read(found)
        assert list(got) == list(want)
        torch.testing.assert_close(list(got.values()), list(want.values()), rtol=2e-5, atol=0)
    assert list(losses(found)) == list(range(1, STEPS + 1))
    for model in ("model", "steps/3/model"):
        want, got = exported(whole, model), exported(found, model)
        assert got.keys() == want.keys()
        for name, tensor in want.items():
            torch.testing.assert_close(got[name], tensor, rtol=0, atol=1e-5)
            assert tensor.any(), f"{name} of the export is not empty"
    assert record["reload_difference"] < 1e-5


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_on_as_many_ranks_it_ends_with_the_same_bits_dropout_and_all(played, strategy: str):
    whole, cut = (played.root / f"drops-{strategy}-{part}" for part in ("whole", "cut"))
    assert played.told[cut.name][0]["resumed"] == [CUT]
    assert losses(whole) == losses(cut)
    for model in ("model", "steps/3/model"):
        files = [next((run / model).glob("*.safetensors")).read_bytes() for run in (whole, cut)]
        assert files[0] == files[1]


def test_the_best_step_of_a_divided_student_is_taken_and_read_back(played):
    record = played.told["best"][0]
    best = record["taken"]["step"]
    measured = validation(played.root / "best")
    assert measured[best] == min(loss for step, loss in measured.items() if step)
    assert record["fresh_process_difference"] < 1e-4
    assert not list((played.root / "best").glob("*/.*")), "nothing half lies about"
