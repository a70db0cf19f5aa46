"""An interrupted scoring goes on where it stopped, and ends as if it had never stopped."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import pytest

from heed.core.component import component
from heed.core.files import read_jsonl
from heed.core.identity import Incidental
from heed.core.types import Answer, Item, ItemScore, Likelihood, Ratio, Request
from heed.evaluation.journal import Journal
from heed.evaluation.prompting import Declared
from heed.evaluation.suite import Suite
from heed.evaluation.task import Task
from heed.models.backend import Backend, HeedBackend

SAID = [
    Answer("a\u2028b\nü\x85", 3, "stop"),
    Answer(None, 0, None),
    Answer("", 0, "stop", (Likelihood(0.1 + 0.2, 3), Likelihood(1e-300, 1))),
]
ABOUT = {"settings": {"cap": 4}, "subject": "one"}


@component
class Asks(Task):
    """Plain questions, or texts to be weighed."""

    count: int
    weighed: bool = False
    metrics = ("length",)

    def items(self) -> list[Item]:
        asks = (Request("", "red"),) if self.weighed else ()
        return [
            Item(str(i), f"Name thing {i}." + " Yes." * (i % 3), asks) for i in range(self.count)
        ]

    def score(self, name: str, item: Item, answer: Answer) -> ItemScore:
        metrics = {"length": Ratio(len(answer.text) + sum(n for n, _ in answer.likelihoods), 1)}
        return ItemScore(name, item.key, item.prompt, answer.text, answer.stop, 1, metrics)

    def digest(self) -> str:
        return str(self.count)


@component
class Parrot(Backend):
    """Repeats what it is asked, out of order, notes what it was asked, and may be killed."""

    log: Annotated[str, Incidental]
    killed_after: Annotated[int, Incidental]

    def answers(
        self, loaded: Any, prompts: Any, *, max_new_tokens: int, events: Any, last_line: Any
    ) -> Iterator[Any]:
        for count, (place, prompt) in enumerate(reversed(list(enumerate(prompts)))):
            if count == self.killed_after:
                os.kill(os.getpid(), signal.SIGKILL)
            with open(self.log, "a") as file:
                file.write(prompt + "\n")
            yield place, Answer(f"You said: {prompt}", 3, "stop")

    def told(self, loaded: Any, answers: int) -> dict[str, int]:
        return {"repeated": answers}

    def settings(self) -> dict[str, Any]:
        return {"name": "parrot"}


def suite_of(backend: Backend, **tasks: Task) -> Suite:
    return Suite(
        name="toy", tasks=tasks, primary=f"{next(iter(tasks))}/length", max_new_tokens=8,
        prompting=Declared(), backend=backend, level=0.95, resamples=200, seed=0,
        margin=dict.fromkeys(tasks, 0.02),
    )  # fmt: skip


def score_as_child(folder: str, killed_after: int) -> None:
    """What the child process of the SIGKILL test does, and its parent afterwards."""
    path = Path(folder)
    backend = Parrot(log=str(path / "asked"), killed_after=killed_after)
    suite = suite_of(backend, one=Asks(count=4), two=Asks(count=6))
    loaded = SimpleNamespace(template=SimpleNamespace(prompt=lambda text: f"Q: {text}"))
    journal = Journal(path / "scores", ABOUT)
    scores = suite.score(loaded, journal)
    assert [s.response for s in scores] == [f"You said: Q: {s.prompt}" for s in scores]
    (path / "resumed").write_text(str(journal.resumed))
    assert journal.events == {"repeated": 10}, "of those that are kept, too"


def test_what_is_added_is_found_again_to_the_last_digit(tmp_path: Path):
    journal = Journal(tmp_path / "scores", ABOUT)
    for key, answer in enumerate(SAID):
        journal.add("task", str(key), answer)
    again = Journal(tmp_path / "scores", ABOUT)
    assert again.known("task") == {str(key): answer for key, answer in enumerate(SAID)}
    assert (again.resumed, again.known("other")) == (3, {})
    assert isinstance(again.known("task")["2"].likelihoods[0], Likelihood)


def test_a_line_torn_anywhere_is_skipped_and_the_next_one_is_whole(tmp_path: Path):
    journal = Journal(tmp_path / "scores", ABOUT)
    journal.add("task", "0", SAID[0])
    start = journal.path.stat().st_size
    journal.add("task", "1", SAID[0])
    whole = journal.path.read_bytes()
    for stop in range(start, len(whole) - 1):
        journal.path.write_bytes(whole[:stop])
        assert Journal(tmp_path / "scores", ABOUT).known("task") == {"0": SAID[0]}
        Journal(tmp_path / "scores", ABOUT).add("task", "2", SAID[1])
        assert Journal(tmp_path / "scores", ABOUT).known("task") == {"0": SAID[0], "2": SAID[1]}


OTHERS = {
    "model": {**ABOUT, "subject": "two"},
    "suite": {**ABOUT, "settings": {"cap": 5}},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_another_model_or_other_settings_reuse_nothing_and_overwrite_nothing(tmp_path, other):
    first = Journal(tmp_path / "scores", ABOUT)
    first.add("task", "0", SAID[0])
    second = Journal(tmp_path / "scores", other)
    assert (second.resumed, second.known("task")) == (0, {})
    second.add("task", "0", SAID[1])
    second.remove()
    assert Journal(tmp_path / "scores", ABOUT).known("task") == {"0": SAID[0]}


def test_a_removed_journal_is_gone_and_removing_none_is_no_error(tmp_path: Path):
    journal = Journal(tmp_path / "scores", ABOUT)
    journal.remove()
    journal.add("task", "0", SAID[0])
    journal.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_likelihood_that_is_no_number_is_not_kept(tmp_path: Path):
    journal = Journal(tmp_path / "scores", ABOUT)
    journal.add("task", "0", Answer("", 0, "stop", (Likelihood(float("nan"), 1),)))
    assert Journal(tmp_path / "scores", ABOUT).resumed == 0


@pytest.mark.parametrize("stop_at", [0, 1, 4, 7, 9, 12, 15])
def test_interrupted_and_resumed_is_uninterrupted(loaded, tmp_path: Path, stop_at: int):
    tasks = {"said": Asks(count=8), "weighed": Asks(count=3, weighed=True), "more": Asks(count=4)}
    suite = suite_of(HeedBackend(batch_tokens=400, rows=3), **tasks)
    told = 0

    def interrupt(*_: object) -> None:
        nonlocal told
        told += 1
        if told > stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        suite.score(loaded, Journal(tmp_path / "scores", ABOUT), interrupt)
    journal = Journal(tmp_path / "scores", ABOUT)
    assert (journal.resumed > 0) == (stop_at > 0)
    assert suite.score(loaded, journal) == suite.score(loaded)
    kept = [(row["task"], row["key"]) for row in read_jsonl(journal.path)]
    spoken = [key for key in kept if key[0] != "weighed"]
    assert sorted(spoken) == sorted((t, i.key) for t in ("said", "more") for i in tasks[t].items())


def test_texts_are_weighed_together_or_not_at_all(loaded, tmp_path: Path, monkeypatch):
    from heed.models import likelihood

    asked: list[int] = []
    weigh = likelihood.continuation_nats

    def counted(loaded: Any, requests: Any) -> Any:
        asked.append(len(requests))
        return weigh(loaded, requests)

    monkeypatch.setattr(likelihood, "continuation_nats", counted)
    suite = suite_of(HeedBackend(batch_tokens=400, rows=3), weighed=Asks(count=5, weighed=True))
    journal = Journal(tmp_path / "scores", ABOUT)
    journal.add("weighed", "3", SAID[2])
    suite.score(loaded, Journal(tmp_path / "scores", ABOUT))
    suite.score(loaded, whole := Journal(tmp_path / "scores", ABOUT))
    assert asked == [5]
    assert whole.resumed == 5


def test_a_killed_process_goes_on_at_the_first_unanswered_prompt(tmp_path: Path):
    folder = Path(__file__).parent
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r}); import {Path(__file__).stem} as it; "
        f"it.score_as_child({str(tmp_path)!r}, int(sys.argv[1]))"
    )
    ended = [
        subprocess.run([sys.executable, "-c", code, str(after)], capture_output=True, text=True)
        for after in (3, -1)
    ]
    assert [process.returncode for process in ended] == [-signal.SIGKILL, 0], ended[1].stderr
    assert (tmp_path / "resumed").read_text() == "3"
    asked = (tmp_path / "asked").read_text().splitlines()
    assert sorted(asked) == sorted(
        f"Q: {item.prompt}" for count in (4, 6) for item in Asks(count=count).items()
    )
