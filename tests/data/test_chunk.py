"""Parts and chunks: cut anywhere, they hold the same tokens in the same order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from heed.core.types import Message
from heed.data.chunk import Part, chunk_of, first_of, refused_windows, up_to, windows
from heed.data.intake import Row
from heed.data.spelling import Flat


def part_of(number: int, length: int, *, role: str = "text", apart: bool = False) -> Part:
    """A row of so many tokens, all of them supervised; its tokens are its number."""
    ids = np.full(length, number)
    row = Row(number, f"toy/{number}", (Message(role, "x"),), held_out=apart)
    return Part(row, Flat(ids, np.ones(length, dtype=bool), np.array([length])), 0, length)


@given(st.integers(2, 60), st.integers(2, 20))
def test_windows_are_the_whole_part_and_none_is_longer_than_allowed(length: int, most: int):
    found = windows(part_of(0, length), most)
    assert [part.start for part in found[1:]] == [part.stop for part in found[:-1]]
    assert (found[0].start, found[-1].stop) == (0, length)
    assert all(0 < part.stop - part.start <= most for part in found)
    assert len({part.suffix for part in found}) == len(found)


@given(st.lists(st.integers(2, 9), min_size=1, max_size=8), st.data())
def test_the_first_of_a_chunk_are_the_chunk_of_the_first(lengths: list[int], data):
    parts = [part_of(i, length) for i, length in enumerate(lengths)]
    count = data.draw(st.integers(1, len(parts)))
    cut, made = first_of(chunk_of(parts, [], []), count), chunk_of(parts[:count], [], [])
    assert cut.ids.tolist() == made.ids.tolist()
    assert cut.mask.tolist() == made.mask.tolist()
    assert cut.table.tolist() == made.table.tolist()
    assert cut.names == made.names


def test_only_plain_text_is_cut_into_windows():
    assert refused_windows(part_of(0, 9).row, 4) is None
    refused = refused_windows(part_of(3, 9, role="user").row, 4)
    assert "item toy/3" in str(refused)
    assert "more than 4 tokens" in str(refused)


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.integers(1, 10))
def test_a_chunk_is_cut_behind_the_last_example_that_is_wanted(apart: list[bool], left: int):
    whole = chunk_of([part_of(i, 3, apart=kept) for i, kept in enumerate(apart)], [], [])
    cut = up_to(whole, left)
    trained = [i for i, kept in enumerate(apart) if not kept]
    count = trained[left - 1] + 1 if len(trained) >= left else len(apart)
    assert cut.table["row"].tolist() == list(range(count))
