"""A damaged student is refused on one clear screen; nothing else is scored in its place."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from heed.core.errors import RunError
from heed.methods.adapters import Full, LoRA
from heed.models.student import Loaded, load
from heed.training.checkpoint import load_student, save_student

LORA = LoRA(rank=4, alpha=8.0, dropout=0.0, layers="attention")
WEIGHTS = {"lora": "adapter_model.safetensors", "full": "model.safetensors"}


@pytest.fixture
def saved(saved_base, template, tmp_path: Path) -> Callable[[str], tuple[Path, Loaded]]:
    """Train a student by a step of chance, and save it: (its directory, itself)."""

    def make(kind: str) -> tuple[Path, Loaded]:
        base = tmp_path / "base"
        shutil.copytree(saved_base, base)
        trained = load(str(base), name="t", template=template)
        adapter = LORA if kind == "lora" else Full()
        attached = adapter.attach(trained.model)
        with torch.no_grad():
            for p in trained.model.parameters():
                if p.requires_grad:
                    p.add_(0.05 * torch.randn_like(p))
        save_student(trained, attached, adapter, tmp_path / "model", card="")
        return tmp_path / "model", trained

    return make


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def garble(path: Path) -> None:
    path.write_bytes(b"\x00garbage" * 8)


def refused(model: Path, trained: Loaded) -> str:
    with pytest.raises(RunError) as caught:
        load_student(model, trained.loading)
    assert len(str(caught.value)) < 1500
    return str(caught.value)


@pytest.mark.parametrize("kind", ["lora", "full"])
@pytest.mark.parametrize("harm", [cut, garble, Path.unlink], ids=["cut", "garbled", "missing"])
def test_damaged_weights_are_refused(saved, kind: str, harm: Callable):
    model, trained = saved(kind)
    load_student(model, trained.loading)
    harm(model / WEIGHTS[kind])
    assert str(model) in refused(model, trained)


@pytest.mark.parametrize("kind", ["lora", "full"])
@pytest.mark.parametrize("name", ["config", "tokenizer.json"])
@pytest.mark.parametrize("harm", [cut, garble], ids=["cut", "garbled"])
def test_a_damaged_description_or_tokenizer_is_refused(saved, kind: str, name: str, harm):
    model, trained = saved(kind)
    configs = {"lora": "adapter_config.json", "full": "config.json"}
    file = configs[kind] if name == "config" else name
    own = name == "config" or kind == "full"
    harm((model if own else model.parent / "base") / file)  # an adapter has its base's tokenizer
    assert str(model.parent) in refused(model, trained)


WRONG = {
    "hidden_size": "wide", "num_attention_heads": 0, "vocab_size": -1, "hidden_act": "none",
    "rms_norm_eps": None, "head_dim": [1], "dtype": "float33", "rope_parameters": "x",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["lora", "full"])
@pytest.mark.parametrize(("key", "value"), WRONG.items(), ids=WRONG)
def test_settings_of_a_wrong_kind_are_refused(saved, kind: str, key: str, value):
    model, trained = saved(kind)
    file = (model if kind == "full" else model.parent / "base") / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    assert str(model.parent) in refused(model, trained)


def test_a_base_that_is_gone_is_named(saved):
    model, trained = saved("lora")
    shutil.rmtree(model.parent / "base")
    assert f"is an adapter of {model.parent / 'base'}, which is gone" in refused(model, trained)


def test_an_adapter_of_other_sizes_is_refused(saved):
    model, trained = saved("lora")
    file = model / WEIGHTS["lora"]
    save_file({name: w[:, :-1].contiguous() for name, w in load_file(file).items()}, file)
    assert "its adapter does not fit the base" in refused(model, trained)


def test_an_adapter_with_an_update_lost_is_refused(saved):
    model, trained = saved("lora")
    file = model / WEIGHTS["lora"]
    updates = load_file(file)
    updates.pop(sorted(updates)[0])
    save_file(updates, file)
    assert "1 updates stand in the file or in the base only" in refused(model, trained)


def test_an_adapter_for_more_layers_than_the_base_has_is_refused(saved):
    model, trained = saved("lora")
    file = model / WEIGHTS["lora"]
    updates = load_file(file)
    more = {n.replace("layers.1.", "layers.7."): w.clone() for n, w in updates.items()}
    save_file(updates | more, file)
    assert "layers.7." in refused(model, trained)


@pytest.mark.parametrize("lost", ["base_model_name_or_path", "revision"])
def test_an_adapter_that_does_not_name_its_base_is_refused(saved, lost: str):
    model, trained = saved("lora")
    file = model / "adapter_config.json"
    file.write_text(
        json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != lost})
    )
    assert "does not name a base" in refused(model, trained)
