"""nltk's data are found where they are said to be, and never fetched."""

from pathlib import Path

import nltk
import pytest

from heed.core.errors import DataError
from heed.evaluation.nltk_data import PUNKT_FILES, DataMissingError, find_punkt, without_download


def put_punkt(folder: Path, text: str) -> str:
    place = folder / "tokenizers/punkt_tab/english"
    place.mkdir(parents=True)
    for name in PUNKT_FILES:
        (place / name).write_text(text)
    return str(folder)


def test_missing_data_is_an_error_with_the_command_that_gets_it(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(nltk.data, "path", [])
    with pytest.raises(DataError, match=r"nltk_data=.*python -m nltk.downloader punkt_tab"):
        find_punkt(str(tmp_path))


def test_only_the_types_that_are_asked_for_are_named(monkeypatch):
    monkeypatch.setattr(nltk.data, "path", [])
    with pytest.raises(DataError, match=r"found nowhere.*of the types words:start_verb cannot"):
        find_punkt(None, {"words:start_verb"})


def test_punkt_is_looked_for_in_the_configured_folder_before_nltks_own(monkeypatch, tmp_path):
    own, given = (put_punkt(tmp_path / name, name) for name in ("own", "given"))
    monkeypatch.setattr(nltk.data, "path", [own])
    digests = [find_punkt(folder) for folder in (None, given, None)]
    assert digests[0] != digests[1] == digests[2]


def test_what_nltk_lacks_is_named_and_nothing_is_fetched(monkeypatch):
    reached: list[object] = []
    monkeypatch.setattr(nltk, "download", lambda *what, **_: reached.append(what))
    monkeypatch.setattr(nltk.data, "path", [])

    def look() -> None:
        with without_download("a tagger"):
            nltk.download("averaged_perceptron_tagger_eng")
            nltk.data.find("taggers/averaged_perceptron_tagger_eng/")

    with pytest.raises(DataMissingError, match="a tagger cannot be verified") as error:
        look()
    assert error.value.resource == "averaged_perceptron_tagger_eng"
    assert reached == []
    nltk.download("again")
    assert reached == [("again",)]


def test_other_errors_of_a_lookup_pass_through():
    with pytest.raises(KeyError), without_download("anything"):
        raise KeyError("a verifier's own mistake")
