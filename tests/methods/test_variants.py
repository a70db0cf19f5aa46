"""What each kind of low-rank update is, beside LoRA; `test_every_method.py` trains them."""

import math
from pathlib import Path

import pytest
import torch

from heed.core.errors import RunError
from heed.core.files import read_json
from heed.methods.adapters import LoRA, attach_saved
from heed.methods.variants import DoRA, LoRAPlus, PiSSA, RsLoRA
from heed.training.optim import AdamW, LearningRate

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])
SHAPE = {"rank": 4, "alpha": 8.0, "dropout": 0.0, "layers": "all-linear"}
VARIANTS = {
    "rslora": RsLoRA(**SHAPE),
    "dora": DoRA(**SHAPE),
    "lora_plus": LoRAPlus(**SHAPE, b_lr_ratio=16.0),
    "pissa": PiSSA(**SHAPE, iterations=None),
    "pissa, fast": PiSSA(**SHAPE, iterations=16),
}
NEW = [7, 270]


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits


def train_a_little(model) -> None:
    model.train()(IDS, labels=IDS).loss.backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5).step()


EVERY = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)


@EVERY
@pytest.mark.parametrize("tokens", [(), NEW], ids=["no new tokens", "new tokens"])
def test_it_starts_as_the_base(loaded, variant, tokens):
    before = logits(loaded.model)
    variant.attach(loaded.model, tokens)
    torch.testing.assert_close(logits(loaded.model), before, atol=2e-5, rtol=1e-4)


@EVERY
@pytest.mark.parametrize("tokens", [(), NEW], ids=["no new tokens", "new tokens"])
def test_saved_and_merged_into_the_base_as_it_was_it_is_the_trained_student(
    loaded, student, variant, tokens, tmp_path: Path
):
    attached = variant.attach(loaded.model, tokens)
    start = logits(loaded.model)
    train_a_little(loaded.model)
    variant.save(attached, tmp_path, base="the/base", revision="abc")
    merged = attach_saved(student.fresh().model, tmp_path)
    assert not torch.allclose(logits(merged), start, atol=1e-3)
    torch.testing.assert_close(logits(merged), logits(loaded.model), atol=2e-5, rtol=1e-4)
    said = read_json(tmp_path / "adapter_config.json")
    assert (said["base_model_name_or_path"], said["revision"]) == ("the/base", "abc")


@EVERY
def test_one_that_learned_nothing_is_not_saved_as_a_result(loaded, variant, tmp_path: Path):
    attached = variant.attach(loaded.model)
    with pytest.raises(RunError, match="holds no update"):
        variant.save(attached, tmp_path, base="the/base", revision=None)


@pytest.mark.parametrize("rank", [1, 4, 9])
def test_rslora_is_scaled_by_alpha_over_root_rank(loaded, rank):
    RsLoRA(**SHAPE | {"rank": rank}).attach(loaded.model)
    train_a_little(loaded.model)
    layer = loaded.model.model.layers[0].self_attn.q_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    x = torch.randn(3, 32)
    want = x @ (layer.base_layer.weight + 8.0 / math.sqrt(rank) * b @ a).T
    torch.testing.assert_close(layer(x), want, atol=1e-5, rtol=1e-5)


def test_dora_is_a_length_times_a_direction_for_each_output(loaded):
    DoRA(**SHAPE).attach(loaded.model)
    train_a_little(loaded.model)
    layer = loaded.model.model.layers[0].self_attn.q_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    length = layer.lora_magnitude_vector["default"].weight
    assert length.shape == (32,)
    moved = layer.base_layer.weight + 2.0 * b @ a
    x = torch.randn(3, 32)
    want = x @ (length[:, None] * moved / moved.norm(dim=1, keepdim=True)).T
    torch.testing.assert_close(layer.eval()(x), want, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("iterations", [None, 16])
def test_pissa_starts_as_the_largest_singular_directions(loaded, iterations):
    layer = loaded.model.model.layers[0].mlp.up_proj
    u, s, v = torch.linalg.svd(layer.weight.detach())
    want = u[:, :4] @ s[:4].diag() @ v[:4]
    PiSSA(**SHAPE, iterations=iterations).attach(loaded.model)
    layer = loaded.model.model.layers[0].mlp.up_proj
    made = 2.0 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    if iterations is None:
        torch.testing.assert_close(made, want, atol=1e-5, rtol=1e-3)
    explained = float(
        made.detach().norm() / want.norm()
    )  # a flat spectrum: the fast way finds nearly all
    assert 0.98 < explained <= 1.001


def test_pissa_is_saved_as_an_update_of_twice_the_rank_that_starts_as_nothing(loaded, tmp_path):
    adapter = PiSSA(**SHAPE, iterations=16)
    attached = adapter.attach(loaded.model)
    train_a_little(loaded.model)
    adapter.save(attached, tmp_path, base="the/base", revision=None)
    said = read_json(tmp_path / "adapter_config.json")
    assert (said["r"], said["lora_alpha"], said["init_lora_weights"]) == (8, 16.0, True)


def test_the_fast_pissa_is_the_same_for_the_same_seed(student):
    made = []
    for seed in (1, 1, 2):
        model = student.fresh().model
        torch.manual_seed(seed)
        PiSSA(**SHAPE, iterations=1).attach(model)
        made.append(model.model.layers[1].mlp.up_proj.lora_A["default"].weight.clone())
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_a_rank_that_a_matrix_lacks_is_refused(loaded):
    with pytest.raises(RunError, match=r"rank=17: .*k_proj is 16 x 32 .*only 16 .*Lower the rank"):
        PiSSA(**SHAPE | {"rank": 17}, iterations=None).attach(loaded.model)
    PiSSA(**SHAPE | {"rank": 16}, iterations=None).attach(loaded.model)


@pytest.mark.parametrize("ratio", [1.0, 16.0])
def test_lora_plus_gives_b_its_own_rate_and_every_tensor_one_group(loaded, ratio):
    adapter = LoRAPlus(**SHAPE, b_lr_ratio=ratio)
    adapter.attach(loaded.model, NEW)
    named = list(loaded.model.named_parameters())
    slow, fast = adapter.groups(named)
    assert (slow.lr_scale, fast.lr_scale) == (1.0, ratio)
    by_name = {id(p): name for name, p in named}
    names = [{by_name[id(p)] for p in group.parameters} for group in (slow, fast)]
    assert all("lora_B" in name for name in names[1])
    assert all("lora_A" in name or "trainable_tokens" in name for name in names[0])
    assert names[0] | names[1] == {name for name, p in named if p.requires_grad}
    assert len(slow.parameters) + len(fast.parameters) == len(names[0] | names[1])


def test_lora_plus_is_the_rule_of_peft(loaded):
    from peft.optimizers import create_loraplus_optimizer

    adapter = LoRAPlus(**SHAPE, b_lr_ratio=16.0)
    attached = adapter.attach(loaded.model)
    theirs = create_loraplus_optimizer(attached, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=16.0)
    want = {id(p): g["lr"] for g in theirs.param_groups for p in g["params"]}
    groups = adapter.groups(attached.named_parameters())
    assert {id(p): 1e-3 * g.lr_scale for g in groups for p in g.parameters} == pytest.approx(want)


def test_a_step_of_lora_plus_moves_b_by_its_rate(loaded):
    adapter = LoRAPlus(**SHAPE, b_lr_ratio=16.0)
    adapter.attach(loaded.model)
    groups = adapter.groups(loaded.model.named_parameters())
    lr = LearningRate(name="x", peak=1e-3, schedule="constant", warmup_steps=0, final=0.0)
    optim = AdamW(beta1=0.9, beta2=0.99, eps=1e-12, weight_decay=0.0, clip_norm=None,
                  on_non_finite="stop")  # fmt: skip
    made = optim.build(groups, lr)
    assert {g["scale"] for g in made.param_groups} == {1.0, 16.0}


def test_a_plain_lora_has_one_rate(loaded):
    adapter = LoRA(**SHAPE)
    adapter.attach(loaded.model, NEW)
    (group,) = adapter.groups(loaded.model.named_parameters())
    assert group.lr_scale == 1.0
    assert len(group.parameters) == sum(p.requires_grad for p in loaded.model.parameters())


def test_updates_beside_weights_in_16_bits_are_held_in_32_and_counted(loaded):
    model = loaded.model.to(torch.bfloat16)
    adapter = LoRA(**SHAPE)
    adapter.attach(model)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert adapter.events(model) == {
        "trained tensors held in torch.float32, not torch.bfloat16": 28
    }


def test_nothing_is_counted_where_nothing_is_cast(loaded):
    adapter = LoRA(**SHAPE)
    adapter.attach(loaded.model)
    assert adapter.events(loaded.model) == {}
