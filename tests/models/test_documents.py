"""Properties of the documents of a packed row."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from heed.models.documents import Documents, group_documents

LENGTHS = st.lists(st.integers(1, 33), min_size=1, max_size=9)


@given(LENGTHS)
def test_a_row_is_the_same_in_every_form(lengths: list[int]):
    documents = Documents(torch.tensor(lengths))
    assert documents.counts == lengths
    assert documents.longest == max(lengths)
    assert documents.edges.diff().tolist() == lengths
    assert documents.edges[0] == 0


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
        assert group.longest**2 < 2 * shortest**2
        assert torch.equal(group.gather[group.scatter], group.flat)
