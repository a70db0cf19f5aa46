"""Tiny packages of verifiers, in the place of those that need not be installed."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest

from heed.evaluation import rules

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
    wants = "stopwords"
    def check_following(self, text):
        nltk.download(self.wants)
        return nltk.data.find("corpora/" + self.wants)

class LacksMore(Lacks):
    wants = "words"

INSTRUCTION_DICT = {"custom:asks": Asks, "custom:lacks": Lacks, "custom:lacks_more": LacksMore}
'''
OPTIONAL = {"ifbench", "lighteval", "emoji", "spacy", "syllapy"}


@pytest.fixture
def fake_package(tmp_path: Path, monkeypatch) -> Iterator[Callable[..., None]]:
    """Install a tiny package; of the optional ones, none but these are seen."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def seen(name: str) -> Distribution:
        if name in OPTIONAL and not (site / f"{name}-0.dist-info").exists():
            raise PackageNotFoundError(name)
        return distribution(name)

    def install(
        name: str,
        code: str = FAKE,
        instructions: str = "RESOURCES_DOWNLOADED = False",
        version: str = "0.2.0",
        commit: str = "",
    ) -> None:
        inside = {"lighteval": "lighteval/tasks/tasks/ifbench"}.get(name, name)
        (site / inside).mkdir(parents=True, exist_ok=True)
        (site / inside / "instructions_registry.py").write_text(code)
        (site / inside / "instructions.py").write_text(instructions)
        about = site / f"{name}-0.dist-info"
        about.mkdir(exist_ok=True)
        said = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (about / "METADATA").write_text(said)
        (about / "direct_url.json").write_text(json.dumps({"vcs_info": {"commit_id": commit}}))
        forget()

    def forget() -> None:
        rules.registry.cache_clear()
        importlib.invalidate_caches()
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        for name in [name for name in sys.modules if name.split(".")[0] in OPTIONAL]:
            del sys.modules[name]

    monkeypatch.setattr(rules, "distribution", seen)
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
