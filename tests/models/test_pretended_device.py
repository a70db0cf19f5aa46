"""What a student computes on a GPU, pretended: the same as on the processor, nothing mixed."""

import pytest
import torch
from families import ALONE, SHARING, make
from pretend import MixedError, OnGPU, pretended
from pretend_kernels import KERNELS, VARLEN

from heed.core.types import Request
from heed.data.encode import Encoded
from heed.data.pack import Batch, flat_row
from heed.models.generate import generate
from heed.models.likelihood import StudentLoss, continuation_nats
from heed.models.precision import computing
from heed.models.sampling import Sampling, Ways
from heed.models.student import Loaded

ASKED = ["red green", "Name three colours of the sea", "a lamp", "blue blue blue red", "say why"]


def documents(lengths=(9, 3, 17, 1, 30, 8)) -> list[Encoded]:
    draw = torch.Generator().manual_seed(0)
    return [
        Encoded(str(i), torch.randint(3, 97, (n,), generator=draw).tolist(), [i % 3 < 2] * n)
        for i, n in enumerate(lengths)
    ]


def step(model, rows: list[Encoded], precision: str) -> tuple[float, torch.Tensor]:
    """Nats per token, and the gradient."""
    batch = Batch(*(x.to(model.device) for x in flat_row(rows, pad=0)))
    with computing(model, precision):
        nats, tokens = StudentLoss(model)(batch)
    (nats / tokens).backward()
    gradient = [p.grad.cpu().float().flatten() for p in model.parameters() if p.grad is not None]
    return float(nats.detach() / tokens), torch.cat(gradient)


def test_the_pretended_device_is_as_strict_as_a_real_one():
    with pretended():
        here, there = torch.ones(3), torch.ones(3, device="cuda")
        with pytest.raises(MixedError, match="on cuda:0 and on the processor"):
            here + there
        with pytest.raises(MixedError, match="generator"):
            there.uniform_(generator=torch.Generator())
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        assert torch.equal(there.cpu(), here)
    with pretended("mps"), pytest.raises(TypeError, match="float64"):
        torch.ones(3, device="mps").double()


@pytest.mark.parametrize("kind", ["cuda", "mps"])
@pytest.mark.parametrize("family", [*SHARING, *ALONE])
def test_the_loss_and_its_gradient_are_those_of_the_processor(family: str, kind: str):
    rows = documents() if family in SHARING else documents((17,))
    own = step(make(family), rows, "32-true")
    with pretended(kind):
        found = step(make(family).to(kind), rows, "32-true")
    assert found[0] == pytest.approx(own[0], rel=1e-5)
    torch.testing.assert_close(found[1], own[1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("family", SHARING)
def test_in_half_precision_the_kernel_for_documents_attends(
    family: str, precision: str, monkeypatch
):
    def student():
        return make(family).bfloat16() if precision == "bf16-true" else make(family)

    own = step(student(), documents(), precision)
    asked = []
    with pretended():
        kernel = KERNELS[VARLEN]
        monkeypatch.setitem(KERNELS, VARLEN, lambda *args: asked.append(args) or kernel(*args))
        found = step(student().cuda(), documents(), precision)
    assert len(asked) == (0 if "Gemma 2" in family else 2)  # whose scores are bounded
    assert found[0] == pytest.approx(own[0], rel=5e-3)
    assert (found[1] - own[1]).norm() < 0.06 * own[1].norm()


def test_heads_that_the_kernel_does_not_take_are_attended_without_it(monkeypatch):
    own = step(make("Llama", head_dim=12), documents(), "bf16-mixed")
    with pretended():
        monkeypatch.setitem(KERNELS, VARLEN, None)
        found = step(make("Llama", head_dim=12).cuda(), documents(), "bf16-mixed")
    assert (found[1] - own[1]).norm() < 0.06 * own[1].norm()


def test_grouped_heads_are_laid_out_where_no_kernel_takes_them(monkeypatch):
    asked, attend = [], torch.nn.functional.scaled_dot_product_attention

    def spy(q, k, v, **how):
        asked.append((q.shape[1], k.shape[1], how["enable_gqa"]))
        return attend(q, k, v, **how)

    with pretended():
        monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
        step(make("Llama").cuda(), documents(), "32-true")
    assert set(asked) == {(4, 4, False)}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_more_layers_do_not_make_the_processor_wait_more_often(precision: str):
    waits = []
    for layers in (2, 6):
        with pretended() as found:
            model = make("Llama", num_hidden_layers=layers).cuda()
            batch = Batch(*(x.cuda() for x in flat_row(documents(), pad=0)))
            found.clear()
            with computing(model, precision):
                nats, tokens = StudentLoss(model)(batch)
            (nats / tokens).backward()
            waits.append(dict(found))
    assert waits[0] == waits[1]
    assert sum(waits[0].values()) < 8


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_answers_and_likelihoods_are_those_of_the_processor(student, kind: str):
    def said(loaded: Loaded):
        drawn = Ways(sampling=Sampling(temperature=1.0, top_p=0.9, seed=1))
        how = {"max_new_tokens": 12, "batch_tokens": 500, "max_rows": 3}
        weighed = [Request(text, " green" * n) for n, text in enumerate(ASKED, 1)]
        return (
            sorted(generate(loaded, ASKED, **how)),
            sorted(generate(loaded, ASKED, **how, ways=drawn)),
            [one.nats for one in continuation_nats(loaded, weighed)],
        )

    own = said(student.fresh())
    with pretended(kind):
        loaded = student.fresh().to(kind)
        assert isinstance(next(loaded.model.parameters()), OnGPU)
        greedy, drawn, nats = said(loaded)
    assert greedy == own[0]
    assert drawn == own[1]
    assert nats == pytest.approx(own[2], rel=1e-5)
