"""Responses end after their first paragraph; all else stays, and what is cut is counted."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core.identity import short_hash
from heed.core.types import Message
from heed.data.first_paragraph import AND_NEXT, CUT, FirstParagraph, first_paragraph

LONG = "In short, yes.\n\nAt length: it is so."
LISTED = "Two ways:\n\n1. Walk.\n2. Run.\n\nBoth are good."
PAIRS = [("Is it?", LONG), ("How?", LISTED), ("Why?", "Because.\nIt is."), ("Is\n\nit?", " Yes ")]


@pytest.fixture
def cut(teacher_of) -> FirstParagraph:
    return FirstParagraph(name="short", teacher=teacher_of(PAIRS))


words = st.text(st.sampled_from("ab:. "), max_size=5)
texts = st.lists(words, max_size=5).map("\n\n".join) | st.text(st.sampled_from("a:\n \t"))


@given(texts)
def test_what_is_kept_is_how_the_text_begins_and_cut_again_it_stays(text: str):
    kept = first_paragraph(text)
    assert "".join(text.split()).startswith("".join(kept.split()))
    assert first_paragraph(kept) == kept
    if kept != text:
        assert kept == kept.strip()
        assert not kept.endswith(":")


@given(st.text(st.sampled_from("ab\n"), min_size=1).filter(lambda t: "\n\n" not in t and t.strip()))
def test_a_text_of_one_paragraph_is_left_as_it_is(text: str):
    assert first_paragraph(text) == text


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (LONG, "In short, yes."),
        (LISTED, "Two ways:\n\n1. Walk.\n2. Run."),
        ("\n\nYes.\n \t\nNo.", "Yes."),
        ("A:\n\nB:\n\nC", "A:\n\nB:\n\nC"),
        ("", ""),
    ],
)
def test_a_paragraph_ends_at_an_empty_line_unless_it_announces_the_next(text: str, kept: str):
    assert first_paragraph(text) == kept


def test_responses_are_cut_and_nothing_else(cut: FirstParagraph, teacher_of):
    before, after = list(teacher_of(PAIRS).rows()), list(cut.rows())
    assert [row.messages[-1].content for row in after] == [
        "In short, yes.", "Two ways:\n\n1. Walk.\n2. Run.", "Because.\nIt is.", " Yes ",
    ]  # fmt: skip
    assert [row.messages[:-1] for row in after] == [row.messages[:-1] for row in before]
    assert [row.id for row in after] == [row.id for row in before]
    assert {row.teacher for row in after} == {"short"}


def test_every_turn_of_the_assistant_is_cut_and_stays_supervised_or_not(cut, teacher_of):
    turns = [Message("user", LONG), Message("assistant", LONG, False), Message("user", LONG)]
    example = replace(next(cut.rows()), messages=(*turns, Message("assistant", LONG)))
    made = replace(cut, teacher=replace(teacher_of([]), examples=(example,)))
    (found,) = made.rows()
    short = "In short, yes."
    assert [m.content for m in found.messages] == [LONG, short, LONG, short]
    assert [m.supervised for m in found.messages] == [True, False, True, True]
    assert made.events() == {CUT: 2}


def test_it_is_counted_how_many_are_cut_and_how_many_keep_two(cut: FirstParagraph):
    assert cut.events() == {CUT: 2, AND_NEXT: 1}


def test_the_id_holds_the_responses_and_not_the_name(cut: FirstParagraph, teacher_of):
    assert short_hash(replace(cut, name="x")) == short_hash(cut)
    other = replace(cut, teacher=teacher_of(PAIRS[:2]))
    assert other.digest() != cut.digest() != cut.teacher.digest()


def test_a_suite_that_weighs_the_whole_responses_finds_them_in_its_parts(cut: FirstParagraph):
    assert cut.parts() == {"teacher": cut.teacher}
    twice = FirstParagraph(name="twice", teacher=cut)
    assert twice.parts() == {"teacher.teacher": cut.teacher}
