"""Properties of the verifiers: nothing but the row and the response decides."""

import random
import socket

import pytest

from heed.core.errors import DataError
from heed.evaluation.verifiers import find_punkt, loose_forms, registry, verify


def row(**instructions: dict) -> dict:
    """A row with instructions such as `keywords__frequency={"keyword": "cat"}`."""
    names = [name.replace("__", ":") for name in instructions]
    return {
        "key": 1,
        "prompt": "Say it.",
        "instruction_id_list": names,
        "kwargs": list(instructions.values()),
    }


def test_strict_takes_the_text_as_it_is_and_loose_forgives_wrappings():
    asked = row(startend__end_checker={"end_phrase": "the end"}, punctuation__no_comma={})
    assert verify(asked, "It is the end") == ([True, True], [True, True])
    assert verify(asked, "It is *the end*\nSure, bye") == ([False, False], [True, True])


@pytest.mark.parametrize("response", [None, "", " \n\t"])
def test_a_missing_or_blank_response_follows_nothing(response: str | None):
    asked = row(punctuation__no_comma={}, keywords__forbidden_words={"forbidden_words": ["cat"]})
    assert verify(asked, response) == ([False, False], [False, False])


@pytest.mark.parametrize(
    "instruction",
    [
        {"keywords__frequency": {"keyword": "cat", "frequency": 0, "relation": "at least"}},
        {"startend__end_checker": {"end_phrase": ""}},
        {"length_constraints__number_words": {"num_words": 0, "relation": "at least"}},
        {"detectable_content__number_placeholders": {"num_placeholders": 0}},
    ],
)
def test_arguments_that_are_zero_or_empty_are_not_lost(instruction: dict):
    assert verify(row(**instruction), "A dog.") == ([True], [True])


def test_arguments_that_are_null_count_as_not_given():
    plain = row(keywords__existence={"keywords": ["dog"]})
    nulls = row(keywords__existence={"keywords": ["dog"], "num_words": None, "relation": None})
    assert verify(plain, "A dog.") == verify(nulls, "A dog.") == ([True], [True])


def test_verdicts_do_not_depend_on_what_was_drawn_before():
    drawn = row(keywords__letter_frequency={"letter": "#", "let_frequency": 2})
    verdicts = []
    for seed in range(12):
        random.seed(seed)
        verdicts.append(verify(drawn, "aabbccddeeffgg"))
    assert all(verdict == verdicts[0] for verdict in verdicts)


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
        strict, loose = verify(drawn, response)
        assert all(b or not a for a, b in zip(strict, loose, strict=True))


def test_loose_forms_drop_first_and_last_lines_and_asterisks():
    assert loose_forms("a\n*b*\nc") == [
        *("a\n*b*\nc", "*b*\nc", "a\n*b*", "*b*"),
        *("a\nb\nc", "b\nc", "a\nb", "b"),
    ]


def test_loading_the_verifiers_touches_no_network_and_prints_nothing(monkeypatch, capsys):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert len(registry.__wrapped__()) == 25
    assert capsys.readouterr().out == ""


def test_missing_nltk_data_is_an_error_with_the_command_that_gets_it(monkeypatch, tmp_path):
    import nltk

    monkeypatch.setattr(nltk.data, "path", [])
    with pytest.raises(DataError, match=r"nltk_data=.*python -m nltk.downloader punkt_tab"):
        find_punkt(str(tmp_path))
