from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from heed.models import attention, blocked
from heed.models.attention import Scores, one_by_one
from heed.models.blocked import BLOCK, attend_in_blocks
from heed.models.documents import Documents

LENGTHS = [1, 63, 64, BLOCK, BLOCK + 1, 3 * BLOCK - 5, 300]


def heads(count: int, tokens: int, size: int, seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(1, count, tokens, size, generator=draw)


def qkv(tokens: int, groups: tuple[int, int] = (4, 2)) -> list[Tensor]:
    sizes = [(groups[0], 16), (groups[1], 16), (groups[1], 24)]
    return [heads(n, tokens, size, s).requires_grad_() for s, (n, size) in enumerate(sizes)]


def exact(q: Tensor, k: Tensor, v: Tensor, scaling: float | None) -> Tensor:
    """Attention in float64, all of it at once."""
    copies = q.shape[1] // k.shape[1]
    q, k, v = q.double(), *(x.double().repeat_interleave(copies, dim=1) for x in (k, v))
    scores = q @ k.mT * (q.shape[-1] ** -0.5 if scaling is None else scaling)
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(later, -torch.inf).softmax(-1) @ v


def off(found: Tensor, wanted: Tensor) -> float:
    """Relative error of a whole tensor."""
    found, wanted = found.detach().double(), wanted.detach().double()
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("tokens", LENGTHS)
@pytest.mark.parametrize("groups", [(4, 2), (2, 2), (3, 1)])
@pytest.mark.parametrize("scaling", [None, 0.3])
@pytest.mark.parametrize("halves", [False, True])
def test_values_and_gradients_are_those_of_exact_attention(tokens, groups, scaling, halves):
    """Where halves are allowed, a processor with matrix units rounds the factors of a product."""
    most = 1e-2 if halves else 1e-6
    mine, theirs = qkv(tokens, groups), qkv(tokens, groups)
    found, wanted = attend_in_blocks(*mine, scaling, halves=halves), exact(*theirs, scaling)
    assert found.dtype == torch.float32
    assert off(found, wanted) < most
    weights = heads(groups[0], tokens, 24, 9)
    (found * weights).sum().backward()
    (wanted * weights).sum().backward()
    for one, other in zip(mine, theirs, strict=True):
        if other.grad.any():
            assert off(one.grad, other.grad) < most
        else:  # of one token: nothing to choose among
            assert not one.grad.any()


@pytest.mark.parametrize("how", ["checkpoint", "autocast"])
def test_gradients_do_not_hang_on_who_asks_for_them(how: str):
    weights, rows = heads(4, 300, 24, 9), [qkv(300) for _ in range(2)]
    (attend_in_blocks(*rows[0], None, halves=False) * weights).sum().backward()
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        ask = partial(attend_in_blocks, halves=False)
        again = partial(checkpoint, ask, use_reentrant=False) if how == "checkpoint" else ask
        (again(*rows[1], None) * weights).sum().backward()
    assert all(torch.equal(x.grad, y.grad) for x, y in zip(*rows, strict=True))


def test_what_needs_no_gradient_changes_none():
    rows, alone = qkv(300), [x.requires_grad_(i == 2) for i, x in enumerate(qkv(300))]
    for some in (rows, alone):
        attend_in_blocks(*some, None, halves=False).square().sum().backward()
    assert torch.equal(rows[2].grad, alone[2].grad)
    assert alone[0].grad is None
    with torch.inference_mode():
        assert torch.equal(
            attend_in_blocks(*rows, None, halves=False),
            attend_in_blocks(*alone, None, halves=False),
        )


def test_factors_in_half_precision_are_taken_as_they_are():
    rows = [x.detach().bfloat16() for x in qkv(200)]
    found = attend_in_blocks(*rows, 0.3, halves=False)
    assert off(found, exact(*rows, 0.3)) < 1e-6


@pytest.mark.parametrize("halves", [False, True])
def test_how_torch_multiplies_elsewhere_is_as_it_was(halves, monkeypatch):
    settings: Any = torch.backends.mkldnn.matmul
    before, inside, weights = settings.fp32_precision, [], blocked._weights

    def noted(*given: Tensor):
        inside.append(settings.fp32_precision)
        return weights(*given)

    monkeypatch.setattr(blocked, "_weights", noted)
    seen = attend_in_blocks(*qkv(300), None, halves=halves)
    assert settings.fp32_precision == before
    seen.sum().backward()
    assert settings.fp32_precision == before
    assert inside == ["bf16" if halves else before] * 2
    with pytest.raises(RuntimeError):
        attend_in_blocks(
            *(x[..., :5] for x in qkv(300)[:2]), heads(2, 7, 5, 0), None, halves=halves
        )
    assert settings.fp32_precision == before


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 300), st.data())
def test_no_token_sees_what_comes_after_it(tokens: int, data: st.DataObject):
    place = data.draw(st.integers(1, tokens - 1))
    rows = qkv(tokens)
    before = attend_in_blocks(*rows, None, halves=True)
    with torch.no_grad():
        for x in rows:
            x[:, :, place:] += 7.0
    after = attend_in_blocks(*rows, None, halves=True)
    assert torch.equal(before[:, :, :place], after[:, :, :place])
    assert not torch.equal(before[:, :, place:], after[:, :, place:])


def kept_for_the_gradient(tokens: int) -> int:
    sizes = []

    def note(x: Tensor) -> Tensor:
        sizes.append(x.numel())
        return x

    rows = qkv(tokens)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        attend_in_blocks(*rows, None, halves=True)
    return sum(sizes)


def test_what_is_kept_for_the_gradient_grows_with_the_tokens_alone():
    assert 0 < kept_for_the_gradient(8 * BLOCK) == 4 * kept_for_the_gradient(2 * BLOCK)


PLAIN = Scores(None, None, None, 0.0)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("tokens", "scores"),
    [
        (BLOCK, PLAIN),
        (BLOCK + 1, PLAIN),
        (BLOCK + 1, Scores(None, 5.0, None, 0.0)),
        (BLOCK + 1, Scores(None, None, 9, 0.0)),
        (BLOCK + 1, Scores(None, None, None, 0.1)),
    ],
)
def test_long_documents_are_attended_in_blocks(
    monkeypatch, tokens, scores, autocast, kind, threads
):
    called = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)

    def noted(*given, halves: bool):
        called.append((given[0].shape[2], halves))
        return attend_in_blocks(*given, halves=halves)

    monkeypatch.setattr(attention, "attend_in_blocks", noted)
    rows = [x[0].transpose(0, 1).detach().to(kind) for x in qkv(tokens + 30)]
    documents = Documents(torch.tensor([tokens, 30]))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = one_by_one(*rows, documents, scores)
    assert found.dtype == (torch.bfloat16 if autocast else kind)
    halves = found.dtype == torch.bfloat16
    whole = found.dtype != torch.float16
    taken = tokens > BLOCK and scores == PLAIN and whole and threads == 1
    assert called == [(tokens, halves)] * taken
    if scores == PLAIN:
        wanted = one_by_one(*(x.float() for x in rows), documents, scores)
        assert off(found, wanted) < (1e-6 if kind == torch.float32 and not autocast else 1e-2)
