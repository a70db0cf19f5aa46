"""The plan says which cells there are, under the ids of their own command lines."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from heed.core.compose import compose_component
from heed.core.errors import ConfigError, Mistake
from heed.core.files import append_jsonl, write_json
from heed.core.identity import short_hash
from heed.study import plan
from heed.study.apart import Apart
from heed.study.bases import baseline_directory
from heed.study.ledger import latest, record, record_result, result_file
from heed.study.part import file_of
from heed.study.plan import PlannedCell, analyses_of, plan_cells, plan_study, states
from heed.study.study import Study

CONF = Path(__file__).resolve().parents[2] / "conf"
BESIDE = {"also": {"settings": {"name": "plain"}}}
"""What a result records of the second prompting that is wanted unless a command says otherwise."""


def study(**changed: Any) -> Study:
    settings = {
        "name": "small",
        "question": "Does it?",
        "axes": {"lr": ("play_gentle", "play_harsh")},
        "seeds": (1,),
        "suite": "play",
        "primary": None,
        "checkpoint": "last",
    }
    return Study(**(settings | changed))


def planned(root: Path, *typed: str, **changed: Any) -> list[PlannedCell]:
    return plan_study(study(**changed), CONF, [*typed, f"outputs={root}"])


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> list[PlannedCell]:
    axes = {"model": ("nano", "micro"), "lr": ("play_gentle", "play_harsh")}
    return planned(tmp_path_factory.mktemp("outputs"), axes=axes)


def test_cells_of_one_student_share_a_baseline_and_no_others(four: list[PlannedCell]):
    first, second, third, fourth = four
    assert first.baseline == second.baseline != third.baseline == fourth.baseline
    assert len({one.key for one in four}) == 4


def test_a_cell_has_the_id_and_the_names_of_its_own_command_line(tmp_path: Path):
    odd = {"teacher.name": "it's \\ a ${name}, #1\n", "lr.name": "12"}
    axes = {"lr.peak": (1e-05, 1e16), "suite.also": (None,)}
    lines = planned(tmp_path, axes=axes, fixed=odd)
    for one in lines:
        python, script, *overrides = shlex.split(one.command)
        cell = compose_component(CONF, "train", overrides)
        assert [python, script] == ["python", "train.py"]
        assert one.key == (cell.run.id, short_hash(cell.suite))
        assert one.names == cell.names
        assert one.directory == cell.run.directory
        assert one.file == file_of(cell, Apart())
        assert one.baseline == baseline_directory(cell.model, cell.suite, tmp_path)
        assert [one.names["teacher"], one.names["lr"]] == list(odd.values())


def test_what_is_typed_holds_for_every_cell(tmp_path: Path):
    made = planned(tmp_path, "method.adapter.rank=2", seeds=(3, 4))
    assert {one.cell.method.adapter.rank for one in made} == {2}
    assert [one.cell.seed for one in made] == [3, 4, 3, 4]


def told(*typed: str, **changed: Any) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        plan_study(study(**changed), CONF, typed)
    return [(mistake.where, mistake.found) for mistake in caught.value.mistakes]


def test_debugging_shortens_whatever_a_study_says_and_what_is_typed_comes_last(tmp_path: Path):
    fixed = {"data.epochs": 2, "data.steps": None, "data.limit": None}
    (whole, _), (short, _) = (planned(tmp_path, *t, fixed=fixed) for t in ([], ["debug=fast"]))
    assert (whole.cell.run.recipe.data.epochs, whole.cell.debugging) == (2, None)
    found = short.cell.run.recipe.data
    assert (found.epochs, found.steps, found.limit) == (None, 3, 64)
    assert (short.cell.debugging, short.cell.suite.max_new_tokens) == ("fast", 16)
    (five, _) = planned(tmp_path, "debug=fast", "suite.max_new_tokens=5", fixed=fixed)
    assert five.cell.suite.max_new_tokens == 5
    again = compose_component(CONF, "train", shlex.split(short.command)[2:])
    assert again.run.id == short.key[0]
    with pytest.raises(ConfigError, match="debug"):
        planned(tmp_path, "debug=no_such")


def test_debugging_leaves_what_a_study_varies(tmp_path: Path):
    axes = {"data.limit": (100, None)}
    made = planned(tmp_path, "debug=fast", axes=axes)
    assert [one.cell.run.recipe.data.limit for one in made] == [100, None]
    assert {one.cell.run.recipe.data.steps for one in made} == {3}
    made = planned(tmp_path, "debug=fast", axes={"data.epochs": (1, 2)}, fixed={"data.steps": None})
    assert [one.cell.run.recipe.data.epochs for one in made] == [1, 2]
    assert {one.cell.run.recipe.data.limit for one in made} == {64}


def test_mistakes_of_cells_and_analyses_come_together_and_each_once():
    axes = {"lr": ("play_gentel", "play_harsh"), "teachr": ("x",), "lr.peek": (1,)}
    found = told(axes=axes, seeds=(1, 2), analyses=("shfit", "shift"))
    assert len(found) == len(set(found))
    assert set(found) >= {("analysis", "shfit"), ("lr", "play_gentel"), ("teachr", "x")}


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"suite": "pley"}, ("suite", "pley")),
        ({"checkpoint": "lst"}, ("checkpoint", "lst")),
    ],
)
def test_an_option_that_there_is_not_is_told_once(changed: Any, found: Any):
    assert found in told(**changed)


def test_a_primary_metric_that_the_suite_lacks_is_told():
    ((where, given),) = told(primary="play_follow/nothing", axes={"lr": ("play_gentle",)})
    assert "primary" in where
    assert "play_follow/nothing" in given


def test_a_setting_of_the_study_cannot_be_typed_too():
    assert told("lr=play_harsh", "+seed=2", "suite.primary=x") == [
        ("lr", "play_harsh"), ("+seed", "2"), ("suite.primary", "x"),
    ]  # fmt: skip


def test_two_cells_that_are_one_run_are_told():
    found = told(axes={"trainer.threads": (1, 2)})
    assert found == [("cell", "trainer.threads=2")]
    one = {"lr": "play_gentle"}
    assert told(cells=(one,)) == [("cell", "lr=play_gentle seed=1 suite=play checkpoint=last")]


def test_of_several_lines_of_one_run_the_first_is_run_and_that_is_said(capfd):
    lines = [["trainer.threads=1"], ["trainer.threads=2"], ["seed=2"]]
    made = plan_cells(lines, CONF)
    assert [one.overrides for one in made] == [("trainer.threads=1",), ("seed=2",)]
    said = " ".join(capfd.readouterr().err.split())
    assert "train.py trainer.threads=2 is the run of python train.py trainer.threads=1" in said


def test_mistakes_are_looked_for_in_few_cells(monkeypatch: pytest.MonkeyPatch):
    composed = []

    def compose(_: Path, __: str, line: Any) -> Any:
        composed.append(list(line))
        raise ConfigError([Mistake("a", "0", "it is.", "Do not.")])

    monkeypatch.setattr(plan, "compose_component", compose)
    lines = [[f"a={a}", f"b={b}", f"c={c}"] for a in range(5) for b in range(5) for c in range(5)]
    with pytest.raises(ConfigError):
        plan_cells(lines, CONF)
    assert len(composed) == 13
    assert {text for line in composed for text in line} == {t for line in lines for t in line}


def test_the_analyses_of_a_study_are_composed():
    (made,) = analyses_of(study(analyses=("shift",)), CONF)
    assert made.name == "shift"


# How cells ended


def test_the_last_word_of_the_ledger_is_a_cells_state(four: list[PlannedCell], tmp_path: Path):
    def now() -> list[str]:
        return list(states(four, latest(tmp_path)))

    assert now() == ["missing"] * 4
    record(tmp_path, "failed", four[0].names | {"reason": "x"})
    record(tmp_path, "done", four[1].names | BESIDE)
    record(tmp_path, "stopped", four[2].names | {"reason": "y"})
    assert now() == ["failed", "done", "stopped", "missing"]
    record(tmp_path, "done", four[0].names | BESIDE)
    assert now() == ["done", "done", "stopped", "missing"]
    record(tmp_path, "done", four[3].names | BESIDE | {"suite": "another"})
    assert now()[3] == "missing"


def test_a_result_without_the_prompting_that_is_wanted_beside_is_missing(tmp_path: Path):
    axes = {"lr": ("play_gentle",)}
    (wanted,) = planned(tmp_path, axes=axes)
    (alone,) = planned(tmp_path, axes=axes, fixed={"also": "none"})
    assert wanted.key == alone.key
    for lacks in ({}, {"also": None}, {"also": {"settings": {"name": "urial"}}}):
        record(tmp_path, "done", wanted.names | lacks)
        assert states([wanted, alone], latest(tmp_path)) == ["missing", "done"]
    record(tmp_path, "done", wanted.names | BESIDE)
    assert states([wanted, alone], latest(tmp_path)) == ["done", "done"]


def test_a_result_that_is_not_exported_as_is_wanted_is_missing(tmp_path: Path):
    (wanted,) = planned(tmp_path, axes={"lr": ("play_gentle",)}, fixed={"export.merge": True})
    write_json(wanted.cell.directory / "model/adapter_config.json", {})
    record(tmp_path, "done", wanted.names | BESIDE)
    assert states([wanted], latest(tmp_path)) == ["missing"]
    note = {"event": "merged", "asked": "as_scored"}
    append_jsonl(wanted.cell.directory / "exports.jsonl", note)
    (wanted.cell.directory / "merged").mkdir()
    assert states([wanted], latest(tmp_path)) == ["done"]


def test_a_result_whose_file_is_lost_is_missing(four: list[PlannedCell]):
    root = four[0].cell.root
    names = four[0].names | BESIDE | {"directory": "runs/x"}
    record_result(root, names)
    assert states(four, latest(root))[0] == "missing"
    write_json(result_file(root / "runs/x", "play"), names)
    assert states(four, latest(root))[0] == "done"


PUSHED = ("export.merge=true", "export.push_to_hub=me/x")


def test_runs_are_not_uploaded_over_each_other(tmp_path: Path):
    seeds = [[f"seed={n}", *PUSHED, f"outputs={tmp_path}"] for n in (1, 2)]
    with pytest.raises(ConfigError) as told:
        plan_cells(seeds, CONF)
    (mistake,) = told.value.mistakes
    assert mistake.where == "export.push_to_hub"
    assert "2 runs would be uploaded to it" in mistake.why
    own = [[*line, "export.push_to_hub=me/x-${model.name}-${lr.name}-${seed}"] for line in seeds]
    found = [cell.cell.export.push_to_hub for cell in plan_cells(own, CONF)]
    assert found == [f"me/x-nano-play_reference-{n}" for n in (1, 2)]


def test_one_run_is_uploaded_once_by_whatever_suite_it_is_scored(tmp_path: Path):
    line = ["seed=1", *PUSHED, f"outputs={tmp_path}"]
    assert len(plan_cells([line, [*line, "suite.max_new_tokens=5"]], CONF)) == 2
