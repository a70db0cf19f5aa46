"""A study from plan to page: what is run, what is shown, and what is told of failures."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from made_up import done, planned
from stubs import CONF, begun, stub

from heed.core.compose import compose_component
from heed.core.errors import ConfigError, RunError
from heed.study import supervisor
from heed.study.apart import see_through
from heed.study.ledger import latest
from heed.study.outcome import Outcomes
from heed.study.several import Launch
from heed.study.sweep import run_lines, run_sweep

STUDY = ("study=playground", "study.axes.model=[nano]", "study.axes.teacher=[play_clear]")
FAILS = "print('the last words'); sys.exit(7)"


@pytest.fixture
def command(tmp_path, monkeypatch):
    """`python sweep.py` of two cells whose processes run some code; what is printed."""

    def run(*more: str, code: str = FAILS, typed: Sequence[str] = ()) -> None:
        monkeypatch.setattr(supervisor, "CHILD", stub(tmp_path, code))
        chosen = (*STUDY, "study.axes.lr=[play_gentle,play_harsh]", f"outputs={tmp_path}", *more)
        sweep = compose_component(CONF, "sweep", chosen)
        run_sweep(sweep, [f"outputs={tmp_path}", "also=none", *typed], CONF, Launch(begin))

    def begin(lines, how) -> None:
        for line in lines:
            see_through(compose_component(CONF, "train", line), how, line)

    return run


def test_a_sweep_keeps_its_page_and_names_the_cells_that_failed(command, tmp_path):
    with pytest.raises(RunError) as failed:
        command()
    said = str(failed.value)
    assert said.startswith("2 failed of 2 cells")
    assert said.count("exit code 7, and nothing recorded") == 2
    assert said.count("the last words") == 2
    assert said.count("python train.py lr=play_") + said.count("train.py model=nano") >= 2
    assert said.endswith("retry=failed runs them again.")
    assert (tmp_path / "studies/playground/report.html").is_file()
    assert begun(tmp_path)[0].startswith("before ")
    assert len(begun(tmp_path)) == 3


def test_failed_cells_are_listed_and_not_run_until_that_is_asked(command, tmp_path):
    for again in ((), ()):
        with pytest.raises(RunError, match="2 failed of 2 cells"):
            command(*again)
    assert len(begun(tmp_path)) == 3
    with pytest.raises(RunError, match=r"(?s)2 failed.*exit code 8"):
        command("retry=failed", code="sys.exit(8)")
    assert len(begun(tmp_path)) == 6


def test_after_a_failure_the_others_are_left_if_that_is_wanted(command, tmp_path):
    with pytest.raises(RunError) as failed:
        command("on_fail=stop", code="sys.exit(asked['part'] == 'cell')")
    assert str(failed.value).startswith("1 failed and 1 not finished of 2 cells")
    assert str(failed.value).endswith("The same command goes on with what is not finished.")
    assert [line.split()[0] for line in begun(tmp_path)] == ["before", "cell"]


def test_a_section_of_teachers_that_fails_ends_the_command_as_a_failed_analysis_does(
    command, tmp_path, monkeypatch
):
    said = {"reason": "MemoryError: full", "failed": "the section of teachers: MemoryError: full"}
    monkeypatch.setattr("heed.study.outcome.teaching_of", lambda *_: said)
    with pytest.raises(RunError) as failed:
        command()
    assert str(failed.value).startswith("3 failed of 2 cells and what belongs to them")
    assert "the section of teachers: MemoryError: full" in str(failed.value)
    assert "MemoryError: full" in (tmp_path / "studies/playground/report.html").read_text()


EXPORT = """
if asked["part"] == "cell":
    {told}
    run = next(root.glob("cells/*" + asked["key"][0] + "*.yaml")).name.rpartition("--")[0]
    (root / "runs" / run / "model").mkdir(parents=True, exist_ok=True)
    (root / "runs" / run / "model" / "adapter_config.json").touch()
    with (root / "runs" / run / "exports.jsonl").open("a") as notes:
        notes.write(json.dumps({{"event": {event!r}, "reason": "no room", "asked": "as_scored"}}))
        notes.write("\\n")
    {event!r} == "merged" and (root / "runs" / run / "merged").mkdir()
sys.exit({code})
"""


def test_an_export_that_fails_is_told_with_its_cell_and_is_made_by_the_same_command(
    command, tmp_path, monkeypatch
):
    monkeypatch.setattr("heed.study.sweep.outcomes", lambda cells, _: Outcomes([{}] * 2, []))
    monkeypatch.setattr("heed.study.sweep.report", lambda *_: (tmp_path, []))
    monkeypatch.setattr("heed.study.sweep.result_table", lambda *_: "")
    result = "tell('done', deltas=[], primary='m', code='here', also=None)"
    for told in (result, "pass"):  # the cells are computed once
        code = EXPORT.format(told=told, event="failed", code=2)
        with pytest.raises(RunError) as failed:
            command(code=code, typed=["export.merge=true"])
        said = str(failed.value)
        assert said.startswith("2 failed of 2 cells and what belongs to them")
        assert said.count("its result stays, but it was not exported: no room") == 2
        assert said.count("python train.py") == said.count("export.merge=true") == 2
        assert said.endswith("The same command goes on with what is not finished.")
        assert "retry=failed" not in said
    command(code=EXPORT.format(told="pass", event="merged", code=0), typed=["export.merge=true"])
    assert {entry["event"] for entry in latest(tmp_path).values()} == {"done"}


def test_to_run_again_is_offered_for_what_failed_and_not_for_a_result_that_was_changed(
    command, tmp_path, monkeypatch
):
    monkeypatch.setattr("heed.study.sweep.report", lambda *_: (tmp_path, []))
    gone = "tell('done', deltas=[], primary='m', code='here', also=None, suite_name='play', "
    gone += "directory='runs/' + asked['key'][0], digest='another')\n"
    gone += "path = root / 'runs' / asked['key'][0] / 'scores/play/result.json'\n"
    gone += "path.parent.mkdir(parents=True); path.write_text(json.dumps({'run': asked['key'][0]}))"
    with pytest.raises(RunError, match="2 failed of 2 cells") as told:
        command(code=f"if asked['part'] == 'cell':\n    {gone.replace(chr(10), chr(10) + '    ')}")
    assert "it was changed" in str(told.value)
    assert "retry=failed" not in str(told.value)


def test_a_cell_that_hangs_is_ended_and_told(command, tmp_path):
    hangs = "time.sleep(60 if asked['part'] == 'cell' else 0)"
    with pytest.raises(RunError, match=r"(?s)1 failed and 1 not.*after cell_timeout=0.5 seconds"):
        command("cell_timeout=0.5", "on_fail=stop", code=hangs)


def test_where_the_scores_before_tuning_fail_a_cell_tells_why(command, tmp_path):
    with pytest.raises(RunError, match=r"(?s)1 failed and 1 not.*exit code 7"):
        command("on_fail=stop")


def test_a_cell_that_somebody_ended_is_no_success(command, tmp_path):
    with pytest.raises(RunError, match="2 not finished of 2 cells"):
        command(code="os.kill(os.getpid(), 15)")
    assert len(begun(tmp_path)) == 1 + 2 * 2


@pytest.mark.parametrize("mode", ["plan_only", "status", "report_only"])
def test_a_look_runs_nothing_and_tells_what_has_failed(command, tmp_path, capsys, mode):
    with pytest.raises(RunError):
        command()
    capsys.readouterr()
    if mode == "report_only":
        with pytest.raises(RunError, match="2 failed"):
            command(f"{mode}=true")
    else:
        command(f"{mode}=true")
        assert capsys.readouterr().out.count("exit code 7") == 2
    assert len(begun(tmp_path)) == 3


def test_what_a_study_says_itself_is_not_typed(command, tmp_path):
    with pytest.raises(ConfigError, match="lr: study playground says it itself, in axes"):
        command(typed=["lr=play_gentle"])
    assert begun(tmp_path) == []


def test_a_sweep_without_a_study_lists_studies_and_scales(tmp_path: Path, capsys):
    sweep = compose_component(CONF, "sweep", [f"outputs={tmp_path}"])
    run_sweep(sweep, [], CONF, Launch(lambda *_: None))
    printed = capsys.readouterr().out.splitlines()
    for line in ("study=playground", "study=lr_rerun_2b", "study=<name> scale=small_real"):
        assert f"  python sweep.py {line}" in printed
    assert not list(tmp_path.iterdir())


def test_the_plan_of_a_scaled_study_says_its_scale_and_plans_its_stand_ins(tmp_path, capsys):
    typed = [f"outputs={tmp_path}", "study=size_ladder", "scale=playground", "plan_only=true"]
    run_sweep(compose_component(CONF, "sweep", typed), typed[:1], CONF, Launch(lambda *_: None))
    printed = capsys.readouterr().out
    assert printed.startswith("Study size_ladder at scale playground.")
    assert "  model: nano for 1b, micro for 2b, mini for 3b\n" in printed
    assert "study size_ladder-playground: 3 cells, 3 missing" in printed
    assert "python train.py model=mini lr=gentle lr.peak=0.00125 seed=1 suite=play" in printed
    assert "lr.peak" not in printed.split("Before tuning")[0].split("3 missing")[1]
    assert (tmp_path / "studies/size_ladder-playground/plan.csv").is_file()


def test_what_a_scale_lacks_is_told_before_anything_is_made(tmp_path):
    typed = [f"outputs={tmp_path}", "study=size_ladder", "scale=playground"]
    sweep = compose_component(CONF, "sweep", [*typed, "study.suite=ifbench"])
    with pytest.raises(ConfigError, match="scale playground has nothing for suite ifbench; it kno"):
        run_sweep(sweep, typed[:1], CONF, Launch(lambda *_: None))
    assert not list(tmp_path.iterdir())


def test_failed_cells_of_a_command_with_several_are_run_again_by_the_same_command(
    tmp_path, monkeypatch
):
    line = ["lr=play_gentle", "also=none", f"outputs={tmp_path}"]
    begin = Launch(lambda lines, how: [
        see_through(compose_component(CONF, "train", line), how, line) for line in lines
    ])  # fmt: skip
    for code in (7, 8):
        monkeypatch.setattr(supervisor, "CHILD", stub(tmp_path, f"sys.exit({code})"))
        with pytest.raises(RunError, match=f"(?s)1 failed of 1 .*exit code {code}.*runs them"):
            run_lines([line], CONF, tmp_path, begin)
    assert len(begun(tmp_path)) == 2
    assert len(latest(tmp_path)) == 1


def test_a_command_with_several_options_of_a_group_ends_with_a_table_that_names_them(
    tmp_path, capsys, monkeypatch
):
    cells = [
        replace(planned(tmp_path, number), overrides=(f"data={name}", "seed=1"))
        for number, name in enumerate(("play", "responses"))
    ]
    for one in cells:
        done(tmp_path, one, cost=(10.0, 5.0, 100), settings={"data": {"epochs": one.cell.seed}})
    monkeypatch.setattr("heed.study.sweep.plan_cells", lambda *_: cells)
    monkeypatch.setattr("heed.study.sweep.plan_table", lambda *_: "the plan")
    run_lines([list(one.overrides) for one in cells], CONF, tmp_path, Launch(lambda *_: None))
    table = capsys.readouterr().out.partition("results on the primary metric")[2]
    rows = [line.split() for line in table.splitlines() if "+0.125" in line]
    assert [("play" in row, "responses" in row) for row in rows] == [(True, False), (False, True)]
