"""A trainer's choices of memory and speed leave loss, gradient and names on disk as they are."""

import os
import shutil
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from heed.core.errors import RunError
from heed.core.files import read_jsonl
from heed.methods.adapters import Full, LoRA
from heed.methods.method import Method
from heed.methods.weights import Plain
from heed.models import blocks
from heed.models.blocks import engaged
from heed.models.likelihood import StudentLoss
from heed.training.fit import fit

LORA = LoRA(rank=4, alpha=8.0, dropout=0.0, layers="all-linear")
DROPPING = replace(LORA, dropout=0.3)


torchs_own_notes = pytest.mark.filterwarnings("ignore")
"""torch.compile hides some warnings by itself, which fails where all of them are errors."""


class Row:
    """Three documents in one row, or one alone."""

    def __init__(self, lengths=(5, 21, 9)):
        total = sum(lengths)
        self.input_ids = torch.arange(3, 3 + total) * 7 % 290
        self.position_ids = torch.cat([torch.arange(n) for n in lengths])
        self.lengths = torch.tensor(lengths)
        self.where = torch.arange(total - 1)
        self.targets = self.input_ids[1:]


def gradient(student, row=None, dropout=0.0, **choices) -> tuple[float, torch.Tensor]:
    """Loss and gradient of a row, the blocks run as asked."""
    loaded = student.fresh()
    for module in loaded.model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = dropout
    loaded.model.train()
    torch.manual_seed(3)
    asked = {"activation_checkpointing": False, "compile": False} | choices
    with engaged(loaded.model, **asked):
        nats, _ = StudentLoss(loaded.model)(row or Row())
        nats.backward()
    return nats.item(), torch.cat([p.grad.flatten() for p in loaded.model.parameters()])


def steps(tmp_path, name: str, student, recipe, around, **choices) -> tuple[list, list, dict]:
    """Losses and gradient norms of each step of a fit, and the tensors that it wrote."""
    settings = replace(around.trainer, **choices)
    directory = tmp_path / name
    fit(recipe, student.fresh(), replace(around, trainer=settings), directory)
    rows = list(read_jsonl(directory / "metrics.jsonl"))
    rows = [row for row in rows if "loss" in row]
    (file,) = (directory / "model").glob("*.safetensors")
    return [r["loss"] for r in rows], [r["grad_norm"] for r in rows], load_file(file)


def method(adapter) -> Method:
    return Method(name="m", weights=Plain(), adapter=adapter, noise=None)


def published(path, template):
    """What stands in a directory as a published student, so that an adapter has a base to name."""
    from heed.models.student import Published

    return Published(
        name="tiny", path=str(path), revision=None, dtype="float32", precision="32-true",
        trust_remote_code=False, template=template, new_tokens="refuse", pretraining=None,
    )  # fmt: skip


@pytest.fixture
def based(saved_base, template):
    """The tiny student as a published one."""
    return published(saved_base, template)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("lengths", [(5, 21, 9), (30,)], ids=["packed", "alone"])
def test_blocks_that_are_computed_again_give_the_same_gradient(student, lengths, dropout: float):
    plain = gradient(student, Row(lengths), dropout)
    again = gradient(student, Row(lengths), dropout, activation_checkpointing=True)
    assert again[0] == plain[0]
    torch.testing.assert_close(again[1], plain[1], rtol=0, atol=1e-6)
    other = gradient(student, Row(lengths), 0.2)
    assert not torch.allclose(other[1], plain[1])  # dropout does reach the blocks


def test_the_second_computation_attends_within_documents_too(student, monkeypatch):
    """Without the context that gives the attention back, it would see across documents."""
    plain = gradient(student)

    @contextmanager
    def forgets(*_):
        yield

    monkeypatch.setattr(blocks, "_attention", forgets)
    try:
        wrong = gradient(student, activation_checkpointing=True)[1]
    except torch.utils.checkpoint.CheckpointError:
        return  # torch has noticed by itself
    assert not torch.allclose(wrong, plain[1], atol=1e-4)


def kept(student, **choices) -> int:
    """Bytes that are kept between a row's loss and its gradient."""
    loaded, found = student.fresh(), {}
    loaded.model.train()

    def note(tensor):
        found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    asked = {"activation_checkpointing": False, "compile": False} | choices
    with (
        engaged(loaded.model, **asked),
        torch.autograd.graph.saved_tensors_hooks(note, lambda t: t),
    ):
        StudentLoss(loaded.model)(Row())
    return sum(found.values())


def test_blocks_that_are_computed_again_keep_their_inputs_only(student):
    assert kept(student, activation_checkpointing=True) < 0.7 * kept(student)


@pytest.mark.parametrize("adapter", [Full(), LORA, DROPPING], ids=["full", "lora", "dropout"])
def test_a_fit_with_blocks_computed_again_is_the_same_fit(
    tmp_path, based, recipe_of, around, adapter
):
    recipe = recipe_of(steps=3, epochs=None, method=method(adapter))
    plain = steps(tmp_path, "plain", based, recipe, around)
    again = steps(tmp_path, "again", based, recipe, around, activation_checkpointing=True)
    assert again[0] == pytest.approx(plain[0], rel=1e-6)
    assert again[1] == pytest.approx(plain[1], rel=1e-5)
    assert again[2].keys() == plain[2].keys()
    for name, tensor in plain[2].items():
        torch.testing.assert_close(again[2][name], tensor, rtol=1e-4, atol=1e-6)


@pytest.fixture
def compiler():
    """The compiler begins no processes of its own: they take longer than what they compile."""
    import torch._inductor.config

    with torch._inductor.config.patch(compile_threads=1):
        yield


@pytest.fixture
def one_block(student, template, tmp_path):
    """A student of one block, on disk: each of several is compiled anew, half a minute of it."""
    fresh = replace(student, architecture=replace(student.architecture, layers=1)).fresh()
    fresh.model.save_pretrained(tmp_path / "base")
    fresh.tokenizer.save_pretrained(tmp_path / "base")
    return published(tmp_path / "base", template)


@pytest.mark.slow
@torchs_own_notes
def test_a_compiled_fit_is_the_same_fit_and_has_the_same_names(
    tmp_path, one_block, recipe_of, around, compiler
):
    """Of one block; that several are told apart is the next test's."""
    recipe = recipe_of(steps=2, epochs=None, method=method(DROPPING))
    plain = steps(tmp_path, "plain", one_block, recipe, around)
    fast = steps(tmp_path, "fast", one_block, recipe, around, compile=True)
    assert fast[0] == pytest.approx(plain[0], rel=1e-5)
    assert fast[1] == pytest.approx(plain[1], rel=1e-4)
    assert fast[2].keys() == plain[2].keys()
    assert not any("_orig_mod" in name for name in fast[2])


@pytest.mark.slow
@torchs_own_notes
def test_compiled_blocks_give_the_same_gradient_whatever_the_row(student, compiler):
    for lengths in ((5, 21, 9), (7, 3), (30,)):
        plain = gradient(student, Row(lengths), 0.3)
        fast = gradient(student, Row(lengths), 0.3, compile=True, activation_checkpointing=True)
        assert fast[0] == pytest.approx(plain[0], rel=1e-5)
        torch.testing.assert_close(fast[1], plain[1], rtol=1e-4, atol=1e-5)


def test_compiled_is_what_runs_in_training_and_only_there(student, monkeypatch):
    ran = []

    def compiled(forward):
        def run(*args, **kwargs):
            ran.append(True)
            return forward(*args, **kwargs)

        return run

    monkeypatch.setattr(blocks, "compiled", compiled)
    assert gradient(student, compile=True)[0] == gradient(student)[0]
    assert len(ran) == student.architecture.layers
    loaded = student.fresh()
    ran.clear()
    with engaged(loaded.model, activation_checkpointing=False, compile=True):
        with loaded.evaluating():
            loaded.model(Row().input_ids[None])
        loaded.model.train()
        with torch.no_grad():
            loaded.model(Row().input_ids[None])
    assert not ran


@pytest.mark.parametrize("broken", [False, True])
def test_after_the_training_the_blocks_are_as_before(loaded, broken: bool):
    block = blocks.blocks_of(loaded.model)[0]
    names = sorted(loaded.model.state_dict())
    own = block.forward
    try:
        with engaged(loaded.model, activation_checkpointing=True, compile=True):
            assert block.forward is not own
            assert sorted(loaded.model.state_dict()) == names
            if broken:
                raise ZeroDivisionError
    except ZeroDivisionError:
        assert broken
    assert "forward" not in vars(block)
    assert block.forward == own


def test_a_model_without_known_blocks_is_refused_in_words():
    model = torch.nn.Linear(2, 2)
    with pytest.raises(
        RunError, match=r"Linear does not say .*trainer.activation_checkpointing=false"
    ):
        blocks.blocks_of(model)


@pytest.mark.parametrize("deterministic", [True, False])
def test_what_deterministic_products_need_is_set_before_the_first_one(
    around, monkeypatch, deterministic: bool
):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    settings = replace(around.trainer, accelerator="gpu", deterministic=deterministic)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    settings.need_device()
    assert (os.environ.get("CUBLAS_WORKSPACE_CONFIG") == ":4096:8") == deterministic
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    settings.need_device()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_steps_are_taken_where_everything_else_is(around, monkeypatch):
    """Lightning's own `auto` would take Apple's GPU, which nothing else of a run is on."""
    asked = []
    monkeypatch.setattr("lightning.Trainer", lambda **told: asked.append(told) or Connected())
    replace(around.trainer, accelerator="auto").build(precision="bf16-true", callbacks=[])
    assert [(told["accelerator"], told["precision"]) for told in asked] == [("cpu", "32-true")]


class Connected:
    """What is looked for in a Trainer."""

    _signal_connector = type("Connector", (), {})


def test_without_a_compiler_a_run_is_refused_before_it_starts(around, monkeypatch):
    settings = replace(around.trainer, compile=True)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RunError, match=r"needs a C\+\+ compiler.*apt-get install g\+\+"):
        settings.need_device()
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/" + name)
    settings.need_device()


def test_compiling_for_a_gpu_needs_triton(monkeypatch):
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: False)
    with pytest.raises(RunError, match="needs triton"):
        blocks.need_compiler("cuda")


def test_compiling_for_a_gpu_needs_a_c_compiler_for_triton(monkeypatch):
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: True)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RunError, match=r"needs a C compiler for triton.*apt-get install gcc"):
        blocks.need_compiler("cuda")
    monkeypatch.setenv("CC", "own-cc")
    monkeypatch.setattr(shutil, "which", lambda name: "/opt/own-cc" if name == "own-cc" else None)
    blocks.need_compiler("cuda")


def test_a_machine_that_has_slurm_is_told_nothing_of_it(around, tmp_path, monkeypatch):
    (tmp_path / "srun").write_text("")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    around.trainer.build(precision="32-true", callbacks=[])  # warnings are errors here
