"""Properties of a suite: same items, same settings, honest signs, whole records."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Annotated, Any

import pytest

from heed.core.component import component
from heed.core.errors import ConfigError, RunError
from heed.core.files import read_json
from heed.core.identity import Incidental
from heed.core.stats import share_interval
from heed.core.types import Answer, Item, ItemScore, Likelihood, Ratio, Request, Stratum
from heed.evaluation.deltas import refuse_unequal
from heed.evaluation.record import read_scores, write_scores
from heed.evaluation.suite import AnswersTo, Suite
from heed.evaluation.task import Task
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
        self, loaded: Any, prompts: Sequence[str], *, max_new_tokens: int, events: Any
    ) -> Iterator[tuple[int, Answer]]:
        for place in reversed(range(len(prompts))):
            yield place, Answer(prompts[place], 2, "stop")

    def settings(self, loaded: Any) -> dict[str, Any]:
        return {"name": "repeat"}


def suite(**changes) -> Suite:
    tasks = {"said": Toy(count=6, weighed=False), "weighed": Toy(count=3, weighed=True)}
    settings = {
        "name": "toy", "tasks": tasks, "primary": "said/right", "max_new_tokens": 4,
        "backend": Repeat(speed=1), "level": 0.95, "resamples": 200, "seed": 0,
        "margin": {"said": 0.02, "weighed": 0.02},
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
    same = scores([0, 1, 1, 0])
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
