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
    groups, places = group_documents(torch.tensor(lengths))
    gather = torch.cat([group.gather for group in groups])
    assert gather[places].tolist() == list(range(sum(lengths)))
    assert sum(group.documents for group in groups) == len(lengths)
    for group in groups:
        padded = group.gather.view(group.documents, group.longest)
        sizes = [len(row.unique()) for row in padded]
        assert group.longest**2 < 2 * min(sizes) ** 2
        for row, size in zip(padded, sizes, strict=True):  # behind its end, its own last token
            assert (row.diff() == (torch.arange(1, group.longest) < size)).all()
