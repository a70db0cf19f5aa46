"""Layers by meaning: every family's own names, by its structure."""

import sys
from pathlib import Path

import pytest
import torch

from heed.core.errors import RunError
from heed.methods.adapters import LoRA
from heed.methods.targets import blocks_of, is_linear, resolve, suffixes

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))

from families import ALONE, SHAPE, SHARING, make

LLAMA = ("q_proj k_proj v_proj o_proj", "gate_proj up_proj down_proj")
NEOX = ("query_key_value dense", "dense_h_to_4h dense_4h_to_h")
NAMES = {  # attention, MLP
    **dict.fromkeys(("Llama", "Qwen2", "Mistral, window 5", "Gemma 2", "Gemma 3"), LLAMA),
    **dict.fromkeys(("Granite", "Cohere", "Qwen2, tied", "StableLM"), LLAMA),
    **dict.fromkeys(("GPT-NeoX", "BLOOM", "Falcon"), NEOX),
    "GPT-2": ("c_attn c_proj", "c_fc c_proj"),
    "GPT-J": ("q_proj k_proj v_proj out_proj", "fc_in fc_out"),
    "OPT": ("q_proj k_proj v_proj out_proj", "fc1 fc2"),
    "Phi": ("q_proj k_proj v_proj dense", "fc1 fc2"),
    "Phi-3": ("qkv_proj o_proj", "gate_up_proj down_proj"),
    "ModernBERT decoder": ("q_proj k_proj v_proj Wo", "Wi Wo"),
    "Nemotron": (LLAMA[0], "up_proj down_proj"),
}


@pytest.fixture(autouse=True)
def more_families(monkeypatch):
    """Families that only stand here."""
    monkeypatch.setitem(SHARING, "Phi", ("Phi", SHAPE))
    monkeypatch.setitem(SHARING, "Phi-3", ("Phi3", SHAPE))
    monkeypatch.setitem(ALONE, "Falcon", ("Falcon", SHAPE))
    monkeypatch.setitem(ALONE, "Mixtral", ("Mixtral", SHAPE | {"num_local_experts": 2}))


@pytest.mark.parametrize("family", NAMES)
def test_a_family_s_layers_are_told_apart(family: str):
    model = make(family)
    attention, mlp = (resolve(model, kind) for kind in ("attention", "mlp"))
    for found, names in zip((attention, mlp), NAMES[family], strict=True):
        assert len(found) == len(set(found)) == 2 * len(names.split())  # in two blocks
        assert {name.split(".")[-1] for name in found} == set(names.split())
    assert not set(attention) & set(mlp)
    assert set(resolve(model, "all-linear")) == {*attention, *mlp}
    assert all(is_linear(model.get_submodule(name)) for name in (*attention, *mlp))


@pytest.mark.parametrize("family", NAMES)
@pytest.mark.parametrize("layers", ["attention", "mlp", "all-linear"])
def test_peft_places_updates_in_these_layers_and_no_others(family: str, layers):
    model = make(family)
    names = resolve(model, layers)
    LoRA(rank=2, alpha=2.0, dropout=0.0, layers=layers).attach(model)
    found = {n.rsplit(".lora_A", 1)[0] for n, _ in model.named_parameters() if ".lora_A." in n}
    assert found == set(names)


def test_short_names_are_used_where_they_mean_the_same():
    model = make("GPT-2")
    everything = [name for name, _ in model.named_modules()]
    assert suffixes(resolve(model, "all-linear"), everything) == ["c_attn", "c_fc", "c_proj"]
    assert suffixes(resolve(model, "mlp"), everything) == ["mlp.c_fc", "mlp.c_proj"]


def test_a_name_of_its_own_is_used_where_no_ending_is():
    assert suffixes(["a.0.out"], ["a.0.out", "b.0.out", "a.1.out"]) == ["a.0.out"]


@pytest.mark.parametrize("family", ["Mixtral", "PhiMoE, window 5"])
@pytest.mark.parametrize("layers", ["mlp", "all-linear"])
def test_experts_are_no_linear_layers_and_are_told_of(family: str, layers):
    with pytest.raises(RunError, match=r"has a mixture of experts \(\w+Moe\w+\).*layers=attention"):
        resolve(make(family), layers)


@pytest.mark.parametrize("family", ["Mixtral", "PhiMoE, window 5"])
def test_attention_beside_experts_is_found(family: str):
    found = resolve(make(family), "attention")
    assert {name.split(".")[-1] for name in found} == set(LLAMA[0].split())


def test_a_block_without_such_layers_is_refused_with_what_was_found():
    with pytest.raises(RunError, match=r"block 0 of Lfm2.*conv.in_proj \(other\), .*w1 \(mlp\)"):
        resolve(make("LFM2"), "attention")


def test_a_model_without_blocks_is_refused_with_its_parts(loaded):
    loaded.model.model.layers = torch.nn.Sequential(*loaded.model.model.layers)
    with pytest.raises(RunError, match=r"has no list of 2 blocks.*model, lm_head"):
        blocks_of(loaded.model)
