"""A study's numbers are made of the items of its cells; what is unlike the others stands apart."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heed.core.compose import compose_component
from heed.core.errors import DataError
from heed.core.files import write_json
from heed.core.types import ItemScore, Ratio
from heed.core.unscored import MISSING, UNSCORED
from heed.evaluation.record import write_scores
from heed.study import numbers
from heed.study.measured import facts_beside, measured
from heed.study.numbers import environment_of, losses_of, rates_of, study_numbers, types_of
from heed.study.plan import PlannedCell
from heed.study.study import Study

CONF = Path(__file__).resolve().parents[2] / "conf"
KINDS = ("case:lower", "length:few")
ITEMS = 80
PEAKS = {"play_gentle": 1e-3, "play_reference": 5e-3}
STUDY = Study(
    name="s",
    question="?",
    seeds=(1, 2),
    suite="play",
    primary=None,
    checkpoint="last",
    axes={"model": ("nano", "micro"), "lr": tuple(PEAKS)},
)


def scores(chance: float, luck: int, facts: float = 0.9) -> list[ItemScore]:
    draw = np.random.default_rng(luck)
    found = []
    for i in range(ITEMS):
        asked = [{"id": kind, "strict": bool(draw.random() < chance)} for kind in KINDS]
        right = sum(one["strict"] for one in asked)
        metrics = {"inst_level_strict_acc": Ratio(right, 2)}
        found.append(
            ItemScore("play_follow", f"k{i}", "p", "r", "end", 1, metrics, {"instructions": asked})
        )
    known = draw.random(ITEMS) < facts
    return found + [
        ItemScore("play_facts", f"f{i}", "p", "r", "end", 1, {"acc": Ratio(float(one), 1)}, {})
        for i, one in enumerate(known)
    ]


def told(metric: str) -> dict[str, Any]:
    """That a metric was measured; its values are not read here."""
    numbers = {"before": 0.0, "after": 0.0, "delta": 0.0, "low": 0.0, "high": 0.0, "items": ITEMS}
    return {"metric": metric, **numbers, "verdict": "cannot tell", "lower_is_better": False}


def fingerprint(cell: PlannedCell, **more: Any) -> dict[str, Any]:
    return {"tasks": {"play_follow": "1"}, "template": cell.cell.model.name, "stops": []} | more


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[PlannedCell], dict]:
    """Eight finished cells: micro gains more than nano, and the reference rate harms."""
    root = tmp_path_factory.mktemp("outputs")
    cells, done = [], {}
    for number, line in enumerate(STUDY.lines()):
        cell = compose_component(CONF, "train", line)
        one = PlannedCell(tuple(line), cell, (f"{number:012x}", "f" * 12), root, None)
        chance = 0.5 + 0.2 * (cell.model.name == "micro") - 0.3 * (cell.lr.name == "play_reference")
        before, run = f"baselines/{cell.model.name}", f"runs/{number}"
        made = fingerprint(one)
        write_scores(root / before, Silent(cell.suite), scores(0.4, 77), made)
        facts = 0.9 - 0.5 * (cell.model.name == "micro")
        after = scores(chance, number, facts)
        write_scores(root / run / "scores/play", Silent(cell.suite), after, made)
        rows = [{"step": step, "loss": 2.0 / step} for step in range(1, 5)]
        (root / run / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
        write_json(root / run / "manifest.json", {"machine": "m", "device": "cpu", "versions": {}})
        data = {"examples": 10, "tokens": 100, "supervised_tokens": 50}
        done[one.key] = {
            **one.names,
            "name": "n",
            "code": "c0de source 1234",
            "primary": cell.suite.primary,
            "deltas": [told(cell.suite.primary), told("play_facts/acc")],
            "level": 0.95,
            "margin": 0.02,
            "before": before,
            "directory": run,
            "teacher": "play_clear",
            "fit": {"data": data, "template": "t"},
            "settings": {"teacher": {"name": "play_clear"}, "data": {"epochs": 1}},
        }
        cells.append(one)
    return root, cells, done


class Silent:  # what write_scores asks of a suite, which says nothing of these items
    def __init__(self, suite: Any):
        self.suite = suite

    def __getattr__(self, _: str) -> Any:
        return lambda *_args, **_kwargs: {}


def test_size_and_rate_are_told_apart(world):
    root, cells, done = world
    found = study_numbers(STUDY, cells, done, root)
    mean = {
        (one["axis"], one["one"], one["two"]): one
        for one in found["contrasts"]
        if "context" not in one and one["metric"] == "play_follow/inst_level_strict_acc"
    }
    size, rate = mean["student", "nano", "micro"], mean["lr", "play_gentle", "play_reference"]
    assert (size["pairs"], rate["pairs"], size["seeds"]) == (4, 4, 2)
    assert size["difference"] == pytest.approx(0.2, abs=0.1)
    assert rate["difference"] == pytest.approx(-0.3, abs=0.1)
    assert found["left_out"] == []
    assert found["commands"][cells[0].key[0]] == cells[0].command


def test_what_tuning_costs_is_contrasted_beside_what_it_gains(world):
    root, cells, done = world
    found = study_numbers(STUDY, cells, done, root)["contrasts"]
    cost = [one for one in found if one["metric"] == "play_facts/acc" and not one["part"]]
    size, rate = (next(one for one in cost if one["axis"] == axis) for axis in ("student", "lr"))
    assert size["difference"] == pytest.approx(-0.5, abs=0.1)
    assert size["verdict"] == "differs"
    assert rate["difference"] == pytest.approx(0.0, abs=0.1)
    assert size["items"] == ITEMS
    gains = [one for one in found if one["metric"] != "play_facts/acc" and not one["part"]]
    assert [(one["axis"], one["one"]) for one in gains] == [(c["axis"], c["one"]) for c in cost]


def test_a_metric_that_cannot_be_contrasted_leaves_the_other_standing(world, monkeypatch):
    """Its reason is told; what tuning gains is contrasted all the same."""
    root, cells, done = world
    real = numbers.contrasts

    def refusing(changes, *more):
        if len(changes[0].num) and changes[0].den.max() == 1:  # the facts, of one question each
            raise DataError("other items")
        return real(changes, *more)

    monkeypatch.setattr(numbers, "contrasts", refusing)
    found = study_numbers(STUDY, cells, done, root)
    assert found["contrasts_reason"] == "play_facts/acc: other items"
    assert {one["metric"] for one in found["contrasts"]} == {"play_follow/inst_level_strict_acc"}


COST = "play_facts/acc"


def without(scores: list[ItemScore], task: str, last: int) -> list[ItemScore]:
    """Of the last items of a task no score is known."""
    of_task = [one for one in scores if one.task == task]
    bare = {one.key for one in of_task[-last:]}
    return [
        replace(one, metrics={}) if one.task == task and one.key in bare else one for one in scores
    ]


@pytest.mark.parametrize("place", [0, 3], ids=["the first cell", "another"])
@pytest.mark.parametrize("last", [1, ITEMS], ids=["one item", "all items"])
def test_a_cell_whose_scores_lack_the_cost_is_left_out_of_its_contrasts_alone(
    world, tmp_path, place, last
):
    root, cells, done = world
    lacking = cells[place]
    folder = tmp_path / "run"
    old = without(scores(0.5, 1), "play_facts", last)
    write_scores(folder / "scores/play", Silent(lacking.cell.suite), old, fingerprint(lacking))
    mixed = done | {lacking.key: done[lacking.key] | {"directory": str(folder)}}
    found = study_numbers(STUDY, cells, mixed, root)
    mean = [one for one in found["contrasts"] if one["axis"] == "lr" and not one["part"]]
    assert {one["metric"]: one["pairs"] for one in mean}[cells[0].cell.suite.primary] == 4
    (cost,) = [one for one in mean if one["metric"] == COST]
    assert lacking.key[0] not in cost["runs"]
    assert cost["pairs"] > 0
    lines = [line for line in found["left_out"] if "training curve" not in line]
    (line,) = lines
    assert line.startswith(f"on {COST}: ")
    assert f"lack {COST} ({ITEMS - last} of {ITEMS} items" in line
    assert str(folder / "scores/play") in line


def test_a_cell_that_lacks_a_whole_task_sets_no_rule_for_the_others(world, tmp_path):
    """Though it comes first."""
    root, cells, done = world
    folder = tmp_path / "run"
    follow = [one for one in scores(0.5, 1) if one.task == "play_follow"]
    write_scores(folder / "scores/play", Silent(cells[0].cell.suite), follow, fingerprint(cells[0]))
    mixed = done | {cells[0].key: done[cells[0].key] | {"directory": str(folder)}}
    found = measured(cells, mixed, ["model", "lr"], root, COST)
    assert len(found.cells) == len(cells) - 1
    (line,) = found.left_out
    assert f"lack {COST} (0 of 0 items" in line


def test_a_line_names_the_metric_unless_a_cell_is_left_out_on_all(world, tmp_path):
    root, cells, done = world
    folders = [tmp_path / name for name in ("lost", "cost", "gain")]
    for folder, task in zip(folders[1:], ("play_facts", "play_follow"), strict=True):
        write_scores(
            folder / "scores/play",
            Silent(cells[0].cell.suite),
            without(scores(0.5, 1), task, 1),
            fingerprint(cells[0]),
        )
    changed = zip(cells, folders, strict=False)
    mixed = done | {c.key: done[c.key] | {"directory": str(f)} for c, f in changed}
    found = study_numbers(STUDY, cells, mixed, root)["left_out"]
    lines = [line for line in found if "training curve" not in line]
    primary = cells[0].cell.suite.primary
    where = [str(one.directory) for one in cells[:3]]
    assert [line.partition(": ")[0] for line in lines] == [where[0], f"on {primary}", f"on {COST}"]
    assert [w in line for w, line in zip((where[0], where[2], where[1]), lines, strict=True)] == [
        True
    ] * 3


def test_the_best_rate_is_that_of_each_student(world):
    root, cells, done = world
    found = rates_of(measured(cells, done, ["model", "lr"], root), ["model", "lr"])
    assert [one["student"] for one in found] == ["nano", "micro"]
    for one in found:
        assert one["peaks"] == sorted(PEAKS.values())
        assert (one["chosen"]["name"], one["edge"]) == ("play_gentle", "lowest")
        assert one["chosen"]["items"] + one["reported"]["items"] == ITEMS


def test_rates_are_compared_on_the_seeds_that_all_of_them_have(world):
    root, cells, done = world
    lucky = next(c for c in cells if (c.cell.lr.name, c.cell.seed) == ("play_reference", 2))
    part = {key: one for key, one in done.items() if key != lucky.key}
    one, two = rates_of(measured(cells, part, ["model", "lr"], root), ["model", "lr"])
    first = [c for c in cells if c.cell.seed == 1]
    alone = rates_of(measured(first, done, ["model", "lr"], root), ["model", "lr"])
    other = {"without": ["2"]}
    assert (one, two["without"]) == (alone[0] | other, [])
    assert (one["seeds"], two["seeds"]) == (1, 2)


def test_rates_without_a_seed_in_common_have_no_best_one(world):
    root, cells, done = world
    own = {"play_gentle": 1, "play_reference": 2}
    part = {c.key: done[c.key] for c in cells if c.cell.seed == own[c.cell.lr.name]}
    for one in rates_of(measured(cells, part, ["model", "lr"], root), ["model", "lr"]):
        assert "no seed is finished at every rate" in one["reason"]
        assert (one.get("chosen"), one["runs"], one["without"]) == (None, [], ["1", "2"])


def test_an_item_that_some_cell_has_no_score_of_is_left_out_of_all_and_said(world, tmp_path):
    root, cells, done = world
    cut = cells[2]
    after = scores(0.5, 1)
    none = {"inst_level_strict_acc": Ratio(0, 0)}
    after[0] = replace(after[0], metrics=none, details={**after[0].details, MISSING: "unread"})
    write_scores(tmp_path / "scores/play", Silent(cut.cell.suite), after, fingerprint(cut))
    mixed = done | {cut.key: done[cut.key] | {"directory": str(tmp_path)}}
    found = measured(cells, mixed, ["model", "lr"], root)
    assert {len(cells), *(int((c.change.den > 0).sum()) for c in found.cells)} == {8, ITEMS - 1}
    lines = study_numbers(STUDY, cells, mixed, root)["left_out"]
    assert f"on {cut.cell.suite.primary}: 1 items {UNSCORED}" in lines


def test_the_runs_of_a_best_rate_are_those_that_it_was_chosen_among(world):
    root, cells, done = world
    found = rates_of(measured(cells, done, ["model", "lr"], root), ["model", "lr"])
    own = {
        name: [c.key[0] for c in cells if c.cell.model.name == name] for name in ("nano", "micro")
    }
    assert {one["student"]: sorted(one["runs"]) for one in found} == own
    assert all({*one["chosen"]["runs"]} < {*one["runs"]} for one in found)


def test_types_hold_what_was_followed_before_and_after(world):
    root, cells, done = world
    found = types_of(measured(cells, done, ["model", "lr"], root))
    assert found is not None
    assert found["names"] == sorted(KINDS)
    row = found["rows"][cells[0].key[0]]
    before, after = scores(0.4, 77)[:ITEMS], scores(0.5, 0)[:ITEMS]  # what it is told to follow
    for at, kind in enumerate(KINDS):
        shares = [
            sum(score.details["instructions"][at]["strict"] for score in side) / ITEMS
            for side in (before, after)
        ]
        assert row[kind] == [*map(pytest.approx, shares), ITEMS]


def test_cells_scored_in_another_way_or_lost_are_left_out_and_said(world, tmp_path):
    root, cells, done = world
    other = dict(done)
    suite = Silent(cells[1].cell.suite)
    made = fingerprint(cells[1], max_new_tokens=7)
    write_scores(root / "runs/odd/scores/play", suite, scores(0.5, 1), made)
    other[cells[1].key] = done[cells[1].key] | {"directory": "runs/odd"}
    other[cells[2].key] = done[cells[2].key] | {"directory": "runs/gone"}
    found = measured(cells, other, ["model", "lr"], root)
    assert len(found.cells) == len(cells) - 2
    odd, gone = found.left_out
    assert "max_new_tokens" in odd
    assert "does not hold whole scores" in gone


def test_losses_of_other_data_or_tokens_are_another_group(world):
    root, cells, done = world
    (group,) = losses_of(cells, done, root)
    assert len(group["runs"]) == len(cells)
    assert group["runs"][cells[0].key[0]] == [[1, 2.0], [2, 1.0], [3, 2 / 3], [4, 0.5]]
    assert group["validation"] == {}
    for change in (
        {"settings": {"teacher": {"name": "play_sloppy"}, "data": {"epochs": 1}}},
        {"settings": {"teacher": {"name": "play_clear"}, "data": {"epochs": 2}}},
        {"fit": {"data": {"examples": 10, "tokens": 90, "supervised_tokens": 50}, "template": "t"}},
        {"fit": {**done[cells[0].key]["fit"], "template": "another"}},
        {"fit": {}},
    ):
        mixed = done | {cells[0].key: done[cells[0].key] | change}
        first, second = losses_of(cells, mixed, root)
        assert (len(first["runs"]), len(second["runs"])) == (1, len(cells) - 1), change


def test_a_study_without_a_finished_cell_has_no_numbers(world):
    root, cells, _ = world
    found = study_numbers(STUDY, cells, {}, root)
    assert (found["contrasts"], found["rates"], found["types"], found["losses"]) == (
        [],
        [],
        None,
        [],
    )


def test_versions_and_machines_are_told_once_and_a_lost_manifest_is_said(tmp_path):
    for name, torch in (("a", "2.1"), ("b", "2.2"), ("c", "2.1")):
        made = {"machine": "m", "device": "cpu", "versions": {"torch": torch}}
        write_json(tmp_path / name / "manifest.json", made)
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "manifest.json").write_text('{"machine": "m", "dev')
    found = environment_of([tmp_path / name for name in "abcde"])
    assert found["versions"] == {"torch": "2.1 / 2.2"}
    assert found["machines"] == ["m", "not recorded"]


def test_a_damaged_log_stops_no_page_and_is_said(world, tmp_path):
    root, cells, done = world
    other = tmp_path / "run"
    other.mkdir()
    (other / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo\n{"step": 3}\n')
    lost = done | {cells[0].key: done[cells[0].key] | {"directory": str(other)}}
    found = study_numbers(STUDY, cells, lost, root)
    assert sum(len(group["runs"]) for group in found["losses"]) == len(cells) - 1
    assert any("no training curve" in line for line in found["left_out"])


def test_cells_of_another_code_or_setting_are_set_against_none(world):
    root, cells, done = world
    for change, named in (
        ({"code": "ffff source 0000"}, "heed's code"),
        ({"settings": {**done[cells[0].key]["settings"], "optim": {"beta": 1}}}, "optim.beta"),
    ):
        gentle = {c.key for c in cells if c.settings["lr"] == "play_gentle"}
        mixed = {key: one | change if key in gentle else one for key, one in done.items()}
        found = study_numbers(STUDY, cells, mixed, root)["contrasts"]
        (rate, cost) = [one for one in found if one["axis"] == "lr"]
        assert (cost["pairs"], cost["also"]) == (rate["pairs"], rate["also"])
        assert (rate["pairs"], rate["also"]) == (0, [named])
        sizes = [one for one in found if one["axis"] == "student" and one["part"]]
        assert {one["pairs"] for one in sizes} == {2}, "within each state they are compared"


def test_the_seed_and_what_an_axis_sets_are_no_further_settings(world):
    _, cells, done = world
    result = done[cells[0].key]
    both = [
        result | {"settings": {**result["settings"], "seed": seed, "method": {"noise": noise}}}
        for seed, noise in ((1, None), (2, {"alpha": 5}))
    ]
    assert facts_beside(both, ["model", "noise"]) == [{}, {}]
    assert [list(one) for one in facts_beside(both, ["model"])] == [
        ["method.noise", "method.noise.alpha"]
    ] * 2


def test_rates_that_differ_in_another_axis_are_groups_with_names_of_their_own(world):
    root, cells, done = world
    warm = [replace(c, overrides=(*c.overrides, f"lr.warmup_steps={c.cell.seed}")) for c in cells]
    axes = ["model", "lr", "lr.warmup_steps"]
    found = rates_of(measured(warm, done, axes, root), axes)
    told = [(one["student"], one["context"], one["seeds"]) for one in found]
    steps = [f"lr.warmup_steps {seed}" for seed in STUDY.seeds]
    assert told == [(student, step, 1) for student in ("nano", "micro") for step in steps]
