"""Properties of a suite: same items, same settings, honest signs, whole records."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import Annotated, Any

import pytest

from heed.core.component import component
from heed.core.errors import ConfigError, RunError
from heed.core.files import read_json
from heed.core.identity import Incidental, short_hash
from heed.core.stats import share_interval
from heed.core.types import Answer, Item, ItemScore, Likelihood, Ratio, Request, Stratum
from heed.evaluation.asking import Asking
from heed.evaluation.deltas import refuse_unequal
from heed.evaluation.journal import Journal
from heed.evaluation.prompting import Declared, InContext, Plain
from heed.evaluation.record import read_scores, write_scores
from heed.evaluation.suite import AnswersTo, Suite
from heed.evaluation.task import Measured, Task
from heed.models.backend import Backend


@component
class Toy(Task):
    """Items that are spoken to, or weighed."""

    count: int
    weighed: bool
    metrics = ("right", "cost")
    lower_is_better = frozenset({"cost"})

    def items(self):
        asks = (Request("", "x"),) * 2 if self.weighed else ()
        return [Item(str(i), f"ask {i}", asks) for i in range(self.count)]

    def score(self, name: str, item: Item, answer: Answer) -> ItemScore:
        cost = sum(found.nats for found in answer.likelihoods)
        metrics = {"right": Ratio(int(item.key in answer.text), 1), "cost": Ratio(cost, 1)}
        return ItemScore(name, item.key, item.prompt, answer.text, answer.stop, 1, metrics)

    def digest(self) -> str:
        return str(self.count)

    def strata(self, scores: Sequence[ItemScore], level: float) -> list[Stratum]:
        if self.weighed:
            return []
        share = sum(score.metrics["right"].num for score in scores) / len(scores)
        right = {"right": share_interval(share, len(scores), level)}
        return [Stratum("all", "", len(scores), len(scores), right)]

    def events(self, scores: Sequence[ItemScore]) -> dict[str, int]:
        return {"odd key": sum(int(score.key) % 2 for score in scores), "never": 0}


@component
class Repeat(Backend):
    """Repeats its prompts, the last one first."""

    speed: Annotated[int, Incidental]

    def answers(
        self,
        loaded: Any,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        events: Any,
        last_line: Any,
    ) -> Iterator[tuple[int, Answer]]:
        for place in reversed(range(len(prompts))):
            yield place, Answer(prompts[place], 2, "stop")

    def settings(self) -> dict[str, Any]:
        return {"name": "repeat"}


def suite(**changes) -> Suite:
    tasks = {"said": Toy(count=6, weighed=False), "weighed": Toy(count=3, weighed=True)}
    settings = {
        "name": "toy", "tasks": tasks, "primary": "said/right", "max_new_tokens": 4,
        "prompting": Declared(), "backend": Repeat(speed=1), "level": 0.95, "resamples": 200,
        "seed": 0, "margin": {"said": 0.02, "weighed": 0.02},
    }  # fmt: skip
    return Suite(**settings | changes)


def score(key: int, right: int, cost: float = 1.0, task: str = "said") -> ItemScore:
    metrics = {"right": Ratio(right, 1), "cost": Ratio(cost, 1)}
    return ItemScore(task, str(key), "ask", "text", "stop", 3, metrics, {"note": [1]})


def scores(right: list[int], cost: float = 1.0) -> list[ItemScore]:
    return [score(i, r, cost, task) for task in ("said", "weighed") for i, r in enumerate(right)]


@pytest.fixture
def loaded(monkeypatch):
    """A stand-in for a student: it repeats its prompt, and weighs everything alike."""
    from heed.models import likelihood

    monkeypatch.setattr(
        likelihood, "continuation_nats", lambda _, asked: [Likelihood(0.5, 1) for _ in asked]
    )
    template = SimpleNamespace(prompt=lambda text: f"Q: {text}", end_of_turn="<end>")
    tokenizer = SimpleNamespace(convert_ids_to_tokens=lambda ids: [f"<{i}>" for i in ids])
    model = SimpleNamespace(dtype="torch.float32")
    return SimpleNamespace(model=model, tokenizer=tokenizer, template=template, stop_ids=(3,))


def test_every_item_is_scored_once_by_what_its_task_asks_for(loaded):
    told: list[tuple[str, int, int]] = []
    found = suite().score(loaded, on_progress=lambda *progress: told.append(progress))
    assert [(s.task, s.key) for s in found] == [
        *(("said", str(i)) for i in range(6)), *(("weighed", str(i)) for i in range(3)),
    ]  # fmt: skip
    assert all(s.response == f"Q: {s.prompt}" for s in found[:6])
    assert all(s.metrics["cost"] == (1.0, 1) for s in found[6:])
    assert told == [*(("said", i, 6) for i in range(7)), *(("weighed", i, 3) for i in range(4))]


def test_a_task_that_is_asked_alone_is_scored_as_among_others(loaded):
    whole, asking = suite().score(loaded), Asking(suite(), loaded)
    assert [*asking.scores("weighed"), *asking.scores("said")] == [*whole[6:], *whole[:6]]


def test_a_score_that_is_no_number_names_its_item_and_a_next_step(loaded, monkeypatch):
    from heed.models import likelihood

    nan = Likelihood(float("nan"), 1)
    monkeypatch.setattr(likelihood, "continuation_nats", lambda _, asked: [nan for _ in asked])
    with pytest.raises(RunError, match=r"weighed/cost of item 0 is nan.*lower lr.peak"):
        suite().score(loaded)


def test_given_answers_are_scored_like_generated_ones(loaded):
    said = suite(tasks={"said": Toy(count=6, weighed=False)}, margin={"said": 0.02})

    def answers(say: Callable[[str, Item], str]) -> AnswersTo:
        return lambda task, items: {i.key: Answer(say(task, i), 2, "stop") for i in items}

    given = said.score_given(answers(lambda task, item: f"Q: {item.prompt}"))
    assert given == said.score(loaded)
    assert given != said.score_given(answers(lambda task, item: task))


def test_a_task_that_weighs_likelihoods_is_refused_by_name_where_answers_are_given():
    def never(task: str, items: Sequence[Item]) -> dict[str, Answer]:
        raise AssertionError("nobody is asked")

    with pytest.raises(ConfigError, match="its task weighed weighs likelihoods") as caught:
        suite().score_given(never)
    assert caught.value.mistakes[0].found == "toy"


def test_answers_that_are_given_read_the_items_of_each_task_once(monkeypatch):
    read = []
    items = Toy.items
    monkeypatch.setattr(Toy, "items", lambda task: read.append(task.count) or items(task))
    said = suite(tasks={"said": Toy(count=6, weighed=False)}, margin={"said": 0.02})
    said.score_given(lambda task, items: {i.key: Answer("0", 0, None) for i in items})
    assert read == [6]


def test_the_breakdown_has_the_tasks_that_have_parts_and_each_only_its_own_scores():
    found = suite().breakdown([*scores([0, 1, 1]), score(7, 0)])
    assert found == {"said": [Stratum("all", "", 4, 4, {"right": share_interval(0.5, 4, 0.95)})]}


def test_events_are_counted_over_all_tasks_and_those_that_never_happened_are_left_out():
    cut = replace(score(3, 0), stop="cap")
    assert suite().events([*scores([0, 1, 1]), cut]) == {"cut at the cap": 1, "odd key": 3}


def test_the_primary_metric_stands_first_and_all_metrics_are_there():
    deltas = suite(primary="weighed/cost").deltas(scores([0, 1]), scores([1, 1]))
    assert deltas[0].metric == "weighed/cost"
    assert {d.metric for d in deltas} == {
        f"{t}/{m}" for t in ("said", "weighed") for m in ("right", "cost")
    }


def test_where_less_is_better_less_helps_and_the_delta_keeps_its_sign():
    before, after = scores([0] * 9, cost=2.0), scores([1] * 9, cost=1.0)
    found = {d.metric: d for d in suite().deltas(before, after)}
    assert (found["said/right"].delta, found["said/right"].verdict) == (1, "helped")
    assert (found["said/cost"].delta, found["said/cost"].verdict) == (-1, "helped")
    back = {d.metric: d.verdict for d in suite().deltas(after, before)}
    assert back == dict.fromkeys(back, "hurt")


def test_a_model_compared_with_itself_is_unchanged():
    same = scores([0, 1, 1, 0] * 100)
    assert {d.verdict for d in suite().deltas(same, same[::-1])} == {"unchanged"}


def test_different_items_are_refused_with_an_example():
    with pytest.raises(RunError, match=r"Before has 6 scores and after 4.*for example said/2"):
        suite().deltas(scores([0, 1, 1]), scores([0, 1]))


def test_an_unknown_primary_metric_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'said/right'"):
        suite(primary="said/rigth")


def test_fingerprints_differ_in_what_decides_scores_and_the_difference_is_named(loaded):
    one = suite().fingerprint(loaded)
    refuse_unequal(one, suite(backend=Repeat(speed=9), resamples=9).fingerprint(loaded))
    with pytest.raises(RunError, match="max_new_tokens is 4 before and 5 after"):
        refuse_unequal(one, suite(max_new_tokens=5).fingerprint(loaded))
    longer = {**suite().tasks, "said": Toy(count=7, weighed=False)}
    with pytest.raises(RunError, match=r"tasks\.said is '6' before and '7' after"):
        refuse_unequal(one, suite(tasks=longer).fingerprint(loaded))
    loaded.template.end_of_turn = "<stop>"
    with pytest.raises(RunError, match="template is"):
        refuse_unequal(one, suite().fingerprint(loaded))


def test_written_scores_are_read_back_whole(tmp_path, loaded):
    found = scores([0, 1, 1])
    found[0] = replace(found[0], response="a\u2028b\x85c\nü", stop=None)
    fingerprint = suite().fingerprint(loaded)
    write_scores(tmp_path / "scores", suite(), found, fingerprint)
    assert read_scores(tmp_path / "scores") == (found, fingerprint)


def test_the_summary_maps_task_and_metric_to_an_interval(tmp_path):
    write_scores(tmp_path / "scores", suite(), scores([0, 1, 1, 1]), {})
    summary = read_json(tmp_path / "scores" / "summary.json")
    assert set(summary) == {"said", "weighed"}
    assert set(summary["said"]["right"]) == {"value", "low", "high", "items"}
    assert (summary["said"]["right"]["value"], summary["said"]["right"]["items"]) == (0.75, 4)


def test_parts_and_events_stand_beside_the_summary(tmp_path):
    found = [replace(s, stop="cap") for s in scores([0, 1])]
    write_scores(tmp_path / "scores", suite(), found, {}, {"null": 21})
    assert read_json(tmp_path / "scores" / "events.json") == {
        "null": 21, "cut at the cap": 4, "odd key": 2,
    }  # fmt: skip
    (stratum,) = read_json(tmp_path / "scores" / "strata.json")["said"]
    assert (stratum["group"], stratum["items"], stratum["asked"]) == ("all", 2, 2)
    assert set(stratum["metrics"]["right"]) == {"value", "low", "high", "items"}


def test_a_broken_record_is_one_clear_error(tmp_path):
    write_scores(tmp_path / "scores", suite(), scores([0, 1]), {})
    (tmp_path / "scores" / "items.jsonl").write_text('{"task": "said"}\n')
    with pytest.raises(RunError, match="does not hold whole scores"):
        read_scores(tmp_path / "scores")


@component
class Quiz(Measured):
    """Asks the student itself."""

    keys: tuple[str, ...]
    few: int
    metrics = ("acc",)

    @property
    def few_shot(self) -> int:
        return self.few

    def measure(self, name: str, loaded: Any, events: Counter[str]) -> list[ItemScore]:
        events["asked by itself"] += len(self.keys)
        told = loaded.template.prompt("quiz")
        return [
            ItemScore(name, key, told, None, None, 0, {"acc": Ratio(1, 1)}) for key in self.keys
        ]

    def items(self):
        raise AssertionError("what it asks is its own affair")

    def digest(self) -> str:
        return "quiz"


def with_quiz(keys: tuple[str, ...] = ("a", "b"), few: int = 5, **changes) -> Suite:
    tasks = {"quiz": Quiz(keys=keys, few=few), **suite().tasks}
    return suite(tasks=tasks, margin=dict.fromkeys(tasks, 0.02), **changes)


def test_a_measured_task_asks_the_student_itself_and_tells_its_events(loaded, tmp_path):
    journal = Journal(tmp_path / "scores", {})
    found = with_quiz().score(loaded, journal)
    assert [(s.task, s.key, s.prompt) for s in found[:2]] == [
        ("quiz", "a", "Q: quiz"), ("quiz", "b", "Q: quiz"),
    ]  # fmt: skip
    assert found[2:] == suite().score(loaded)
    assert journal.events == {"asked by itself": 2}
    assert not Journal(tmp_path / "scores", {}).known("quiz")


@pytest.mark.parametrize("keys", [(), ("a", "a")])
def test_a_measured_task_without_one_score_per_key_is_a_fault(loaded, keys):
    with pytest.raises(AssertionError):
        with_quiz(keys).score(loaded)


def test_a_measured_task_is_refused_by_name_where_answers_are_given():
    with pytest.raises(ConfigError, match="its task quiz, weighed weighs") as caught:
        with_quiz().score_given(lambda *_: {})
    assert "suite=ifeval" in caught.value.mistakes[0].action


def test_in_text_keeps_just_the_tasks_that_are_answered_in_text():
    text = with_quiz().in_text()
    assert text is not None
    assert text.name == "toy.text"
    assert (set(text.tasks), set(text.margin), text.primary) == ({"said"}, {"said"}, "said/right")
    assert text.in_text() is text
    assert with_quiz(primary="quiz/acc").in_text() == text
    only = suite(tasks={"w": Toy(count=1, weighed=True)}, primary="w/cost", margin={"w": 0.0})
    assert only.in_text() is None
    assert only.asked_as(Plain()) is None


def test_a_suite_asked_otherwise_has_a_name_and_an_identity_of_its_own():
    said = suite(tasks={"said": Toy(count=6, weighed=False)}, margin={"said": 0.02}, also=Plain())
    other = said.asked_as(Plain())
    assert other is not None
    assert (other.name, other.prompting, other.also) == ("toy@plain", Plain(), None)
    assert short_hash(other) != short_hash(said)
    assert other == replace(said, prompting=Plain(), also=None)  # as if it had been typed
    assert replace(other, seed=1).name == "toy@plain"
    back = other.asked_as(Declared())
    assert back == replace(said, also=None)
    mixed = suite().asked_as(Plain())
    assert mixed is not None
    assert mixed.name == "toy.text@plain"
    assert with_quiz(prompting=Plain()).in_text() == mixed


def test_a_second_prompting_does_not_change_the_identity_of_what_it_stands_beside():
    assert short_hash(suite(also=Plain())) == short_hash(suite())


def test_the_prompting_decides_what_generation_tasks_are_asked_and_only_those(loaded, tmp_path):
    loaded.template.begin = ""
    plain = suite(prompting=Plain()).score(loaded)
    assert [s.response for s in plain[:6]] == [f"ask {i}" for i in range(6)]
    assert plain[6:] == suite().score(loaded)[6:]


def test_what_a_prompting_counts_is_the_same_after_an_interruption(loaded, tmp_path):
    file = tmp_path / "examples"
    file.write_text("# Query:\n```\nHi\n```\n\n# Answer:\n```\nHello.\n```\n")
    loaded.template.begin = ""
    shown = suite(prompting=InContext(path=str(file)))
    told = []
    for _ in range(2):  # the second time all answers are in the journal
        journal = Journal(tmp_path / "scores", {})
        scores = shown.score(loaded, journal)
        told.append((scores, dict(journal.events)))
    assert told[0] == told[1]
    assert journal.resumed == 9
    assert [s.response for s in scores[:6]] == ["# Query:"] * 6  # it repeats the prompt
    assert {s.stop for s in scores[:6]} == {"stop"}


def fingerprint_parts(loaded) -> dict[str, tuple[Suite, Any]]:
    """What a message names -> a suite and a student that differ from the usual in just that."""
    other = copy(loaded)
    short = copy(loaded)
    short.model = SimpleNamespace(dtype="torch.bfloat16", device=SimpleNamespace(type="cpu"))
    stops = copy(loaded)
    stops.stop_ids = (3, 4)
    other.template = SimpleNamespace(prompt=lambda text: f"R: {text}", end_of_turn="<end>")
    asks = {**with_quiz().tasks, "said": Reworded(count=6, weighed=False)}
    more = {**with_quiz().tasks, "said": Toy(count=7, weighed=False)}
    return {
        "few_shot.quiz is 5 before and 4 after": (with_quiz(few=4), loaded),
        "tasks.said": (replace(with_quiz(), tasks=more), loaded),
        "max_new_tokens": (with_quiz(max_new_tokens=5), loaded),
        "prompting.name is 'template' before and 'plain' after": (
            with_quiz(prompting=Plain()), loaded,
        ),
        "template": (with_quiz(), other),
        "stops": (with_quiz(), stops),
        "precision": (with_quiz(), short),
        "backend.name": (with_quiz(backend=Mirror()), loaded),
        "prompts.said": (replace(with_quiz(), tasks=asks), loaded),
    }  # fmt: skip


@component
class Reworded(Toy):
    """Other prompts under the same digest."""

    def items(self):
        return [replace(item, prompt=f"{item.prompt}!") for item in super().items()]


@component
class Mirror(Backend):
    """Another engine."""

    def answers(self, *_, **__) -> Iterator[tuple[int, Answer]]:
        yield from ()

    def settings(self) -> dict[str, Any]:
        return {"name": "mirror"}


def test_each_part_of_a_fingerprint_is_refused_by_its_name(loaded, monkeypatch):
    loaded.template.begin = ""
    one = with_quiz().fingerprint(loaded)
    refuse_unequal(one, with_quiz(also=Plain(), resamples=9).fingerprint(loaded))
    for named, (changed, student) in fingerprint_parts(loaded).items():
        with pytest.raises(RunError) as caught:
            refuse_unequal(one, changed.fingerprint(student))
        assert f"differently: {named}" in str(caught.value)
    monkeypatch.setattr("heed.evaluation.suite.versions", lambda: {"torch": "0"})
    with pytest.raises(RunError, match=r"differently: versions\."):
        refuse_unequal(one, with_quiz().fingerprint(loaded))


def test_a_request_under_the_template_has_another_prompt_digest(loaded, monkeypatch):
    one = suite().fingerprint(loaded)["prompts"]
    request = Request("", "x", asked=True)
    monkeypatch.setattr(Toy, "items", lambda _: [Item("0", "ask 0", (request,))])
    two = suite().fingerprint(loaded)["prompts"]
    assert one["weighed"] != two["weighed"]
