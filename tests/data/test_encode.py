"""Properties of encoding: no row vanishes unseen, and each is treated as told."""

from collections import Counter, namedtuple
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core.component import component
from heed.core.errors import DataError
from heed.core.types import Example, Message
from heed.data.chunk import NOTHING
from heed.data.encode import UNSPELT, encode_all, refuse_nothing
from heed.data.teacher import Teacher
from heed.data.treatment import Treatment

TREATMENT = Treatment(
    max_tokens=64, over_long="drop", limit=None, on_bad_row="error", duplicates="keep",
    loss_on="every_turn", validation_share=0.0, drop_contaminated=False, packing="best_fit",
    examples_per_step=4, epochs=1, steps=None, micro_tokens=64,
)  # fmt: skip
END = "<|end|>"


@component
class Breaks(Teacher):
    """Some rows, and one behind them that cannot be read."""

    name: str
    good: int

    def rows(self, on_bad=None):
        for i in range(self.good):
            yield Example(str(i), talk(f"{i}?", f"{i}"), self.name)
        raise DataError(f"rows.jsonl, row {self.good + 1}: not JSON")

    def digest(self) -> str:
        return f"breaks{self.good}"


def rows(*said: str) -> list[tuple[str, str]]:
    return [("Hi", response) for response in said]


def encoded(source, tokenizer, template, workers: int = 1, **changes):
    return encode_all(source, template, tokenizer, replace(TREATMENT, **changes), workers=workers)


def talk(*said: str, supervised: Sequence[bool] = ()) -> tuple[Message, ...]:
    """Turns of user and assistant, one after the other."""
    trained = supervised or [True] * (len(said) // 2)
    return tuple(
        Message("user", text) if i % 2 == 0 else Message("assistant", text, trained[i // 2])
        for i, text in enumerate(said)
    )


def source_of(teacher_of, *conversations: Sequence[Message], name: str = "toy"):
    made = tuple(Example(str(i), tuple(c), name) for i, c in enumerate(conversations))
    return replace(teacher_of([], name), examples=made)


def supervised_text(example, tokenizer) -> str:
    return tokenizer.decode(
        [token for token, trained in zip(example.ids, example.mask, strict=True) if trained]
    )


def test_empty_responses_and_over_long_ones_are_counted(teacher_of, tokenizer, template):
    source = teacher_of(rows("red", "", " \n", "blue", "very " * 60))
    found = encoded(source, tokenizer, template)
    assert [e.id for e in found.examples] == ["toy/0", "toy/3"]
    assert found.events == {
        "rows read": 5, "dropped: empty response": 2, "dropped: over-long": 1
    }  # fmt: skip
    assert [r.text.split("Assistant: ")[1] for r in found.sample] == [f"red{END}", f"blue{END}"]


@given(
    said=st.lists(st.integers(0, 30), min_size=1, max_size=12),
    rule=st.sampled_from(["drop", "cut_at_turn", "window"]),
    repeats=st.sampled_from(["keep", "drop"]),
)
def test_every_row_is_an_example_or_counted_as_dropped(
    teacher_of, tokenizer, template, said: list[int], rule: str, repeats: str
):
    talk = rule != "window"  # windows are for plain text
    source = teacher_of([("Hi", "ab " * n) if talk else "ab " * n for n in [1, *said]])
    found = encoded(source, tokenizer, template, over_long=rule, duplicates=repeats, max_tokens=32)
    assert all(0 < len(e.ids) <= 32 and e.supervised for e in found.examples)
    assert len({e.id for e in found.examples}) == len(found.examples)
    dropped = sum(n for event, n in found.events.items() if event.startswith("dropped"))
    if rule == "window":
        windows = found.events["windows made of over-long rows"]
        assert len(found.examples) + found.events["dropped: no supervised token"] >= windows
        assert {int(r) for r in found.examples.rows} <= set(range(len(said) + 1))
        assert windows == 0 or max(said) > 9
    else:
        assert len(found.examples) + dropped == found.events["rows read"] == len(said) + 1


def test_windows_together_are_the_whole_text(teacher_of, tokenizer, template):
    found = encoded(teacher_of(["xyz " * 60]), tokenizer, template, over_long="window")
    assert len(found.examples) > 2
    assert tokenizer.decode([i for e in found.examples for i in e.ids]) == "xyz " * 60 + END
    assert [e.id for e in found.examples][:2] == ["toy/0@0", "toy/0@64"]


TURNS = ("a", "b " * 4, "c", "d " * 4, "e", "f " * 40)


@pytest.mark.parametrize(
    ("most", "kept"), [(200, TURNS), (64, TURNS[:4]), (28, TURNS[:2]), (24, ())]
)
def test_a_long_conversation_is_cut_after_the_last_turn_that_fits_whole(
    teacher_of, tokenizer, template, most: int, kept: Sequence[str]
):
    source = source_of(teacher_of, talk("x", "y"), talk(*TURNS))
    found = encoded(
        source, tokenizer, template, over_long="cut_at_turn", max_tokens=most, micro_tokens=most
    )
    texts = [tokenizer.decode(e.ids) for e in found.examples]
    whole = [template.render(talk(*kept)).text] if kept else []
    assert texts[1:] == whole
    assert [r.text for r in found.sample] == texts
    event = {0: "dropped: over-long, not one turn of the assistant fits"}.get(
        len(kept), "cut: over-long, after the last turn that fits"
    )
    assert (found.events[event] == 1) == (len(kept) < len(TURNS))


@pytest.mark.parametrize(
    ("loss_on", "trained"), [("every_turn", f"b{END}d{END}"), ("last_turn", f"d{END}")]
)
def test_the_loss_stands_on_the_turns_that_are_asked_for(
    teacher_of, tokenizer, template, loss_on: str, trained: str
):
    source = source_of(teacher_of, talk("a", "b", "c", "d"))
    found = encoded(source, tokenizer, template, loss_on=loss_on)
    assert supervised_text(found.examples[0], tokenizer) == trained
    (shown,) = found.sample
    assert "".join(shown.text[a:b] for a, b in shown.supervised) == trained


def test_the_last_turn_of_a_cut_conversation_is_the_last_that_fits(teacher_of, tokenizer, template):
    source = source_of(teacher_of, talk(*TURNS))
    found = encoded(source, tokenizer, template, over_long="cut_at_turn", loss_on="last_turn")
    assert supervised_text(found.examples[0], tokenizer) == TURNS[3] + END


def test_turns_of_weight_zero_are_read_and_not_trained_on(teacher_of, tokenizer, template):
    mixed = talk("a", "b", "c", "d", supervised=[False, True])
    silent = talk("a", "b", "c", "e", supervised=[False, False])
    found = encoded(source_of(teacher_of, mixed, silent), tokenizer, template)
    (only,) = found.examples
    assert supervised_text(only, tokenizer) == f"d{END}"
    assert tokenizer.decode(only.ids) == template.render(mixed).text
    assert found.events["dropped: no supervised token"] == 1


def test_an_empty_turn_is_dropped_only_where_it_would_be_trained_on(
    teacher_of, tokenizer, template
):
    source = source_of(
        teacher_of,
        talk("a", "", "c", "d"),
        talk("a", " ", "c", "d", supervised=[False, True]),
        talk("a", "b", "c", "d"),
    )
    found = encoded(source, tokenizer, template)
    assert found.examples.rows.tolist() == [1, 2]
    assert found.events["dropped: empty response"] == 1


@pytest.mark.parametrize(
    ("rule", "kept", "event"),
    [
        ("keep", [0, 1, 2, 3], "duplicate of an earlier row, kept"),
        ("drop", [0, 1], "dropped: duplicate of an earlier row"),
    ],
)
def test_repeats_are_counted_and_dropped_if_so_told(
    teacher_of, tokenizer, template, rule, kept, event
):
    source = teacher_of(rows("red", "blue", "red", "red"))
    found = encoded(source, tokenizer, template, duplicates=rule)
    assert found.examples.rows.tolist() == kept
    assert found.events == {"rows read": 4, event: 2}


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_a_limit_takes_the_first_examples_and_no_more(teacher_of, tokenizer, template, limit: int):
    source = teacher_of(["xyz " * 60, "lamp", "xyz " * 61])
    whole = encoded(source, tokenizer, template, over_long="window").examples
    some = encoded(source, tokenizer, template, over_long="window", limit=limit).examples
    assert len(whole) > 5
    assert some == whole[:limit]


def test_rows_behind_the_limit_count_for_nothing(teacher_of, tokenizer, template):
    source = teacher_of(rows("red", "", "blue", "", "red", "green"))
    found = encoded(source, tokenizer, template, limit=2)
    assert found.events == {"rows read": 3, "dropped: empty response": 1}
    assert len(found.sample) == 2


def test_a_source_without_anything_to_learn_is_refused(teacher_of, tokenizer, template):
    with pytest.raises(DataError, match=r"teacher 'mute': no example is left .*2 rows read"):
        encoded(teacher_of(rows("", " "), name="mute"), tokenizer, template)


def test_rows_that_cannot_be_rendered_end_the_run_or_are_counted(teacher_of, tokenizer, template):
    source = source_of(teacher_of, talk("a", "b"), talk("a"), talk("c", "d"))
    with pytest.raises(DataError, match=r"item toy/1: .* must end with the assistant's turn"):
        encoded(source, tokenizer, template)
    found = encoded(source, tokenizer, template, on_bad_row="drop")
    assert found.examples.rows.tolist() == [0, 2]
    assert found.events == {"rows read": 3, "dropped: row cannot be rendered": 1}


def test_the_split_depends_on_the_prompt_alone(teacher_of, tokenizer, template):
    asked = [(f"Name thing {i}.", f"Thing {i}.") for i in range(60)]
    other = [(prompt, f"It is {said}") for prompt, said in reversed(asked)]
    found = encoded(teacher_of(asked), tokenizer, template, validation_share=0.3)
    again = encoded(teacher_of(other), tokenizer, template, validation_share=0.3)
    apart = {asked[row][0] for row in found.validation.rows}
    assert {other[row][0] for row in again.validation.rows} == apart
    assert 0 < len(apart) < 40
    assert len(found.examples) + len(apart) == 60
    assert found.events["kept apart for validation"] == len(apart)
    more = encoded(teacher_of(asked), tokenizer, template, validation_share=0.6).validation
    assert apart < {asked[row][0] for row in more.rows}, "a larger share holds the smaller one"


def test_a_limit_counts_what_is_trained_on(teacher_of, tokenizer, template):
    asked = [(f"Name thing {i}.", f"Thing {i}.") for i in range(60)]
    found = encoded(teacher_of(asked), tokenizer, template, validation_share=0.3, limit=10)
    assert len(found.examples) == 10
    assert found.validation.rows.max() < found.examples.rows.max()


def test_several_threads_give_what_one_gives(teacher_of, tokenizer, template, monkeypatch):
    monkeypatch.setattr("heed.data.encode.ROWS", 3)
    said = [("Hi", "ab " * (i % 23)) for i in range(40)]
    one, two = (
        encoded(teacher_of(said), tokenizer, template, workers=n, validation_share=0.2)
        for n in (1, 3)
    )
    assert one == two
    assert one.events["dropped: over-long"] + one.events["dropped: empty response"] > 2


def test_a_conversation_that_is_too_long_is_not_cut_into_windows(teacher_of, tokenizer, template):
    short, long = talk("a", "b"), talk("c", "d " * 60)
    found = encoded(source_of(teacher_of, short), tokenizer, template, over_long="window")
    assert len(found.examples) == 1
    source = source_of(teacher_of, short, long)
    for rule in ("error", "drop"):
        with pytest.raises(DataError, match=r"item toy/1: .* data\.over_long=cut_at_turn"):
            encoded(source, tokenizer, template, over_long="window", on_bad_row=rule)


def test_a_conversation_that_is_too_long_behind_the_limit_ends_nothing(
    teacher_of, tokenizer, template
):
    source = teacher_of(rows("a", "b", "long " * 60))
    found = encoded(source, tokenizer, template, over_long="window", limit=2)
    assert found.examples.rows.tolist() == [0, 1]
    with pytest.raises(DataError, match=r"item toy/2.*data\.over_long=window"):
        encoded(source, tokenizer, template, over_long="window", limit=3)


def test_a_blank_earlier_turn_is_dropped_only_where_the_loss_stands_on_it(
    teacher_of, tokenizer, template
):
    source = source_of(
        teacher_of, talk("a", " ", "c", "d"), talk("a", "b", "c", ""), talk("a", "b")
    )
    for loss_on, kept in (("every_turn", [2]), ("last_turn", [0, 2])):
        found = encoded(source, tokenizer, template, loss_on=loss_on)
        assert found.examples.rows.tolist() == kept
        assert found.events["dropped: empty response"] == 3 - len(kept)


def test_a_cut_conversation_does_not_end_with_a_blank_turn(teacher_of, tokenizer, template):
    source = source_of(teacher_of, talk("x", "y"), talk("a", "b", "c", " ", "e", "f " * 60))
    found = encoded(source, tokenizer, template, over_long="cut_at_turn", loss_on="last_turn")
    assert supervised_text(found.examples[1], tokenizer) == f"b{END}"


def test_turns_that_may_be_trained_on_tell_conversations_apart(teacher_of, tokenizer, template):
    half = talk("a", "b", "c", "d", supervised=[False, True])
    source = source_of(teacher_of, half, talk("a", "b", "c", "d"), half)
    found = encoded(source, tokenizer, template, duplicates="drop")
    assert found.examples.rows.tolist() == [0, 1]
    assert found.examples[0].supervised < found.examples[1].supervised


@pytest.mark.parametrize("workers", [1, 2])
def test_a_row_that_cannot_be_read_behind_the_limit_ends_nothing(
    teacher_of, tokenizer, template, workers: int
):
    source = Breaks(name="breaks", good=6)
    found = encoded(source, tokenizer, template, workers, limit=3)
    assert len(found.examples) == 3
    with pytest.raises(DataError, match="row 7"):
        encoded(source, tokenizer, template, workers, limit=7)


@pytest.mark.parametrize(
    ("what", "advice"), [(UNSPELT, "Take a student whose tokenizer"), (NOTHING, "Raise data.max_t")]
)
def test_the_advice_fits_what_left_no_example(what: str, advice: str):
    source = namedtuple("Source", "name")("mine")
    with pytest.raises(DataError, match=rf"1,000 rows read, 1,000 {what}\). {advice}"):
        refuse_nothing(source, 0, Counter({"rows read": 1000, what: 1000}))
