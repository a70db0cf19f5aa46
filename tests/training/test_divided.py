"""What cannot be divided among ranks is refused before anything is loaded; what can be is not."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest

from heed.core.compose import compose_component, option_names
from heed.core.errors import ConfigError, Mistake
from heed.study.cell import Cell
from heed.training.divided import divided_mistakes

CONF = Path(__file__).resolve().parents[2] / "conf"
ON_CPU = ("trainer.accelerator=cpu", "trainer.devices=2")
FSDP, DDP = ("trainer=fsdp", *ON_CPU), ("trainer=ddp", *ON_CPU)
IN_BITS = {"qlora": "NF4", "int8_lora": "Int8"}
WHOLE_STEPS = {
    "adafactor": "Adafactor", "adamw_8bit": "AdamW8bit", "adamw_paged_8bit": "AdamW8bit",
}  # fmt: skip
NO_TOKENS = ("model.new_tokens=refuse",)
METHODS = [name for name in option_names(CONF, "method") if name not in IN_BITS]
OPTIMS = [name for name in option_names(CONF, "optim") if name not in WHOLE_STEPS]


def cell(*typed: str) -> Cell:
    return compose_component(CONF, "train", ["data_dir=/nowhere", *typed])


def refused(*typed: str) -> Sequence[Mistake]:
    with pytest.raises(ConfigError) as caught:
        cell(*typed)
    return caught.value.mistakes


@pytest.mark.parametrize(("method", "weights"), IN_BITS.items())
def test_weights_in_few_bits_are_not_divided(method: str, weights: str):
    (mistake,) = refused(*FSDP, f"method={method}")
    assert (mistake.where, mistake.found) == ("method.weights", weights)
    assert "lose their scales" in mistake.why
    assert "trainer.strategy=ddp" in mistake.action
    assert "method=lora" in mistake.action


@pytest.mark.parametrize(("optim", "kind"), WHOLE_STEPS.items())
def test_an_optimiser_that_takes_whole_matrices_gets_no_pieces(optim: str, kind: str):
    (mistake,) = refused(*FSDP, f"optim={optim}")
    assert (mistake.where, mistake.found) == ("optim", kind)
    assert "whole matrices" in mistake.why
    assert "optim=adamw" in mistake.action
    assert "trainer.strategy=ddp" in mistake.action


def test_the_training_of_a_base_is_divided_too():
    (mistake,) = refused(*FSDP, "optim@model.pretraining.optim=adafactor")
    assert (mistake.where, mistake.found) == ("model.pretraining.optim", "Adafactor")
    assert "Give optim@model.pretraining.optim=adamw." in mistake.action
    assert cell(*DDP, "optim@model.pretraining.optim=adafactor")


def test_all_that_is_wrong_is_told_at_once():
    found = refused(*FSDP, "method=qlora", "optim=adafactor")
    assert [mistake.where for mistake in found] == ["method.weights", "optim"]


@pytest.mark.parametrize(("method", "optim"), [*product(METHODS, OPTIMS)])
def test_whatever_else_there_is_is_divided(method: str, optim: str):
    made = cell(*FSDP, *NO_TOKENS, f"method={method}", f"optim={optim}")
    assert made.trainer.several
    assert divided_mistakes(made, made.trainer) == []


@pytest.mark.parametrize(("method", "optim"), [("qlora", "adamw_8bit"), ("int8_lora", "adafactor")])
@pytest.mark.parametrize("trainer", [DDP, ("trainer=fsdp", "trainer.devices=1"), ("trainer=gpu",)])
def test_what_is_not_divided_may_be_held_in_any_way(trainer, method: str, optim: str):
    made = cell(*trainer, f"method={method}", f"optim={optim}")
    assert divided_mistakes(made, made.trainer) == []


NAMED = {
    "cpu": ("cpu", 1, 1, "ddp"),
    "gpu": ("gpu", 1, 1, "ddp"),
    "mps": ("mps", 1, 1, "ddp"),
    "ddp": ("gpu", "all", 1, "ddp"),
    "fsdp": ("gpu", "all", 1, "fsdp"),
    "multinode": ("gpu", 8, 2, "ddp"),
}


@pytest.mark.parametrize("name", option_names(CONF, "trainer"))
def test_a_trainer_is_what_its_name_says(name: str):
    made = cell(f"trainer={name}").trainer
    assert (made.accelerator, made.devices, made.nodes, made.strategy) == NAMED[name]
    assert made.several == (name in ("ddp", "fsdp", "multinode"))
    assert not made.compile


@pytest.mark.parametrize(
    ("typed", "where", "action"),
    [
        ((*DDP, "trainer.accelerator=auto"), "trainer.accelerator", "Give gpu or cpu, or devic"),
        ((*DDP, "trainer.accelerator=mps"), "trainer.accelerator", "Give gpu or cpu, or devic"),
        (("trainer=mps", "trainer.devices=2"), "trainer.accelerator", "Give gpu or cpu, or dev"),
        (("trainer=mps", "trainer.nodes=2"), "trainer.accelerator", "Give gpu or cpu, or devi"),
        (("trainer=ddp", "trainer.accelerator=cpu"), "trainer.devices", "Give a number"),
        ((*FSDP, "trainer.compile=true"), "trainer.compile", "compile=false, or strategy=ddp"),
        (("trainer=fsdp", "trainer.compile=true"), "trainer.compile", "Give compile=false, or s"),
        ((*DDP, "+trainer.arguments.strategy=fsdp"), "trainer.arguments.strategy", "Leave it out"),
        ((*DDP, "+trainer.arguments.devices=3"), "trainer.arguments.devices", "Leave it out"),
        ((*DDP, "+trainer.arguments.num_nodes=3"), "trainer.arguments.num_nodes", "Leave it out"),
        ((*DDP, "+trainer.arguments.plugins=[]"), "trainer.arguments.plugins", "Leave it out"),
    ],
)
def test_devices_that_do_not_go_together_are_refused_with_what_to_type(typed, where, action):
    (mistake,) = refused(*typed)
    assert mistake.where == where
    assert action in mistake.action


def test_several_mistakes_of_a_trainer_are_told_at_once():
    found = refused("trainer=fsdp", "trainer.accelerator=auto", "trainer.compile=true")
    assert [mistake.where for mistake in found] == ["trainer.accelerator", "trainer.compile"]


@pytest.mark.parametrize("zero", ["trainer.devices=0", "trainer.nodes=0", "trainer.devices=some"])
def test_a_number_of_devices_is_one_or_more_or_all(zero: str):
    key, _, value = zero.partition("=")
    found = refused(zero)
    assert all(mistake.where.startswith(key) for mistake in found)
    assert {mistake.found.strip("'") for mistake in found} == {value}


@pytest.mark.parametrize(
    "typed",
    [
        ("trainer=cpu", "trainer.accelerator=auto"),
        ("trainer=fsdp", "trainer.devices=1", "trainer.compile=true"),
        (*DDP, "trainer.compile=true"),
        (*FSDP, "trainer.activation_checkpointing=true"),
        ("trainer=multinode", "trainer.strategy=fsdp"),
        ("trainer=cpu", "trainer.nodes=2"),
    ],
)
def test_devices_that_go_together_are_not_refused(typed: tuple[str, ...]):
    assert cell(*typed).trainer
