"""Losses of responses on an untuned student: those of a plain loop, and of no pass made twice."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from heed.analysis import reader as reading
from heed.analysis.reader import Reader, Rows
from heed.analysis.response_loss import (
    OVER_LONG,
    ResponseLoss,
    alone,
    response_losses,
    unreadable,
)
from heed.core.errors import DataError
from heed.core.types import Example, Message
from heed.data.dataset import Encoded
from heed.data.encode import UNRENDERED
from heed.data.intake import EMPTY
from heed.models.student import Loaded

READ = {"conditioned": True, "batch_tokens": 4096}


def said(prompt: str, response: str) -> Example:
    return Example(prompt, (Message("user", prompt), Message("assistant", response)), "toy")


TEN = [said(f"Name thing {i}.", "A red lamp, " * (i % 4 + 1) + f"say {i}") for i in range(10)]


@pytest.fixture(scope="module")
def loaded(student) -> Loaded:
    """A student whose weights are large enough to have opinions."""
    made = student.fresh()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for weight in made.model.parameters():
            weight += 0.2 * torch.randn_like(weight)
    return made


def plain_loop(loaded: Loaded, path: Path, before: Callable[[Example], str]) -> list[tuple]:
    """Nats and tokens of each response and its end of turn, by transformers alone."""
    loaded.model.save_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path).eval()
    found = []
    for example in TEN:
        context = loaded.tokenizer.encode(before(example), add_special_tokens=False)
        text = example.messages[-1].content + loaded.template.end_of_turn
        response = loaded.tokenizer.encode(text, add_special_tokens=False)
        with torch.no_grad():
            logs = model(torch.tensor([context + response])).logits[0].log_softmax(-1)
        nats = [-logs[len(context) + i - 1, t].item() for i, t in enumerate(response)]
        found.append((sum(nats), len(nats)))
    return found


@pytest.mark.parametrize("conditioned", [True, False])
def test_losses_are_those_of_a_plain_transformers_loop(loaded, tmp_path, conditioned: bool):
    asked = "User: {}\n" if conditioned else ""
    before = lambda e: asked.format(e.messages[0].content) + "Assistant: "  # noqa: E731
    found = response_losses(loaded, TEN, conditioned=conditioned, batch_tokens=4096)
    expected = plain_loop(loaded, tmp_path, before)
    assert [one.tokens for one in found] == [tokens for _, tokens in expected]
    assert [one.nats for one in found] == pytest.approx([n for n, _ in expected], rel=1e-5)


@pytest.mark.parametrize("conditioned", [True, False])
@pytest.mark.parametrize("batch_tokens", [1, 50, 100_000])
def test_packed_is_one_by_one(loaded, conditioned: bool, batch_tokens: int):
    whole = response_losses(loaded, TEN, conditioned=conditioned, batch_tokens=batch_tokens)
    one_by_one = [
        response_losses(loaded, [e], conditioned=conditioned, batch_tokens=1)[0] for e in TEN
    ]
    assert [one.tokens for one in whole] == [one.tokens for one in one_by_one]
    assert [one.nats for one in whole] == pytest.approx([o.nats for o in one_by_one], rel=1e-5)


def test_the_order_of_examples_decides_nothing(loaded):
    found = response_losses(loaded, TEN, **READ)
    back = response_losses(loaded, TEN[::-1], **READ)[::-1]
    assert [one.nats for one in back] == pytest.approx([one.nats for one in found], rel=1e-5)


def test_what_cannot_be_read_says_why_and_keeps_its_place(loaded):
    end = loaded.template.end_of_turn
    odd = [TEN[0], said("a", "red " * 90), said("b", " "), said("c", f"no {end}"), TEN[1]]
    found = response_losses(loaded, odd, **READ, max_tokens=60)
    assert [one.left_out for one in found] == ["", OVER_LONG, EMPTY, UNRENDERED, ""]
    assert [one.nats for one in found][1:4] == [0.0] * 3
    first, last = response_losses(loaded, TEN[:2], **READ)
    assert [found[0].nats, found[-1].nats] == pytest.approx([first.nats, last.nats], rel=1e-5)


def test_beyond_its_context_a_student_reads_nothing_whatever_the_limit(loaded, monkeypatch):
    monkeypatch.setattr(Loaded, "context", 60)
    rows = [said("a", "red " * 90), TEN[0]]
    for limit in (None, 4096):
        found = response_losses(loaded, rows, **READ, max_tokens=limit)
        assert [one.left_out for one in found] == [OVER_LONG, ""]
    monkeypatch.setattr(Loaded, "context", None)
    assert response_losses(loaded, rows, **READ)[0].left_out == ""


def test_losses_of_other_code_are_used_and_that_is_said(reader, monkeypatch, capsys):
    reader.losses(rows_of(TEN[:3]), conditioned=True)
    capsys.readouterr()
    again = replace(reader, load=never, _loaded=[])
    again.losses(rows_of(TEN[:3]), conditioned=True)
    assert "other code" not in capsys.readouterr().err
    monkeypatch.setattr(reading, "code_state", lambda: "later source 0000")
    again.losses(rows_of(TEN[:3]), conditioned=True)
    assert "other code" in capsys.readouterr().err
    again.losses(rows_of(TEN[:3]), conditioned=True)
    assert "other code" not in capsys.readouterr().err  # once, not for each teacher
    reader.losses(rows_of(TEN[:4]), conditioned=True)
    again = replace(again, _told=set())
    again.losses(rows_of(TEN[:4]), conditioned=True)
    assert "other code" in capsys.readouterr().err  # three of the four still are


def test_alone_the_same_responses_are_too_long(loaded):
    """Otherwise a ranking would compare two sets of instructions."""
    rows = [said("word " * 60, "red"), TEN[0]]
    for conditioned in (True, False):
        found = response_losses(
            loaded, rows, conditioned=conditioned, batch_tokens=99, max_tokens=60
        )
        assert [one.left_out for one in found] == [OVER_LONG, ""]


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=4))
def test_alone_each_response_has_its_own_tokens_and_no_other(loaded, turns):
    """Ids are made up; what is weighed is what was supervised, turn by turn."""
    ids, mask, said = [], [], []
    for number, (asked, answered) in enumerate(turns):
        ids += [100] * asked + [number] * answered
        mask += [False] * asked + [True] * answered
        said.append([number] * answered)
    parts = alone(loaded, Encoded("x", ids, mask))
    assert [[t for t, m in zip(p.ids, p.mask, strict=True) if m] for p in parts] == said
    assert all(not p.mask[0] for p in parts)
    assert sum(p.supervised for p in parts) == Encoded("x", ids, mask).supervised


def test_where_a_template_writes_nothing_the_end_of_text_stands_in(loaded):
    bare = replace(loaded, template=replace(loaded.template, assistant="", begin=""))
    (part,) = alone(bare, Encoded("x", [5, 6, 7], [False, True, True]))
    assert part.ids == [loaded.tokenizer.eos_token_id, 6, 7]


def test_bfloat16_is_near_and_not_the_same(loaded):
    whole = response_losses(loaded, TEN, **READ)
    mixed = response_losses(loaded, TEN, **READ, precision="bf16-mixed")
    assert [one.nats for one in mixed] != [one.nats for one in whole]
    assert [one.nats for one in mixed] == pytest.approx([one.nats for one in whole], rel=0.05)


@pytest.fixture
def reader(loaded, tmp_path) -> Reader:
    return Reader("toy", {"weights": "a"}, lambda: loaded, tmp_path, 4096, None, "weights")


def rows_of(examples: list[Example]) -> Rows:
    return Rows("toy", "digest", examples)


def never() -> Loaded:
    raise AssertionError("the weights are loaded again")


def test_a_second_call_loads_no_weights(reader):
    first = reader.losses(rows_of(TEN), conditioned=True)
    assert replace(reader, load=never, _loaded=[]).losses(rows_of(TEN), conditioned=True) == first


def test_only_what_is_new_is_weighed(reader, loaded):
    reader.losses(rows_of(TEN[:4]), conditioned=True)
    weighed: list[int] = []
    told = replace(reader, load=lambda: weighed.append(1) or loaded, _loaded=[])
    found = told.losses(rows_of([TEN[5], TEN[1]]), conditioned=True)
    assert weighed == [1]
    expected = response_losses(loaded, [TEN[5], TEN[1]], **READ)
    assert [one.nats for one in found] == pytest.approx([one.nats for one in expected], rel=1e-5)
    again = replace(reader, load=never, _loaded=[])
    assert again.losses(rows_of([TEN[1], TEN[5]]), conditioned=True) == found[::-1]


@pytest.mark.parametrize(
    "other",
    [
        {"decides": {"weights": "b"}},
        {"max_tokens": 60},
        {"precision": "bf16-mixed"},
        {"digest": "other rows"},
        {"conditioned": False},
    ],
)
def test_what_decides_a_loss_is_not_read_from_another_record(reader, other):
    asked = {"digest": "digest", "conditioned": True}
    reader.losses(Rows("toy", asked["digest"], TEN), conditioned=True)
    asked |= {key: value for key, value in other.items() if key in asked}
    more = {key: value for key, value in other.items() if key not in asked}
    changed = replace(reader, load=never, _loaded=[], **more)
    with pytest.raises(AssertionError, match="loaded again"):
        changed.losses(Rows("toy", asked["digest"], TEN), conditioned=asked["conditioned"])


def test_left_out_is_kept_with_its_reason(reader):
    rows = [said("a", "red " * 400), TEN[0]]
    short = replace(reader, max_tokens=60, _loaded=[])
    first = short.losses(rows_of(rows), conditioned=True)
    assert first[0] == ResponseLoss(0.0, 0, OVER_LONG)
    assert replace(short, load=never, _loaded=[]).losses(rows_of(rows), conditioned=True) == first


ODD = [said("a", "red " * 400), TEN[0], said("b", ""), said("c", "<|end|>"), said("d", "red " * 60)]


@pytest.mark.parametrize("limit", [None, 60])
def test_what_cannot_be_read_is_known_before_anything_is_weighed(reader, monkeypatch, limit):
    asked = replace(reader, max_tokens=limit, _loaded=[])
    weighed = [one.left_out for one in asked.losses(rows_of(ODD), conditioned=True)]
    monkeypatch.setattr(reading, "response_losses", never)
    found = asked.unreadable(rows_of(ODD))
    assert found == weighed == [OVER_LONG, "", EMPTY, UNRENDERED, OVER_LONG if limit else ""]
    assert found == unreadable(reader.load(), ODD, limit)
    again = replace(asked, load=never, _loaded=[])
    assert again.unreadable(rows_of(ODD[::-1])) == found[::-1]


@pytest.mark.parametrize("text", ["", "{}", '{"losses": {"a": [0.0, 0, ""]}}', '{"losses": 3}'])
def test_a_damaged_record_of_what_cannot_be_read_is_named(reader, tmp_path, text: str):
    reader.unreadable(rows_of(TEN))
    (place,) = tmp_path.glob("cache/response_losses/*.json")
    place.write_text(text)
    with pytest.raises(DataError, match=r"does not hold whole losses.*Remove the file"):
        reader.unreadable(rows_of(TEN))


@pytest.mark.parametrize("text", ["", "{}", '{"losses": {"a": [1]}}', '{"losses": {"a": 3}}'])
def test_a_damaged_record_is_named(reader, tmp_path, text: str):
    reader.losses(rows_of(TEN), conditioned=True)
    (place,) = tmp_path.glob("cache/response_losses/*.json")
    place.write_text(text)
    with pytest.raises(DataError, match=r"does not hold whole losses.*Remove the file"):
        reader.losses(rows_of(TEN), conditioned=True)
