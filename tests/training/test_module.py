"""Properties of a training step: it is that of the whole batch, however the batch is cut."""

from dataclasses import replace

import lightning
import pytest
import torch
from forked import run_ranks

from heed.core.errors import RunError
from heed.core.files import read_jsonl
from heed.data.encode import encode_all
from heed.data.pack import flat_row
from heed.data.plan import number_of_steps, plan, step_indices
from heed.models.likelihood import StudentLoss
from heed.training.callbacks import Watched
from heed.training.datamodule import PlannedData
from heed.training.module import Tuning


class Rows(lightning.Callback):
    """Keeps the row of every step."""

    def __init__(self):
        self.rows: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer, module, *_):
        self.rows.append(module.row)


@pytest.fixture
def train(student, around):
    """Train the tiny student as `fit` does; gives its weights and the rows of its steps."""

    def run(recipe, loaded=None, watchers=(), **arguments):
        loaded = loaded or student.fresh()
        source = encode_all(recipe.teacher, loaded.template, loaded.tokenizer, recipe.data)
        data = PlannedData(source.examples, recipe, pad=1)
        steps = number_of_steps(len(source.examples), recipe.data)
        module, kept = Tuning(StudentLoss(loaded.model), recipe, steps=steps), Rows()
        settings = replace(around.trainer, **arguments)
        settings.build(precision="32-true", callbacks=[kept, *watchers]).fit(
            module, datamodule=data
        )
        return torch.cat([p.detach().flatten() for p in loaded.model.parameters()]), kept.rows

    return run


pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*`IterableDataset` has `__len__` defined.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
]
PLAIN = {"eps": 1.0, "peak": 3.0, "clip_norm": None, "beta1": 0.0, "beta2": 0.0}
"""With eps = 1 a step of AdamW is nearly the gradient itself: noise in it is not blown up."""


def by_hand(student, recipe) -> tuple[torch.Tensor, list[float]]:
    """The same training as a plain loop over whole steps, each the mean over its tokens."""
    loaded = student.fresh()
    examples = encode_all(recipe.teacher, loaded.template, loaded.tokenizer, recipe.data).examples
    optimizer = recipe.optim.build(
        recipe.method.adapter.groups(loaded.model.named_parameters()), recipe.lr
    )
    losses, loss_of = [], StudentLoss(loaded.model.train())
    for chosen in step_indices(len(examples), recipe.data, seed=recipe.seed):
        nats, tokens = loss_of(flat_row([examples[i] for i in chosen], pad=1))
        (nats / tokens).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append((nats / tokens).item())
    return torch.cat([p.detach().flatten() for p in loaded.model.parameters()]), losses


@pytest.mark.parametrize("micro_tokens", [64, 100, 300, 100_000])
def test_cutting_a_batch_does_not_change_the_step(student, recipe_of, train, micro_tokens: int):
    recipe = recipe_of(micro_tokens=micro_tokens, **PLAIN)
    weights, rows = train(recipe)
    expected, losses = by_hand(student, recipe)
    moved = (expected - torch.cat([p.flatten() for p in student.fresh().model.parameters()])).abs()
    assert moved.max() > 0.05
    torch.testing.assert_close(weights, expected, atol=2e-5, rtol=1e-4)
    assert [row["loss"] for row in rows] == pytest.approx(losses, rel=1e-4)
    assert len(rows) == 3


def test_a_batch_is_really_cut_in_the_test_above(recipe_of, loaded, toy):
    counts = []
    for micro_tokens in (64, 100_000):
        recipe = recipe_of(micro_tokens=micro_tokens)
        rows = encode_all(toy, loaded.template, loaded.tokenizer, recipe.data).examples
        counts.append([len(step.micro[0]) for step in plan(rows, recipe.data, ranks=1, seed=1)])
    assert min(counts[0]) >= 4
    assert counts[1] == [1, 1, 1]


@pytest.mark.parametrize("ranks", [2, 3])
def test_many_ranks_make_the_step_of_one(recipe_of, train, around, ranks: int, tmp_path):
    recipe = recipe_of(steps=2, epochs=None, micro_tokens=64, **PLAIN)
    alone, rows = train(recipe)
    watchers = [w.build(Watched(tmp_path, around.tracker)) for w in around.callbacks.values()]
    together, _ = run_ranks(ranks, lambda: train(recipe, watchers=watchers))[-1]
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=1e-4)
    written = read_jsonl(tmp_path / "metrics.jsonl")
    assert [row["loss"] for row in written] == pytest.approx([row["loss"] for row in rows])
    assert [row["tokens"] for row in written] == [row["tokens"] for row in rows]


def test_the_rate_of_each_step_is_the_schedules(recipe_of, train):
    recipe = recipe_of(schedule="linear", warmup_steps=2, peak=1e-4, epochs=2)
    _, rows = train(recipe)
    assert [row["lr"] for row in rows] == [1e-4 * recipe.lr.factor(s, 6) for s in range(6)]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]


def test_tokens_are_counted_once_a_step(recipe_of, train, toy, loaded):
    recipe = recipe_of(epochs=2)
    rows = encode_all(toy, loaded.template, loaded.tokenizer, recipe.data).examples
    _, found = train(recipe)
    assert sum(row["supervised_tokens"] for row in found) == 2 * sum(e.supervised for e in rows)
    assert sum(row["tokens"] for row in found) == 2 * sum(len(e.ids) for e in rows)


def test_the_norm_is_that_of_the_whole_step_and_is_clipped(recipe_of, train):
    free = train(recipe_of(steps=1, epochs=None, **PLAIN))[1][0]["grad_norm"]
    for micro_tokens in (64, 4096):
        changes = PLAIN | {"clip_norm": free / 10, "micro_tokens": micro_tokens}
        clipped, rows = train(recipe_of(steps=1, epochs=None, **changes))
        assert rows[0]["grad_norm"] == pytest.approx(free, rel=1e-4)
    harder, _ = train(recipe_of(steps=1, epochs=None, **(PLAIN | {"clip_norm": free / 1000})))
    start, _ = train(recipe_of(steps=1, epochs=None, **(PLAIN | {"peak": 1e-12})))
    assert (harder - start).norm() < (clipped - start).norm() / 20


def test_a_loss_that_is_not_finite_stops_the_training(recipe_of, train):
    with pytest.raises(RunError, match=r"optimiser step [23] is .* nan.*lower lr\.peak"):
        train(recipe_of(peak=1e30, clip_norm=None))


def test_a_gradient_that_is_not_finite_stops_before_the_weights_move(recipe_of, train, loaded):
    weight = loaded.model.model.norm.weight
    weight.register_hook(lambda gradient: gradient * float("inf"))
    before = [p.detach().clone() for p in loaded.model.parameters()]
    with pytest.raises(RunError, match=r"optimiser step 1 .*gradient has norm nan.*lower lr\.peak"):
        train(recipe_of(), loaded)
    assert all(map(torch.equal, before, loaded.model.parameters()))
