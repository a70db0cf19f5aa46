"""Properties of a packed row: it holds its documents, and nothing is predicted across a border."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heed.data.encode import Encoded
from heed.data.pack import flat_row

DOCUMENT = st.lists(st.tuples(st.integers(1, 99), st.booleans()), min_size=1, max_size=9).map(
    lambda pairs: Encoded("x", [i for i, _ in pairs], [m for _, m in pairs])
)


@given(st.lists(DOCUMENT, min_size=1, max_size=6))
def test_a_row_holds_its_documents_end_to_end(documents: list[Encoded]):
    row = flat_row(documents, pad=0)
    assert [part.tolist() for part in row.input_ids.split(row.lengths.tolist())] == [
        document.ids for document in documents
    ]
    positions = [part.tolist() for part in row.position_ids.split(row.lengths.tolist())]
    assert positions == [list(range(len(document.ids))) for document in documents]


@given(st.lists(DOCUMENT, min_size=1, max_size=6))
def test_targets_are_the_supervised_tokens_that_have_a_predecessor(documents: list[Encoded]):
    row = flat_row(documents, pad=0)
    assert row.targets.numel() == sum(document.supervised for document in documents)
    assert row.targets.tolist() == [
        token
        for document in documents
        for token, supervised in list(zip(document.ids, document.mask, strict=True))[1:]
        if supervised
    ]
    assert torch.equal(row.input_ids[row.where + 1], row.targets)


@given(st.lists(DOCUMENT, min_size=1, max_size=6))
def test_no_target_is_the_first_token_of_a_document(documents: list[Encoded]):
    row = flat_row(documents, pad=0)
    assert (row.position_ids[row.where + 1] > 0).all()


def test_no_documents_give_a_row_of_one_token_without_a_target():
    row = flat_row([], pad=7)
    assert row.input_ids.tolist() == [7]
    assert row.lengths.tolist() == [1]
    assert row.where.numel() == row.targets.numel() == 0


@pytest.mark.parametrize("kind", [np.uint16, np.uint32, np.int64])
def test_documents_of_any_integers_give_the_same_row(kind):
    lists = [Encoded("a", [5, 60_000, 7], [False, True, True]), Encoded("b", [9], [True])]
    arrays = [
        Encoded(d.id, np.array(d.ids, dtype=kind), np.array(d.mask))  # type: ignore[arg-type]
        for d in lists
    ]
    for one, other in zip(flat_row(lists, pad=0), flat_row(arrays, pad=0), strict=True):
        assert torch.equal(one, other)
        assert one.dtype == other.dtype == torch.long
