"""Properties of the seeded, offline verifiers, whatever package they come in."""

import random

import pytest

from heed.core.errors import DataError
from heed.evaluation.verifiers import loose_forms, verify


def row(**instructions: dict) -> dict:
    """A row; `keywords__existence` stands for `keywords:existence`."""
    names = [name.replace("__", ":") for name in instructions]
    return {
        "key": 1,
        "prompt": "Say it.",
        "instruction_id_list": names,
        "kwargs": list(instructions.values()),
    }


LETTER = {"letter": "z", "let_relation": "at least"}


def marks(asked: dict, response: str | None) -> tuple[list[bool], list[bool]]:
    """Strict and loose verdicts."""
    found = verify(asked, response)
    return [v.strict for v in found], [v.loose for v in found]


def test_strict_takes_the_text_as_it_is_and_loose_forgives_wrappings():
    asked = row(startend__end_checker={"end_phrase": "the end"}, punctuation__no_comma={})
    assert marks(asked, "It is the end") == ([True, True], [True, True])
    assert marks(asked, "It is *the end*\nSure, bye") == ([False, False], [True, True])


@pytest.mark.parametrize("response", [None, "", " \n\t"])
def test_a_missing_or_blank_response_follows_nothing(response: str | None):
    asked = row(punctuation__no_comma={}, keywords__forbidden_words={"forbidden_words": ["cat"]})
    assert marks(asked, response) == ([False, False], [False, False])


@pytest.mark.parametrize(
    "instruction",
    [
        {"keywords__frequency": {"keyword": "cat", "frequency": 0, "relation": "at least"}},
        {"keywords__letter_frequency": LETTER | {"let_frequency": 0}},
        {"startend__end_checker": {"end_phrase": ""}},
        {"length_constraints__number_words": {"num_words": 0, "relation": "at least"}},
        {"detectable_content__number_placeholders": {"num_placeholders": 0}},
    ],
)  # fmt: skip
def test_arguments_that_are_zero_or_empty_are_not_lost(instruction: dict):
    assert marks(row(**instruction), "A dog.") == ([True], [True])
    assert verify(row(**instruction), "A dog.")[0].drawn == {}


def test_arguments_that_are_null_count_as_not_given():
    plain = row(keywords__existence={"keywords": ["dog"]})
    nulls = row(keywords__existence={"keywords": ["dog"], "num_words": None, "relation": None})
    assert marks(plain, "A dog.") == marks(nulls, "A dog.") == ([True], [True])


def test_verdicts_do_not_depend_on_what_was_drawn_before():
    drawn = row(keywords__letter_frequency={"letter": "#", "let_frequency": 2})
    verdicts = []
    for seed in range(12):
        random.seed(seed)
        verdicts.append(verify(drawn, "aabbccddeeffgg"))
    assert all(verdict == verdicts[0] for verdict in verdicts)


def test_an_argument_that_a_row_leaves_to_chance_is_told_with_what_was_drawn():
    chance = {"letter": "#", "let_frequency": 2, "let_relation": "at least"}
    (found,) = verify(row(keywords__letter_frequency=chance), "text")
    assert list(found.drawn) == ["letter"]
    assert found.drawn["letter"] in "abcdefghijklmnopqrstuvwxyz"
    (lost,) = verify(row(keywords__existence={"keywords": []}), "text")  # lm-eval draws some
    assert lost.drawn["keywords"] != []
    certain = {**chance, "letter": "E"}
    assert verify(row(keywords__letter_frequency=certain), "text")[0].drawn == {}


def test_the_callers_random_state_is_left_as_it_was():
    random.seed(5)
    expected = random.random()
    random.seed(5)
    verify(row(keywords__letter_frequency={"letter": "!"}), "text")
    assert random.random() == expected


def test_whatever_is_followed_strictly_is_followed_loosely():
    drawn = row(
        keywords__letter_frequency={"letter": "#", "let_frequency": 1},
        language__response_language={"language": "en"},
    )
    for response in ("ok", "This is plain English text.\nYes.", "*a* b\n\nc"):
        assert all(v.loose or not v.strict for v in verify(drawn, response))


def test_a_response_on_which_a_verifier_fails_is_not_followed_and_tells_why():
    asked = row(detectable_format__json_format={}, punctuation__no_comma={})
    json_format, no_comma = verify(asked, "[" * 100_000)  # a model that loops says such things
    assert (json_format.strict, json_format.loose) == (False, False)
    assert json_format.error.startswith("RecursionError")
    assert (no_comma.strict, no_comma.error) == (True, "")


@pytest.mark.parametrize("arguments", [{"num_wrods": 3}, {"num_words": 3, "relation": "about"}])
def test_arguments_that_a_verifier_does_not_take_are_refused_with_the_row(arguments: dict):
    with pytest.raises(DataError, match=r"Row 1: the verifier of length_constraints:number_words"):
        verify(row(length_constraints__number_words=arguments), None)


def test_loose_forms_drop_first_and_last_lines_and_asterisks():
    assert loose_forms("a\n*b*\nc") == [
        *("a\n*b*\nc", "*b*\nc", "a\n*b*", "*b*"),
        *("a\nb\nc", "b\nc", "a\nb", "b"),
    ]


def test_a_verifier_that_wants_the_prompt_is_given_it(fake_package, downloads: list[object]):
    fake_package("ifbench")
    asked = row(custom__asks={"N": None})
    assert [v.strict for v in verify(asked, "Say it.", "ifbench")] == [True]
    assert [v.strict for v in verify(asked, "Say what?", "ifbench")] == [False]
    assert downloads == []


def test_data_that_a_verifier_lacks_is_an_error_with_the_command_and_no_download(
    fake_package, downloads: list[object], monkeypatch
):
    import nltk

    fake_package("ifbench")
    monkeypatch.setattr(nltk.data, "path", [])
    with pytest.raises(DataError, match=r"'stopwords' is missing.*nltk.downloader stopwords"):
        verify(row(custom__lacks={}), "Say it.", "ifbench")
    assert downloads == []
    assert callable(nltk.download)
