"""What tells one subject from another, and what is done with its answers meanwhile."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import Finished, cell

from heed.core.component import component, plain
from heed.core.errors import RunError
from heed.core.files import read_json, read_jsonl, write_json, write_jsonl
from heed.core.types import Answer, Item, ItemScore, Ratio
from heed.evaluation.controls import CONTROLS
from heed.evaluation.prompting import Declared
from heed.evaluation.responses import NULL
from heed.evaluation.suite import Suite
from heed.evaluation.task import Task
from heed.methods.adapters import LoRA
from heed.models.backend import HeedBackend
from heed.models.student import Loaded, Published, load
from heed.study import scores
from heed.study.bases import Untuned
from heed.study.runs import TrainedRun, read_run, run_lock
from heed.study.scores import ModelSubject, refuse_other_suite, scores_of
from heed.study.subjects import Controlled, GivenSubject, Responses, Tuned, load_run
from heed.training.checkpoint import save_student
from heed.training.run import base_run


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
        prompting=Declared(), backend=HeedBackend(batch_tokens=4096, rows=8), level=0.95,
        resamples=100, seed=0, margin={"echo": 0.1},
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
    def answers(self, loaded, prompts, *, max_new_tokens, events, last_line):
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
    for name in ("toy", "toy@plain", "toy.text@plain"):  # what follows `toy` is added by the suite
        with pytest.raises(RunError, match=r"suite\.a was 1 and is 2 now.*suite\.name=toy2\."):
            refuse_other_suite(Path("x"), name, {"suite": {"a": 1}}, {"suite": {"a": 2}})


def lose(name: str, key: str) -> Callable[[Path], None]:
    """Make a JSON file of scores an empty object, or take something out of it."""

    def harm(kept: Path) -> None:
        found = read_json(kept / name)
        write_json(kept / name, {k: v for k, v in found.items() if k != key and key != "all"})

    return harm


def cut_items(kept: Path) -> None:
    write_jsonl(kept / "items.jsonl", read_jsonl(kept / "items.jsonl")[:-1])


def repeat_an_item(kept: Path) -> None:
    rows = read_jsonl(kept / "items.jsonl")
    write_jsonl(kept / "items.jsonl", [*rows[:-1], rows[0]])


def lose_a_metric(kept: Path) -> None:
    rows = read_jsonl(kept / "items.jsonl")
    write_jsonl(kept / "items.jsonl", [*rows[:-1], {**rows[-1], "metrics": {}}])


HARM = {
    "no task in the summary": (lose("summary.json", "all"), "metrics of echo are lost"),
    "an item without its metric": (lose_a_metric, "metrics of echo are lost"),
    "items cut": (cut_items, "5 items of echo are left of 6"),
    "an item twice": (repeat_an_item, "5 items of echo are left of 6"),
    "no counts": (lose("manifest.json", "items"), "KeyError: 'items'"),
    "no code": (lose("manifest.json", "code"), "KeyError: 'code'"),
}


@pytest.mark.parametrize(("harm", "said"), HARM.values(), ids=HARM)
def test_scores_of_which_a_part_is_lost_are_refused(harm, said: str, loaded, suite, tmp_path):
    subject = InMemory(loaded, tmp_path)
    harm(scores_of(subject, suite).directory)
    with pytest.raises(RunError, match=f"does not hold whole scores.*{said}"):
        scores_of(subject, suite)


def test_scores_that_other_code_of_heed_made_are_shown_with_a_word_on_it(
    loaded, suite, tmp_path, monkeypatch, capsys
):
    subject = InMemory(loaded, tmp_path)
    made = scores_of(subject, suite)
    scores_of(subject, suite)
    assert "by heed's code" not in capsys.readouterr().err
    monkeypatch.setattr(scores, "code_state", lambda: "c0de")
    assert scores_of(subject, suite) == made
    assert f"{made.directory} was made by heed's code" in (said := capsys.readouterr().err)
    assert "the code is c0de now" in said


@pytest.fixture
def two_tasks(suite: Suite) -> Suite:
    tasks = {"echo": Echoes(), "more": Echoes()}
    return replace(suite, tasks=tasks, margin={"echo": 0.1, "more": 0.1})  # type: ignore[type-var]


def test_events_of_several_text_tasks_name_their_task(suite, two_tasks, tmp_path):
    file = tmp_path / "said.jsonl"
    file.write_text('{"key": "k1", "response": null}\n{"key": "zz", "response": "x"}\n')
    one, two = (Responses(file, tmp_path).scored(s) for s in (suite, two_tasks))
    assert one.events[NULL] == 1
    assert {f"{task}: {what}" for task in two_tasks.tasks for what in one.events} == set(two.events)
    assert two.notes == [f"{task}: {note}" for task in two_tasks.tasks for note in one.notes]


def test_a_subject_whose_answers_are_given_must_say_what_made_them():
    class Nameless(GivenSubject):
        facts = directory = given = None

    with pytest.raises(TypeError, match=r"abstract.*identity"):
        Nameless()  # type: ignore[abstract]


@pytest.mark.parametrize(("name", "reads"), [("sure", "no"), ("echo", "yes")])
def test_a_control_says_whether_it_reads_the_prompt(name: str, reads: str, suite, tmp_path):
    kept = scores_of(Controlled(CONTROLS[name], tmp_path), suite)
    assert kept.sheet.facts["it reads the prompt"] == reads
    assert "it reads the prompt" in (kept.directory / "report.html").read_text()


def test_a_file_of_any_name_is_scored(suite, tmp_path):
    for name in ("a" * 246 + ".jsonl", "漢" * 80 + ".jsonl", "caf\udce9.jsonl", "\x1b[2J.jsonl"):
        (tmp_path / name).write_text('{"key": "k1", "response": "b"}\n')
        kept = scores_of(Responses(tmp_path / name, tmp_path), suite)
        assert kept.sheet.summary["echo"]["acc"].value == 1 / 6
        assert kept.sheet.title.isprintable()


def run_of_directory(directory: Path, **manifest: str) -> TrainedRun:
    return TrainedRun(directory, {}, {"run": "abc", "time": "then", **manifest})


def test_the_same_run_trained_twice_is_two_models(tmp_path):
    one = Tuned(run_of_directory(tmp_path), "cpu")
    two = Tuned(run_of_directory(tmp_path, time="later"), "cpu")
    assert one.identity != two.identity


def test_a_run_has_one_lock_from_wherever_it_is_scored(suite, tmp_path):
    run = run_of_directory(tmp_path / "runs/x--abc")
    assert Tuned(run, "cpu").lock_file(suite) == run_lock(tmp_path / "runs/x--abc")


def test_a_student_whose_pretraining_was_made_again_is_another_model(tmp_path, around):
    student = cell(tmp_path).model
    run = base_run(student)
    assert run is not None
    model = tmp_path / "runs" / run.directory / "model"
    model.mkdir(parents=True)
    found = []
    for weights in (b"one", b"two", b"one"):
        (model / "model.safetensors").write_bytes(weights)
        found.append(Untuned(student, around, tmp_path).identity)
    assert found[0] == found[2] != found[1]


@pytest.fixture
def adapter_run(saved_base, template, tmp_path) -> Callable[[], TrainedRun]:
    """A run that tuned a published base, in a directory of ours, with an adapter."""
    base = tmp_path / "base"
    shutil.copytree(saved_base, base)
    student = Published(
        name="mine", path=str(base), revision=None, dtype="float32", precision="32-true",
        trust_remote_code=False, template=template, new_tokens="refuse", pretraining=None,
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


def test_an_adapter_of_an_unknown_base_is_refused(adapter_run):
    run = adapter_run()
    with pytest.raises(RunError, match="digest not recorded then"):
        load_run(replace(run, manifest={"run": run.id, "time": "then"}), "cpu")


@pytest.mark.slow
def test_an_adapter_of_a_pretraining_that_was_made_again_is_refused(finished: Finished, tmp_path):
    """The base is not published, but made here: the same recipe may end with other weights."""
    here = finished.copy(tmp_path)
    (base,) = (tmp_path / "runs").glob("*pretrain*[0-9a-f]/model")
    settings = here.directory / "model/adapter_config.json"
    write_json(settings, read_json(settings) | {"base_model_name_or_path": str(base)})
    load_run(read_run(here.directory), "cpu")
    weights = load_file(base / "model.safetensors")
    moved = {name: w + 0.5 for name, w in weights.items()}
    save_file(moved, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(RunError, match="whose files have changed since the training"):
        load_run(read_run(here.directory), "cpu")


def test_a_base_that_is_gone_is_named(adapter_run, tmp_path):
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(RunError, match="names what is gone"):
        load_run(adapter_run(), "cpu")


@pytest.mark.slow
def test_the_page_stands_beside_the_scores_before_and_after(finished: Finished):
    before = finished.root / finished.result["before"]
    for directory in (before, finished.run / "scores/play"):
        assert "inst_level_strict_acc" in (directory / "report.html").read_text()
