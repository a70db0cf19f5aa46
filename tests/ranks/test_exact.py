"""Loss, gradient and weights do not depend on how many ranks share a step, nor on how they do."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import lightning
import pytest
import torch
from forked import run_ranks

from heed.core import ranks
from heed.data.encode import encode_all
from heed.methods.adapters import Full, LoRA
from heed.methods.method import Method
from heed.methods.variants import DoRA
from heed.methods.weights import Plain
from heed.models.likelihood import StudentLoss
from heed.training import module as modules
from heed.training.datamodule import PlannedData
from heed.training.module import Tuning
from heed.training.state import plain_name
from heed.training.strategy import gathered

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

ADAPTED = {"rank": 4, "alpha": 8.0, "dropout": 0.0, "layers": "all-linear"}
METHODS = {"full": Full(), "lora": LoRA(**ADAPTED), "dora": DoRA(**ADAPTED)}
STRATEGIES = ("ddp", "fsdp")
STEPS = {1: 50, 2: 50, 4: 50, 8: 5}
"""Of a training, by the number of ranks: each has its price."""

LOOKED_AT = 3
"""Steps of which the gradient is compared."""


class Trained(NamedTuple):
    """What a training was: losses and norms of all steps, gradients of the first, weights, rows."""

    losses: list[float]
    norms: list[float]
    gradients: list[dict[str, torch.Tensor]]
    weights: dict[str, torch.Tensor]
    rows: list[int]


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return modules.plain_tensor(tensor.detach()).clone()


def trained(student, recipe, around, strategy: str) -> Trained | None:
    """Train in the process group that we are in; the leader tells."""
    loaded = student.fresh()
    rows = encode_all(recipe.teacher, loaded.template, loaded.tokenizer, recipe.data).examples
    lightning.seed_everything(1, verbose=False)
    recipe.method.attach(loaded.model)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():  # the gradient of A is zero where B is
        for name, weight in loaded.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1, generator=draw)
    module = Tuning(StudentLoss(loaded.model.train()), recipe, steps=recipe.data.steps)
    found = Trained([], [], [], {}, [])

    class Note(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            found.losses.append(module.row["loss"])
            found.norms.append(module.row["grad_norm"])

    clip = Tuning._clip

    def noting(self: Tuning, optimizer: Any) -> torch.Tensor:
        if len(found.gradients) < LOOKED_AT:
            moving = [(n, p) for n, p in self.named_parameters() if p.requires_grad]
            found.gradients.append({plain_name(n): whole(p.grad) for n, p in moving})
        return clip(self, optimizer)

    Tuning._clip = noting
    try:
        data = PlannedData(rows, recipe, pad=1)
        settings = replace(around.trainer, strategy=strategy)
        settings.build(precision=recipe.precision, callbacks=[Note()]).fit(module, datamodule=data)
    finally:
        Tuning._clip = clip
    found.rows.extend(len(rank) for rank in data.planned[0].micro)
    with gathered(module):
        found.weights.update({plain_name(n): whole(p) for n, p in module.named_parameters()})
    return found if ranks.leads() else None


def all_cases(student, recipe_of, around) -> dict[tuple[str, str], Trained | None]:
    found = {}
    for name, strategy in product(METHODS, STRATEGIES):
        if ranks.world() == 1 and strategy == "fsdp":
            continue
        method = Method(name=name, weights=Plain(), noise=None, adapter=METHODS[name])
        recipe = recipe_of(
            steps=STEPS[ranks.world()],
            epochs=None,
            packing="none",
            method=method,
            peak=1e-3,
            eps=1e-4,
        )
        found[name, strategy] = trained(student, recipe, around, strategy)
    return found


@pytest.fixture(scope="module")
def of_world(student, recipe_of, around):
    """Every case, by the number of ranks; one group for each number runs all."""
    work = partial(all_cases, student, recipe_of, around)
    return {world: run_ranks(world, work)[0] for world in STEPS}


CASES = [(w, m, s) for w, m, s in product((2, 4, 8), METHODS, STRATEGIES)]


@pytest.mark.parametrize(("world", "method", "strategy"), CASES)
def test_the_same_training_on_any_number_of_ranks(of_world, world: int, method: str, strategy: str):
    alone, together = of_world[1][method, "ddp"], of_world[world][method, strategy]
    assert alone.rows == [8]
    assert together.rows == [8 // world] * world, "ranks x micro-batches make the eight examples"
    steps = STEPS[world]
    assert len(together.losses) == steps
    torch.testing.assert_close(together.losses, alone.losses[:steps], rtol=2e-5, atol=0)
    torch.testing.assert_close(together.norms, alone.norms[:steps], rtol=2e-4, atol=0)
    for mine, theirs in zip(together.gradients, alone.gradients, strict=True):
        assert mine.keys() == theirs.keys()
        off = sum(float((mine[n] - theirs[n]).double().square().sum()) for n in mine)
        norm = sum(float(g.double().square().sum()) for g in theirs.values())
        assert norm > 0
        assert (off / norm) ** 0.5 < 2e-6
    assert together.weights.keys() == alone.weights.keys()
    for name, weight in alone.weights.items() if steps == STEPS[1] else ():
        torch.testing.assert_close(together.weights[name], weight, rtol=0, atol=1e-5)
