"""The form of a response: what counts as a loop, an echo, another language, and what does not."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core.types import ItemScore, Ratio
from heed.evaluation.form import (
    ECHO_SHARE,
    LOOP_CHARACTERS,
    LOOP_SHARE,
    LOOP_TIMES,
    MEANINGS,
    _self_matches,
    degenerate,
    echoes,
    form_of,
    form_record,
    loops,
    plain_forms,
    sound_items,
    summary_of,
)
from heed.evaluation.language import LETTERS, language_of

TALK = (
    "Yesterday my neighbour painted her fence in a bright colour that nobody else on this street "
    "would have picked, and the whole town came by to look at it before supper. "
)
GERMAN = (
    "Gestern hat meine Nachbarin ihren Zaun in einer leuchtenden Farbe gestrichen, die sonst "
    "niemand in dieser Strasse gewählt hätte, und alle kamen vorbei. "
)
ASKED = "Write two sentences about a painted fence, and do not use any commas in your answer."


def brute(line: str) -> bool:
    """The definition of a loop, word for word, in cubic time."""
    least = max(LOOP_CHARACTERS, LOOP_SHARE * len(line))
    for period in range(1, (len(line) + 1) // LOOP_TIMES + 1):
        length = period
        while length < len(line) and line[-length - 1] == line[-length - 1 + period]:
            length += 1
        blank = line[-period] == " "  # there is none behind the last block
        if length + blank >= LOOP_TIMES * period and length >= least:
            return True
    return False


@pytest.mark.parametrize(
    "text",
    [
        TALK + "I do not know. " * 12,
        TALK + "I do not know. " * 12 + "I do n",  # the last block is cut
        "a" * LOOP_CHARACTERS,
        "\n".join(f"{i}. The fence is red." for i in range(95, 105)),
        TALK + "ਕੋਲੇਜ ਦੇ " * 20,
        TALK + "* *\n\n" * 60,
        ("Row, row, row your boat. " * LOOP_TIMES).strip(),  # exactly so often
    ],
)
def test_a_text_that_ends_in_repetition_is_a_loop(text):
    assert loops(text)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "Sure", TALK, TALK + TALK, TALK * (LOOP_TIMES - 1),
        GERMAN[:100] + TALK[:57] * (LOOP_TIMES - 1),
        "ha ha ha ha ha ha",  # too short
        "I do not know. " * 12 + TALK * 2,  # not at the end
        TALK * 2 + "Bravo! " * 6,  # too small a part
        " ".join(map(str, range(100, 200))),  # a list of numbers
    ],
)  # fmt: skip
def test_a_text_that_ends_otherwise_is_none(text):
    assert not loops(text)


@given(st.text("ab ", max_size=30), st.text("abc", min_size=1, max_size=25), st.integers(1, 30))
def test_a_loop_is_found_exactly_where_the_definition_says(head, block, times):
    line = " ".join((head + block * times).split())
    assert loops(line) == brute(line)


def test_a_loop_takes_a_share_of_the_whole_text():
    block = "no more words here "
    for times in range(LOOP_TIMES, 60):
        text = (TALK * 3 + block * times).strip()
        inside = len(text) - len(TALK * 3)
        if abs(inside - LOOP_SHARE * len(text)) > len(block):
            assert loops(text) == (inside >= LOOP_SHARE * len(text))


class Counted(str):
    """A text that counts how often it is looked into."""

    looks = 0

    def __getitem__(self, at):
        Counted.looks += 1
        return super().__getitem__(at)


@pytest.mark.parametrize("text", ["a" * 9000, ("a" * 99 + "b") * 60 + "a" * 3000, "ab" * 4500])
def test_matches_of_a_long_text_with_itself_are_found_in_linear_time(text):
    Counted.looks = 0
    found = list(_self_matches(Counted(text), len(text) // LOOP_TIMES))
    assert Counted.looks <= 4 * len(text)
    assert [at for at, _ in found] == list(range(1, len(text) // LOOP_TIMES + 1))
    for at, length in found[:: len(found) // 20]:
        assert text[at : at + length] == text[:length]
        assert text[at + length : at + length + 1] != text[length : length + 1] or not text[at:]


def test_an_echo_is_the_prompt_and_hardly_more():
    assert echoes(ASKED, ASKED.upper())
    assert echoes(ASKED, f"'{ASKED}' Sure.")
    assert echoes(ASKED, ASKED * 5)
    assert echoes(ASKED, " ".join(ASKED.split()[:9]))  # a part of it
    assert echoes("Say it twice.", "say it twice")


@pytest.mark.parametrize("kind", ["combination:repeat_prompt", "repeat:repeat_simple", "copy:copy"])
def test_where_the_prompt_asks_to_be_repeated_an_echo_is_not_judged(kind):
    def said(what: str, text: str) -> ItemScore:
        return score("1", text, instructions=[{"id": what, "strict": True, "loose": True}])

    assert degenerate(said("a:b", ASKED))
    assert not degenerate(said(kind, ASKED))
    assert degenerate(said(kind, "I do not know. " * 12))
    right = form_of(ASKED, ASKED, "stop", repeats=True)
    assert right.echo is None
    assert summary_of([right, form_of(ASKED, ASKED, "stop")]).judged["echo"] == 1


def test_what_nobody_can_see_is_empty():
    assert form_of(ASKED, "\u200b\u200b \u2060", "stop").empty
    assert not form_of(ASKED, "!", "stop").empty


def test_an_answer_after_the_prompt_is_no_echo():
    assert not echoes(ASKED, ASKED + TALK)
    assert not echoes(ASKED, " ".join(ASKED.split()[:5]))  # too few words to be taken from it
    assert not echoes("Go on.", "Go on.")
    assert not echoes("", "")
    assert not echoes(ASKED, "")


@given(st.integers(0, 40))
def test_the_share_of_an_echo_is_of_the_response(more):
    words = ASKED.split()
    said = " ".join([*words, *(f"new{i}" for i in range(more))])
    assert echoes(ASKED, said) == (len(words) >= ECHO_SHARE * (len(words) + more))


def test_cut_means_that_more_could_have_come():
    running, looping = form_of(ASKED, TALK, "cap"), form_of(ASKED, "No. " * 40, "cap")
    assert (running.no_stop, running.cut, running.degenerate) == (True, True, False)
    assert (looping.no_stop, looping.cut, looping.degenerate) == (True, False, True)
    ended = form_of(ASKED, TALK, "stop")
    assert (ended.no_stop, ended.cut) == (False, False)
    unknown = form_of(ASKED, TALK, None)
    assert (unknown.no_stop, unknown.cut) == (None, None)


def test_a_missing_response_is_empty_and_its_end_unknown():
    assert form_of(ASKED, None, "cap")[:2] == (0, True)
    assert form_of(ASKED, None, "cap").no_stop is None
    assert form_of(ASKED, " \n\t", "stop").degenerate


def test_languages_are_told_apart_where_both_texts_are_long_enough():
    asked = TALK
    assert form_of(asked, GERMAN, None, judge=True).other_language is True
    assert form_of(asked, TALK.lower(), None, judge=True).other_language is False
    assert form_of(asked, "Nein.", None, judge=True).other_language is None
    assert form_of("Write.", GERMAN, None, judge=True).other_language is None
    assert form_of(asked, GERMAN, None).other_language is None
    assert not form_of(asked, GERMAN, None, judge=True).degenerate


def test_a_language_is_guessed_alike_every_time_and_leaves_the_random_state_alone():
    mixed, state = TALK[:80] + GERMAN[:80], random.getstate()
    guesses = set()
    for _ in range(5):
        language_of.cache_clear()
        guesses.add(language_of(mixed))
    assert len(guesses) == 1
    assert random.getstate() == state
    assert (language_of(TALK), language_of(GERMAN)) == ("en", "de")
    assert language_of("a" * (LETTERS - 1)) is None
    assert language_of("1234 " * 400) is None


def score(key, response, prompt=ASKED, stop="stop", task="ifeval", **details):
    told = {"instructions": [{"id": "a:b", "strict": True, "loose": True}]} | details
    return ItemScore(task, key, prompt, response, stop, 3, {"acc": Ratio(1, 1)}, told)


def test_a_summary_counts_each_kind_among_those_that_are_known():
    forms = [
        form_of(ASKED, TALK, "cap"), form_of(ASKED, "", "stop"), form_of(ASKED, "No. " * 40, "cap"),
        form_of(ASKED, ASKED, None),
    ]  # fmt: skip
    found = summary_of(forms)
    assert set(found.counts) == set(MEANINGS) == set(found.judged)
    assert found.items == 4
    assert (found.counts["no_stop"], found.judged["no_stop"]) == (2, 3)
    assert (found.counts["cut"], found.counts["degenerate"]) == (1, 3)
    assert found.judged["other_language"] == 0


def test_the_median_is_over_responses():
    forms = [form_of(ASKED, "word " * n, None) for n in (1, 2, 30)]
    assert summary_of(forms).median_words == 2
    assert math.isclose(summary_of(forms[1:]).median_words, 16)


def test_sound_items_are_those_with_two_answers_in_good_form():
    good, bad = score("1", "Red."), score("2", "")
    before = [good, bad, score("3", "Blue."), score("4", "Green.", task="other")]
    after = [good, score("2", "Ok."), score("3", ASKED), score("4", "Green.", task="other")]
    assert sound_items(before, after) == {("ifeval", "1"), ("other", "4")}
    assert not degenerate(good)
    weighed = replace(good, response=None, details={})
    assert sound_items([weighed], [weighed]) == set()


def test_a_record_holds_each_task_for_each_model_that_has_it():
    one = plain_forms({"ifeval": summary_of([form_of(ASKED, "Red.", None)])})
    record = form_record({"before": one, "after": one, "control": {}})
    assert list(record["tasks"]["ifeval"]) == ["before", "after"]
    assert record["limit"] > 0
    assert record["meanings"] == dict(MEANINGS)
