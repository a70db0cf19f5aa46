"""What a recipe's step is said to need follows its choices, for every method and optimiser."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from heed.core.compose import compose_component, option_names
from heed.methods.adapters import Group
from heed.training.footprint import footprint, kept_bytes, lighter, row_size

CONF = Path(__file__).resolve().parents[2] / "conf"


def need(student, recipe, around, **choices):
    return footprint(student, recipe, replace(around.trainer, **choices))


@pytest.mark.parametrize("name", option_names(CONF, "method"))
def test_every_method_has_an_estimate(name: str, student, recipe_of, around):
    wide = {"hidden": 512, "heads": 8, "kv_heads": 4, "ffn": 1024}
    larger = replace(student, architecture=replace(student.architecture, **wide))
    method = compose_component(CONF, "train", ["model.new_tokens=refuse", f"method={name}"]).method
    found = need(larger, recipe_of(method=method), around)
    whole = need(larger, recipe_of(), around)
    if name == "full":
        assert found == whole
        return
    assert 0 < found.trained < whole.trained
    assert found.gradients + found.optimiser < whole.gradients + whole.optimiser
    assert (found.weights < 0.5 * whole.weights) is method.weights.fixed


@pytest.mark.parametrize("name", option_names(CONF, "optim"))
def test_what_an_optimiser_keeps_is_what_it_has_after_a_step(name: str):
    cell = compose_component(CONF, "train", [f"optim={name}"])
    p = torch.nn.Parameter(torch.randn(96, 160))
    made = cell.optim.build([Group([p], 1.0)], cell.lr)
    p.grad = torch.randn_like(p)
    made.step()
    kept = sum(
        t.numel() * t.element_size()
        for key, t in made.state[p].items()
        if isinstance(t, torch.Tensor) and t.numel() > 1 and "qmap" not in key
    )
    assert kept_bytes(cell.optim, p) == pytest.approx(kept, rel=0.02)


def test_small_tensors_of_an_8_bit_optimiser_are_kept_in_32_bits():
    optim = compose_component(CONF, "train", ["optim=adamw_8bit"]).optim
    assert kept_bytes(optim, torch.zeros(10)) == 80


def test_less_is_less(student, recipe_of, around):
    recipe = recipe_of(micro_tokens=4096)
    plain = need(student, recipe, around)
    smaller = need(student, recipe_of(micro_tokens=128), around)
    assert smaller.activations < plain.activations
    assert need(student, recipe, around, activation_checkpointing=True).total < plain.total
    halved = need(student, replace(recipe, precision="bf16-true"), around)
    assert halved.weights < 0.6 * plain.weights
    assert halved.gradients == plain.gradients / 2


def test_compile_is_not_waited_for(student, recipe_of, around):
    plain = need(student, recipe_of(), around)
    assert need(student, recipe_of(), around, compile=True) == plain


def test_the_global_generator_is_left_alone(student, recipe_of, around):
    method = compose_component(CONF, "train", ["method=lora"]).method
    before = torch.random.get_rng_state()
    need(student, recipe_of(method=method), around)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("changes", "alone", "expected"),
    [
        ({"micro_tokens": 4096}, False, (64, 512)),  # 8 examples a step are all there is
        ({"micro_tokens": 256}, False, (64, 256)),
        ({"micro_tokens": 4096, "packing": "none"}, False, (64, 64)),
        ({"micro_tokens": 4096}, True, (64, 64)),
    ],
)
def test_the_longest_row(recipe_of, changes, alone: bool, expected):
    recipe = recipe_of(max_tokens=64, examples_per_step=8, **changes)
    assert row_size(recipe, alone=alone) == expected


def test_the_advice_needs_less_each_time(student, recipe_of, around):
    recipe = recipe_of(micro_tokens=2048)
    whole = footprint(student, recipe, around.trainer).total
    typed = {}
    for what, other, trainer in lighter(recipe, around.trainer):
        typed[what.partition("=")[0]] = footprint(student, other, trainer).total
    assert {"trainer.activation_checkpointing", "precision", "method"} <= typed.keys()
    assert typed["trainer.activation_checkpointing"] < whole
    assert typed["method"] < whole


def test_what_is_chosen_already_is_not_advised(recipe_of, around):
    method = compose_component(CONF, "train", ["method=qlora"]).method
    recipe = recipe_of(method=method, precision="bf16-mixed", packing="none")
    trainer = replace(around.trainer, activation_checkpointing=True)
    assert not list(lighter(recipe, trainer))
