"""Properties of a suite: same items, same settings, honest signs, whole records."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from heed.core.component import component
from heed.core.errors import ConfigError, RunError
from heed.core.types import Answer, Item, ItemScore, Likelihood, Ratio, Request
from heed.evaluation.record import read_scores, write_scores
from heed.evaluation.suite import Suite, refuse_unequal
from heed.evaluation.task import Task


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


def suite(**changes) -> Suite:
    tasks = {"said": Toy(count=6, weighed=False), "weighed": Toy(count=3, weighed=True)}
    settings = {
        "name": "toy", "tasks": tasks, "primary": "said/right", "max_new_tokens": 4,
        "batch_tokens": 64, "level": 0.95, "resamples": 200, "seed": 0,
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
    from heed.models import generate, likelihood

    def speak(_loaded, prompts, on_progress, **_):
        for done in range(len(prompts)):
            on_progress(done + 1, len(prompts))
        return [Answer(prompt, 2, "stop") for prompt in prompts]

    monkeypatch.setattr(generate, "generate", speak)
    monkeypatch.setattr(
        likelihood, "continuation_nats", lambda _, asked: [Likelihood(0.5, 1) for _ in asked]
    )
    template = SimpleNamespace(prompt=lambda text: f"Q: {text}", end_of_turn="<end>")
    tokenizer = SimpleNamespace(convert_ids_to_tokens=lambda ids: [f"<{i}>" for i in ids])
    model = SimpleNamespace(dtype="torch.float32")
    return SimpleNamespace(model=model, tokenizer=tokenizer, template=template, stop_ids=(3,))


def test_every_item_is_scored_once_by_what_its_task_asks_for(loaded):
    told: list[tuple[str, int, int]] = []
    found = suite().score(loaded, lambda *progress: told.append(progress))
    assert [(s.task, s.key) for s in found] == [
        *(("said", str(i)) for i in range(6)), *(("weighed", str(i)) for i in range(3)),
    ]  # fmt: skip
    assert all(s.response == f"Q: {s.prompt}" for s in found[:6])
    assert all(s.metrics["cost"] == (1.0, 1) for s in found[6:])
    assert {("said", 6, 6), ("weighed", 3, 3)} <= set(told)


def test_a_score_that_is_no_number_names_its_item_and_a_next_step(loaded, monkeypatch):
    from heed.models import likelihood

    nan = Likelihood(float("nan"), 1)
    monkeypatch.setattr(likelihood, "continuation_nats", lambda _, asked: [nan for _ in asked])
    with pytest.raises(RunError, match=r"weighed/cost of item 0 is nan.*lower lr.peak"):
        suite().score(loaded)


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
    refuse_unequal(one, suite(batch_tokens=9, resamples=9).fingerprint(loaded))
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
    from heed.core.files import read_json

    write_scores(tmp_path / "scores", suite(), scores([0, 1, 1, 1]), {})
    summary = read_json(tmp_path / "scores" / "summary.json")
    assert set(summary) == {"said", "weighed"}
    assert set(summary["said"]["right"]) == {"value", "low", "high", "items"}
    assert (summary["said"]["right"]["value"], summary["said"]["right"]["items"]) == (0.75, 4)


def test_a_broken_record_is_one_clear_error(tmp_path):
    write_scores(tmp_path / "scores", suite(), scores([0, 1]), {})
    (tmp_path / "scores" / "items.jsonl").write_text('{"task": "said"}\n')
    with pytest.raises(RunError, match="does not hold whole scores"):
        read_scores(tmp_path / "scores")
