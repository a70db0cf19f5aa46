"""Responses are weighed after their instruction as a chat; what is left out is counted."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heed.core.errors import DataError
from heed.core.types import Answer, Example, Likelihood, Message
from heed.data.layout import Columns
from heed.data.source import LocalFile
from heed.data.teacher import Responses
from heed.evaluation.taught import ResponseLikelihood, first_pair, same_rows
from heed.models.likelihood import continuation_nats

PAIRS = [("Say one.", "One, ä."), ("Say two.", "Two."), ("Say two.", "Zwei.")]


def task(teacher, responses: int = 100, max_chars: int = 40) -> ResponseLikelihood:
    return ResponseLikelihood(teacher=teacher, responses=responses, max_chars=max_chars)


def conversations(teacher_of, *rows: list[tuple[str, str]]):
    examples = [
        Example(str(i), tuple(Message(*turn) for turn in turns), "t")
        for i, turns in enumerate(rows)
    ]
    return replace(teacher_of([]), examples=tuple(examples))


def test_an_item_asks_for_the_response_after_the_instruction_as_a_chat(teacher_of):
    items = task(teacher_of(PAIRS)).items()
    assert [(i.prompt, *i.requests[0]) for i in items] == [(a, a, b, True) for a, b in PAIRS]


def test_an_instruction_that_comes_twice_has_two_keys(teacher_of):
    teacher = replace(
        teacher_of(PAIRS),
        examples=tuple(replace(row, id="same") for row in teacher_of(PAIRS).rows()),
    )
    assert [item.key for item in task(teacher).items()] == ["same", "same/2", "same/3"]


def test_the_score_is_bits_over_bytes_of_the_response(loaded, teacher_of):
    made = task(teacher_of(PAIRS))
    item = made.items()[0]
    (found,) = continuation_nats(loaded, item.requests)
    ratio = made.score("t", item, Answer("", 0, "stop", (found,))).metrics["bits_per_byte"]
    encode = loaded.tokenizer.encode
    before = encode(loaded.template.prompt(PAIRS[0][0]), add_special_tokens=False)
    ids = torch.tensor([before + encode(PAIRS[0][1], add_special_tokens=False)])
    logs = loaded.model.eval()(ids).logits[0, :-1].log_softmax(-1)
    nats = -logs.gather(1, ids[0, 1:, None])[len(before) - 1 :].sum().item()
    assert ratio.den == len(PAIRS[0][1].encode()) == 8
    assert ratio.num == pytest.approx(nats / math.log(2), rel=1e-5)
    assert made.lower_is_better == {"bits_per_byte"}


def test_rows_that_cannot_be_weighed_as_they_are_are_counted_by_reason(teacher_of):
    ask, say = ("user", "Why?"), ("assistant", "So.")
    teacher = conversations(
        teacher_of,
        [ask, say],
        [("system", "Be brief."), ask, say],
        [ask, say, ("user", "And?"), ("assistant", "That.")],
        [("text", "Once.")],
        [ask, ("assistant", "  ")],
        [ask, ("assistant", "x" * 40)],
    )
    made = task(teacher, responses=2)
    assert [item.key for item in made.items()] == ["0", "1"]
    assert made.events([]) == {
        "toy: system prompt left out": 1,
        "toy: only the first response of a conversation weighed": 1,
        "toy: row without an instruction and a response to it, left out": 2,
        "toy: response too long to be weighed, left out": 1,
        "toy: left out of the responses, to have as many as asked": 1,
    }


def test_a_teacher_without_a_response_is_refused(teacher_of):
    with pytest.raises(DataError, match="has no response that can be weighed"):
        task(teacher_of(["Once upon a time."])).items()


@given(st.integers(1, 30), st.integers(1, 30))
def test_as_many_as_asked_are_taken_evenly(rows: int, asked: int):
    class Rows:
        name = "t"

        def rows(self, on_bad=None):
            turns = (Message("user", "q"), Message("assistant", "a"))
            return (Example(str(i), turns, "t") for i in range(rows))

        def digest(self):
            return ""

        def events(self):
            return {}

    keys = [int(item.key) for item in task(Rows(), responses=asked).items()]
    assert len(keys) == min(rows, asked) == len(set(keys))
    assert keys == sorted(keys)
    gaps = [b - a for a, b in pairwise(keys)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_the_digest_changes_with_a_text_and_with_a_border_and_not_with_the_name(teacher_of):
    digests = {
        task(teacher_of(pairs, name)).digest()
        for pairs, name in [
            ([("ab", "c")], "x"), ([("a", "bc")], "x"), ([("ab", "d")], "x"), ([("ab", "c")], "y"),
        ]
    }  # fmt: skip
    assert len(digests) == 3


def test_a_conversation_must_begin_with_an_instruction():
    assert first_pair([Message("assistant", "Hello."), Message("user", "Hi.")]) is None
    assert (
        first_pair([Message("user", "a"), Message("user", "b"), Message("assistant", "c")]) is None
    )
    assert first_pair([]) is None


def test_two_readings_of_one_table_are_the_same_rows_and_other_tables_are_not():
    def made(name: str, path: str, output: str) -> Responses:
        layout = Columns(
            system=None, instruction="i", input=None, response=output, sparse=False, reward=None
        )
        return Responses(name=name, source=LocalFile(path=path), layout=layout)

    one = made("a", "x.jsonl", "o")
    assert same_rows(one, made("b", "x.jsonl", "p"))
    assert not same_rows(one, made("a", "y.jsonl", "o"))


def test_a_teacher_is_the_same_under_another_name_only(teacher_of):
    one = teacher_of(PAIRS)
    assert same_rows(one, replace(one, name="other"))
    assert not same_rows(one, teacher_of(PAIRS[:1]))
    assert not same_rows(one, object())


def test_the_likelihoods_of_a_weighed_item_are_one(teacher_of):
    made = task(teacher_of(PAIRS))
    two = Answer("", 0, "stop", (Likelihood(1.0, 1), Likelihood(1.0, 1)))
    with pytest.raises(ValueError, match="too many values"):
        made.score("t", made.items()[0], two)
