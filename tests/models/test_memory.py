"""The estimated memory of a step is the measured one, and the ladder has the published sizes."""

import pytest
import torch
from allocator import most
from families import SHARING, make

from heed.methods.adapters import Full, LoRA
from heed.models import memory
from heed.models.architectures import Llama, Vocabulary
from heed.models.blocks import blocks_of, engaged
from heed.models.likelihood import StudentLoss
from heed.models.memory import (
    Estimate,
    Row,
    estimate,
    free_memory,
    hold_in_few_bits,
    is_out_of_memory,
    nbytes,
    stored_bytes,
    without_numbers,
)

LORA = LoRA(rank=4, alpha=8.0, dropout=0.0, layers="all-linear")
SHAPE = {"context": 256, "rope_theta": 1e4, "init_std": 0.02}
MODELS = {
    "deep": (Llama(hidden=96, layers=4, heads=4, kv_heads=2, ffn=256, tied=True, **SHAPE), 300),
    "wide": (Llama(hidden=192, layers=2, heads=6, kv_heads=6, ffn=512, tied=False, **SHAPE), 500),
    "words": (Llama(hidden=64, layers=2, heads=4, kv_heads=4, ffn=128, tied=False, **SHAPE), 20000),
}
TOKENS, LONGEST = 768, 128
WITHIN = 0.05
"""Share of the measured peak by which an estimate may be off here."""


def estimated(
    model: str, adapter, *, bf16: bool, again: bool = False, longest: int = LONGEST, device="cpu"
) -> Estimate:
    shape, words = MODELS[model]
    with torch.device("meta"):
        made = shape.build(Vocabulary(words))
        adapter.attach(made)
    choices = {"activation_checkpointing": again, "compile": False}
    with without_numbers(made), engaged(made, **choices):
        row, optimiser = Row(TOKENS, longest), lambda t: 2 * nbytes(t)
        return estimate(made, row, autocast=bf16, optimiser=optimiser, device=device)


class Real(Row):
    """The same row with numbers, as a training makes it."""

    def __init__(self, longest: int):
        super().__init__(TOKENS, longest)
        self.lengths = torch.full((TOKENS // longest,), longest)
        self.position_ids = torch.arange(longest).repeat(TOKENS // longest)
        self.where = torch.arange(TOKENS - 1)


def measured(
    model: str, adapter, *, bf16: bool, again: bool = False, longest: int = LONGEST
) -> int:
    """Most bytes that torch's allocator had given at a time, in a step beside weights and grads."""
    shape, words = MODELS[model]
    made = shape.build(Vocabulary(words))
    adapter.attach(made)
    made.train()
    for p in made.parameters():
        p.grad = torch.zeros_like(p) if p.requires_grad else None
    row, loss = Real(longest), StudentLoss(made)
    choices = {"activation_checkpointing": again, "compile": False}

    def run() -> None:
        with (
            engaged(made, **choices),
            torch.autocast("cpu", torch.bfloat16, enabled=bf16),
        ):
            loss(row)[0].backward()

    return most(run)


@pytest.mark.parametrize("again", [False, True], ids=["kept", "again"])
@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("adapter", [Full(), LORA], ids=["full", "lora"])
@pytest.mark.parametrize("model", MODELS)
def test_the_estimated_activations_are_the_measured_peak(model, adapter, bf16: bool, again: bool):
    found = estimated(model, adapter, bf16=bf16, again=again).activations
    assert found == pytest.approx(measured(model, adapter, bf16=bf16, again=again), rel=WITHIN)


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
def test_long_documents_take_what_a_processor_s_own_attention_keeps(bf16: bool):
    found = estimated("deep", LORA, bf16=bf16, longest=256).activations
    assert found == pytest.approx(measured("deep", LORA, bf16=bf16, longest=256), rel=WITHIN)
    assert estimated("deep", LORA, bf16=bf16, longest=256, device="cuda").activations != found


def test_weights_and_gradients_are_those_of_the_real_model():
    shape, words = MODELS["deep"]
    real = shape.build(Vocabulary(words))
    LORA.attach(real)
    moving = [p for p in real.parameters() if p.requires_grad]
    found = estimated("deep", LORA, bf16=False)
    assert (found.parameters, found.weights) == stored_bytes(real)
    assert found.gradients == sum(nbytes(p) for p in moving)
    assert found.trained == sum(p.numel() for p in moving)
    assert found.optimiser == 2 * found.gradients
    assert found.total == sum((found.weights, found.gradients, found.optimiser, found.activations))


def test_computing_blocks_again_needs_less():
    assert (
        estimated("deep", Full(), bf16=False, again=True).activations
        < estimated("deep", Full(), bf16=False).activations
    )


@pytest.mark.parametrize("form", ["NF4", "Int8"])
def test_stored_matrices_take_what_bitsandbytes_gives_them(form: str):
    from heed.methods.weights import NF4, Int8

    weights = {"NF4": NF4(double_quantise=True), "Int8": Int8()}[form]
    shape, words = MODELS["wide"]
    with torch.device("meta"):
        paper = shape.build(Vocabulary(words))
    hold_in_few_bits(paper, form)
    real = shape.build(Vocabulary(words))
    weights.store(real)
    held = 0
    for module in real.modules():
        if "Bit" in type(module).__name__:
            held += nbytes(module.weight)
            state = getattr(module.weight, "quant_state", None)
            if state is not None:
                held += nbytes(state.absmax) + nbytes(state.state2.absmax)
            else:
                held += nbytes(module.weight.SCB)
    rest = sum(nbytes(p) for name, p in real.named_parameters() if "proj" not in name) + sum(
        nbytes(b) for b in real.buffers()
    )
    assert stored_bytes(paper)[1] == pytest.approx(held + rest, rel=0.02)


@pytest.mark.parametrize(("size", "published"), [("1b", 1.039), ("2b", 1.921), ("3b", 3.123)])
def test_the_ladder_from_scratch_has_the_published_numbers_of_parameters(size, published):
    from pathlib import Path

    from heed.core.compose import compose_component

    conf = Path(__file__).resolve().parents[2] / "conf"
    texts = ["model.tokenizer.corpus.path=a", "model.pretraining.teacher.path=b"]
    student = compose_component(conf, "train", [f"model={size}_scratch", *texts]).model
    model = student.skeleton()
    assert model.config.vocab_size == 32005
    assert model.device.type == "meta"
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters / 1e9 == pytest.approx(published, abs=0.0005)


def test_a_skeleton_is_the_student_without_its_numbers(student, saved_base, template):
    from heed.models.student import Published

    real = {name: (p.shape, p.dtype) for name, p in student.fresh().model.named_parameters()}
    it = Published(
        name="p", path=str(saved_base), revision=None, dtype="float32", precision="32-true",
        trust_remote_code=False, template=template, new_tokens="refuse", pretraining=None,
    )  # fmt: skip
    for made in (student.skeleton(), it.skeleton()):
        assert {name: (p.shape, p.dtype) for name, p in made.named_parameters()} == real
        assert all(p.is_meta for p in made.parameters())


def test_every_family_names_its_blocks():
    for family in SHARING:
        assert len(blocks_of(make(family))) == 2, family


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            True,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_says_that_memory_is_used_up(error: Exception, full: bool):
    assert is_out_of_memory(error) is full


def test_a_real_allocation_that_fails_on_the_cpu_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_free_memory_is_what_the_system_and_the_container_give(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    2048 kB\n")
    assert memory._available(tmp_path / "meminfo") == 2048 * 1024
    assert memory._available(tmp_path / "none") is None
    assert memory._group_limit(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert memory._group_limit(tmp_path) == 600
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._group_limit(tmp_path) is None
    monkeypatch.setattr(memory, "_available", lambda file: 5)
    monkeypatch.setattr(memory, "_group_limit", lambda folder: 3)
    assert free_memory("cpu") == 3
    assert free_memory("mps") is None
