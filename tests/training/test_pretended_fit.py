"""A training on a GPU, pretended: that of the processor, its proofs made where it trains."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from power_cut import PowerCut, PowerCutError
from pretend import pretended
from pretend_kernels import KERNELS, VARLEN, VARLEN_BACKWARD

from heed.core.errors import RunError
from heed.core.files import read_jsonl
from heed.methods.adapters import Full, LoRA
from heed.methods.method import Method
from heed.methods.noise import NEFTune
from heed.methods.weights import Plain
from heed.models.student import load
from heed.training.callbacks import Metrics, ValidationLoss
from heed.training.checkpoints import Checkpoints
from heed.training.fit import fit
from heed.training.own_loss import looking_ahead
from heed.training.preflight import where_it_trains

FULL = Method(name="full", weights=Plain(), noise=None, adapter=Full())
LORA = replace(FULL, name="lora", adapter=LoRA(rank=4, alpha=8.0, dropout=0.0, layers="all-linear"))
GPU = {"cuda": "gpu", "mps": "mps", "cpu": "cpu"}


@pytest.fixture
def train(recipe_of, around, saved_base, template, tmp_path: Path):
    """Train on a kind of device in a directory; gives the student and the record."""

    def run(
        kind: str,
        method: Method,
        precision: str = "32-true",
        *,
        cut: int = 0,
        to: str = "",
        **trainer: Any,
    ):
        watch = {
            "metrics": Metrics(every_steps=1),
            "validation": ValidationLoss(every_steps=2),
            "checkpoints": Checkpoints(every_steps=1, every_minutes=None, keep=1),
            "cut": PowerCut(step=cut),
        }
        settings = replace(around.trainer, accelerator=GPU[kind], **trainer)
        recipe = recipe_of(method=method, epochs=2, precision=precision, validation_share=0.2)
        loaded = load(str(saved_base), name="tiny", template=template)
        place = replace(around, trainer=settings, callbacks=watch)
        return loaded, fit(recipe, loaded, place, tmp_path / (to or kind))

    return run


def weights(loaded) -> torch.Tensor:
    return torch.cat([p.detach().cpu().float().flatten() for p in loaded.model.parameters()])


@pytest.mark.parametrize("kind", ["cuda", "mps"])
@pytest.mark.parametrize("method", [FULL, LORA], ids=lambda method: method.name)
def test_in_float32_it_is_the_training_of_the_processor(train, method: Method, kind: str):
    own, told = train("cpu", method)
    with pretended(kind):
        found, said = train(kind, method)
    torch.testing.assert_close(weights(found), weights(own), atol=1e-6, rtol=0)
    assert said["validation"] == pytest.approx(told["validation"], rel=1e-6)
    last = "final_loss_nats_per_token"
    assert said[last] == pytest.approx(told[last], rel=1e-6)
    assert said["reload_difference"] < 1e-5


@pytest.mark.parametrize("method", [FULL, LORA], ids=lambda method: method.name)
def test_what_is_proved_is_proved_where_it_trains_and_as_it_trains(train, method: Method, capsys):
    with pretended():
        found, said = train("cuda", method, "bf16-mixed")
    told = capsys.readouterr().err
    assert "nats in float32 on cuda, neighbours" in told
    assert "in the training's precision: one token's differs by" in told
    assert "nats in bfloat16 on cuda, neighbours" in told
    assert "however the step is cut, in the training's precision: 1x8" in told
    assert found.model.device.type == "cpu"
    assert said["validation"]["loss_after"] < said["validation"]["loss_before"]


@pytest.mark.parametrize("kernel", ["forward", "backward"])
def test_a_kernel_that_is_wrong_there_ends_it_before_it_begins(train, monkeypatch, kernel: str):
    name = {"forward": VARLEN, "backward": VARLEN_BACKWARD}[kernel]
    right = KERNELS[name]

    def wrong(*args):
        made, *rest = right(*args)
        if kernel == "forward":
            return made.roll(1, dims=0), *rest
        return tuple(x.roll(1, dims=0) for x in (made, *rest))

    monkeypatch.setitem(KERNELS, name, wrong)
    said = "in the training's precision: student 'tiny'"
    with pytest.raises(RunError, match=said), pretended():
        train("cuda", FULL, "bf16-mixed")


def test_what_trains_is_attached_on_the_processor_wherever_it_trains(train, monkeypatch):
    """What is drawn and factored there (PiSSA, say) is the same on every device."""
    places, attach = [], Method.attach
    monkeypatch.setattr(
        Method,
        "attach",
        lambda self, model, *more: (places.append(model.device.type), attach(self, model, *more))[
            1
        ],
    )
    with pretended():
        train("cuda", LORA)
    assert places == ["cpu"]


def test_proofs_that_do_not_fit_there_are_made_on_the_processor_and_that_is_said(
    train, monkeypatch, capsys
):
    def full(loaded, *_, **__):
        if loaded.model.device.type == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return looking_ahead(loaded, *_, **__)

    monkeypatch.setattr("heed.training.preflight.looking_ahead", full)
    with pretended():
        _, said = train("cuda", FULL)
    told = capsys.readouterr().err
    assert "the proofs do not fit into the memory of cuda: made on the processor" in told
    assert "nats in float32 on cpu, neighbours" in told
    assert said["optimiser_steps"] == 6


def test_a_student_that_is_divided_is_proved_on_the_processor(around, loaded, monkeypatch):
    divided = replace(around.trainer, accelerator="gpu", devices=2, strategy="fsdp")
    places: list[str] = []
    monkeypatch.setattr("heed.training.preflight.world", lambda: 2)
    with pretended():
        for settings in (divided, replace(divided, strategy="ddp")):
            where_it_trains(loaded, settings, lambda: places.append(loaded.model.device.type))
    assert places == ["cpu", "cuda"]
    assert loaded.model.device.type == "cpu"


def test_noise_on_the_embeddings_is_drawn_there(train):
    with pretended():
        _, said = train("cuda", replace(FULL, noise=NEFTune(alpha=5.0)), "bf16-mixed")
    assert said["validation"]["loss_after"] < said["validation"]["loss_before"]


@pytest.mark.parametrize("first", ["cuda", "cpu"])
def test_a_training_goes_on_on_another_device(train, tmp_path: Path, first: str):
    own, _ = train("cpu", FULL)
    second = "cpu" if first == "cuda" else "cuda"
    with pretended():
        with pytest.raises(PowerCutError):
            train(first, FULL, cut=3, to="both")
        found, said = train(second, FULL, to="both")
    assert said["resumed"] == [2], "it was cut before that step's was written"
    assert [row["step"] for row in read_jsonl(tmp_path / "both" / "metrics.jsonl") if "lr" in row] \
        == [1, 2, 3, 4, 5, 6]  # fmt: skip
    torch.testing.assert_close(weights(found), weights(own), atol=1e-6, rtol=0)


@pytest.mark.parametrize("before", [False, True])
def test_kernels_that_a_training_insists_on_are_insisted_on_by_it_alone(train, before: bool):
    found = torch.are_deterministic_algorithms_enabled()
    try:
        torch.use_deterministic_algorithms(before)
        train("cpu", FULL, deterministic=True)
        assert torch.are_deterministic_algorithms_enabled() == before
    finally:
        torch.use_deterministic_algorithms(found)
