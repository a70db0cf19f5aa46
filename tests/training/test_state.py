"""What a training is, there and back: every optimiser goes on to the last bit."""

import copy
import json
import random
from pathlib import Path

import bitsandbytes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from heed.training.pieces import _apart
from heed.training.state import (
    buffer_digests,
    frozen_digest,
    moving,
    optimizer_state,
    plain_name,
    random_state,
    set_moving,
    set_optimizer_state,
    set_random_state,
)

MAKE = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, betas=(0.9, 0.95)),
    "adamw fused": lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=1e-2),
    "adamw 8 bit": lambda p: bitsandbytes.optim.AdamW8bit(p, lr=1e-2, min_8bit_size=64),
    "adamw 32 bit of bitsandbytes": lambda p: bitsandbytes.optim.AdamW32bit(p, lr=1e-2),
}


class Model(torch.nn.Module):
    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.frozen = torch.nn.Linear(16, 16, dtype=dtype).requires_grad_(False)
        self.up, self.down = (torch.nn.Linear(16, 16, dtype=dtype) for _ in range(2))
        self.unused = torch.nn.Parameter(torch.zeros(3, dtype=dtype))
        self.register_buffer("still", torch.ones(4), persistent=False)
        self.register_buffer("counter", torch.zeros(4), persistent=False)

    def forward(self, x):
        self.counter += 1
        return self.down(torch.tanh(self.up(self.frozen(x)))).float().square().mean()


def made(kind: str, dtype=torch.float32):
    torch.manual_seed(3)
    model = Model(dtype)
    groups = [
        {"params": [model.up.weight, model.down.weight, model.unused], "weight_decay": 0.1},
        {"params": [model.up.bias, model.down.bias], "weight_decay": 0.0, "scale": 2.0},
    ]
    return model, MAKE[kind](groups)


def steps(model, optimizer, numbers) -> None:
    for number in numbers:
        torch.manual_seed(number)
        optimizer.zero_grad()
        model(torch.randn(5, 16, dtype=model.up.weight.dtype)).backward()
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 / (1 + number)
        optimizer.step()


def through_files(tensors, rest, folder: Path):
    save_file(_apart(tensors), folder / "t.safetensors")
    return load_file(folder / "t.safetensors"), json.loads(json.dumps(rest))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("kind", MAKE)
def test_an_optimiser_goes_on_to_the_last_bit(kind: str, dtype, tmp_path: Path):
    model, optimizer = made(kind, dtype)
    before = buffer_digests(model)
    steps(model, optimizer, range(4))
    tensors, rest = through_files(*optimizer_state(model, optimizer), tmp_path)
    weights = {name: tensor.clone() for name, tensor in moving(model, before).items()}
    steps(model, optimizer, range(4, 8))
    again, fresh = made(kind, dtype)
    set_moving(again, weights)
    set_optimizer_state(again, fresh, tensors, rest)
    steps(again, fresh, range(4, 8))
    wanted, found = moving(model, before), moving(again, before)
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    one, other = (optimizer_state(m, o) for m, o in ((model, optimizer), (again, fresh)))
    assert one[1] == other[1]
    assert {n: t.dtype for n, t in one[0].items()} == {n: t.dtype for n, t in other[0].items()}
    assert all(torch.equal(one[0][name], other[0][name]) for name in one[0])


def test_how_a_device_computes_its_step_is_not_taken_from_another(tmp_path: Path):
    model = torch.nn.Linear(3, 2)
    one, other = (torch.optim.AdamW(model.parameters(), fused=fused) for fused in (True, False))
    model(torch.ones(3)).sum().backward()
    one.step()
    set_optimizer_state(model, other, *optimizer_state(model, one))
    assert other.param_groups[0]["fused"] is False
    assert other.param_groups[0]["betas"] == one.param_groups[0]["betas"]


def test_moments_in_float32_are_not_cast_to_the_type_of_the_parameter(tmp_path: Path):
    """torch's own load_state_dict would."""
    model, optimizer = made("adamw", torch.bfloat16)
    steps(model, optimizer, range(2))
    for state in optimizer.state.values():
        state["exp_avg"] = state["exp_avg"].float() + 1e-6
    tensors, rest = through_files(*optimizer_state(model, optimizer), tmp_path)
    again, fresh = made("adamw", torch.bfloat16)
    set_optimizer_state(again, fresh, tensors, rest)
    found = fresh.state[again.up.weight]["exp_avg"]
    assert found.dtype == torch.float32
    assert torch.equal(found, optimizer.state[model.up.weight]["exp_avg"])


def test_only_what_trains_and_what_has_changed_is_kept():
    model, optimizer = made("adamw")
    before = buffer_digests(model)
    assert set(moving(model, before)) == {
        "up.weight", "up.bias", "down.weight", "down.bias", "unused"
    }  # fmt: skip
    steps(model, optimizer, range(1))
    assert set(moving(model, before)) - set(dict(model.named_parameters())) == {"counter"}


@pytest.mark.parametrize("change", [1e-6, -1.0])
def test_a_method_that_froze_other_weights_is_told_from_this_one(change: float):
    one, _ = made("adamw")
    other, _ = made("adamw")
    assert frozen_digest(one) == frozen_digest(other)
    torch.nn.init.zeros_(other.up.weight)
    assert frozen_digest(one) == frozen_digest(other), "what trains is no part of it"
    other.frozen.weight.data += change
    assert frozen_digest(one) != frozen_digest(other)


def test_names_are_those_of_the_model_however_it_is_wrapped():
    model, _ = made("adamw")
    saved = {name: t.clone() for name, t in moving(model, buffer_digests(model)).items()}
    wrapped = torch.nn.ModuleDict({"_orig_mod": copy.deepcopy(model)})
    torch.nn.init.zeros_(wrapped["_orig_mod"].up.weight)
    set_moving(wrapped, saved)
    assert torch.equal(wrapped["_orig_mod"].up.weight, model.up.weight)
    assert plain_name("a._checkpoint_wrapped_module._orig_mod.b") == "a.b"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("up.bias"), "only, such as up.bias"),
        (lambda t: t.update(new=torch.zeros(1)), "only, such as new"),
        (lambda t: t.update({"up.bias": torch.zeros(7)}), r"float32\[16\] here and float32\[7\]"),
        (lambda t: t.update({"up.bias": t["up.bias"].half()}), r"here and float16\[16\] there"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, said: str):
    model, _ = made("adamw")
    tensors = moving(model, buffer_digests(model))
    change(tensors)
    with pytest.raises(ValueError, match=said):
        set_moving(model, tensors)


def test_an_optimiser_of_other_parameters_is_refused():
    model, optimizer = made("adamw")
    steps(model, optimizer, range(1))
    tensors, rest = optimizer_state(model, optimizer)
    fewer = torch.optim.AdamW([model.up.weight])
    with pytest.raises(ValueError, match="moves other parameters or groups"):
        set_optimizer_state(model, fewer, tensors, rest)
    one_group = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    with pytest.raises(ValueError, match="moves other parameters or groups"):
        set_optimizer_state(model, one_group, tensors, rest)


def draw() -> list:
    return [
        random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(),
        torch.rand(3).tolist(), torch.randn(3).tolist(),
    ]  # fmt: skip


@given(st.integers(0, 2**32 - 1), st.integers(0, 700))
def test_random_numbers_go_on_where_they_stood(seed: int, drawn: int):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.rand(drawn)
    random.gauss(0, 1)
    np.random.randn()
    state = json.loads(json.dumps(random_state()))
    wanted = draw()
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    set_random_state(state)
    assert draw() == wanted


def test_tensors_that_share_memory_are_kept_one_by_one(tmp_path: Path):
    whole = torch.arange(12.0)
    given = {"whole": whole, "again": whole, "view": whole[3:6], "turned": whole.view(3, 4).T}
    save_file(_apart(given), tmp_path / "t.safetensors")
    found = load_file(tmp_path / "t.safetensors")
    assert all(torch.equal(found[name], given[name]) for name in given)
