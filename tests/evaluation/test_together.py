"""Ranks that share a scoring: one of them answers each item, once, whatever is kept already."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_journal import Asks, suite_of

from heed.core.component import component
from heed.core.errors import RunError
from heed.core.files import read_jsonl
from heed.core.identity import Incidental
from heed.core.types import Answer, Item, ItemScore, Likelihood, Ratio
from heed.evaluation import together
from heed.evaluation.journal import Journal
from heed.evaluation.task import Measured
from heed.evaluation.together import SharedAsking, agree
from heed.models.backend import Backend

ABOUT = {"settings": "one"}


class Ranks:
    """Threads that stand for the ranks of a process group."""

    def __init__(self, world: int):
        self.size, self.own = world, threading.local()
        self.said: list[Any] = [None] * world
        self.met = threading.Barrier(world, timeout=20)

    def rank(self) -> int:
        return int(self.own.rank)

    def world(self) -> int:
        return self.size

    def leads(self) -> bool:
        return self.rank() == 0

    def share(self, count: int) -> range:
        return range(self.rank(), count, self.size)

    def everybody(self, value: Any) -> list[Any]:
        self.said[self.rank()] = deepcopy(value)
        self.met.wait()
        found = list(self.said)
        self.met.wait()
        return found

    def from_leader(self, value: Any) -> Any:
        return self.everybody(value)[0]

    def run(self, work: Callable[[int], Any]) -> list[Any]:
        """What each rank makes of a piece of work; the error of one is raised here."""
        found: list[Any] = [None] * self.size
        failed: list[BaseException] = []

        def one(rank: int) -> None:
            self.own.rank = rank
            try:
                found[rank] = work(rank)
            except BaseException as error:
                failed.append(error)
                self.met.abort()

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]
        return found


@component
class Counting(Backend):
    """Repeats its prompts, the last one first, and notes them."""

    asked: Annotated[Any, Incidental]

    def answers(self, loaded: Any, prompts: Any, *, events: Any, **_: Any) -> Iterator[Any]:
        for place in reversed(range(len(prompts))):
            self.asked.append((loaded.rank, prompts[place]))
            events["repeated"] += 1
            yield place, Answer(f"You said: {prompts[place]}", 3, "stop")

    def settings(self) -> dict[str, Any]:
        return {"name": "counting"}


@component
class OfTheLeader(Measured):
    """Questions the model in its own way, which one process alone can."""

    metrics = ("length",)

    def measure(self, name: str, loaded: Any, events: Counter[str]) -> list[ItemScore]:
        assert loaded.rank == 0
        return [ItemScore(name, "0", "", None, None, 0, {"length": Ratio(1, 1)})]

    def items(self) -> list[Item]:
        return []

    def digest(self) -> str:
        return ""


def student(rank: int) -> Any:
    return SimpleNamespace(rank=rank, template=SimpleNamespace(prompt=lambda text: f"Q: {text}"))


def weighed_by(ranks: Ranks, loaded: Any, items: Sequence[Item], *, shared: bool) -> list[Answer]:
    """All items, if all ranks weigh them now."""
    assert shared
    assert ranks.everybody(len(items)) == [len(items)] * ranks.size
    return [Answer("", 0, "stop", (Likelihood(float(len(i.prompt)), 1),)) for i in items]


def score_on(world: int, folder: str, suite: Any) -> tuple[list[Any], Journal]:
    """The scores of a suite by so many ranks, and the leader's journal."""
    ranks = Ranks(world)
    names = ("from_leader", "everybody", "share", "leads", "world")
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setattr(together, name, getattr(ranks, name))
        patch.setattr("heed.models.generate.encoded_prompts", lambda *_: [])
        patch.setattr(together, "likelihoods", partial(weighed_by, ranks))

        def work(rank: int) -> Any:
            journal = Journal(Path(folder) / "scores", ABOUT, rank)
            if rank:
                return SharedAsking(suite, student(rank), journal).take_part()
            return suite.score(student(0), journal, shared=True), journal

        found: tuple[list[Any], Journal] = ranks.run(work)[0]
        return found


@settings(max_examples=25)
@given(
    world=st.integers(1, 4),
    count=st.integers(1, 9),
    kept=st.dictionaries(st.integers(0, 8), st.integers(0, 5)),
)
def test_each_missing_item_is_answered_once_by_one_rank(world, count, kept):
    asked: list[tuple[int, str]] = []
    suite = suite_of(Counting(asked=asked), one=Asks(count=count), two=Asks(count=2))
    keys = {item.key: item for item in Asks(count=count).items()}
    left = {str(i): rank for i, rank in kept.items() if str(i) in keys}
    with TemporaryDirectory() as folder:
        for key, rank in left.items():
            said = Answer(f"You said: Q: {keys[key].prompt}", 3, "stop")
            Journal(Path(folder) / "scores", ABOUT, rank).add("one", key, said)
        found, journal = score_on(world, folder, suite)
        prompts = [prompt for _, prompt in asked]
        alone = suite.score(student(0))
        assert found == alone
        missing = [f"Q: {item.prompt}" for key, item in keys.items() if key not in left]
        both = [f"Q: {item.prompt}" for item in Asks(count=2).items()]
        assert sorted(prompts) == sorted([*missing, *both])
        assert journal.events == {"repeated": len(prompts)}
        assert journal.resumed == len(left)
        shares = Counter(rank for rank, _ in asked[: len(prompts)])
        loads = [shares[rank] for rank in range(world)]
        assert max(loads) - min(loads) <= 2, "at most one for each task"
        journal.remove()
        assert list(Path(folder).iterdir()) == []


def test_what_each_rank_answered_is_on_disk_as_soon_as_it_is_finished(tmp_path, monkeypatch):
    asked: list[tuple[int, str]] = []
    suite = suite_of(Counting(asked=asked), one=Asks(count=7))
    score_on(3, str(tmp_path), suite)
    assert len(list(tmp_path.iterdir())) == 3
    again = Journal(tmp_path / "scores", ABOUT)
    assert (again.resumed, len(asked)) == (7, 7)
    suite.score(student(0), again)
    assert len(asked) == 7, "a process alone asks for nothing that any rank has answered"


@pytest.mark.parametrize("left", [0, 2, 3])
def test_texts_are_weighed_by_all_ranks_or_by_none_as_the_leader_says(tmp_path, left: int):
    tasks = {"one": Asks(count=3, weighed=True), "way": OfTheLeader(), "two": Asks(count=3)}
    suite = suite_of(Counting(asked=[]), **tasks)
    found, _ = score_on(2, str(tmp_path / "whole"), suite)
    for i, item in enumerate(Asks(count=3).items()[:left]):
        said = Answer("", 0, "stop", (Likelihood(float(len(item.prompt)), 1),))
        Journal(tmp_path / "part" / "scores", ABOUT).add("one", str(i), said)
    assert score_on(2, str(tmp_path / "part"), suite)[0] == found
    other = Journal(tmp_path / "part" / "scores", ABOUT, 1)
    assert {row["task"] for row in read_jsonl(other.path)} == {"two"}, "the leader keeps these"


def test_an_answer_that_two_ranks_have_counts_once(tmp_path):
    for rank in (0, 1, 10):
        journal = Journal(tmp_path / "scores", ABOUT, rank)
        journal.add("task", "0", Answer(f"rank {rank}", 1, "stop"))
    found = Journal(tmp_path / "scores", ABOUT)
    assert found.resumed == 1
    assert found.known("task")["0"].text == "rank 0"


def test_a_name_with_signs_of_a_pattern_reads_its_own_files_only(tmp_path):
    one, other = (Journal(tmp_path / name, ABOUT, 1) for name in ("a[1]", "a1"))
    other.add("task", "0", Answer("x", 1, "stop"))
    one.add("task", "1", Answer("y", 1, "stop"))
    assert list(Journal(tmp_path / "a[1]", ABOUT).known("task")) == ["1"]
    Journal(tmp_path / "a1", ABOUT).remove()
    assert list(Journal(tmp_path / "a[1]", ABOUT).known("task")) == ["1"]


def test_a_rank_that_is_lost_or_repeats_is_noticed(tmp_path, monkeypatch):
    suite = suite_of(Counting(asked=[]), one=Asks(count=4))
    for wrong in (lambda parts: parts[:1], lambda parts: [parts[0], parts[0]]):

        class Wrong(Ranks):
            def everybody(self, value: Any, wrong: Any = wrong) -> list[Any]:
                found = super().everybody(value)
                return wrong(found) if isinstance(value, tuple) else found

        monkeypatch.setattr("test_together.Ranks", Wrong)
        with pytest.raises(AssertionError, match="no item twice, and none left out"):
            score_on(2, str(tmp_path / "none"), suite)
        Journal(tmp_path / "none" / "scores", ABOUT).remove()


def test_ranks_with_another_student_or_other_settings_are_refused(loaded, monkeypatch):
    said: list[Any] = []

    def told(value: Any) -> list[Any]:
        said.append(value)
        return said

    monkeypatch.setattr(together, "everybody", told)
    agree({"decoding": "greedy"}, loaded)
    agree({"decoding": "greedy"}, loaded)
    with torch.no_grad():
        loaded.model.model.norm.weight[3] += 1e-7 + loaded.model.model.norm.weight[3] * 1e-6
    with pytest.raises(RunError, match="rank 2 of 3 would not answer as rank 0 does: weights is"):
        agree({"decoding": "greedy"}, loaded)
    del said[1:]
    with pytest.raises(RunError, match="decoding is 'by chance' there and 'greedy' here"):
        agree({"decoding": "by chance"}, loaded)
