"""Properties of the chunked loss: value and gradient are autograd's; no pass holds all logits."""

import pytest
import torch
from families import make
from torch.utils._python_dispatch import TorchDispatchMode

from heed.data.encode import Encoded
from heed.data.pack import flat_row
from heed.models import chunked, likelihood
from heed.models.chunked import SummedNats, nats_and_gradient
from heed.models.likelihood import StudentLoss
from heed.models.student import Loaded


def row_of(tokens: int, most: int, seed: int = 0) -> Encoded:
    ids = torch.randint(2, most, (tokens,), generator=torch.Generator().manual_seed(seed))
    return Encoded("a", ids.tolist(), [n % 3 != 1 for n in range(tokens)])


def gradients(model, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("at_once", [1, 97 * 5, 10**9])
@pytest.mark.parametrize("family", ["Llama", "Gemma 2", "Granite", "Cohere"])
def test_value_and_gradient_are_those_of_autograd_over_all_logits(family, at_once, monkeypatch):
    model = make(family)
    row = row_of(23, 97)
    logs = model(torch.tensor([row.ids])).logits[0].float().log_softmax(-1)
    places = [n for n in range(1, 23) if row.mask[n]]
    whole = -sum(logs[n - 1, row.ids[n]] for n in places)
    expected = gradients(model, 0.37 * whole)
    monkeypatch.setattr(likelihood, "LOGITS_AT_ONCE", at_once)
    nats, tokens = StudentLoss(model)(flat_row([row], pad=0))
    found = gradients(model, 0.37 * nats)
    assert tokens == len(places)
    torch.testing.assert_close(nats, whole, rtol=1e-5, atol=1e-5)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("at_once", [900, 10**9])
def test_the_gradient_of_two_micro_batches_adds_up_under_autocast(student, monkeypatch, at_once):
    loaded = student.fresh()
    batches = [flat_row([row_of(40, 300, seed)], pad=1) for seed in (1, 2)]
    loss = StudentLoss(loaded.model)
    exact = gradients(loaded.model, sum(loss.token_nats(batch).sum() for batch in batches))
    monkeypatch.setattr(likelihood, "LOGITS_AT_ONCE", at_once)
    loaded.model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        for batch in batches:
            loss(batch)[0].backward()
    for name, parameter in loaded.model.named_parameters():
        near = torch.cosine_similarity(parameter.grad.flatten(), exact[name].flatten(), dim=0)
        assert near > 0.999
        assert parameter.grad.norm().item() == pytest.approx(exact[name].norm().item(), rel=0.02)


def test_a_frozen_head_gets_no_gradient_and_the_body_gets_its_own(loaded: Loaded):
    loaded.model.requires_grad_(False)
    moving = loaded.model.model.layers[0].mlp.down_proj.weight.requires_grad_()
    batch = flat_row([row_of(30, 300)], pad=1)
    loss = StudentLoss(loaded.model)
    expected = gradients(loaded.model, loss.token_nats(batch).sum())
    found = gradients(loaded.model, loss(batch)[0])
    assert list(found) == list(expected)
    assert loaded.model.lm_head.weight.grad is None
    torch.testing.assert_close(moving.grad, next(iter(expected.values())), rtol=1e-4, atol=1e-5)


def test_a_model_of_which_nothing_moves_has_a_loss_without_a_graph(loaded: Loaded):
    loaded.model.requires_grad_(False)
    nats, _ = StudentLoss(loaded.model)(flat_row([row_of(30, 300)], pad=1))
    assert nats.isfinite()
    assert not nats.requires_grad


def test_the_gradient_is_given_once():
    rows, weight = torch.randn(4, 3, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    nats = SummedNats.apply(lambda x: x @ weight.T, torch.tensor([0, 4, 2, 1]), 3, rows, weight)
    nats.backward(retain_graph=True)
    with pytest.raises(AssertionError, match="only once"):
        nats.backward()


class Largest(TorchDispatchMode):
    """Notes the most numbers of any tensor that is made inside."""

    most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.most = max(self.most, tensor.numel())
        return made


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_no_tensor_of_forward_or_backward_holds_more_logits_than_allowed(precision, monkeypatch):
    from transformers import LlamaConfig, LlamaForCausalLM

    words, width = 32_000, 8
    shape = {"hidden_size": width, "intermediate_size": 16, "num_hidden_layers": 1,
             "num_attention_heads": 2, "tie_word_embeddings": True}  # fmt: skip
    model = LlamaForCausalLM(LlamaConfig(vocab_size=words, **shape))
    batch = flat_row([row_of(200, words)], pad=0)
    monkeypatch.setattr(likelihood, "LOGITS_AT_ONCE", 3 * words)

    def largest(loss_of) -> int:
        with (
            Largest() as seen,
            torch.autocast("cpu", precision, enabled=precision != torch.float32),
        ):
            loss_of(batch).backward()
        return seen.most

    loss = StudentLoss(model)
    assert largest(lambda batch: loss(batch)[0]) == width * words  # the head itself
    assert largest(lambda batch: loss.token_nats(batch).sum()) == width * words
    monkeypatch.setattr(likelihood, "LOGITS_AT_ONCE", 10**9)
    assert largest(lambda batch: loss(batch)[0]) >= batch.where.numel() * words  # it can be seen


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("in_cache", [1, 33, 10**6])
def test_the_gradient_of_the_logits_is_that_of_autograd(kind, in_cache, monkeypatch):
    monkeypatch.setattr(chunked, "IN_CACHE", in_cache)
    draw = torch.Generator().manual_seed(0)
    made = (4 * torch.randn(7, 11, generator=draw)).to(kind).requires_grad_()
    targets = torch.tensor([3, 0, 10, 3, 7])
    expected = torch.nn.functional.cross_entropy(made.float()[:5], targets, reduction="none")
    expected.sum().backward()
    nats, given = nats_and_gradient(made.detach(), targets)
    torch.testing.assert_close(nats, expected)
    torch.testing.assert_close(given, made.grad)
    assert not given[5:].any()


def test_rows_that_fill_up_a_chunk_count_for_nothing():
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(70, 8, generator=draw).requires_grad_()
    weight = torch.randn(5, 8, generator=draw).requires_grad_()
    targets = torch.randint(0, 5, (70,), generator=draw)
    sizes = []

    def logits(some: torch.Tensor) -> torch.Tensor:
        sizes.append(len(some))
        return some @ weight.T + 1

    with torch.autocast("cpu", torch.bfloat16):
        nats = SummedNats.apply(logits, targets, 100, rows, weight)
    nats.backward()
    assert sizes == [100]  # 128, but no more than may go together
    own, heads = (x.detach().requires_grad_() for x in (rows, weight))
    exact = torch.nn.functional.cross_entropy(own @ heads.T + 1, targets, reduction="sum")
    exact.backward()
    torch.testing.assert_close(nats, exact, rtol=1e-2, atol=0)
    assert (rows.grad - own.grad).norm() < 0.02 * own.grad.norm()
    assert (weight.grad - heads.grad).norm() < 0.02 * heads.grad.norm()
