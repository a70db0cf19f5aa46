"""Properties of the seeded, offline verifiers, whatever package they come in."""

import importlib
import json
import random
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heed.core.errors import DataError
from heed.evaluation import verifiers
from heed.evaluation.verifiers import (
    RULES,
    find_punkt,
    loose_forms,
    registry,
    rules_versions,
    verify,
)


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


def test_punkt_is_looked_for_in_the_configured_folder_before_nltks_own(monkeypatch, tmp_path):
    import nltk

    digests = []
    for folder in ("own", "given"):
        place = tmp_path / folder / "tokenizers/punkt_tab/english"
        place.mkdir(parents=True)
        for name in verifiers.PUNKT_FILES:
            (place / name).write_text(folder)
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path / "own")])
    digests = [find_punkt(folder) for folder in (None, str(tmp_path / "given"), None)]
    assert digests[0] != digests[1] == digests[2]


FAKE = '''
import nltk
nltk.download("stopwords")

class Asks:
    """Follows if the response is the prompt that it was built with."""
    def __init__(self, name):
        self.prompt = None
    def build_description(self, *, N=None, prompt=None):
        self.prompt = prompt
    def get_instruction_args(self):
        return {"prompt": self.prompt}
    def check_following(self, text):
        return text == self.prompt

class Lacks(Asks):
    def check_following(self, text):
        nltk.download("stopwords")
        return nltk.data.find("corpora/stopwords")

INSTRUCTION_DICT = {"custom:asks": Asks, "custom:lacks": Lacks}
'''


@pytest.fixture
def fake_ifbench(tmp_path: Path, monkeypatch) -> Iterator[Callable[..., None]]:
    """Install a tiny package of the name ifbench, beside all that is installed."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(code: str = FAKE, version: str = "0.2.0", commit: str = "") -> None:
        (tmp_path / "ifbench").mkdir(exist_ok=True)
        (tmp_path / "ifbench/__init__.py").write_text("")
        (tmp_path / "ifbench/instructions_registry.py").write_text(code)
        about = tmp_path / "ifbench-0.dist-info"
        about.mkdir(exist_ok=True)
        (about / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: ifbench\nVersion: {version}\n"
        )
        (about / "direct_url.json").write_text(json.dumps({"vcs_info": {"commit_id": commit}}))
        forget()

    def forget() -> None:
        registry.cache_clear()
        importlib.invalidate_caches()
        for name in [name for name in sys.modules if name.split(".")[0] == "ifbench"]:
            del sys.modules[name]

    forget()
    yield install
    forget()


@pytest.fixture
def downloads(monkeypatch) -> list[object]:
    """What reached nltk's downloader."""
    import nltk

    reached: list[object] = []
    monkeypatch.setattr(nltk, "download", lambda *what, **_: reached.append(what))
    return reached


def test_rules_that_are_not_installed_name_their_package_and_the_command(fake_ifbench):
    command = RULES["ifbench"].install
    for ask in (registry, rules_versions):
        with pytest.raises(DataError, match="ifbench is not installed") as error:
            ask("ifbench")
        assert command in str(error.value)


def test_rules_that_cannot_be_imported_say_what_they_lack(fake_ifbench):
    fake_ifbench(code="import a_package_that_nobody_has")
    with pytest.raises(DataError, match=r"cannot be imported.*a_package_that_nobody_has"):
        registry("ifbench")


def test_a_verifier_that_wants_the_prompt_is_given_it(fake_ifbench, downloads: list[object]):
    fake_ifbench()
    asked = row(custom__asks={"N": None})
    assert [v.strict for v in verify(asked, "Say it.", "ifbench")] == [True]
    assert [v.strict for v in verify(asked, "Say what?", "ifbench")] == [False]
    assert downloads == []


def test_data_that_a_verifier_lacks_is_an_error_with_the_command_and_no_download(
    fake_ifbench, downloads: list[object], monkeypatch
):
    import nltk

    fake_ifbench()
    monkeypatch.setattr(nltk.data, "path", [])
    with pytest.raises(DataError, match=r"'stopwords' is missing.*nltk.downloader stopwords"):
        verify(row(custom__lacks={}), "Say it.", "ifbench")
    assert downloads == []
    assert callable(nltk.download)


def test_the_versions_of_the_rules_tell_releases_and_commits_apart(fake_ifbench):
    found = []
    for version, commit in (("0.2.0", ""), ("0.3.0", ""), ("0.3.0", "abc")):
        fake_ifbench(version=version, commit=commit)
        found.append(rules_versions("ifbench")["ifbench"])
    assert found == ["0.2.0", "0.3.0", "0.3.0@abc"]
    assert set(rules_versions("ifeval")) == {"lm_eval", "langdetect", "nltk"}
