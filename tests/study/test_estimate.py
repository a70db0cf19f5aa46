"""What cells will take is told from what cells like them took, and from nothing else."""

from pathlib import Path

from made_up import done, planned

from heed.study.estimate import Estimate, estimates
from heed.study.ledger import latest
from heed.study.plan import PlannedCell

NOT_KNOWN = Estimate(None, None)


def of(root: Path, *cells: PlannedCell) -> list[Estimate]:
    return estimates(cells, latest(root).values())


def test_nothing_is_known_before_anything_ran(tmp_path: Path):
    assert of(tmp_path, planned(tmp_path, 1)) == [NOT_KNOWN]


def test_a_cell_takes_the_median_of_cells_like_it(tmp_path: Path):
    for number, seconds in enumerate((10.0, 1000.0, 20.0)):
        done(tmp_path, planned(tmp_path, number), cost=(seconds, 5.0, 100 + number))
    assert of(tmp_path, planned(tmp_path, 9)) == [Estimate(101, 20.0)]


def test_another_teacher_is_estimated_from_rate_and_what_is_beside(tmp_path: Path):
    done(tmp_path, planned(tmp_path, 1, teacher="a"), cost=(60.0, 20.0, 2000))
    done(tmp_path, planned(tmp_path, 2, teacher="b", student="s"), cost=(999.0, 900.0, 5000))
    (found,) = of(tmp_path, planned(tmp_path, 3, teacher="b"))
    assert found == Estimate(5000, 5000 / (2000 / 20.0) + 40.0)


def test_of_another_student_only_the_tokens_are_known(tmp_path: Path):
    done(tmp_path, planned(tmp_path, 1, teacher="a"), cost=(60.0, 20.0, 2000))
    assert of(tmp_path, planned(tmp_path, 2, teacher="a", student="s")) == [Estimate(2000, None)]
    assert of(tmp_path, planned(tmp_path, 2, teacher="b", student="s")) == [NOT_KNOWN]


def test_a_cell_that_went_on_counts_for_the_rate_only(tmp_path: Path):
    done(tmp_path, planned(tmp_path, 1), cost=(None, 20.0, 2000))
    assert of(tmp_path, planned(tmp_path, 2)) == [Estimate(2000, None)]
    done(tmp_path, planned(tmp_path, 3, teacher="b"), cost=(50.0, 40.0, 4000))
    assert of(tmp_path, planned(tmp_path, 2)) == [Estimate(2000, 20.0 + 10.0)]


def test_seconds_of_another_suite_do_not_count(tmp_path: Path):
    done(tmp_path, planned(tmp_path, 1), cost=(50.0, 40.0, 4000), suite="another")
    assert of(tmp_path, planned(tmp_path, 2)) == [Estimate(4000, None)]


def test_cells_made_to_look_for_mistakes_say_nothing_of_others(tmp_path: Path):
    done(tmp_path, planned(tmp_path, 1), cost=(1.0, 1.0, 10), flags=["debug"])
    done(tmp_path, planned(tmp_path, 2), cost=(1.0, 1.0, 10), flags=[{"kind": "debug"}])
    meant, debug = planned(tmp_path, 3), planned(tmp_path, 4, debugging="fast")
    assert of(tmp_path, meant, debug) == [NOT_KNOWN, Estimate(10, 1.0)]


def test_entries_without_costs_and_failures_are_left_out(tmp_path: Path):
    entry = done(tmp_path, planned(tmp_path, 1), cost=(50.0, 40.0, 4000))
    old = {k: v for k, v in entry.items() if k != "cost"} | {"event": "done"}
    failed = entry | {"event": "failed", "reason": "x"}
    assert estimates([planned(tmp_path, 2)], [old, failed]) == [NOT_KNOWN]
