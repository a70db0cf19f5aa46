"""Cells that differ in their seed alone are taken together, and no others."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from heed.core.files import write_json
from heed.core.types import Item, ItemScore, Ratio
from heed.evaluation.deltas import seeds_delta
from heed.evaluation.record import write_scores
from heed.study.seeds import over_seeds

ITEMS = 60


class Right:
    """A task of one metric, as far as deltas need one."""

    metrics = ("right",)

    def __init__(self, falling: bool = False):
        self.lower_is_better = frozenset({"right"} if falling else ())

    def items(self) -> list[Item]:
        return []

    def strata(self, scores, level) -> list:
        return []

    def events(self, scores) -> dict:
        return {}


class Sums:
    """A suite, as far as it is asked."""

    name, primary, level, margin = "toy", "t/right", 0.95, {"t": 0.02}

    def __init__(self, falling: bool = False):
        self.tasks = {"t": Right(falling)}

    def bootstrap(self) -> dict:
        return {"level": 0.95, "resamples": 200, "seed": 0}

    def summarise(self, scores) -> dict:
        return {}

    def breakdown(self, scores) -> dict:
        return {}

    def events(self, scores) -> dict:
        return {}


def scores(right: int) -> list[ItemScore]:
    return [
        ItemScore("t", f"k{i}", "p", "r", "stop", 1, {"right": Ratio(int(i < right), 1)})
        for i in range(ITEMS)
    ]


def planned(root: Path, lr: str, seed: int, right: int, falling: bool = False):
    """A finished cell on disk, and what the ledger says of it."""
    suite = Sums(falling)
    write_scores(root / "before", suite, scores(20), {})
    write_scores(root / f"runs/{lr}{seed}/scores/toy", suite, scores(right), {})
    key = (f"{lr}{seed}", "hash")
    overrides = (f"lr={lr}", f"seed={seed}", "outputs=x")
    cell = SimpleNamespace(overrides=overrides, key=key, cell=SimpleNamespace(suite=suite))
    names = {"student": "nano", "teacher": "clear", "method": "lora", "lr": lr, "seed": seed}
    return cell, names | {"before": "before", "directory": f"runs/{lr}{seed}"}


def together(root: Path, *made) -> list[dict]:
    return over_seeds([cell for cell, _ in made], {cell.key: entry for cell, entry in made}, root)


def test_cells_that_differ_in_the_seed_are_one_group_and_a_lone_one_is_none(tmp_path):
    made = [planned(tmp_path, *one) for one in (("a", 1, 50), ("b", 1, 30), ("a", 2, 52))]
    (found,) = together(tmp_path, *made)
    assert (found["cell"], found["seeds"]) == ("nano, clear, lora, a", [1, 2])
    assert found["delta"] == pytest.approx((50 + 52) / 2 / ITEMS - 20 / ITEMS)
    pairs = [(scores(20), scores(50)), (scores(20), scores(52))]
    direct = seeds_delta(made[0][0].cell.suite, pairs)
    assert (found["low"], found["high"], found["items"]) == (direct.low, direct.high, ITEMS)


def test_a_cell_that_is_not_finished_does_not_count(tmp_path):
    made = [planned(tmp_path, "a", seed, 50) for seed in (1, 2)]
    assert together(tmp_path, *made)
    done = {made[0][0].key: made[0][1]}
    assert over_seeds([cell for cell, _ in made], done, tmp_path) == []


def test_the_verdict_over_seeds_turns_with_the_metric(tmp_path):
    up = [planned(tmp_path, "a", seed, 58) for seed in (1, 2, 3)]
    assert together(tmp_path, *up)[0]["verdict"] == "helped"
    falling = [planned(tmp_path, "b", seed, 58, falling=True) for seed in (1, 2, 3)]
    (found,) = together(tmp_path, *falling)
    assert found["verdict"] == "hurt"
    assert found["delta"] > 0


def test_lost_scores_are_said_to_be_lost_and_stop_no_page(tmp_path):
    made = [planned(tmp_path, lr, seed, 50) for lr in "ab" for seed in (1, 2)]
    (tmp_path / "runs/a2/scores/toy/items.jsonl").unlink()
    lost, whole = together(tmp_path, *made)
    assert "does not hold whole scores" in lost["reason"]
    assert (lost["cell"], lost["seeds"]) == ("nano, clear, lora, a", [1, 2])
    assert "delta" not in lost
    assert "reason" not in whole


def test_seeds_that_were_scored_in_different_ways_are_not_taken_together(tmp_path):
    made = [planned(tmp_path, "a", seed, 50) for seed in (1, 2)]
    write_json(tmp_path / "runs/a2/scores/toy/fingerprint.json", {"precision": "bfloat16"})
    (found,) = together(tmp_path, *made)
    assert "Seeds 1 and 2 were scored in different ways: precision" in found["reason"]
    assert "verdict" not in found
