"""What a suite says about two models: flips, parts adjusted for their number, and seeds."""

from dataclasses import replace

import numpy as np
import pytest

from heed.core.errors import DataError, RunError
from heed.core.significance import mcnemar
from heed.core.stats import compare_paired, holm
from heed.core.types import ItemScore, Ratio
from heed.core.unscored import MISSING
from heed.evaluation.deltas import deltas_of, primary_delta, seeds_delta, stratum_deltas
from heed.evaluation.ifeval import METRICS, PromptFile, metrics_of
from heed.evaluation.prompting import Declared
from heed.evaluation.suite import Suite
from heed.models.backend import HeedBackend

KINDS = ("a:one", "a:two", "b:three")


class Prompts(PromptFile):
    """Scores are given, so that no file is needed."""


def suite(primary: str = "inst_level_strict_acc", **changes) -> Suite:
    task = Prompts(path="none", rules="ifeval", nltk_data=None)
    settings = {
        "name": "toy", "tasks": {"follow": task}, "primary": f"follow/{primary}",
        "max_new_tokens": 4, "prompting": Declared(),
        "backend": HeedBackend(batch_tokens=99, rows=9),
        "level": 0.95, "resamples": 400, "seed": 0, "margin": {"follow": 0.02},
    }  # fmt: skip
    return Suite(**settings | changes)


def score(key: int, kinds: list[str], followed: list[bool]) -> ItemScore:
    told = [{"id": k, "strict": f, "loose": True} for k, f in zip(kinds, followed, strict=True)]
    found = metrics_of(followed, [True] * len(kinds))
    return ItemScore("follow", str(key), "ask", "text", "stop", 3, found, {"instructions": told})


def scored(seed: int, rates: dict[str, float], items: int = 90) -> list[ItemScore]:
    """Prompts with one to three instructions, the same ones for every seed."""
    draw, answers = np.random.default_rng(0), np.random.default_rng(seed)
    asked = [list(draw.choice(KINDS, draw.integers(1, 4))) for _ in range(items)]
    return [
        score(key, kinds, [bool(answers.random() < rates[kind]) for kind in kinds])
        for key, kinds in enumerate(asked)
    ]


LOW, HIGH = dict.fromkeys(KINDS, 0.4), {"a:one": 0.4, "a:two": 0.95, "b:three": 0.4}


def test_flips_and_their_exact_test_stand_beside_prompts_right_or_wrong():
    before, after = scored(1, LOW), scored(2, HIGH)
    found = {d.metric: d for d in deltas_of(suite(), before, after)}
    prompts = found["follow/prompt_level_strict_acc"]
    right = [[s.metrics["prompt_level_strict_acc"].num for s in side] for side in (before, after)]
    better = sum(b < a for b, a in zip(*right, strict=True))
    worse = sum(b > a for b, a in zip(*right, strict=True))
    assert prompts.flips == (better, worse)
    assert prompts.mcnemar == mcnemar(better, worse)
    assert prompts.mde > 0
    counted = found["follow/inst_level_strict_acc"]
    assert (counted.flips, counted.mcnemar) == (None, None)
    assert 0 < counted.p < 1
    assert primary_delta(suite(), before, after) == counted


def test_an_item_that_one_side_has_no_score_of_counts_on_neither():
    """A judge's reply that cannot be read must not end a finished training."""
    before, after = scored(1, LOW), scored(2, HIGH)
    lost = dict.fromkeys(METRICS, Ratio(0, 0))
    part = [replace(after[0], metrics=lost, details={MISSING: "unread"}), *after[1:]]
    found, other = (deltas_of(suite(), b, a) for b, a in ((before, part), (before[1:], after[1:])))
    assert [(d.delta, d.low, d.high, d.items) for d in found] == [
        (d.delta, d.low, d.high, d.items) for d in other
    ]
    assert seeds_delta(suite(), [(before, part), (before, after)]).items == len(before) - 1
    odd = [replace(part[0], details={}), *after[1:]]
    with pytest.raises(DataError, match="on one side of the comparison only"):
        deltas_of(suite(), before, odd)


def test_where_less_is_better_a_gain_is_a_fall(monkeypatch):
    before, after = scored(1, LOW), scored(2, HIGH)
    there = primary_delta(suite("prompt_level_strict_acc"), before, after)
    monkeypatch.setattr(Prompts, "lower_is_better", frozenset(METRICS))
    back = primary_delta(suite("prompt_level_strict_acc"), before, after)
    assert back.flips == there.flips[::-1]
    assert (back.p, back.mcnemar, back.mde) == (there.p, there.mcnemar, there.mde)


def test_each_type_of_instruction_is_compared_alone_and_adjusted_for_their_number():
    before, after = scored(1, LOW), scored(2, HIGH)
    found = stratum_deltas(suite(), before, after)
    assert [one.name for one in found] == sorted(KINDS)
    assert {one.metric for one in found} == {"follow/inst_level_strict_acc"}
    assert [one.adjusted for one in found] == holm([one.p for one in found])
    for one in found:
        told = [
            [[t["strict"] for t in s.details["instructions"] if t["id"] == one.name] for s in side]
            for side in (before, after)
        ]
        sums = [([sum(t) for t in side if t], [len(t) for t in side if t]) for side in told]
        alone = compare_paired(*sums, **suite().bootstrap())
        assert (one.delta, one.low, one.high) == (
            alone.interval.value, alone.interval.low, alone.interval.high,
        )  # fmt: skip
        assert one.items == len(sums[0][0])
        assert one.delta == pytest.approx(one.after - one.before)
    assert [one.name for one in found if one.adjusted < 0.05] == ["a:two"]


def test_the_parts_of_all_types_add_up_to_the_whole():
    task = suite().tasks["follow"]
    for one in scored(1, HIGH):
        for metric in ("inst_level_strict_acc", "inst_level_loose_acc"):
            parts = task.parts(one, metric).values()
            assert Ratio(*map(sum, zip(*parts, strict=True))) == one.metrics[metric]


def test_prompts_have_no_parts_so_their_instructions_are_shown():
    before, after = scored(1, LOW), scored(2, HIGH)
    prompts = suite("prompt_level_strict_acc")
    assert {d.metric for d in stratum_deltas(prompts, before, after)} == {
        "follow/inst_level_strict_acc"
    }
    assert stratum_deltas(prompts, before, after, "follow/prompt_level_strict_acc") == []


def test_a_type_of_a_single_prompt_has_no_interval_and_is_never_sure():
    rare = [score(90, ["c:rare"], [False])], [score(90, ["c:rare"], [True])]
    found = stratum_deltas(suite(), scored(1, LOW) + rare[0], scored(2, HIGH) + rare[1])
    (one,) = [d for d in found if d.name == "c:rare"]
    assert (one.items, one.delta, one.low, one.high, one.p, one.adjusted) == (
        1,
        1,
        None,
        None,
        1,
        1,
    )


def test_seeds_are_paired_item_by_item_in_whatever_order_they_come():
    before, after = scored(1, LOW), [scored(seed, HIGH) for seed in (2, 3, 4)]
    found = seeds_delta(suite(), [(before, one) for one in after])
    turned = seeds_delta(suite(), [(before[::-1], one[::-1]) for one in after[::-1]])
    assert (turned.low, turned.high) == pytest.approx((found.low, found.high))
    deltas = [primary_delta(suite(), before, one).delta for one in after]
    assert found.value == pytest.approx(np.mean(deltas))
    assert found.low < min(deltas) <= max(deltas) < found.high


def test_seeds_of_other_items_and_a_single_seed_are_refused():
    before, after = scored(1, LOW), scored(2, HIGH)
    with pytest.raises(RunError, match="same items twice"):
        seeds_delta(suite(), [(before, after), (before, [replace(after[0], key="x"), *after[1:]])])
    with pytest.raises(DataError, match="1 seed says nothing"):
        seeds_delta(suite(), [(before, after)])
