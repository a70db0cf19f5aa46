"""Cells that differ in their seed alone are taken together, and no others."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from heed.core.component import component
from heed.core.files import write_json
from heed.core.types import Item, ItemScore, Ratio
from heed.evaluation.controls import CONTROLS
from heed.evaluation.deltas import seeds_delta
from heed.evaluation.record import write_scores
from heed.study.seeds import over_seeds
from heed.study.subjects import Controlled

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


@component
class Sums:
    """A suite, as far as it is asked; `weighed` adds a task that is not answered in text."""

    falling: bool = False
    weighed: bool = False
    primary: str = "t/right"
    name, level, margin = "toy", 0.95, {"t": 0.02, "w": 0.02}

    @property
    def tasks(self) -> dict[str, Right]:
        return {"t": Right(self.falling)} | ({"w": Right()} if self.weighed else {})

    def asked_as(self, prompting) -> "Sums":
        return Sums(falling=self.falling)

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
    suite = Sums(falling=falling)
    write_scores(root / "before", suite, scores(20), {})
    write_scores(root / f"runs/{lr}{seed}/scores/toy", suite, scores(right), {})
    key = (f"{lr}{seed}", "hash")
    overrides = (f"lr={lr}", f"seed={seed}", "outputs=x")
    cell = SimpleNamespace(overrides=overrides, key=key, cell=SimpleNamespace(suite=suite))
    names = {"student": "nano", "teacher": "clear", "method": "lora", "lr": lr, "seed": seed}
    return cell, names | {"before": "before", "directory": f"runs/{lr}{seed}"}


MADE = {"tasks": {"t": "digest"}, "versions": {"rules": "1"}}


def answered(root: Path, cell, name: str, right: int, fingerprint: dict = MADE) -> Path:
    """The scores of a control, where they are looked for."""
    text = cell.cell.suite.asked_as(None)
    directory = Controlled(CONTROLS[name], root).directory(text)
    write_scores(directory, text, scores(right), fingerprint | {"answers": name})
    return directory


def with_control(root: Path, lr: str, rights: tuple[int, ...], best="sure", **suite) -> list:
    """Finished cells of several seeds whose results record a best control."""
    made = [planned(root, lr, seed, right) for seed, right in enumerate(rights, start=1)]
    for (cell, entry), right in zip(made, rights, strict=True):
        cell.cell.suite = replace(cell.cell.suite, **suite)
        more = [replace(s, task="w") for s in scores(5)] if suite.get("weighed") else []
        for place, count in (("before", 20), (f"{entry['directory']}/scores/toy", right)):
            tasks = MADE["tasks"] | ({"w": "other"} if more else {})
            made_by = MADE | {"tasks": tasks, "student": "nano"}
            write_scores(root / place, cell.cell.suite, [*more, *scores(count)], made_by)
        row = {"control": best, "value": 0.5, "deltas": {}}
        entry["controls"] = {"metric": "t/right", "best": best, "rows": [row]}
    return made


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


def test_a_try_of_the_command_has_no_verdict_over_seeds_either(tmp_path):
    made = [planned(tmp_path, "a", seed, 58) for seed in (1, 2, 3)]
    made[1][1]["flags"] = [{"kind": "debug", "text": "Made with debug=fast."}]
    assert together(tmp_path, *made)[0]["verdict"] == "cannot tell"


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


def test_the_seeds_together_are_set_against_the_best_control_of_their_results(tmp_path):
    made = with_control(tmp_path, "a", (50, 52, 48))
    answered(tmp_path, made[0][0], "sure", 30)
    answered(tmp_path, made[0][0], "empty", 59)
    (found,) = together(tmp_path, *made)
    direct = seeds_delta(Sums(), [(scores(30), scores(right)) for right in (50, 52, 48)])
    assert found["control"] == "sure", "as recorded, whatever another would reach"
    assert found["over_control"] == {"delta": direct.value, "low": direct.low, "high": direct.high}
    assert direct.value == pytest.approx((50 - 30) / ITEMS)
    assert found["delta"] == pytest.approx((50 - 20) / ITEMS)


def test_what_is_not_answered_in_text_is_left_out_beside_a_control(tmp_path):
    made = with_control(tmp_path, "a", (50, 52), weighed=True)
    answered(tmp_path, made[0][0], "sure", 30)
    (found,) = together(tmp_path, *made)
    direct = seeds_delta(Sums(), [(scores(30), scores(right)) for right in (50, 52)])
    assert found["over_control"]["low"] == direct.low


def test_seeds_without_text_have_no_control_and_older_ones_none_recorded(tmp_path):
    older = with_control(tmp_path, "a", (50, 52))
    answered(tmp_path, older[0][0], "sure", 30)
    del older[1][1]["controls"]
    bare = with_control(tmp_path, "b", (50, 52))
    for _, entry in bare:
        entry["controls"] = None
    found = together(tmp_path, *older, *bare)
    apart = tmp_path / "weighed"
    weighed = with_control(apart, "c", (50, 52), weighed=True, primary="w/right")
    found += together(apart, *weighed)
    assert [one["control"] for one in found] == ["not recorded", "none", "none"]
    assert {one["over_control"] for one in found} == {None}
    assert "verdict" in found[0]


def test_controls_that_are_lost_or_of_other_items_are_not_recorded_and_the_reason_is(tmp_path):
    made = with_control(tmp_path, "a", (50, 52))

    def found() -> dict:
        (one,) = together(tmp_path, *made)
        assert (one["control"], one["over_control"]) == ("not recorded", None)
        assert one["delta"] == pytest.approx((51 - 20) / ITEMS)
        return one

    assert "does not hold whole scores" in found()["control_reason"]
    other = MADE | {"tasks": {"t": "other items"}}
    place = answered(tmp_path, made[0][0], "sure", 30, other)
    assert "other items" in found()["control_reason"]
    write_scores(place, Sums(), scores(30)[1:], MADE | {"answers": "sure"})
    assert "59" in found()["control_reason"]
    shutil.rmtree(place)
    for (_, entry), best in zip(made, ("sure", "empty"), strict=True):
        entry["controls"]["best"] = entry["controls"]["rows"][0]["control"] = best
    assert "sure and empty" in found()["control_reason"]
    for _, entry in made:
        entry["controls"]["best"] = entry["controls"]["rows"][0]["control"] = "gone"
    assert "gone" in found()["control_reason"]
