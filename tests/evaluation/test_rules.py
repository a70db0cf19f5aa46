"""Which package of verifiers is taken, that it says what it lacks, and reaches for nothing."""

import socket

import pytest

from heed.core.errors import DataError
from heed.evaluation.rules import RULES, registry, rules_versions

REGISTRY = "class Follows: pass\nINSTRUCTION_DICT = {{'custom:{0}': Follows}}\n"
NEEDED = ("emoji", "spacy", "syllapy")


def test_loading_the_verifiers_touches_no_network_and_prints_nothing(monkeypatch, capsys):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert len(registry.__wrapped__()) == 25
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("ask", [registry, rules_versions])
def test_rules_that_are_not_installed_name_each_package_and_its_command(fake_package, ask):
    with pytest.raises(DataError, match="ifbench or lighteval is not installed") as error:
        ask("ifbench")
    for rules in RULES["ifbench"]:
        assert rules.install in str(error.value)


def test_rules_that_cannot_be_imported_say_what_they_lack(fake_package):
    fake_package("ifbench", code="import a_package_that_nobody_has")
    with pytest.raises(DataError, match=r"cannot be imported.*a_package_that_nobody_has"):
        registry("ifbench")


def test_rules_that_cannot_write_into_their_own_folder_are_one_screen(fake_package):
    """The authors' package makes a folder beside itself as it is imported."""
    fake_package("ifbench", code="raise PermissionError('read-only: .nltk_data')")
    with pytest.raises(DataError, match=r"cannot be imported.*read-only: \.nltk_data"):
        registry("ifbench")


def test_the_authors_own_package_goes_before_a_copy_of_its_rules(fake_package):
    fake_package("lighteval", code=REGISTRY.format("copy"), version="0.13.0")
    for name in NEEDED:
        fake_package(name)
    assert list(registry("ifbench")) == ["custom:copy"]
    assert rules_versions("ifbench")["lighteval"] == "0.13.0"
    fake_package("ifbench", code=REGISTRY.format("own"))
    assert list(registry("ifbench")) == ["custom:own"]
    assert "ifbench" in rules_versions("ifbench")
    assert "lighteval" not in rules_versions("ifbench")


@pytest.mark.parametrize("lacking", NEEDED)
@pytest.mark.parametrize("ask", [registry, rules_versions])
def test_what_a_copy_of_the_rules_needs_is_missed_before_anything_is_scored(
    fake_package, lacking: str, ask
):
    fake_package("lighteval")
    for name in set(NEEDED) - {lacking}:
        fake_package(name)
    with pytest.raises(DataError, match=rf"need {lacking}, not installed.*pip install --no-deps"):
        ask("ifbench")


def test_the_copy_is_told_to_fetch_nothing(fake_package):
    import importlib

    for name in NEEDED:
        fake_package(name)
    fake_package("lighteval", instructions="RESOURCES_DOWNLOADED = False")
    registry("ifbench")
    (_, copy) = RULES["ifbench"]
    assert importlib.import_module(copy.instructions).RESOURCES_DOWNLOADED is True
    fake_package("lighteval", instructions="OTHER_NAME = False")
    with pytest.raises(DataError, match=r"cannot be imported.*RESOURCES_DOWNLOADED"):
        registry("ifbench")


def test_the_versions_of_the_rules_tell_releases_and_commits_apart(fake_package):
    found = []
    for version, commit in (("0.2.0", ""), ("0.3.0", ""), ("0.3.0", "abc")):
        fake_package("ifbench", version=version, commit=commit)
        found.append(rules_versions("ifbench")["ifbench"])
    assert found == ["0.2.0", "0.3.0", "0.3.0@abc"]
    assert set(rules_versions("ifeval")) == {"lm_eval", "langdetect", "nltk"}
