"""Rows are let in under their own numbers, and the check before a run follows the same rules."""

from dataclasses import replace

import pytest

from heed.core.component import component
from heed.core.errors import DataError
from heed.core.types import Example, Message
from heed.data.encode import encode_all
from heed.data.intake import Intake, check_rows, conversation_digest, is_held_out
from heed.data.teacher import Teacher


@component
class Patchy(Teacher):
    """Every third row cannot be read."""

    name: str

    def rows(self, on_bad=None):
        for i in range(9):
            if i % 3 == 1:
                error = DataError(f"rows.jsonl, row {i + 1}: not JSON")
                if on_bad is None:
                    raise error
                on_bad(error)
                continue
            yield Example(str(i), (Message("user", f"{i}?"), Message("assistant", f"{i}")), "p")

    def digest(self) -> str:
        return "patchy"


@pytest.fixture
def dropping(recipe_of):
    return recipe_of(on_bad_row="drop").data


def test_rows_that_cannot_be_read_are_counted_and_the_others_keep_their_numbers(
    template, tokenizer, dropping
):
    source = Patchy(name="p")
    intake = Intake(source, dropping)
    assert [number for number, _ in intake.numbered()] == [0, 2, 3, 5, 6, 8]
    assert intake.read == 9
    found = encode_all(source, template, tokenizer, dropping)
    assert found.events == {"rows read": 9, "dropped: row cannot be read": 3}
    assert found.examples.rows.tolist() == [0, 2, 3, 5, 6, 8]
    some = encode_all(source, template, tokenizer, replace(dropping, limit=3))
    assert some.events == {"rows read": 4, "dropped: row cannot be read": 1}


def test_a_row_that_cannot_be_read_ends_the_run_if_so_told(template, tokenizer, recipe_of):
    with pytest.raises(DataError, match=r"rows\.jsonl, row 2: not JSON"):
        encode_all(Patchy(name="p"), template, tokenizer, recipe_of().data)


def test_the_check_before_a_run_drops_what_the_run_drops(template, recipe_of, dropping):
    check_rows(Patchy(name="p"), template, dropping)
    with pytest.raises(DataError, match="row 2: not JSON"):
        check_rows(Patchy(name="p"), template, recipe_of().data)


def test_the_check_before_a_run_names_a_row_that_cannot_be_rendered(
    teacher_of, template, recipe_of, dropping
):
    row = Example("7", (Message("user", "nobody answers"),), "toy")
    source = replace(teacher_of([]), examples=(row,))
    with pytest.raises(DataError, match=r"item toy/7: .* must end with the assistant's turn"):
        check_rows(source, template, recipe_of().data)
    with pytest.raises(DataError, match="no row at all that can be read"):
        check_rows(source, template, dropping)


def test_conversations_are_the_same_just_if_every_turn_is():
    one = (Message("user", "a"), Message("assistant", "b"))
    others = [
        (Message("system", "a"), Message("assistant", "b")),
        (Message("user", "ab"), Message("assistant", "")),
        (Message("user", "a\0assistant\0b"),),
        (Message("user", "a"), Message("assistant", "b", supervised=False)),
    ]
    digests = {conversation_digest(c) for c in (one, *others)}
    assert len(digests) == 5
    unmarked = (Message("user", "a", supervised=False), Message("assistant", "b"))
    assert conversation_digest(unmarked) == conversation_digest(one), "only responses are learned"
    assert conversation_digest(one) == conversation_digest(tuple(one))


def test_a_plain_text_is_held_out_by_its_own_hash():
    texts = [(Message("text", f"text {i}"),) for i in range(200)]
    apart = sum(is_held_out(text, 0.5) for text in texts)
    assert 60 < apart < 140
    assert not any(is_held_out(text, 0.0) for text in texts)


def test_the_check_before_a_run_stops_where_the_training_stops(template, recipe_of):
    check_rows(Breaks(name="b"), template, recipe_of(limit=4).data)
    for changes in ({"limit": 5}, {"limit": 4, "validation_share": 0.99}, {}):
        with pytest.raises(DataError, match="row 6: not JSON"):
            check_rows(Breaks(name="b"), template, recipe_of(**changes).data)


@component
class Breaks(Teacher):
    """Four rows, an empty one, and one that cannot be read."""

    name: str

    def rows(self, on_bad=None):
        for said in ("a", "b", "", "c", "d"):
            yield Example(said, (Message("user", f"{said}?"), Message("assistant", said)), "b")
        raise DataError("rows.jsonl, row 6: not JSON")

    def digest(self) -> str:
        return "breaks"


def test_the_check_before_a_run_says_what_happened_to_rows_if_none_is_left(
    teacher_of, template, recipe_of
):
    source = teacher_of([("Hi", ""), ("Hi", " ")], name="mute")
    with pytest.raises(DataError, match=r"rows read: 2; {'dropped: empty response': 2}"):
        check_rows(source, template, recipe_of().data)
