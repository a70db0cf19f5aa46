"""What tells one subject from another, and what is done with its answers meanwhile."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from tiny import Finished

from heed.core.component import component, plain
from heed.core.errors import RunError
from heed.core.files import read_json
from heed.core.types import Answer, Item, ItemScore, Ratio
from heed.evaluation.suite import Suite
from heed.evaluation.task import Task
from heed.methods.adapters import LoRA
from heed.models.backend import HeedBackend
from heed.models.student import Loaded, Published, load
from heed.study.runs import TrainedRun
from heed.study.scores import ModelSubject, refuse_other_suite, scores_of
from heed.study.subjects import Tuned, load_run
from heed.training.checkpoint import save_student


@component
class Echoes(Task):
    """Six prompts; an answer is right if it holds the prompt's last letter."""

    metrics = ("acc",)

    def items(self) -> list[Item]:
        return [Item(f"k{i}", f"Say {c}") for i, c in enumerate("abcdef")]

    def score(self, name: str, item: Item, answer: Answer) -> ItemScore:
        right = Ratio(item.prompt[-1] in (answer.text or ""), 1)
        said = (answer.text, answer.stop, answer.tokens)
        return ItemScore(name, item.key, item.prompt, *said, {"acc": right})

    def digest(self) -> str:
        return "six"


@pytest.fixture
def suite() -> Suite:
    return Suite(
        name="toy", tasks={"echo": Echoes()}, primary="echo/acc", max_new_tokens=4,
        backend=HeedBackend(batch_tokens=4096, rows=8), level=0.95, resamples=100, seed=0,
        margin={"echo": 0.1},
    )  # fmt: skip


@dataclass
class InMemory(ModelSubject):
    """A student that is loaded from nowhere."""

    loaded: Loaded
    root: Path
    name: str = "toy"

    @property
    def title(self) -> str:
        return self.name

    @property
    def facts(self) -> dict[str, str]:
        return {"student": self.name}

    @property
    def identity(self) -> dict[str, str]:
        return {"name": self.name}

    def directory(self, suite: Suite) -> Path:
        return self.root / "scores" / suite.name

    def load(self) -> Loaded:
        return self.loaded


def test_scores_are_made_once_and_then_read(loaded, suite, tmp_path, monkeypatch):
    subject = InMemory(loaded, tmp_path)
    made = scores_of(subject, suite)
    assert len(made.sheet.items) == 6
    monkeypatch.setattr(InMemory, "load", None)
    assert scores_of(subject, suite) == made


def test_answers_outlive_an_interruption_and_the_journal_does_not_outlive_the_scores(
    loaded, suite, tmp_path, monkeypatch
):
    subject = InMemory(loaded, tmp_path)

    def stop(*_) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Echoes, "score", stop)
        with pytest.raises(KeyboardInterrupt):
            scores_of(subject, suite)
    assert [path.name.partition(".")[0] for path in (tmp_path / "scores").iterdir()] == ["toy"]
    monkeypatch.setattr(HeedBackend, "answers", lambda *_, **__: iter(()))
    kept = scores_of(subject, suite)
    assert kept.sheet.events["answer kept from an interrupted scoring"] == 6
    assert [path.name for path in (tmp_path / "scores").iterdir()] == ["toy"]


def test_another_model_takes_no_answers_over(loaded, suite, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Echoes, "score", None)
        with pytest.raises(TypeError):
            scores_of(InMemory(loaded, tmp_path), suite)
    kept = scores_of(InMemory(loaded, tmp_path, "another"), suite)
    assert "answer kept from an interrupted scoring" not in kept.sheet.events


def test_cut_and_blank_answers_are_counted(loaded, suite, tmp_path, monkeypatch):
    said = [Answer("a", 4, "cap"), Answer(" ", 1, "stop"), *[Answer("x", 2, "stop")] * 4]
    monkeypatch.setattr(HeedBackend, "answers", lambda *_, **__: iter(enumerate(said)))
    kept = scores_of(InMemory(loaded, tmp_path), suite)
    assert kept.sheet.events == {"blank answer": 1, "cut at the cap": 1}
    assert read_json(kept.directory / "events.json") == kept.sheet.events


def test_what_the_backend_tells_is_shown(loaded, suite, tmp_path, monkeypatch):
    def answers(self, loaded, prompts, *, max_new_tokens, events):
        events["texts that differ"] += 3
        return iter([(i, Answer("x", 2, "stop")) for i in range(len(prompts))])

    monkeypatch.setattr(HeedBackend, "answers", answers)
    assert scores_of(InMemory(loaded, tmp_path), suite).sheet.events == {"texts that differ": 3}


def test_what_was_scored_and_how_stands_in_the_facts(loaded, suite, tmp_path):
    facts = scores_of(InMemory(loaded, tmp_path), suite).sheet.facts
    assert facts["student"] == "toy"
    assert "(content six)" in facts["prompts of echo"]
    assert facts["decoding"] == "greedy"
    assert "torch" in facts["versions"]


def test_a_suite_is_refused_by_its_first_difference():
    refuse_other_suite(Path("x"), "toy", {"suite": {"a": 1}}, {"suite": {"a": 1}})
    with pytest.raises(RunError, match=r"suite\.a was 1 and is 2 now.*suite\.name=toy2"):
        refuse_other_suite(Path("x"), "toy", {"suite": {"a": 1}}, {"suite": {"a": 2}})


def run_of_directory(directory: Path, **manifest: str) -> TrainedRun:
    return TrainedRun(directory, {}, {"run": "abc", "time": "then", **manifest})


def test_the_same_run_trained_twice_is_two_models(tmp_path):
    one = Tuned(run_of_directory(tmp_path), "cpu", tmp_path)
    two = Tuned(run_of_directory(tmp_path, time="later"), "cpu", tmp_path)
    assert one.identity != two.identity


@pytest.fixture
def adapter_run(saved_base, template, tmp_path) -> Callable[[], TrainedRun]:
    """A run that tuned a published base, in a directory of ours, with an adapter."""
    base = tmp_path / "base"
    shutil.copytree(saved_base, base)
    student = Published(
        name="mine", path=str(base), revision=None, dtype="float32", trust_remote_code=False,
        template=template, new_tokens="refuse", pretraining=None,
    )  # fmt: skip
    trained = load(str(base), **student.loading)
    adapter = LoRA(rank=2, alpha=4.0, dropout=0.0, layers="attention")
    attached = adapter.attach(trained.model)
    with torch.no_grad():
        for p in trained.model.parameters():
            if p.requires_grad:
                p.add_(0.05)
    save_student(trained, attached, adapter, tmp_path / "run/model", card="")
    found = run_of_directory(tmp_path / "run", base=student.digest())
    return lambda: replace(found, config={"model": plain(student)})


def test_an_adapter_whose_base_has_changed_is_refused(adapter_run, tmp_path):
    load_run(adapter_run(), "cpu")
    file = tmp_path / "base/config.json"
    file.write_text(file.read_text() + "\n")
    with pytest.raises(RunError, match="whose files have changed since the training"):
        load_run(adapter_run(), "cpu")


def test_a_base_that_is_gone_is_named(adapter_run, tmp_path):
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(RunError, match="names what is gone"):
        load_run(adapter_run(), "cpu")


@pytest.mark.slow
def test_the_page_stands_beside_the_scores_before_and_after(finished: Finished):
    before = finished.root / finished.result["before"]
    for directory in (before, finished.run / "scores/play"):
        assert "inst_level_strict_acc" in (directory / "report.html").read_text()
