"""Properties of attention within documents: no token sees a neighbour; the model is restored."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heed.models.attention import attend, document_attention, group_documents

LENGTHS = st.lists(st.integers(1, 33), min_size=1, max_size=9)


def heads(count: int, tokens: int, seed: int) -> torch.Tensor:
    return torch.randn(1, count, tokens, 8, generator=torch.Generator().manual_seed(seed))


def naive(query, key, value, lengths: list[int], scaling: float) -> torch.Tensor:
    """Softmax attention under an explicit mask of causal blocks."""
    copies = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(copies, dim=1) for x in (key, value))
    blocks = [torch.ones(n, n, dtype=torch.bool).tril() for n in lengths]
    scores = (query @ key.mT) * scaling
    weights = scores.masked_fill(~torch.block_diag(*blocks), -torch.inf).softmax(-1)
    return (weights @ value).transpose(1, 2)


@given(LENGTHS, st.sampled_from([(1, 1), (4, 4), (4, 2), (6, 1)]), st.sampled_from([None, 0.7]))
def test_attention_is_causal_inside_each_document_and_nowhere_else(lengths, count, scaling):
    total = sum(lengths)
    q, k, v = (heads(n, total, i) for i, n in enumerate((count[0], count[1], count[1])))
    groups = group_documents(torch.tensor(lengths))
    found, _ = attend(None, q, k, v, None, documents=groups, scaling=scaling)
    wanted = naive(q, k, v, lengths, scaling or 8**-0.5)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@given(LENGTHS)
def test_every_token_is_in_one_group_of_documents_of_like_length(lengths: list[int]):
    groups = group_documents(torch.tensor(lengths))
    flat = torch.cat([group.flat for group in groups])
    assert sorted(flat.tolist()) == list(range(sum(lengths)))
    assert sum(group.documents for group in groups) == len(lengths)
    for group in groups:
        places = torch.zeros(group.documents * group.longest).bool()
        places[group.scatter] = True
        shortest = places.view(group.documents, group.longest).sum(1).min()
        assert group.longest < 2 * shortest or group.longest == 1
        assert torch.equal(group.gather[group.scatter], group.flat)


def test_a_mask_beside_packed_documents_is_refused():
    q = heads(2, 3, 0)
    with pytest.raises(AssertionError, match="lets them see each other"):
        attend(None, q, q, q, torch.ones(1, 1, 3, 3), documents=[])


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
