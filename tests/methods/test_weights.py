"""Weights in few bits: what is computed with them is the dequantised matrix, both ways."""

import copy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pretend import pretended

from heed.core.errors import RunError
from heed.core.files import read_json, write_json
from heed.data.dataset import Encoded
from heed.data.pack import flat_row
from heed.methods.adapters import LoRA, attach_saved
from heed.methods.stored import (
    EightBit,
    FourBit,
    dequantise,
    eight_bit,
    four_bit,
    settings,
    store,
    stored_layers,
)
from heed.methods.variants import DoRA, LoRAPlus, RsLoRA
from heed.methods.weights import NF4, Int8, Plain, original_sizes, weights_from
from heed.models.likelihood import StudentLoss

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))

from families import OLD, SHARING, make

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])
FORMS = {
    "nf4, twice": NF4(double_quantise=True),
    "nf4": NF4(double_quantise=False),
    "int8": Int8(),
}
FORM = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
SHAPE = {"rank": 4, "alpha": 8.0, "dropout": 0.0, "layers": "all-linear"}


@pytest.fixture(scope="session")
def student(student):
    """As wide as a block of 4-bit numbers: bitsandbytes misreads narrower rows on a CPU."""
    return replace(student, architecture=replace(student.architecture, hidden=64, ffn=128))


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits


def gradients(model) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model.train()(IDS, labels=IDS).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@FORM
def test_every_matrix_but_embedding_and_head_is_stored(loaded, form):
    before = {name: p.clone() for name, p in loaded.model.named_parameters()}
    assert form.store(loaded.model) == 14
    stored = {f"{name}.weight" for name, _ in stored_layers(loaded.model)}
    assert len(stored) == 14
    for name, p in loaded.model.named_parameters():
        if name not in stored:
            assert torch.equal(p, before[name])
    for name, layer in stored_layers(loaded.model):
        assert not layer.weight.requires_grad
        assert layer.weight.dtype in (torch.uint8, torch.int8)
        error = (layer.dequantised() - before[f"{name}.weight"]).abs().max()
        most = before[f"{name}.weight"].abs().max()
        assert 0 < error < (0.02 if isinstance(form, Int8) else 0.2) * most


def test_plain_weights_are_left(loaded):
    before = logits(loaded.model)
    assert Plain().store(loaded.model) == 0
    assert torch.equal(logits(loaded.model), before)
    assert settings(loaded.model) is None


@FORM
def test_storing_draws_no_random_numbers_and_gives_the_same_twice(student, form):
    made = []
    for _ in range(2):
        model, state = student.fresh().model, torch.random.get_rng_state()
        form.store(model)
        assert torch.equal(torch.random.get_rng_state(), state)
        made.append(logits(model))
    assert torch.equal(*made)


@FORM
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16], ids=str)
def test_dequantised_it_is_the_same_student_to_the_last_bit(student, form, kind):
    model = student.fresh().model.to(kind)
    form.store(model)
    want = logits(model)
    dequantise(model)
    assert not stored_layers(model)
    assert {p.dtype for p in model.parameters()} == {kind}
    assert torch.equal(logits(model), want)


@FORM
@pytest.mark.parametrize("variant", [LoRA, DoRA, RsLoRA], ids=lambda v: v.__name__)
@pytest.mark.parametrize("tokens", [(), (7, 270)], ids=["no new tokens", "new tokens"])
def test_gradients_are_those_of_the_dequantised_student(student, form, variant, tokens):
    found = []
    for plain in (False, True):
        model = student.fresh().model
        form.store(model)
        if plain:
            dequantise(model)
        torch.manual_seed(0)
        variant(**SHAPE).attach(model, tokens)
        torch.manual_seed(1)
        with torch.no_grad():
            for name, p in model.named_parameters():
                if "lora_B" in name:
                    p.normal_(std=0.1)
        found.append(gradients(model))
    ours, plain = found
    assert ours.keys() == plain.keys()
    assert any("lora_B" in name for name in ours)
    assert any("trainable_tokens" in name for name in ours) is bool(tokens)
    for name, gradient in plain.items():
        torch.testing.assert_close(ours[name], gradient, atol=1e-6, rtol=1e-4)


@FORM
def test_gradients_under_autocast_are_those_of_the_dequantised_student(student, form):
    found = []
    for plain in (False, True):
        model = student.fresh().model
        form.store(model)
        if plain:
            dequantise(model)
        torch.manual_seed(0)
        LoRA(**SHAPE).attach(model)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found.append(gradients(model))
    for name, gradient in found[1].items():
        torch.testing.assert_close(found[0][name], gradient, atol=1e-4, rtol=2e-2)


@FORM
def test_no_document_changes_another_s_tokens(loaded, form):
    """LLM.int8() rounds the activations of a row together; here nothing may."""
    form.store(loaded.model)
    LoRA(**SHAPE).attach(loaded.model)
    loaded.model.eval()
    one, two = ([5, 6, 7, 8, 9], [300 - i for i in range(1, 12)])

    def row(*documents: list[int]):
        return flat_row(
            [Encoded("x", ids, [False] + [True] * (len(ids) - 1)) for ids in documents], pad=0
        )

    with torch.no_grad():
        loss = StudentLoss(loaded.model)
        beside = [loss.token_nats(row(one, other))[:4] for other in (two, two[::-1])]
        alone = loss.token_nats(row(one))
    assert torch.equal(*beside)
    torch.testing.assert_close(beside[0], alone, atol=1e-5, rtol=1e-5)


@FORM
@pytest.mark.parametrize("variant", [LoRA, DoRA, RsLoRA, LoRAPlus], ids=lambda v: v.__name__)
@pytest.mark.parametrize("tokens", [(), (7, 270)], ids=["no new tokens", "new tokens"])
def test_a_saved_adapter_brings_its_base_s_rounding_back(student, form, variant, tokens, tmp_path):
    more = {"b_lr_ratio": 4.0} if variant is LoRAPlus else {}
    adapter, model = variant(**SHAPE, **more), student.fresh().model
    form.store(model)
    attached = adapter.attach(model, tokens)
    gradients(model)
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0).step()
    adapter.save(attached, tmp_path, base="the/base", revision=None)
    assert weights_from(read_json(tmp_path / "base_quantization.json")) == form
    again = attach_saved(student.fresh().model, tmp_path)
    torch.testing.assert_close(logits(again), logits(model), atol=1e-5, rtol=1e-4)
    (tmp_path / "base_quantization.json").unlink()
    other = attach_saved(student.fresh().model, tmp_path)
    assert not torch.allclose(logits(other), logits(model), atol=1e-4)


@FORM
def test_matrices_that_stand_the_other_way_round_are_stored_too(form, monkeypatch, tmp_path: Path):
    monkeypatch.setitem(SHARING, "GPT-2", ("GPT2", OLD | {"n_embd": 64}))
    model, plain = make("GPT-2"), make("GPT-2")
    names = [name for name, _ in model.named_parameters()]
    assert form.store(model) == 8
    adapter = LoRA(**SHAPE)
    attached = adapter.attach(model)
    gradients(model)
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1).step()
    adapter.save(attached, tmp_path, base="the/base", revision=None)
    again = attach_saved(plain, tmp_path)
    torch.testing.assert_close(logits(again), logits(model), atol=1e-4, rtol=1e-3)
    assert [name for name, _ in again.named_parameters()] == names
    shapes = {name: p.shape for name, p in make("GPT-2").named_parameters()}
    assert {name: p.shape for name, p in again.named_parameters()} == shapes


def test_four_bits_take_less_than_a_sixth_of_the_room():
    matrix = torch.nn.Linear(256, 256, bias=False)
    holder = torch.nn.Module()
    holder.inner, holder.get_output_embeddings = matrix, lambda: None
    NF4(double_quantise=True).store(holder)
    state = holder.state_dict()
    assert sum(t.numel() * t.element_size() for t in state.values()) < 256 * 256 * 4 / 6


@FORM
def test_sizes_are_those_before(loaded, form):
    before = sum(p.numel() for p in loaded.model.parameters())
    form.store(loaded.model)
    assert sum(original_sizes(loaded.model.parameters())) == before


@FORM
def test_a_copy_and_a_move_keep_what_is_stored(loaded, form):
    form.store(loaded.model)
    want = logits(loaded.model)
    twin = copy.deepcopy(loaded.model).to("cpu")
    assert torch.equal(logits(twin), want)
    kinds = {type(layer) for _, layer in stored_layers(twin)}
    assert kinds == {EightBit if isinstance(form, Int8) else FourBit}


def test_scales_that_torch_left_behind_are_brought_once(loaded):
    Int8().store(loaded.model)
    layer = next(layer for _, layer in stored_layers(loaded.model))
    want = layer.dequantised()
    with pretended():
        layer.weight.SCB = layer.weight.SCB.to("cuda")  # as if the matrix had been moved alone
        assert torch.equal(layer.dequantised(), want)
        assert layer.weight.SCB.device.type == "cpu"


@pytest.mark.parametrize(
    "said", [{}, {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"}], ids=["nothing", "fp4"]
)
def test_a_form_that_is_not_known_is_not_guessed(loaded, said, tmp_path: Path):
    write_json(tmp_path / "base_quantization.json", said)
    with pytest.raises(RunError, match="stored in a form that heed does not know"):
        attach_saved(loaded.model, tmp_path)


def test_a_layer_of_a_kind_of_its_own_is_left(loaded):
    class Own(torch.nn.Linear):
        pass

    loaded.model.model.layers[0].mlp.up_proj = Own(64, 128, bias=False)
    assert store(loaded.model, eight_bit) == 13


@pytest.mark.parametrize("inside", [32, 96, 688])
@pytest.mark.parametrize("twice", [True, False])
def test_a_matrix_that_the_library_misreads_is_refused_with_its_name(loaded, inside, twice):
    """On a CPU bitsandbytes 0.50 takes other blocks' scales where rows are no whole blocks."""
    loaded.model.model.layers[1].mlp.up_proj = torch.nn.Linear(inside, 64, bias=False)
    with pytest.raises(RunError, match=rf"layers.1.mlp.up_proj \(64 x {inside}\) with the scales"):
        NF4(double_quantise=twice).store(loaded.model)


@pytest.mark.parametrize("shape", [(3, 64), (16, 128), (256, 192)])
def test_what_is_read_back_is_the_nearest_number_of_the_code(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    layer = four_bit(matrix, None, double_quantise=False)
    code, blocks = layer.weight.quant_state.code, matrix.reshape(-1, 64)
    largest = blocks.abs().amax(1, keepdim=True)
    nearest = code[(blocks / largest)[..., None].sub(code).abs().argmin(-1)] * largest
    torch.testing.assert_close(layer.dequantised(), nearest.reshape(shape))


def test_eight_bits_are_whole_numbers_to_127_of_each_row_s_largest():
    matrix = torch.randn(16, 48, generator=torch.Generator().manual_seed(0)).half().float()
    scale = matrix.abs().amax(1, keepdim=True) / 127
    got = eight_bit(matrix, None).dequantised()
    torch.testing.assert_close(got / scale, (got / scale).round(), atol=1e-3, rtol=0)
    assert float(((got - matrix) / scale).abs().max()) < 0.501
