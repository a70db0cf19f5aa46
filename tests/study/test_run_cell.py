"""One cell from start to end: what it leaves on disk, and that no finished stage is done twice."""

import html
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tiny import ROOT, STUDENT, TINY, Finished, cell, evaluation

from heed.core.component import component
from heed.core.errors import RunError
from heed.core.files import read_json, read_jsonl
from heed.core.identity import digest_model
from heed.core.locks import lock
from heed.evaluation.suite import Suite
from heed.study import bases, mirror
from heed.study.bases import load_base
from heed.study.evaluation import run_evaluation
from heed.study.ledger import latest, short_form, whole_result
from heed.study.run_cell import run_cell, surroundings
from heed.study.runs import run_lock
from heed.tracking.tracker import Tracker
from heed.training import fit as fit_module
from heed.training.run import base_run

STEPS = 3  # of debug=fast
FILES = """\
config.yaml
manifest.json
metrics.jsonl
examples.html
DONE
model/README.md
model/adapter_config.json
model/adapter_model.safetensors
model/chat_template.jinja
model/generation_config.json
model/tokenizer.json
scores/play/events.json
scores/play/fingerprint.json
scores/play/items.jsonl
scores/play/manifest.json
scores/play/report.html
scores/play/result.json
scores/play/strata.json
scores/play/summary.json
scores/play/verdict.html"""


@component
class Spy(Tracker):
    """A mirror that remembers."""

    seen: ClassVar[list[tuple[str, Any]]] = []

    def start(self, run) -> None:
        self.seen.append(("start", run.kind))

    def log(self, row) -> None:
        self.seen.append(("log", row["step"]))

    def finish(self, ending) -> None:
        self.seen.append(("finish", (ending.failed, sorted(ending.summary))))


def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on a fit is an error."""

    def never(*_: Any, **__: Any) -> None:
        raise RunError("somebody trains")

    monkeypatch.setattr(fit_module, "fit", never)


def snapshot(root: Path) -> dict[str, int]:
    files = (path for path in root.rglob("*") if path.is_file() and "locks" not in path.parts)
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in files}


@pytest.mark.slow
def test_two_processes_of_one_cell_train_once(finished: Finished):
    assert len(read_jsonl(finished.run / "metrics.jsonl")) == STEPS
    assert [row["event"] for row in read_jsonl(finished.root / "ledger.jsonl")] == ["done"]
    waited = ["Already done" in err for _, _, err in finished.printed]
    assert sorted(waited) == [False, True]
    assert len(list((finished.root / "baselines").iterdir())) == 2, "as declared, and plain"


@pytest.mark.slow
def test_a_finished_run_holds_what_the_design_says(finished: Finished):
    for name in FILES.splitlines():
        assert (finished.run / name).stat().st_size > 0, name
    assert finished.run.parent == finished.root / "runs"
    assert run_lock(finished.run).is_file(), "the same lock as for whoever scores it"
    assert finished.run.name == f"nano-play_clear-lora-play_reference--{finished.cell.run.id}"
    assert (finished.run / "DONE").read_text().strip() == finished.cell.run.id
    assert (finished.root / finished.result["before"] / "summary.json").is_file()
    assert not [path for path in finished.root.rglob(".*")], "half-written files are left"


@pytest.mark.slow
def test_the_page_of_the_verdict_has_what_the_terminal_has_and_comes_back(
    finished: Finished, tmp_path: Path
):
    here = finished.copy(tmp_path)
    page = here.directory / "scores/play/verdict.html"
    text = page.read_text()
    assert finished.result["deltas"][0]["verdict"] in text
    assert {"short", "warm-up"} <= {flag["kind"] for flag in finished.result["flags"]}
    assert all(html.escape(flag["text"]) in text for flag in finished.result["flags"])
    for href in re.findall(r'href="([^"]+)"', text):
        assert (page.parent / href).resolve().is_file(), href
    page.unlink()
    run_cell(here)
    assert page.read_text() == text


@pytest.mark.slow
def test_the_summary_maps_task_and_metric_to_a_value_with_its_interval(finished: Finished):
    items = read_jsonl(finished.run / "scores/play/items.jsonl")
    summary = read_json(finished.run / "scores/play/summary.json")
    assert set(summary) == {"play_follow", "play_facts"}
    assert "prompt_level_strict_acc" in summary["play_follow"]
    for task, metrics in summary.items():
        for metric, found in metrics.items():
            assert set(found) == {"value", "low", "high", "items"}
            assert found["low"] <= found["value"] <= found["high"]
            ours = [row["metrics"][metric] for row in items if row["task"] == task]
            assert found["items"] == sum(ratio["den"] > 0 for ratio in ours) > 0


@pytest.mark.slow
def test_the_result_is_the_difference_of_the_two_summaries(finished: Finished):
    before = read_json(finished.root / finished.result["before"] / "summary.json")
    after = read_json(finished.run / "scores/play/summary.json")
    for delta in finished.result["deltas"]:
        task, metric = delta["metric"].split("/")
        assert delta["before"] == pytest.approx(before[task][metric]["value"])
        assert delta["after"] == pytest.approx(after[task][metric]["value"])
        assert delta["delta"] == pytest.approx(delta["after"] - delta["before"])
        assert delta["verdict"] in {"helped", "hurt", "unchanged", "cannot tell"}
    assert finished.result["deltas"][0]["metric"] == finished.result["primary"]


@pytest.mark.slow
def test_the_screen_and_the_ledger_tell_the_same_run(finished: Finished):
    entry = latest(finished.root)[finished.cell.run.id, finished.result["suite"]]
    told = short_form(finished.result)
    assert {key: entry[key] for key in told} == told
    assert whole_result(finished.root, entry) == finished.result
    for _, out, err in finished.printed:
        assert f"run {finished.cell.run.id}  {finished.run}" in out
        assert finished.cell.run.id in err, "the plan shows the id"
        assert "play_follow/inst_level_strict_acc" in out
        assert "LoRA rank=16" in re.sub(r"\s+", " ", err)


@pytest.mark.slow
def test_the_manifest_says_what_ran_on_what(finished: Finished):
    found = read_json(finished.run / "manifest.json")
    assert {"torch", "transformers", "lightning", "peft"} <= set(found["versions"])
    (base,) = (finished.root / "runs").glob("*pretrain*[0-9a-f]/model")
    assert found["base"] == digest_model(str(base), None)
    assert found["run"] == finished.cell.run.id
    assert found["fit"]["optimiser_steps"] == STEPS
    assert found["command"][0] == "train.py"


@pytest.mark.slow
def test_a_second_call_trains_nothing_and_imports_no_torch(finished: Finished):
    before = snapshot(finished.root)
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['train.py', *{TINY}, 'outputs={finished.root}']\n"
        "runpy.run_path('train.py', run_name='__main__')\n"
        "assert 'torch' not in sys.modules\n"
    )
    made = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert "Already done" in made.stderr
    assert made.stdout == finished.printed[0][1]
    assert snapshot(finished.root) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", ["max_new_tokens was 4 and is 5", "margin.play_follow was 0.02 and is 0.5"]
)
def test_a_changed_suite_of_the_same_name_is_refused(change: str, finished: Finished, tmp_path):
    key, now = re.findall(r"^[\w.]+|\S+$", change)
    result = finished.copy(tmp_path).directory / "scores/play/result.json"
    changed, before = cell(tmp_path, f"suite.{key}={now}"), read_json(result)
    with pytest.raises(RunError, match=re.escape(f"suite.{change} now")) as caught:
        run_cell(changed)
    assert "suite.name=play2" in str(caught.value)
    known = latest(tmp_path)
    assert known[changed.run.id, changed.names["suite"]]["event"] == "failed"
    assert known[changed.run.id, before["suite"]]["event"] == "done"
    assert read_json(result) == before


@pytest.mark.slow
def test_a_suite_of_another_name_scores_the_same_run(finished: Finished, tmp_path, monkeypatch):
    here = finished.copy(tmp_path)
    no_training(monkeypatch)
    run_cell(replace(here, suite=replace(here.suite, name="play2", max_new_tokens=2)))  # type: ignore[type-var]
    scores = here.directory / "scores"
    assert (scores / "play2/result.json").is_file()
    assert read_json(scores / "play/result.json") == finished.result


@pytest.mark.slow
def test_an_interrupted_run_goes_on_without_training_again(finished, tmp_path, monkeypatch):
    """Stopped after training, before scoring; the mirror sees the tuning only, and both ends."""
    here = replace(finished.copy(tmp_path), logger=Spy())
    shutil.rmtree(here.directory)
    (tmp_path / "ledger.jsonl").unlink()
    Spy.seen.clear()

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Suite, "score", stop)
        with pytest.raises(KeyboardInterrupt):
            run_cell(here)
    assert [entry["event"] for entry in latest(tmp_path).values()] == ["stopped"]
    assert not (here.directory / "DONE").exists()
    no_training(monkeypatch)
    run_cell(here)
    again = read_json(here.directory / "scores/play/result.json")
    assert again["deltas"] == finished.result["deltas"], "the same seed gives the same student"
    logged = [("log", step + 1) for step in range(STEPS)]
    started, (_, (failed, rest)) = Spy.seen[0], Spy.seen[-1]
    assert started == ("start", "tuned")
    assert Spy.seen[: STEPS + 2] == [started, *logged, ("finish", (True, ["ended", "reason"]))]
    assert not failed
    assert {"before/play_facts/acc", "delta/play_facts/acc", "verdict/play_facts/acc"} <= set(rest)


@component
class FarSpy(Spy):
    """One that keeps runs elsewhere, so that the base is sent too."""

    afar = True


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [None, OSError("no disk"), KeyboardInterrupt()])
def test_what_goes_wrong_in_sending_the_base_leaves_a_finished_cell(
    wrong, finished, tmp_path, monkeypatch, capsys
):
    here = replace(finished.copy(tmp_path), logger=FarSpy())
    (here.directory / "scores/play/result.json").unlink()
    (tmp_path / "ledger.jsonl").unlink()
    no_training(monkeypatch)
    Spy.seen.clear()

    def broken(_: Path) -> Any:
        raise wrong

    if wrong is not None:
        monkeypatch.setattr(mirror, "base_ending", broken)
    stopped = isinstance(wrong, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt) if stopped else nullcontext():
        run_cell(here)
    assert [entry["event"] for entry in latest(tmp_path).values()] == ["done"]
    assert (here.directory / "scores/play/result.json").is_file()
    begun = [what for word, what in Spy.seen if word == "start"]
    assert begun == (["tuned", "base"] if wrong is None else ["tuned"])
    said = " ".join(capsys.readouterr().err.split())
    assert ("is not sent: its files are not whole (OSError: no disk)" in said) == isinstance(
        wrong, OSError
    )


@pytest.mark.slow
def test_a_model_without_its_manifest_is_trained_again(finished, tmp_path, monkeypatch):
    """The model is written before it is proved to reload: alone it is no finished training."""
    here = finished.copy(tmp_path)
    shutil.rmtree(here.directory / "scores")
    (here.directory / "manifest.json").unlink()
    no_training(monkeypatch)
    with pytest.raises(RunError, match="somebody trains"):
        run_cell(here)


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["play", "play.text@plain"])
def test_a_before_of_other_weights_than_those_that_were_tuned_is_refused(
    suite: str, finished: Finished, tmp_path: Path
):
    """A pre-training that is done again may end with other weights, under the same id."""
    here = finished.copy(tmp_path)
    (here.directory / "scores" / here.suite.name / "result.json").unlink()
    (path,) = (tmp_path / "baselines").glob(f"nano--{suite}--*/manifest.json")
    scored = json.loads(path.read_text())
    assert scored["identity"]["weights"]
    scored["identity"]["weights"] = "another"
    path.write_text(json.dumps(scored))
    with pytest.raises(RunError, match=r"weights another.*pre-training was done again"):
        run_cell(here)


@pytest.mark.slow
@pytest.mark.parametrize("word", ["nothing", "failed"])
def test_what_was_lost_beside_a_result_is_written_again(word: str, finished, tmp_path):
    """Killed between the result and the ledger, or recorded as failed by mistake."""
    here = finished.copy(tmp_path)
    (here.directory / "DONE").unlink()
    failed = json.dumps(here.names | {"event": "failed", "reason": "x"}) + "\n"
    (tmp_path / "ledger.jsonl").write_text(failed if word == "failed" else "")
    run_cell(here)
    assert [entry["event"] for entry in latest(tmp_path).values()] == ["done"]
    assert (here.directory / "DONE").is_file()


@pytest.mark.slow
def test_a_run_that_diverges_ends_with_code_2_and_an_entry(finished, tmp_path):
    finished.copy(tmp_path)
    more = ("method=full", "lr.peak=1e30", "lr.warmup_steps=0", "optim.clip_norm=null")
    line = [sys.executable, "train.py", *TINY, f"outputs={tmp_path}", *more]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)  # Hydra resets logging
    assert done.returncode == 2
    assert "Cannot go on" in done.stderr
    entry = read_jsonl(tmp_path / "ledger.jsonl")[-1]
    assert (entry["event"], entry["method"]) == ("failed", "full")
    assert entry["reason"].startswith("RunError: the loss of optimiser step")
    run = tmp_path / "runs" / cell(tmp_path, *more).run.directory
    assert not (run / "model").exists()
    assert not (run / "DONE").exists()


@pytest.mark.slow
def test_a_base_that_is_done_waits_for_nobody(finished: Finished, monkeypatch):
    """Somebody may hold its lock for long, to score it."""

    def waits() -> None:
        raise AssertionError("it waits")

    monkeypatch.setattr(bases, "say_waiting", waits)
    (base,) = (finished.root / "runs").glob("*pretrain*[0-9a-f]")
    with lock(run_lock(base)):
        load_base(finished.cell.model, surroundings(finished.cell), finished.root)


@pytest.mark.slow
def test_a_base_that_another_process_made_meanwhile_is_not_made_again(tmp_path, monkeypatch):
    here = cell(tmp_path)
    run = base_run(here.model)
    assert run is not None
    directory = tmp_path / "runs" / run.directory

    @contextmanager
    def late(*_: Any) -> Iterator[None]:
        directory.mkdir(parents=True)
        (directory / "DONE").touch()
        yield

    monkeypatch.setattr(bases, "lock", late)
    no_training(monkeypatch)
    with pytest.raises(RunError, match="could not be loaded"):
        load_base(here.model, surroundings(here), here.root)


@pytest.mark.slow
def test_a_pretraining_is_a_run_of_its_own_in_the_mirror(tmp_path):
    here = replace(cell(tmp_path), logger=Spy())  # type: ignore[type-var]
    Spy.seen.clear()
    load_base(here.model, surroundings(here), here.root)
    rows = [("log", 1), ("log", 2)]
    assert Spy.seen == [("start", "pretraining"), *rows, ("finish", (False, ["ended", "reason"]))]
    (run,) = (path for path in (tmp_path / "runs").iterdir() if path.is_dir())
    assert len(read_jsonl(run / "metrics.jsonl")) == 2


@pytest.mark.slow
def test_evaluate_shows_the_scores_that_a_run_made(finished, tmp_path, monkeypatch, capsys):
    finished.copy(tmp_path)
    command = evaluation(tmp_path, "model=nano", *STUDENT)
    monkeypatch.setattr(Suite, "score", None)
    run_evaluation(command)
    out = capsys.readouterr().out
    assert str(tmp_path / finished.result["before"]) in out
    assert "play_facts/acc" in out


@pytest.mark.parametrize("text", ['{"suite_identity": {', "[]", "{}"])
def test_a_result_that_cannot_be_read_is_told_with_what_to_do(text: str, tmp_path: Path):
    made = cell(tmp_path)
    path = made.directory / "scores/play/result.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(RunError, match=rf"result\.json.*run {made.run.id}.*[Rr]emove it"):
        run_cell(made)
