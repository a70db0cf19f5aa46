"""The mirror never stops a run, is read back as it was meant, and holds no key."""

import json
import os
from pathlib import Path

import pytest
import wandb
from hypothesis import given
from hypothesis import strategies as st
from mirrors import SECRET, kept, mirrored, of_kind, read_back, records, table, wandb_mirror

from heed.core.compose import compose_component
from heed.core.files import append_jsonl
from heed.study.mirror import failed_ending, made_ending
from heed.tracking.tracker import OWN, Ending, LocalOnly, Rows, Tracker
from heed.tracking.wandb import Wandb, tag

CONF = Path(__file__).resolve().parents[2] / "conf"
RUN = "0123456789ab-0123456789ab"
STEPS = [{"step": step, "loss": 1 / step} for step in (1, 2, 3)]


def use(tracker: Tracker, directory: Path, ending: Ending | None = None, **changes: object) -> None:
    tracker.start(mirrored(directory, **changes))
    for row in STEPS:
        tracker.log(row)
    tracker.finish(ending or Ending({"delta/play/acc": 0.1, "verdict/play/acc": "helped"}))


def items(rows: int) -> dict[str, Rows]:
    return {
        "items/play": Rows(["key", "before", "after"], [[str(i), None, 1.0] for i in range(rows)])
    }


@pytest.mark.slow
def test_an_offline_run_is_read_back_by_wandbs_own_reader(tmp_path: Path):
    directory = tmp_path / "runs"
    ending = Ending({"delta/play/acc": 0.1, "low/play/acc": None}, tables=lambda: items(3))
    use(wandb_mirror(study="a study", tags=("data.limit:64",)), directory, ending)
    (file,) = kept(tmp_path)
    found, rows = read_back(file), records(file)
    (run,) = of_kind(rows, "run")
    assert found["run_id"] == run["run_id"] == RUN
    assert (run["run_group"], run["job_type"]) == ("a study", "tuned")
    assert found["tags"] == ["student:nano", "data.limit:64", "study:a study"]
    assert found["config"] == {"lr": "gentle", "lr.peak": 1.0, "lr_peak": 1.0}
    assert (found["state"], found["exit_code"]) == ("finished", 0)
    assert found["summary"]["delta/play/acc"] == 0.1
    assert "low/play/acc" not in found["summary"]
    steps = [(row["step"], row["train/loss"]) for row in of_kind(rows, "history")[:3]]
    assert steps == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    globs = {m["glob_name"]: m["step_metric"] for m in of_kind(rows, "metric") if "glob_name" in m}
    assert globs["train/*"] == globs["validation/*"] == "step"
    shown = table(file, found["summary"]["items/play"])
    assert shown["columns"] == ["key", "before", "after"]
    assert shown["data"] == [["0", None, 1.0], ["1", None, 1.0], ["2", None, 1.0]]


@pytest.mark.parametrize("kind", ["base", "report"])
def test_kind_and_group_are_wandbs(kind: str, tmp_path: Path):
    tracker = wandb_mirror(study="a study", group="mine" if kind == "report" else None)
    use(tracker, tmp_path / "run", kind=kind, group="bases" if kind == "base" else None)
    (run,) = of_kind(records(kept(tmp_path)[0]), "run")
    wanted = {"base": "bases", "report": "mine"}.get(kind, "a study")
    assert (run["job_type"], run["run_group"]) == (kind, wanted)


def test_a_failed_run_ends_failed_with_its_reason(tmp_path: Path):
    use(wandb_mirror(), tmp_path / "run", Ending({"reason": "out of memory"}, failed=True))
    found = read_back(kept(tmp_path)[0])
    assert (found["state"], found["exit_code"]) == ("failed", 1)
    assert found["summary"]["reason"] == "out of memory"


def test_a_table_is_cut_and_how_many_rows_are_left_out_is_told(tmp_path: Path, capsys):
    ending = Ending(tables=lambda: items(5))
    use(wandb_mirror(table_rows=2), tmp_path / "run", ending)
    (file,) = kept(tmp_path)
    summary = read_back(file)["summary"]
    assert (summary["rows/items/play"], summary["left_out/items/play"]) == (2, 3)
    assert len(table(file, summary["items/play"])["data"]) == 2
    assert "items/play has 3 rows more than logger.table_rows=2" in capsys.readouterr().err


@pytest.mark.parametrize("artifact", [True, False])
def test_the_student_is_sent_only_where_that_is_asked(artifact: bool, tmp_path: Path):
    model = tmp_path / "run/model"
    model.mkdir(parents=True)
    (model / "adapter.safetensors").write_bytes(b"weights")
    use(wandb_mirror(artifact=artifact), tmp_path / "run", Ending(model=model))
    sent = of_kind(records(kept(tmp_path)[0]), "artifact")
    assert [(a["name"], a["type"]) for a in sent] == [(f"model-{RUN}", "model")] * artifact


def test_figures_and_the_page_are_sent(tmp_path: Path):
    from PIL import Image

    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    (tmp_path / "report.html").write_text("<p>the page</p>")
    files = {
        "figures": {"figures/a": tmp_path / "a.png"},
        "pages": {"report": tmp_path / "report.html"},
    }
    use(wandb_mirror(), tmp_path / "run", Ending(**files), kind="report")
    (file,) = kept(tmp_path)
    summary = read_back(file)["summary"]
    assert (summary["figures/a"]["_type"], summary["report"]["_type"]) == (
        "image-file",
        "html-file",
    )
    assert "the page" in (file.parent / "files" / summary["report"]["path"]).read_text()


def test_offline_a_run_that_goes_on_has_each_step_once_and_one_folder(tmp_path: Path):
    run = tmp_path / "run"
    for first, last in ((1, 3), (2, 5)):  # the second process does 2 and 3 again
        tracker = wandb_mirror()
        tracker.start(mirrored(run))
        for step in range(first, last + 1):
            row = {"step": step, "loss": 1 / step}
            append_jsonl(run / OWN, row)
            tracker.log(row)
            tracker.log({"step": step, "validation_loss": 2.0})
        tracker.finish(Ending({"delta/a": 0.1}))
    (file,) = kept(tmp_path)
    history = of_kind(records(file), "history")
    assert [row["step"] for row in history] == [1, 2, 3, 4, 5]
    assert [row["train/loss"] for row in history] == [pytest.approx(1 / s) for s in range(1, 6)]
    assert all("validation/loss" in row for row in history[3:])


def test_online_a_run_sent_again_is_the_same_run_with_no_row_twice(tmp_path: Path, online, capsys):
    for row in STEPS:
        append_jsonl(tmp_path / "run" / OWN, row)
    for failed in (True, False):
        tracker = wandb_mirror(None)
        tracker.start(mirrored(tmp_path / "run", live=False))
        tracker.finish(Ending({"delta/a": 0.1}, tables=lambda: items(2), failed=failed))
        assert tracker.arrived()
        assert online.runs[RUN].state == ("failed" if failed else "finished")
    run = online.runs[RUN]
    assert "Tried to log" not in capsys.readouterr().err, "what is there is not even offered"
    assert online.asked.count("RunResumeStatus") == 2
    assert run.settings["jobType"] == "tuned"
    assert [row.get("step") for row in run.history] == [1, 2, 3, None], "the last holds the table"
    assert run.summary["items/play"]["nrows"] == 2
    assert len(online.artifacts) == 1, "the table is sent once"
    assert not kept(tmp_path)


def test_a_server_that_is_gone_before_the_run_leaves_an_offline_folder(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    tracker = wandb_mirror("online")
    assert not tracker.reachable()
    use(tracker, tmp_path / "run")
    said = " ".join(capsys.readouterr().err.split())
    assert "W&B offline" in said
    assert "Connection refused" in said
    assert read_back(kept(tmp_path)[0])["exit_code"] == 0
    assert "wandb sync" in tracker.where(tmp_path)


@pytest.mark.slow
def test_a_server_that_falls_silent_in_a_run_is_left_and_the_next_run_is_offline(
    tmp_path: Path, online, capsys
):
    tracker = wandb_mirror("online")
    tracker.start(mirrored(tmp_path / "run"))
    online.silent.set()
    tracker.log(STEPS[0])
    tracker.finish(Ending({"delta/a": 0.1}, tables=lambda: items(2)))
    said = " ".join(capsys.readouterr().err.split())
    assert "the server does not answer any more" in said
    assert "The run goes on; its files are whole." in said
    assert not tracker.arrived()
    use(tracker, tmp_path / "run")
    assert tracker.arrived()
    assert len(of_kind(records(kept(tmp_path, RUN)[0]), "history")) == len(STEPS)


def test_without_a_key_it_is_offline_by_itself_unless_online_was_asked(tmp_path: Path, capsys):
    use(wandb_mirror(None), tmp_path / "run")
    assert "no key of W&B is known here" in capsys.readouterr().err
    assert len(kept(tmp_path)) == 1
    use(wandb_mirror("online"), tmp_path / "run", id="another")
    said = " ".join(capsys.readouterr().err.split())
    assert "no key of W&B is known here. Log in" in said
    assert "3 rows of metrics" in said
    assert len(kept(tmp_path)) == 1


def test_what_fails_in_sending_a_result_still_ends_the_run(tmp_path: Path, capsys):
    def broken() -> dict[str, Rows]:
        raise OSError("the items are gone")

    use(wandb_mirror(), tmp_path / "run", Ending(tables=broken))
    assert "the items are gone" in capsys.readouterr().err
    assert read_back(kept(tmp_path)[0])["exit_code"] == 0


def test_a_key_in_what_the_server_says_is_not_shown(monkeypatch, capsys, tmp_path: Path):
    def refused(**_: object) -> None:
        raise wandb.errors.CommError(f"401 Unauthorized: {SECRET}")

    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setattr(wandb, "init", refused)
    tracker = wandb_mirror()
    use(tracker, tmp_path / "run")
    said = capsys.readouterr().err
    assert "401 Unauthorized: ***" in said
    assert SECRET not in said
    assert not tracker.arrived()


def test_stopping_a_run_by_hand_is_no_outage(monkeypatch, tmp_path: Path):
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(wandb, "init", interrupted)
    with pytest.raises(KeyboardInterrupt):
        use(wandb_mirror(), tmp_path / "run")


def test_no_mirror_writes_nothing(tmp_path: Path):
    use(LocalOnly(), tmp_path)
    assert LocalOnly().within("a study") == LocalOnly()
    assert not list(tmp_path.iterdir())


def test_all_files_lie_below_the_outputs_and_none_holds_a_key(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.chdir(tmp_path)
    outputs = tmp_path / "outputs"
    use(wandb_mirror(), outputs / "run", Ending(tables=lambda: items(2)))
    assert kept(outputs)
    assert {path.name for path in tmp_path.iterdir()} <= {"outputs", "home"}
    staged = outputs / "wandb/heed-data" / RUN
    assert Path(os.environ["WANDB_DATA_DIR"]) == staged
    assert [path for path in staged.rglob("*") if path.is_file()]
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def test_a_study_gives_its_mirror_group_and_tags_and_a_user_goes_first():
    tracker = wandb_mirror(None, tags=("mine",)).within("a study", ("data.limit:64",), offline=True)
    assert isinstance(tracker, Wandb)
    assert (tracker.study, tracker.tags) == ("a study", ("mine", "data.limit:64"))
    assert tracker.mode == "offline"
    assert not tracker.alone


@given(st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=200))
def test_tags_are_short_enough_and_still_differ(one: str, two: str):
    assert 1 <= len(tag(one)) <= 64
    assert (tag(one) == tag(two)) == (one == two)
    assert json.dumps(tag(one))


ODD = {
    "a short key": {"WANDB_API_KEY": "short"},
    "a key with a blank": {"WANDB_API_KEY": f"{SECRET} "},
    "no address": {"WANDB_BASE_URL": "foo"},
    "no mode": {"WANDB_MODE": "foo"},
    "disabled": {"WANDB_MODE": "disabled"},
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize("mode", [None, "online"])
def test_an_odd_setting_of_wandb_stops_nothing_sends_nothing_and_is_said(
    odd, mode, online, tmp_path: Path, monkeypatch, capsys
):
    wandb.teardown()
    for name, value in odd.items():
        monkeypatch.setenv(name, value)
    tracker = wandb_mirror(mode)
    assert tracker.reachable(), "each run says what is wrong"
    assert tracker.where(tmp_path) == ""
    why = str(tracker.why_not())
    assert why != "None"
    use(tracker, tmp_path / "run")
    said = " ".join(capsys.readouterr().err.split())
    assert "The run goes on; its files are whole." in said
    for name, value in odd.items():
        assert name in said or value in said or "API key" in said
    assert SECRET not in said + why
    assert not tracker.arrived()
    assert online.runs == {}


def test_what_can_be_sent_or_written_passes_the_check(online, tmp_path: Path):
    for mode in ("online", "offline", None):
        assert wandb_mirror(mode).why_not() is None
    assert LocalOnly().why_not() is None


def test_a_run_that_failed_and_then_succeeded_keeps_no_reason(online, tmp_path: Path):
    tracker = wandb_mirror(None)
    for ending in (failed_ending("failed", "no memory"), made_ending()):
        use(tracker, tmp_path / "run", ending)
        assert tracker.arrived()
        assert online.runs[RUN].summary["ended"] == ending.summary["ended"]
        assert bool(online.runs[RUN].summary["reason"]) == ending.failed


def test_a_step_that_was_broken_off_is_sent_whole_when_the_run_goes_on(online, tmp_path: Path):
    run = tmp_path / "run"
    for row in STEPS:
        append_jsonl(run / OWN, row)
    tracker = wandb_mirror(None)
    use(tracker, run, failed_ending("stopped", "asked, before step 3 was validated"))
    assert [row["step"] for row in online.runs[RUN].history] == [1, 2]
    assert online.runs[RUN].summary["train/loss"] == pytest.approx(1 / 3)
    tracker.start(mirrored(run))
    for row in (
        {"step": 3, "loss": 1 / 3},
        {"step": 3, "validation_loss": 9},
        {"step": 4, "loss": 0},
    ):
        tracker.log(row)
    tracker.finish(made_ending())
    assert tracker.arrived()
    history = online.runs[RUN].history
    assert [row["step"] for row in history] == [1, 2, 3, 4]
    assert (history[2]["train/loss"], history[2]["validation/loss"]) == (pytest.approx(1 / 3), 9)


def test_another_table_is_sent_and_counted_anew_and_the_same_one_is_not(online, tmp_path: Path):
    tracker = wandb_mirror(None)
    for rows, sent in ((2, 1), (2, 1), (3, 2), (3, 2)):
        use(tracker, tmp_path / "run", made_ending(tables=lambda rows=rows: items(rows)))
        summary = online.runs[RUN].summary
        assert (summary["items/play"]["nrows"], summary["rows/items/play"]) == (rows, rows)
        assert len(online.artifacts) == sent
    assert [row.get("step") for row in online.runs[RUN].history] == [1, 2, 3, None, None]


def test_a_run_of_two_studies_is_found_by_the_tags_of_both(online, tmp_path: Path):
    for study in ("one", "other"):
        tracker = wandb_mirror(None).within(study, (f"lr:{study}",))
        tracker.start(mirrored(tmp_path / "run", live=False))
        tracker.finish(made_ending())
        assert tracker.arrived()
    found = set(online.runs[RUN].settings["tags"])
    assert found == {"student:nano", "lr:one", "lr:other", "study:one", "study:other"}


def test_offline_too_and_other_runs_have_their_own(tmp_path: Path):
    for study, run in (("one", RUN), ("other", RUN), ("third", "another-run")):
        tracker = wandb_mirror().within(study, (f"lr:{study}",))
        tracker.start(mirrored(tmp_path / "run", live=False, id=run))
        tracker.finish(made_ending())
    (file,) = kept(tmp_path, RUN)
    assert set(read_back(file)["tags"]) == {
        "student:nano", "lr:one", "lr:other", "study:one", "study:other",
    }  # fmt: skip
    (file,) = kept(tmp_path, "another-run")
    assert set(read_back(file)["tags"]) == {"student:nano", "lr:third", "study:third"}


def test_what_fails_in_beginning_a_run_ends_it_as_failed(tmp_path: Path, capsys):
    metrics = tmp_path / "run" / OWN
    metrics.parent.mkdir()
    metrics.write_text('{"step": 1}\n{"step": \n{"step": 3}\n')
    tracker = wandb_mirror()
    use(tracker, tmp_path / "run")
    assert not tracker._open
    assert read_back(kept(tmp_path)[0])["exit_code"] == 1
    assert not tracker.arrived()


def test_tags_can_be_given_on_the_command_line():
    cell = compose_component(CONF, "train", ["logger=wandb", "logger.tags=[mine]"])
    assert cell.logger.tags == ("mine",)
