"""The gradient is that of the mean over all tokens; one that is not finite moves nothing."""

import copy
from dataclasses import replace
from itertools import pairwise

import lightning
import pytest
import torch
from forked import run_ranks
from torch.utils.data import DataLoader

from heed.core.component import build
from heed.core.errors import RunError
from heed.data.dataset import Encoded
from heed.data.encode import encode_all
from heed.data.pack import flat_row
from heed.data.plan import StepPlan, number_of_steps, step_indices
from heed.methods.adapters import Full, Group, LoRA
from heed.methods.method import Method
from heed.methods.weights import Plain
from heed.models.likelihood import StudentLoss
from heed.training.datamodule import PlannedData, Steps
from heed.training.fit import fit
from heed.training.module import MOST_IN_A_ROW, SKIPPED, Tuning
from heed.training.strategy import gathered
from heed.training.suspects import suspects

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*`IterableDataset` has `__len__` defined.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
]
LORA = Method(
    name="lora",
    weights=Plain(),
    noise=None,
    adapter=LoRA(rank=4, alpha=8.0, dropout=0.0, layers="all-linear"),
)
METHODS = {"full": {}, "lora": {"method": LORA}}
CUTS = {"1x8": [8], "2x4": [4, 4], "8x1": [1] * 8, "uneven": [5, 1, 2], "unpacked": None}
NODE = {"weight_decay": 0.01, "clip_norm": 1.0, "on_non_finite": "skip"}
MOMENTS = {"beta1": 0.9, "beta2": 0.95, "eps": 1e-8} | NODE
AT = "heed.training.optim."
OPTIMIZERS = {
    "adamw": {"_target_": AT + "AdamW"} | MOMENTS,
    "8bit": {"_target_": AT + "AdamW8bit", "min_8bit_size": 1024, "paged": False} | MOMENTS,
    "paged": {"_target_": AT + "AdamW8bit", "min_8bit_size": 1024, "paged": True} | MOMENTS,
    "adafactor": {
        "_target_": AT + "Adafactor", "beta1": 0.9, "decay_rate": -0.8, "eps": 1e-30,
        "scale_by_weight": False, "smallest_scale": 1e-3, "clip_update": 1.0, **NODE,
    },
}  # fmt: skip


def prepared(loaded, recipe):
    """The student with its method attached, and updates that are not zero."""
    recipe.method.attach(loaded.model)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in loaded.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1, generator=draw)
    return loaded.model.train()


def of_transformers(model, examples) -> dict[str, torch.Tensor]:
    """Gradients of the mean over all tokens, in float64, by the model's own logits."""
    model = copy.deepcopy(model).double()
    tokens = sum(sum(e.mask[1:]) for e in examples)
    for e in examples:
        ids, mask = torch.tensor(e.ids), torch.tensor(e.mask)
        logits = model(ids[None]).logits[0, :-1]
        nats = torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none")
        (nats[mask[1:]].sum() / tokens).backward()
    return {n: p.grad for n, p in model.named_parameters() if p.requires_grad}


@pytest.fixture
def before_clipping(monkeypatch):
    """Gradients as they are handed to clipping, one list a step."""
    kept, real = [], torch.nn.utils.clip_grad_norm_

    def note(moving, limit):
        kept.append({id(p): p.grad.clone() for p in moving})
        return real(moving, limit)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", note)
    return kept


def trained(module, data, around, callbacks=(), precision="32-true"):
    trainer = around.trainer.build(precision=precision, callbacks=[*callbacks])
    with_module = {"datamodule": data} if isinstance(data, PlannedData) else {}
    trainer.fit(module, *([] if with_module else [data]), **with_module)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cut", CUTS)
def test_the_gradient_is_that_of_the_mean_over_all_tokens_however_cut(
    loaded, recipe_of, around, before_clipping, method: str, cut: str
):
    recipe = recipe_of(clip_norm=0.01, packing="none", steps=1, epochs=None, **METHODS[method])
    examples = encode_all(recipe.teacher, loaded.template, loaded.tokenizer, recipe.data).examples
    (chosen,) = step_indices(len(examples), recipe.data, seed=recipe.seed)
    model = prepared(loaded, recipe)
    expected = of_transformers(model, [examples[i] for i in chosen])
    names = {id(p): name for name, p in model.named_parameters()}
    data = PlannedData(examples, recipe, pad=1)
    if CUTS[cut] is not None:
        ends = [sum(CUTS[cut][:i]) for i in range(len(CUTS[cut]) + 1)]
        micro = [chosen[a:b] for a, b in pairwise(ends)]
        tokens = sum(examples[i].supervised for i in chosen)
        plan = [StepPlan([micro], tokens, [sum(len(examples[i].ids) for i in chosen)])]
        data = DataLoader(Steps(examples, plan, pad=1), batch_size=None)
    trained(Tuning(StudentLoss(model), recipe, steps=1), data, around)
    (found,) = before_clipping
    found = {names[key]: gradient for key, gradient in found.items()}
    assert found.keys() == expected.keys()
    assert all(gradient.any() for gradient in expected.values())
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() / gradient.norm() < 1e-5, name


class Watch(lightning.Callback):
    """Keeps rows, and copies of optimiser and weights after every step."""

    def __init__(self):
        self.rows, self.states, self.weights = [], [], []

    def on_train_batch_end(self, trainer, module, *_):
        self.rows.append(module.row)
        self.states.append(copy.deepcopy(trainer.optimizers[0].state_dict()))
        self.weights.append([p.detach().clone() for p in module.parameters()])


@pytest.fixture
def poisoned(student, around, monkeypatch):
    """Train a student whose loss on chosen examples of chosen steps is not finite."""

    def run(recipe, steps, poison=float("inf"), share=slice(0, 1), **arguments):
        loaded = student.fresh()
        found = encode_all(recipe.teacher, loaded.template, loaded.tokenizer, recipe.data)
        number = number_of_steps(len(found.examples), recipe.data)
        plan = list(step_indices(len(found.examples), recipe.data, seed=recipe.seed))
        bad = [sorted(plan[s - 1], key=lambda i: len(found.examples[i].ids))[share] for s in steps]
        ids = {found.examples[i].id for chosen in bad for i in chosen}
        texts = {tuple(found.examples[i].ids) for chosen in bad for i in chosen}
        real = StudentLoss.backbone

        def spoilt(self, batch):
            output, ends = real(self, batch), batch.lengths.cumsum(0).tolist()
            factor = torch.ones(len(batch.input_ids), 1)
            for begin, end in zip([0, *ends], ends, strict=False):
                if tuple(batch.input_ids[begin:end].tolist()) in texts:
                    factor[begin:end] = poison
            return replace(output, last_hidden_state=output.last_hidden_state * factor)

        monkeypatch.setattr(StudentLoss, "backbone", spoilt)
        module, watch = Tuning(StudentLoss(loaded.model), recipe, steps=number), Watch()
        data = PlannedData(found.examples, recipe, pad=1)
        settings = replace(around.trainer, **arguments)
        failure = None
        try:
            settings.build(precision="32-true", callbacks=[watch]).fit(module, datamodule=data)
        except RunError as error:
            failure = str(error)
        return module, watch, ids, failure

    return run


@pytest.mark.parametrize("poison", [float("inf"), float("nan")])
def test_a_loss_that_is_not_finite_stops_with_step_and_examples(recipe_of, poisoned, poison):
    module, watch, ids, said = poisoned(recipe_of(micro_tokens=64), [2], poison, slice(1, 3))
    assert module.done == len(watch.rows) == 1
    assert "the loss of optimiser step 2 is nan nats per token" in said
    assert "It comes from 2 of the step's examples:" in said
    assert all(f"'{name}'" in said for name in ids)
    assert "lr.peak" in said
    assert "optim.on_non_finite=skip" in said


def test_a_gradient_that_is_not_finite_names_its_micro_batch(recipe_of, loaded, around):
    recipe = recipe_of(packing="none")
    examples = encode_all(recipe.teacher, loaded.template, loaded.tokenizer, recipe.data).examples
    (first, *_) = step_indices(len(examples), recipe.data, seed=recipe.seed)
    third = examples[first[2]]

    class Broken(StudentLoss):
        def backbone(self, batch):
            output = super().backbone(batch)
            if batch.input_ids.tolist() == list(third.ids) and torch.is_grad_enabled():
                output.last_hidden_state.register_hook(lambda gradient: gradient * float("inf"))
            return output

    module = Tuning(Broken(loaded.model), recipe, steps=3)
    with pytest.raises(RunError, match=rf"step 1 is \d.* norm nan.*1 of .*: '{third.id}'\."):
        trained(module, PlannedData(examples, recipe, pad=1), around)


def test_looking_for_suspects_leaves_random_numbers_and_gradients(loaded, recipe_of):
    recipe = recipe_of(packing="none")
    examples = encode_all(recipe.teacher, loaded.template, loaded.tokenizer, recipe.data).examples
    micro = [flat_row(examples[:3], pad=1), flat_row([], pad=1)]
    replace(LORA, adapter=replace(LORA.adapter, dropout=0.5)).attach(loaded.model)
    before, student = torch.get_rng_state(), StudentLoss(loaded.model.train())
    assert suspects(student, micro, [["a", "b", "c"], []]) == ([], 3)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.grad is None for p in loaded.model.parameters())
    student(micro[0])
    assert not torch.equal(torch.get_rng_state(), before)  # such a student does draw


@pytest.mark.parametrize("place", range(9))
def test_a_token_that_is_not_finite_tells_of_its_own_document(place: int):
    """Texts are supervised from their second token on, so first positions count too."""
    texts = [Encoded("abc"[i], [1] * size, [True] * size) for i, size in enumerate([4, 2, 6])]
    expected = "aaabccccc"[place]

    class Spoilt(torch.nn.Linear):
        def token_nats(self, batch):
            assert len(batch.where) == 9
            return self.weight.sum() * torch.ones(9).index_fill(
                0, torch.tensor([place]), float("nan")
            )

        def forward(self, batch):
            return self.token_nats(batch).sum(), 9

    assert suspects(Spoilt(1, 1), [flat_row(texts, pad=0)], [["a", "b", "c"]]) == ([expected], 3)


def test_each_group_has_its_scale_of_the_rate_in_every_step(recipe_of, loaded, around, monkeypatch):
    def halves(_, named):
        moving = [p for _, p in named if p.requires_grad]
        return [Group(moving[:3], 1.0), Group(moving[3:], 16.0)]

    monkeypatch.setattr(Full, "groups", halves)
    recipe = recipe_of(schedule="linear", warmup_steps=2, peak=1e-4)
    examples = encode_all(recipe.teacher, loaded.template, loaded.tokenizer, recipe.data).examples
    module, watch = Tuning(StudentLoss(loaded.model), recipe, steps=3), Watch()
    trained(module, PlannedData(examples, recipe, pad=1), around, [watch])
    for step, saved in enumerate(watch.states):
        rate = 1e-4 * recipe.lr.factor(step, 3)
        assert {g["lr"] for g in saved["param_groups"]} == {rate, 16 * rate}
        assert watch.rows[step]["lr"] == rate


def equal(one, two) -> bool:
    """Whether two trees of plain data and tensors are the same to the last bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == two.dtype and torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[k], two[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(equal, one, two))
    return one == two


def state_of(saved) -> dict:
    """A state dict but for the learning rate, which is set anew in each step."""
    groups = [{k: v for k, v in g.items() if k != "lr"} for g in saved["param_groups"]]
    return {"state": saved["state"], "param_groups": groups}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_that_is_left_out_moves_neither_weights_nor_optimiser(recipe_of, poisoned, name):
    recipe = replace(recipe_of(schedule="linear"), optim=build(OPTIMIZERS[name]))
    module, watch, _, failure = poisoned(recipe, [2])
    assert failure is None
    first, second, third = watch.weights
    assert all(map(torch.equal, first, second))
    assert not all(map(torch.equal, second, third))
    one, two, three = map(state_of, watch.states)
    assert equal(one, two)
    assert not equal(two, three)
    rows = watch.rows
    assert [row["loss"] is None for row in rows] == [False, True, False]
    assert [row["skipped"] for row in rows] == [0, 1, 1]
    assert [row["lr"] for row in rows] == [
        recipe.lr.peak * recipe.lr.factor(s, 3) for s in (0, 1, 2)
    ]
    assert module.skipped == [2]
    assert module.events[SKIPPED] == 1
    assert module.last_loss == rows[-1]["loss"]


def test_a_step_left_out_is_told_with_its_examples(recipe_of, poisoned, capsys):
    recipe = recipe_of(on_non_finite="skip")
    *_, ids, _ = poisoned(recipe, [3], float("nan"))
    said = capsys.readouterr().err
    assert "left out: the loss of optimiser step 3 is nan" in said
    assert all(f"'{name}'" in said for name in ids)


def test_the_last_finite_loss_is_the_final_one(recipe_of, poisoned):
    module, watch, *_ = poisoned(recipe_of(on_non_finite="skip"), [3])
    assert module.last_loss == watch.rows[1]["loss"] is not None


@pytest.mark.parametrize(
    ("epochs", "steps", "left_out", "in_a_row"),
    [(1, [1, 2, 3], 3, 3), (5, [1, 2, 3], MOST_IN_A_ROW, MOST_IN_A_ROW), (5, [1, 3], 11, 10)],
)
def test_a_training_of_which_too_much_is_left_out_stops(
    recipe_of, poisoned, epochs, steps, left_out, in_a_row
):
    recipe = recipe_of(on_non_finite="skip", epochs=epochs)
    module, _, _, said = poisoned(recipe, steps, share=slice(None))
    assert len(module.skipped) == left_out
    assert f"{left_out} steps were left out, the last {in_a_row} in a row" in said


def test_some_steps_may_be_left_out(recipe_of, poisoned):
    module, _, _, said = poisoned(recipe_of(on_non_finite="skip"), [1, 3], share=slice(None))
    assert said is None
    assert (module.skipped, module.done) == ([1, 3], 3)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_all_ranks_leave_out_the_same_step(recipe_of, poisoned, student, strategy):
    recipe = recipe_of(on_non_finite="skip", micro_tokens=64, eps=1.0, peak=3.0, clip_norm=None)
    alone, *_ = poisoned(recipe, [2])

    def work():
        module, *_, said = poisoned(recipe, [2], strategy=strategy)
        with gathered(module):
            return [p.detach().clone() for p in module.parameters()], module.skipped, said

    found = run_ranks(2, work)
    assert [rank[1:] for rank in found] == [([2], None)] * 2
    fresh = student.fresh().model.parameters()
    for start, one, two in zip(fresh, alone.parameters(), found[1][0], strict=True):
        assert not torch.equal(start, one)
        torch.testing.assert_close(two, one, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_all_ranks_stop_at_the_same_step_and_name_the_same_examples(recipe_of, poisoned, strategy):
    recipe = recipe_of(micro_tokens=64)
    found = run_ranks(2, lambda: poisoned(recipe, [2], share=slice(0, 2), strategy=strategy)[2:])
    for ids, said in found:
        assert "the loss of optimiser step 2 is nan nats per token" in said
        assert "It comes from 2 of the step's examples:" in said
        assert all(f"'{name}'" in said for name in ids)


def test_what_is_counted_of_a_training_stands_in_its_record(recipe_of, loaded, around, tmp_path):
    recipe = replace(recipe_of(), optim=build(OPTIMIZERS["8bit"]))
    events = fit(recipe, loaded, around, tmp_path)["events"]
    small = sum(p.numel() for p in loaded.model.parameters() if p.numel() < 1024)
    assert events["weights with moments of 32 bits (optim.min_8bit_size)"] == small > 0
    assert SKIPPED not in events
