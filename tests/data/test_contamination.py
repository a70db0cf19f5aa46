"""Prompts are found wherever they are said in training text, and nowhere else."""

import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core.errors import DataError
from heed.data.contamination import FEWEST, WORDS, Prompts, counted, words_of
from heed.data.encode import encode_all
from heed.data.treatment import Treatment

TREATMENT = Treatment(
    max_tokens=400, over_long="drop", limit=None, on_bad_row="error", duplicates="keep",
    loss_on="every_turn", validation_share=0.0, drop_contaminated=False, packing="best_fit",
    examples_per_step=4, epochs=1, steps=None, micro_tokens=400,
)  # fmt: skip
LONG = "Write a poem of four lines about a lamp that dreams of the sea and of fish at night."
SHORT = "Say why a lamp is not a fish, please."  # nine words
TINY = "Name three colours."
PROMPTS = Prompts((LONG, SHORT, TINY))

FEW = st.text(alphabet="ab ", min_size=0, max_size=90)  # so few words that sequences meet


def shared(prompt: str, text: str) -> bool:
    """The definition, word by word."""
    asked, said = words_of(prompt), words_of(text)
    size = min(WORDS, len(asked))
    runs = {tuple(asked[i : i + size]) for i in range(len(asked) - size + 1)}
    return size >= FEWEST and any(
        tuple(said[i : i + size]) in runs for i in range(len(said) - size + 1)
    )


@given(st.lists(FEW, min_size=1, max_size=3), st.lists(FEW, min_size=1, max_size=4))
def test_a_text_is_found_just_if_it_shares_a_sequence(asked: list[str], said: list[str]):
    found = Prompts(tuple(asked)).found_in(said)
    assert found == [{p for p in asked if shared(p, text)} for text in said]


@pytest.mark.parametrize("change", [str.upper, lambda s: s.replace(" ", ",  "), lambda s: f"«{s}»"])
def test_case_and_punctuation_hide_nothing(change):
    assert PROMPTS.found_in([change(f"He said: {LONG} Then he left.")]) == [{LONG}]
    assert PROMPTS.found_in([change(SHORT)]) == [{SHORT}]


ACCENTED = "Schreibe über die Küche einen Brief, der für alle schön zu hören ist, bitte früh."


@pytest.mark.parametrize(
    "change",
    [
        lambda s: unicodedata.normalize("NFD", s),
        lambda s: s.replace("der", "_der_").replace("alle", "**alle**"),
        lambda s: s.replace("fi", "\ufb01").replace("B", "\uff22"),
    ],
    ids=["letters in pieces", "marked words", "letters of other shapes"],
)
def test_how_letters_are_written_hides_nothing(change):
    assert change(ACCENTED) != ACCENTED
    assert Prompts((ACCENTED,)).found_in([change(ACCENTED)]) == [{ACCENTED}]
    assert Prompts((change(ACCENTED),)).found_in([ACCENTED]) == [{change(ACCENTED)}]


def test_twelve_words_of_a_long_prompt_are_not_enough():
    words = words_of(LONG)
    for size, found in ((12, set()), (13, {LONG})):
        assert PROMPTS.found_in([" ".join(words[2 : 2 + size])]) == [found]


def test_a_sequence_does_not_reach_from_one_text_to_the_next():
    words = words_of(LONG)[:13]
    assert PROMPTS.found_in([" ".join(words[:7]), " ".join(words[7:])]) == [set(), set()]


def test_a_prompt_too_short_to_be_looked_for_is_counted_as_such():
    assert PROMPTS.too_short() == 1
    assert PROMPTS.found_in([TINY]) == [set()]


SAID = [("Hi", "red"), ("Hi", f"You ask: {LONG}"), (SHORT, "No fins."), ("Hi", "blue")]


@pytest.mark.parametrize(("drop", "kept"), [(False, [0, 1, 2, 3]), (True, [0, 3])])
def test_contaminated_examples_are_counted_and_dropped_if_so_told(
    teacher_of, template, tokenizer, drop: bool, kept: list[int]
):
    source, treatment = teacher_of(SAID), replace(TREATMENT, drop_contaminated=drop)
    dataset = encode_all(source, template, tokenizer, treatment)
    found, record = counted(dataset, source, treatment, PROMPTS)
    assert found.examples.rows.tolist() == kept
    assert len(found.sample) == len(kept)
    (event,) = [e for e in found.events if "prompt of the evaluation" in e]
    assert found.events[event] == record["examples_found"] == 2
    assert event.startswith("dropped: ") == drop
    assert record["prompts_found"] == record["prompts_looked_for"] == 2
    assert record["prompts_too_short_to_be_looked_for"] == 1


def test_prompts_are_counted_that_stand_in_one_row_or_share_a_sequence(
    teacher_of, template, tokenizer
):
    twin = f"{LONG} And at noon."
    source = teacher_of([(f"{LONG} {SHORT}", "red"), ("Hi", "blue")])
    dataset = encode_all(source, template, tokenizer, TREATMENT)
    _, record = counted(dataset, source, TREATMENT, Prompts((LONG, SHORT, twin)))
    assert (record["prompts_found"], record["examples_found"]) == (3, 1)


@pytest.mark.parametrize("row", [("Hi", f"{LONG} " + "so " * 400), (LONG, " ")])
def test_prompts_in_rows_that_are_not_trained_on_are_not_counted(
    teacher_of, template, tokenizer, row
):
    source = teacher_of([("Hi", "red"), row, (SHORT, "blue")])
    dataset = encode_all(source, template, tokenizer, TREATMENT)
    _, record = counted(dataset, source, TREATMENT, PROMPTS)
    assert len(dataset.examples) == 2
    assert (record["prompts_found"], record["examples_found"]) == (1, 1)


def test_clean_data_have_no_event(teacher_of, template, tokenizer):
    source = teacher_of(SAID[:1])
    dataset = encode_all(source, template, tokenizer, TREATMENT)
    found, record = counted(dataset, source, TREATMENT, PROMPTS)
    assert found.events == {"rows read": 1}
    assert record["examples_found"] == 0


def test_every_window_of_a_contaminated_text_is_found(teacher_of, template, tokenizer):
    source = teacher_of(["xyz " * 150 + LONG + " xyz" * 150, "red green"])
    treatment = replace(TREATMENT, over_long="window", drop_contaminated=True)
    dataset = encode_all(source, template, tokenizer, treatment)
    found, _ = counted(dataset, source, treatment, PROMPTS)
    assert len(dataset.examples) > 3
    assert found.examples.rows.tolist() == [1]


def test_rows_behind_a_limit_are_not_looked_at(teacher_of, template, tokenizer):
    source, treatment = teacher_of(SAID), replace(TREATMENT, limit=1)
    dataset = encode_all(source, template, tokenizer, treatment)
    assert counted(dataset, source, treatment, PROMPTS)[1]["examples_found"] == 0


def test_data_that_are_all_contaminated_are_refused(teacher_of, template, tokenizer):
    source, treatment = teacher_of(SAID[1:3]), replace(TREATMENT, drop_contaminated=True)
    dataset = encode_all(source, template, tokenizer, treatment)
    with pytest.raises(DataError, match=r"every example shares .*drop_contaminated=false"):
        counted(dataset, source, treatment, PROMPTS)


def test_the_digest_depends_on_the_prompts_and_not_on_their_order():
    assert Prompts((LONG, SHORT)).digest == Prompts((SHORT, LONG)).digest
    assert Prompts((LONG,)).digest != Prompts((SHORT,)).digest


def test_sequences_whose_sums_are_equal_are_told_apart(monkeypatch):
    monkeypatch.setattr(
        "heed.data.contamination._FACTOR", np.uint64(0)
    )  # the last word alone is the sum
    words = words_of(LONG)
    said = " ".join(["lamp"] * 12 + words[12:13])
    assert Prompts((LONG,)).found_in([said, f"{LONG} {said}"]) == [set(), {LONG}]
