"""Properties of attention within documents: no token sees a neighbour; the model is restored."""

from inspect import Signature, signature

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import varlen as torch_varlen

from heed.core.errors import RunError
from heed.models.attention import (
    Scores,
    attend,
    by_groups,
    document_attention,
    kernel_is_known,
    one_by_one,
    varlen,
    varlen_applies,
    visible,
)
from heed.models.documents import Documents

LENGTHS = st.lists(st.integers(1, 33), min_size=1, max_size=9)
HEADS = st.sampled_from([(1, 1), (4, 4), (4, 2), (6, 1)])
WINDOWS = st.sampled_from([None, 1, 2, 5, 16, 33, 99])


def heads(count: int, tokens: int, seed: int) -> torch.Tensor:
    return torch.randn(1, count, tokens, 8, generator=torch.Generator().manual_seed(seed))


def qkv(count: tuple[int, int], tokens: int) -> list[torch.Tensor]:
    return [heads(n, tokens, i) for i, n in enumerate((count[0], count[1], count[1]))]


def naive(query, key, value, lengths: list[int], scores: Scores) -> torch.Tensor:
    """Softmax attention, query by query, over the keys that its document's rules let it see."""
    copies = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(copies, dim=1) for x in (key, value))
    products = (query @ key.mT) * (8**-0.5 if scores.scaling is None else scores.scaling)
    if scores.softcap is not None:
        products = scores.softcap * (products / scores.softcap).tanh()
    seen = torch.zeros(sum(lengths), sum(lengths), dtype=torch.bool)
    start = 0
    for n in lengths:
        for place in range(n):
            first = 0 if scores.window is None else max(0, place - scores.window + 1)
            seen[start + place, start + first : start + place + 1] = True
        start += n
    return (products.masked_fill(~seen, -torch.inf).softmax(-1) @ value).transpose(1, 2)


@given(LENGTHS, HEADS, st.sampled_from([None, 0.7]), WINDOWS, st.sampled_from([None, 0.5]))
def test_attention_is_that_of_each_document_by_itself(lengths, count, scaling, window, softcap):
    q, k, v = qkv(count, sum(lengths))
    documents = Documents(torch.tensor(lengths))
    special = {"scaling": scaling, "sliding_window": window, "softcap": softcap}
    found, _ = attend(None, q, k, v, None, documents=documents, **special)
    scores = Scores(scaling, softcap, window, 0.0)
    wanted = naive(q, k, v, lengths, scores)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    rows = [x[0].transpose(0, 1) for x in (q, k, v)]
    grouped = by_groups(*rows, documents, scores)
    torch.testing.assert_close(grouped[None], wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("compute", [by_groups, one_by_one])
@pytest.mark.parametrize("softcap", [None, 0.5])
@pytest.mark.parametrize("window", [None, 4])
def test_its_gradient_is_that_of_each_document_by_itself(window, softcap, compute):
    lengths, scores = [3, 9, 1, 12], Scores(0.4, softcap, window, 0.0)
    mine, theirs = (
        [x.requires_grad_() for x in qkv((4, 2), sum(lengths))] for _ in ("mine", "theirs")
    )
    rows = [x[0].transpose(0, 1) for x in mine]
    found = compute(*rows, Documents(torch.tensor(lengths)), scores)
    weights = heads(4, sum(lengths), 9)[0].transpose(0, 1)
    (found * weights).sum().backward()
    (naive(*theirs, lengths, scores)[0] * weights).sum().backward()
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("compute", [by_groups, one_by_one])
@pytest.mark.parametrize("softcap", [None, 0.5])
def test_dropout_drops_and_keeps_the_mean(softcap, compute):
    q, k, v = qkv((2, 2), 6)
    v = torch.ones_like(v)
    rows = [x[0].transpose(0, 1) for x in (q, k, v)]
    documents = Documents(torch.tensor([6] * 1))
    torch.manual_seed(0)
    draws = [compute(*rows, documents, Scores(None, softcap, None, 0.5)) for _ in range(400)]
    assert torch.stack(draws).std(0).min() > 0.1
    torch.testing.assert_close(torch.stack(draws).mean(0), torch.ones(6, 2, 8), atol=0.25, rtol=0)


@given(st.integers(1, 9), st.integers(1, 12))
def test_a_window_counts_the_token_itself(tokens: int, window: int):
    seen = visible(tokens, window, torch.device("cpu")).sum(1).tolist()
    assert seen == [min(place + 1, window) for place in range(tokens)]


def test_a_mask_beside_packed_documents_is_refused():
    q = heads(2, 3, 0)
    with pytest.raises(RunError, match=r"a mask beside .* see each other.*data\.packing=none"):
        attend(None, q, q, q, torch.ones(1, 1, 3, 3), documents=Documents(torch.tensor([3])))


def test_attention_that_is_not_told_where_documents_end_is_refused():
    q = heads(2, 3, 0)
    with pytest.raises(RunError, match=r"is not told where .*data\.packing=none"):
        attend(None, q, q, q, None)


class Both(torch.nn.Module):
    """A layer that sees to both sides."""

    is_causal = False


@pytest.mark.parametrize(
    ("module", "other", "told"),
    [
        (None, {"s_aux": torch.zeros(2)}, r"s_aux.*data\.packing=none"),
        (None, {"position_bias": torch.zeros(3, 3)}, r"position_bias.*data\.packing=none"),
        (None, {"is_causal": False}, r"not causal.*Choose another model"),
        (Both(), {}, r"not causal.*Choose another model"),
    ],
)
def test_attention_of_a_kind_that_is_not_computed_is_refused(module, other, told):
    q, documents = heads(2, 3, 0), Documents(torch.tensor([3]))
    with pytest.raises(RunError, match=told):
        attend(module, q, q, q, None, documents=documents, **other)


def by_its_words(q, k, v, edges, same_edges, longest, _, *, scale, window_size, enable_gqa):
    """The contract of torch's kernel, sequence by sequence, as its documentation words it."""
    assert torch.equal(edges, same_edges)
    assert edges.dtype == torch.int32
    assert longest == edges.diff().max()
    assert enable_gqa == (q.shape[1] != k.shape[1])
    left, right = window_size
    assert right == 0
    seen = None if left < 0 else left + 1  # tokens to the left of the query, and the query
    rows = (x.transpose(0, 1)[None] for x in (q, k, v))
    return naive(*rows, edges.diff().tolist(), Scores(scale, None, seen, 0.0))[0]


@given(LENGTHS, HEADS, WINDOWS)
def test_the_kernel_for_documents_is_asked_for_the_same_attention(lengths, count, window):
    rows = [x[0].transpose(0, 1) for x in qkv(count, sum(lengths))]
    documents, scores = Documents(torch.tensor(lengths)), Scores(0.7, None, window, 0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_varlen, "varlen_attn", by_its_words)
        found = varlen(*rows, documents, scores)
    torch.testing.assert_close(found, by_groups(*rows, documents, scores), atol=1e-5, rtol=1e-5)


def test_a_kernel_that_is_not_told_of_grouped_heads_takes_them_as_they_are(monkeypatch):
    """That of torch 2.11."""

    def older(q, k, v, e, f, m, n, *, scale, window_size):
        same = {"scale": scale, "window_size": window_size}
        return by_its_words(q, k, v, e, f, m, n, **same, enable_gqa=q.shape[1] != k.shape[1])

    rows = [x[0].transpose(0, 1) for x in qkv((4, 2), 12)]
    documents, scores = Documents(torch.tensor([5, 7])), Scores(None, None, None, 0.0)
    monkeypatch.setattr(torch_varlen, "varlen_attn", older)
    found = varlen(*rows, documents, scores)
    torch.testing.assert_close(found, by_groups(*rows, documents, scores), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("without", "known"), [(None, True), ("enable_gqa", True), ("window_size", False)]
)
def test_a_kernel_that_takes_other_arguments_is_not_asked(monkeypatch, without, known: bool):
    taken = [
        p for p in signature(torch_varlen.varlen_attn).parameters.values() if p.name != without
    ]
    other = type("Kernel", (), {"__signature__": Signature(taken), "__call__": None})()
    monkeypatch.setattr(torch_varlen, "varlen_attn", other)
    assert kernel_is_known.__wrapped__() is known


@pytest.mark.cuda
@pytest.mark.parametrize("window", [None, 7])
def test_the_kernel_for_documents_agrees_with_the_groups_on_cuda(window):
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    lengths, scores = [130, 3, 1, 64, 300], Scores(None, None, window, 0.0)
    documents = Documents(torch.tensor(lengths, device="cuda"))
    found = []
    for compute in (varlen, by_groups):
        rows = [x[0].transpose(0, 1).bfloat16().cuda() for x in qkv((4, 2), sum(lengths))]
        rows = [x.detach().requires_grad_() for x in rows]
        assert varlen_applies(rows[0], rows[2], scores)
        out = compute(*rows, documents, scores)
        out.float().square().sum().backward()
        found.append([out, *(x.grad for x in rows)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=3e-2, rtol=3e-2)


@pytest.mark.parametrize("kind", ["eager", "sdpa"])
def test_the_attention_of_the_model_is_as_before_after_the_block(loaded, kind: str):
    model = loaded.model
    model.config._attn_implementation = kind
    with document_attention(model):
        assert model.config._attn_implementation == "heed_documents"
    assert model.config._attn_implementation == kind
    with pytest.raises(AttributeError), document_attention(model):
        model.fails  # noqa: B018
    assert model.config._attn_implementation == kind


@pytest.mark.parametrize("rotated", [torch.float32, torch.bfloat16])
def test_short_documents_in_half_precision_are_attended_in_float32_on_a_cpu(rotated):
    """Queries and keys come from their rotation in float32 or not; values are in bfloat16."""
    draw = torch.Generator().manual_seed(0)
    kinds = (rotated, rotated, torch.bfloat16)
    rows = [torch.randn(30, 2, 8, generator=draw).to(k).requires_grad_() for k in kinds]
    documents, scores = Documents(torch.tensor([20, 10])), Scores(None, None, None, 0.0)
    with torch.autocast("cpu", torch.bfloat16):
        found = one_by_one(*rows, documents, scores)
    exact = one_by_one(*(x.float() for x in rows), documents, scores)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, exact.bfloat16())
    found.float().sum().backward()
    assert [x.grad.dtype for x in rows] == list(kinds)


@pytest.mark.parametrize("softcap", [None, 0.5])
def test_what_lies_behind_the_last_document_is_zero_and_moves_nothing(softcap):
    lengths, scores = [5, 2], Scores(None, softcap, None, 0.0)
    q, k, v = (x.requires_grad_() for x in qkv((4, 2), 11))
    rows = [x[0].transpose(0, 1) for x in (q, k, v)]
    found = one_by_one(*rows, Documents(torch.tensor(lengths)), scores)
    assert not found[7:].any()
    torch.testing.assert_close(
        found[:7], one_by_one(*(x[:7] for x in rows), Documents(torch.tensor(lengths)), scores)
    )
    found.square().sum().backward()
    assert all(not x.grad[:, :, 7:].any() and x.grad[:, :, :7].any() for x in (q, k, v))
