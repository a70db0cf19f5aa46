"""Properties of adapters: they start as the base, move only what they may, and are saved whole."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from heed.core.errors import RunError
from heed.core.files import read_json
from heed.methods.adapters import Full, LoRA, attach_saved

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])


def lora(**changes) -> LoRA:
    return LoRA(**({"rank": 4, "alpha": 8.0, "dropout": 0.0, "layers": "all-linear"} | changes))


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits


def moving(model) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def train_a_little(model) -> None:
    """Move whatever may move by a step of its gradient."""
    model.train()(IDS, labels=IDS).loss.backward()
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    optimiser.step()


@pytest.mark.parametrize("layers", ["attention", "mlp", "all-linear"])
def test_a_fresh_lora_is_the_base(loaded, layers: str):
    before = logits(loaded.model)
    lora(layers=layers).attach(loaded.model)
    assert torch.equal(logits(loaded.model), before)


@pytest.mark.parametrize(
    ("layers", "names"),
    [("attention", ATTENTION), ("mlp", MLP), ("all-linear", ATTENTION + MLP)],
)
def test_lora_moves_its_updates_in_the_named_layers_only(loaded, layers: str, names: tuple):
    lora(layers=layers).attach(loaded.model)
    found = moving(loaded.model)
    assert all(".lora_A." in name or ".lora_B." in name for name in found)
    assert {name.split(".")[-4] for name in found} == set(names)
    assert len(found) == 2 * 2 * len(names)  # A and B in two blocks


def test_training_a_lora_leaves_the_base_weights_bit_for_bit(loaded):
    before = {name: p.clone() for name, p in loaded.model.named_parameters()}
    lora().attach(loaded.model)
    train_a_little(loaded.model)
    after = {name.replace(".base_layer", ""): p for name, p in loaded.model.named_parameters()}
    assert all(torch.equal(after[name], p) for name, p in before.items())


@pytest.mark.parametrize(("rank", "alpha"), [(1, 1.0), (4, 8.0), (8, 2.0)])
def test_a_lora_adds_alpha_over_rank_times_b_a(loaded, rank: int, alpha: float):
    lora(rank=rank, alpha=alpha, layers="attention").attach(loaded.model)
    train_a_little(loaded.model)
    layer = loaded.model.model.layers[0].self_attn.q_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert a.shape[0] == b.shape[1] == rank
    x = torch.randn(3, 32)
    expected = x @ (layer.base_layer.weight + alpha / rank * b @ a).T
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)


def test_full_moves_every_weight(loaded):
    loaded.model.requires_grad_(False)
    Full().attach(loaded.model)
    before = [p.clone() for p in loaded.model.parameters()]
    train_a_little(loaded.model)
    assert moving(loaded.model) == {name for name, _ in loaded.model.named_parameters()}
    assert not any(map(torch.equal, before, loaded.model.parameters()))


def test_a_saved_lora_merged_into_its_base_is_the_trained_student(loaded, student, tmp_path: Path):
    attached = lora().attach(loaded.model)
    base = logits(loaded.model)
    train_a_little(loaded.model)
    lora().save(attached, tmp_path, base="the/base", revision="abc")
    merged = attach_saved(student.fresh().model, tmp_path)
    assert not torch.allclose(logits(merged), base, atol=1e-3)
    torch.testing.assert_close(logits(merged), logits(loaded.model), atol=1e-5, rtol=1e-4)
    assert not any("lora" in name for name, _ in merged.named_parameters())


def test_a_saved_full_student_is_the_trained_one(loaded, tmp_path: Path):
    from transformers import AutoModelForCausalLM

    attached = Full().attach(loaded.model)
    train_a_little(loaded.model)
    Full().save(attached, tmp_path, base="the/base", revision="abc")
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert torch.equal(logits(again), logits(loaded.model))


def test_a_saved_lora_names_its_base_and_the_revision(loaded, tmp_path: Path):
    attached = lora().attach(loaded.model)
    train_a_little(loaded.model)
    lora().save(attached, tmp_path, base="the/base", revision="abc")
    config = read_json(tmp_path / "adapter_config.json")
    assert (config["base_model_name_or_path"], config["revision"]) == ("the/base", "abc")


def test_an_adapter_that_learned_nothing_is_not_saved_as_a_result(loaded, tmp_path: Path):
    attached = lora().attach(loaded.model)
    with pytest.raises(RunError, match=r"holds no update \(28 tensors\): .* equal its base"):
        lora().save(attached, tmp_path, base="the/base", revision="abc")


def test_full_can_teach_a_new_token_and_lora_cannot():
    assert Full().trains_embeddings
    assert not lora().trains_embeddings


NEW = [7, 270]
"""Ids of tokens that must be learned; 7 stands in IDS."""


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def either(request, student):
    """The tiny student with its head tied to the embedding, or with one of its own."""
    return replace(student, architecture=replace(student.architecture, tied=request.param))


def rows(model) -> list[torch.Tensor]:
    """Embedding and head as they work now, f32[V, D] each."""
    with torch.no_grad():
        both = model.get_input_embeddings(), model.get_output_embeddings()
        return [module.weight.clone() for module in both]


def test_a_lora_with_new_tokens_starts_as_the_base(either):
    model = either.fresh().model
    before = logits(model)
    lora().attach(model, NEW)
    after, others = logits(model), [i for i in range(before.shape[-1]) if i not in NEW]
    assert torch.equal(after[..., others], before[..., others])
    torch.testing.assert_close(after, before, atol=1e-6, rtol=1e-6)  # a product of its own


def test_a_step_moves_the_rows_of_the_new_tokens_and_no_others(either):
    model = either.fresh().model
    before = rows(model)
    lora().attach(model, NEW)
    train_a_little(model)
    others = torch.ones(len(before[0]), dtype=torch.bool)
    others[NEW] = False
    moved = zip(before, rows(model), strict=True)
    for part, (old, new) in zip(("embedding", "head"), moved, strict=True):
        assert torch.equal(new[others], old[others])
        seen = [7] if part == "embedding" and not model.config.tie_word_embeddings else NEW
        assert all(not torch.equal(new[i], old[i]) for i in seen)
    updates = {name for name in moving(model) if "lora_" not in name}
    assert all("trainable_tokens_delta" in name for name in updates)
    assert sum(model.get_parameter(name).numel() for name in updates) == 2 * 32 * (
        1 if model.config.tie_word_embeddings else 2
    )


def test_a_lora_with_new_tokens_is_saved_whole(either, tmp_path: Path):
    trained = either.fresh().model
    attached = lora().attach(trained, NEW)
    train_a_little(trained)
    lora().save(attached, tmp_path, base="the/base", revision=None)
    merged = attach_saved(either.fresh().model, tmp_path)
    torch.testing.assert_close(logits(merged), logits(trained), atol=1e-5, rtol=1e-4)
    for ours, theirs in zip(rows(merged), rows(trained), strict=True):
        assert torch.equal(ours, theirs)
    tied = merged.get_input_embeddings().weight is merged.get_output_embeddings().weight
    assert tied is merged.config.tie_word_embeddings
    assert not any("token_adapter" in name for name, _ in merged.named_parameters())


def test_rows_that_a_saved_adapter_lacks_are_noticed(loaded, student, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    attached = lora().attach(loaded.model, NEW)
    train_a_little(loaded.model)
    lora().save(attached, tmp_path, base="the/base", revision=None)
    file = tmp_path / "adapter_model.safetensors"
    kept = {name: t for name, t in load_file(file).items() if "trainable_tokens" not in name}
    save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(KeyError, match="trainable_tokens_delta"):  # told as damage by load_student
        attach_saved(student.fresh().model, tmp_path)


def test_peft_alone_loads_an_adapter_with_new_tokens(either, tmp_path: Path):
    import peft

    base, trained = tmp_path / "base", either.fresh()
    trained.model.save_pretrained(base)
    trained.tokenizer.save_pretrained(base)
    attached = lora().attach(trained.model, NEW)
    train_a_little(trained.model)
    lora().save(attached, tmp_path / "model", base=str(base), revision=None)
    again = peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    torch.testing.assert_close(logits(again), logits(trained.model), atol=1e-5, rtol=1e-4)


def test_a_head_with_a_bias_is_refused(student):
    model = replace(student, architecture=replace(student.architecture, tied=False)).fresh().model
    model.lm_head = torch.nn.Linear(32, 300, bias=True)
    with pytest.raises(RunError, match=r"2 tokens .* \(LlamaForCausalLM\) has a bias.*method=full"):
        lora().attach(model, NEW)
    lora().attach(model)
