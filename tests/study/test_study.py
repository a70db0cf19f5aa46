"""A study is the product of its axes, and the plan says which cells the ledger lacks."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from heed.core.errors import ConfigError
from heed.study.ledger import record
from heed.study.plan import PlannedCell, plan_study, plan_table, states
from heed.study.study import Study

CONF = Path(__file__).resolve().parents[2] / "conf"
PLAIN = {"also": {"settings": {"name": "plain"}}}
"""What a result records of the second prompting that is wanted unless a command says otherwise."""


def study(**changed: object) -> Study:
    settings = {
        "name": "small",
        "question": "Does it?",
        "axes": {"lr": ("play_gentle", "play_harsh"), "teacher": ("play_clear", "play_sloppy")},
        "fixed": {},
        "seeds": (1,),
    }
    return Study(**(settings | changed))


def test_cells_are_the_product_of_axes_and_seeds_each_once():
    cells = study(seeds=(1, 2, 3)).cells()
    assert len(cells) == len(set(map(tuple, cells))) == 2 * 2 * 3
    assert ["lr=play_harsh", "teacher=play_clear", "seed=3"] in cells


def test_what_is_fixed_is_said_in_every_cell_as_it_would_be_typed():
    fixed = {"method": "full", "lr.peak": 1e-05, "trainer.deterministic": True}
    for overrides in study(fixed=fixed).cells():
        assert overrides[-3:] == ["method=full", "lr.peak=1e-05", "trainer.deterministic=true"]


def test_values_on_an_axis_and_fixed_values_reach_the_cells(tmp_path: Path):
    asked = study(axes={"method.adapter.rank": (2, 4)}, fixed={"lr.peak": 1e-05}, seeds=(7,))
    planned = plan_study(asked, CONF, str(tmp_path))
    assert [p.cell.method.adapter.rank for p in planned] == [2, 4]
    assert {(p.cell.lr.peak, p.cell.seed, p.cell.root) for p in planned} == {(1e-05, 7, tmp_path)}


def test_cells_of_one_student_share_a_baseline_and_no_others(tmp_path: Path):
    axes = {"model": ("nano", "micro"), "lr": ("play_gentle", "play_harsh")}
    first, second, third, fourth = plan_study(study(axes=axes), CONF, str(tmp_path))
    assert first.baseline == second.baseline != third.baseline == fourth.baseline
    assert len({p.key for p in (first, second, third, fourth)}) == 4


def test_mistakes_of_all_cells_come_together_and_each_once(tmp_path: Path):
    axes = {"lr": ("play_gentel", "play_harsh"), "teacher": ("play_slopy",)}
    with pytest.raises(ConfigError) as caught:
        plan_study(study(axes=axes), CONF, str(tmp_path))
    assert [mistake.found for mistake in caught.value.mistakes] == ["play_gentel", "play_slopy"]


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> list[PlannedCell]:
    return plan_study(study(), CONF, str(tmp_path_factory.mktemp("outputs")))


def test_the_last_word_of_the_ledger_is_a_cells_state(planned: list[PlannedCell], tmp_path: Path):
    assert states(planned, tmp_path) == ["missing"] * 4
    record(tmp_path, "failed", planned[0].cell.names | {"reason": "x"})
    record(tmp_path, "done", planned[1].cell.names | PLAIN)
    assert states(planned, tmp_path) == ["failed", "done", "missing", "missing"]
    record(tmp_path, "done", planned[0].cell.names | PLAIN)
    assert states(planned, tmp_path)[0] == "done"


def test_a_result_without_the_prompting_that_is_wanted_beside_is_missing(tmp_path: Path):
    (wanted,) = plan_study(study(axes={"lr": ("play_gentle",)}), CONF, str(tmp_path))
    (alone,) = plan_study(
        study(axes={"lr": ("play_gentle",)}, fixed={"also": "none"}), CONF, str(tmp_path)
    )
    assert wanted.key == alone.key
    for lacks in ({}, {"also": None}, {"also": {"settings": {"name": "urial"}}}):
        record(tmp_path, "done", wanted.cell.names | lacks)
        assert states([wanted, alone], tmp_path) == ["missing", "done"]
    record(tmp_path, "done", wanted.cell.names | PLAIN)
    assert states([wanted, alone], tmp_path) == ["done", "done"]


def test_a_result_of_another_suite_does_not_count(planned: list[PlannedCell], tmp_path: Path):
    record(tmp_path, "done", planned[0].cell.names | {"suite": "another"})
    assert states(planned, tmp_path) == ["missing"] * 4


def test_the_plan_shows_every_cell_and_how_many_are_to_run(planned: list[PlannedCell]):
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(plan_table(study(), planned, ["done", "failed", "missing", "missing"]))
    text = console.export_text()
    assert "4 cells, 3 to run" in text
    assert all(one.key[0] in text for one in planned)
    words = " ".join(text.split())
    assert "play_follow/inst_level_strict_acc: if 10 / 20 / 30 % of 520 items change" in words
    assert "(level 0.95, the first of 4 cells by Holm)" in words
