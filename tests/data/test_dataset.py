"""Examples in flat arrays are the examples that were put in, wherever the arrays lie."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.data.dataset import (
    INDEX,
    Chunk,
    Encoded,
    Examples,
    Gathered,
    in_memory,
    tokens_of,
)

TOKENS = st.lists(st.tuples(st.integers(0, 70_000), st.booleans()), min_size=1, max_size=20)
SOME = st.lists(
    st.builds(
        lambda pairs, name: Encoded(name, [i for i, _ in pairs], [m for _, m in pairs]),
        TOKENS,
        st.text(alphabet="aé/@😀\n", max_size=5),
    ),
    max_size=7,
)


def chunk(examples: list[Encoded]) -> Chunk:
    table = np.zeros(len(examples), dtype=INDEX)
    table["stop"] = np.cumsum([len(e.ids) for e in examples])
    table["name_stop"] = np.cumsum([len(e.id.encode()) for e in examples])
    table["row"] = range(len(examples))
    table["supervised"] = [e.supervised for e in examples]
    ids = np.array([i for e in examples for i in e.ids], dtype=np.int64)
    mask = np.array([m for e in examples for m in e.mask], dtype=bool)
    return Chunk(ids, mask, [e.id for e in examples], table, [], [])


def gathered(chunks: list[list[Encoded]], vocabulary: int = 80_000) -> Examples:
    files = in_memory()
    into = Gathered(files, vocabulary)
    for examples in chunks:
        into.append(chunk(examples))
    into.finish()
    tokens = tokens_of([file.getbuffer() for file in files], into.kind)
    return Examples(tokens, np.arange(into.examples))


@given(st.lists(SOME, max_size=4))
def test_what_is_put_in_by_chunks_comes_out_whole(chunks: list[list[Encoded]]):
    flat = [example for examples in chunks for example in examples]
    found = gathered(chunks)
    assert list(found) == flat
    assert found == flat
    assert found.lengths.tolist() == [len(e.ids) for e in flat]
    assert found.supervised.tolist() == [e.supervised for e in flat]


@given(st.lists(SOME, max_size=4), st.data())
def test_a_selection_is_the_selection_of_the_list(chunks: list[list[Encoded]], data):
    found, flat = gathered(chunks), [example for examples in chunks for example in examples]
    keep = data.draw(st.lists(st.booleans(), min_size=len(flat), max_size=len(flat)))
    part = found.where(np.array(keep, dtype=bool))
    assert part == [e for e, kept in zip(flat, keep, strict=True) if kept]
    assert part[1:4] == list(part)[1:4]
    assert part.lengths.tolist() == [len(e.ids) for e in part]
    if len(part):
        assert part[-1] == list(part)[-1]
    with pytest.raises(IndexError):
        part[len(part)]


@pytest.mark.parametrize(("vocabulary", "size"), [(65_536, 2), (65_537, 4)])
def test_ids_take_no_more_room_than_the_vocabulary_needs(vocabulary: int, size: int):
    highest = vocabulary - 1
    found = gathered([[Encoded("a", [0, highest], [False, True])]], vocabulary)
    assert found.tokens.ids.itemsize == size
    assert found[0].ids == [0, highest]


def test_arrays_of_a_dataset_cannot_be_written_through():
    tokens = tokens_of([b"\x01\x00", b"\x80", b"a", bytes(INDEX.itemsize)], "<u2")
    with pytest.raises(ValueError, match="read-only"):
        tokens.ids[0] = 2
