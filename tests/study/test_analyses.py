"""An analysis is done once, whole or not at all, of a run and the base that it was tuned from."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import Finished, cell, evaluation

from heed.analysis.analysis import Analysis, Studied
from heed.core.component import component
from heed.core.errors import ConfigError, RunError
from heed.core.files import read_json, read_jsonl, write_json, write_text
from heed.evaluation.suite import Suite
from heed.study.analyses import StudiedRun, analyse
from heed.study.evaluation import run_evaluation
from heed.study.run_cell import run_cell
from heed.study.runs import read_run
from heed.training.fit import Surroundings

FAST = (
    "suite=forgetting", "suite.resamples=20", "suite.tasks.play_text.chunks=20",
    "suite.tasks.play_responses_clear.responses=20",
    "suite.tasks.play_responses_ornate.responses=20",
)  # fmt: skip


@component
class Told(Analysis):
    """Writes what it was given."""

    name = "told"

    word: str

    def make(self, studied: Studied, directory: Path) -> list[str]:
        """One file."""
        write_text(directory / "report.html", self.word)
        if self.word == "fail":
            raise RunError("no more")
        found = {
            "steps": [] if self.word == "alone" else [step for step, _ in studied.steps()],
            "items": len(studied.items),
            "cap": studied.max_new_tokens,
            "facts": dict(studied.facts),
        }
        write_json(directory / "summary.json", found)
        return [f"{self.word} [bold]"]


def mistakes(*words: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        evaluation(Path("nowhere"), *words)
    return {m.where: f"{m.why} {m.action}" for m in caught.value.mistakes}


@pytest.mark.parametrize("other", ["model=nano", "chat=abc", "control=sure", "compare=[a,b]"])
def test_an_analysis_is_of_a_run(other: str):
    said = mistakes(other, "analysis=forgetting")
    assert "none is given. Give run=" in said["analysis"]


def test_an_analysis_that_is_not_there_gets_the_nearest():
    assert "Did you mean 'forgetting'?" in mistakes("run=abc", "analysis=forgeting")["analysis"]


@pytest.mark.parametrize("given", ["[a]", "[]", "a", "[a,a]", "[1,'1']"])
def test_a_comparison_needs_two_runs(given: str):
    assert "two different runs" in mistakes(f"compare={given}")["compare"]


@pytest.mark.parametrize(
    ("given", "said"), [("[a,12e4]", "read as a number"), ("[a,'']", "nothing was given")]
)
def test_each_run_of_a_comparison_is_a_word(given: str, said: str):
    assert said in mistakes(f"compare={given}")["compare"]


def test_a_comparison_is_about_nothing_else():
    said = mistakes("compare=[a,b]", "run=c")
    assert "compare is given as well" in said["run"]


def test_a_comparison_is_handed_on_as_words(monkeypatch, tmp_path):
    import heed.study.compare

    told: list[object] = []
    monkeypatch.setattr(heed.study.compare, "compare", lambda *given: told.extend(given))
    line = evaluation(tmp_path, "compare=[a,123456]")
    run_evaluation(line)
    assert told == [["a", "123456"], line]


@pytest.mark.parametrize(
    ("teacher", "refused"),
    [("alpaca_eval/text_davinci_003", True), ("alpaca_eval/phi-2", False)],
)
def test_a_student_is_not_weighed_on_the_responses_it_is_tuned_on(teacher: str, refused: bool):
    words = ("suite=forgetting_real", f"teacher={teacher}", "data_dir=/nowhere")
    if not refused:
        assert cell(Path("nowhere"), *words)
        return
    with pytest.raises(ConfigError, match="responses_alpaca_eval weighs the student on the same"):
        cell(Path("nowhere"), *words)


def studied_in(here, root: Path, suite: Suite | None = None) -> StudiedRun:
    around = Surroundings(here.trainer, {}, here.logger, root)
    return StudiedRun(read_run(here.directory), suite or here.suite, around, root)


@pytest.fixture
def copied(finished: Finished, tmp_path: Path) -> StudiedRun:
    """The tiny run with outputs of its own."""
    return studied_in(finished.copy(tmp_path), tmp_path)


@pytest.mark.slow
def test_an_analysis_is_done_once_and_shown_again(copied: StudiedRun, monkeypatch, capsys):
    first = analyse(Told(word="one"), copied)
    monkeypatch.setattr(Told, "make", None)
    assert analyse(Told(word="one"), copied) == first
    assert "this is the recorded analysis" in capsys.readouterr().err
    directory, said = first
    assert said == ["one [bold]"]
    assert directory.parent == copied.of.directory / "analysis"
    assert re.fullmatch(r"told--[0-9a-f]{12}", directory.name)
    made = read_json(directory / "summary.json")
    assert made["steps"] == [0, 3]
    assert made["items"] > 100
    assert made["cap"] == 4
    about = read_json(directory / "manifest.json")
    assert about["run"] == copied.run
    assert about["analysis"]["word"] == "one"


@pytest.mark.slow
def test_another_analysis_suite_or_training_has_another_place(copied: StudiedRun):
    of = copied.of
    later = replace(of, manifest={**of.manifest, "time": "later"})
    other = replace(copied.suite, seed=5)  # type: ignore[type-var]
    places = [
        analyse(Told(word=word), studied)[0]
        for word, studied in [
            ("one", copied), ("two", copied),
            ("one", replace(copied, of=later)), ("one", replace(copied, suite=other)),
        ]
    ]  # fmt: skip
    assert len(set(places)) == 4


@pytest.mark.slow
def test_a_kept_step_that_is_gone_stops_only_what_needs_it(copied: StudiedRun):
    fit = {**copied.of.manifest["fit"], "kept_steps": [1]}
    lacking = replace(copied, of=replace(copied.of, manifest={**copied.of.manifest, "fit": fit}))
    with pytest.raises(RunError, match="is gone"):
        analyse(Told(word="one"), lacking)
    assert analyse(Told(word="alone"), lacking)[1] == ["alone [bold]"]


@pytest.mark.slow
def test_an_analysis_that_fails_leaves_nothing(copied: StudiedRun):
    with pytest.raises(RunError, match="no more"):
        analyse(Told(word="fail"), copied)
    assert list((copied.of.directory / "analysis").iterdir()) == []


@pytest.mark.slow
def test_a_damaged_analysis_is_said_so(copied: StudiedRun):
    directory, _ = analyse(Told(word="one"), copied)
    (directory / "manifest.json").write_text("{}")
    with pytest.raises(RunError, match="does not hold a whole analysis"):
        analyse(Told(word="one"), copied)


@pytest.mark.slow
def test_a_pretraining_has_no_student_before_it(copied: StudiedRun):
    configs = copied.root.glob("runs/*/config.yaml")
    pretraining = next(p.parent for p in configs if "\nrecipe:" in p.read_text())
    with pytest.raises(RunError, match="is a pre-training"):
        analyse(Told(word="one"), replace(copied, of=read_run(pretraining)))


@pytest.mark.slow
def test_a_base_made_anew_is_refused(copied: StudiedRun):
    of = replace(copied.of, manifest={**copied.of.manifest, "base": "another"})
    studied = replace(copied, of=of)
    with pytest.raises(RunError, match="was tuned from another"):
        studied.base()
    with pytest.raises(RunError, match="its pre-training was done again"):
        studied.scored(0)


@pytest.mark.slow
def test_a_suite_that_is_only_weighed_has_no_items_to_read(copied: StudiedRun, tmp_path):
    suite = evaluation(tmp_path, "run=abc", *FAST).suite
    with pytest.raises(ConfigError, match="none of its tasks is answered in text"):
        _ = replace(copied, suite=suite).items


@pytest.mark.slow
def test_base_and_tuned_student_are_those_of_the_run(copied: StudiedRun):
    import torch

    def weights(loaded) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in loaded.model.parameters()])

    base, tuned = weights(copied.base()), weights(copied.tuned())
    assert base.shape == tuned.shape
    assert not torch.equal(base, tuned)
    loads = dict(copied.steps())
    assert torch.equal(weights(loads[0]()), base)
    assert torch.equal(weights(loads[3]()), tuned)


@pytest.mark.slow
def test_forgetting_scores_each_kept_step_once_and_the_end_as_train_did(
    finished: Finished, tmp_path: Path, monkeypatch, capsys
):
    here = finished.copy(tmp_path)
    shutil.rmtree(here.directory)
    run_cell(cell(tmp_path, *FAST, "callbacks.keep.steps=[1,2]"))
    line = evaluation(tmp_path, f"run={here.run.id}", *FAST, "analysis=forgetting")
    capsys.readouterr()
    run_evaluation(line)
    shown = capsys.readouterr().out
    (directory,) = (here.directory / "analysis").iterdir()
    rows = read_jsonl(directory / "items.jsonl")
    assert sorted({row["step"] for row in rows}) == [0, 1, 2, 3]
    for step, place in ((1, "steps/1/scores"), (3, "scores")):
        kept = read_json(here.directory / place / "forgetting/summary.json")
        for curve in read_json(directory / "summary.json")["curves"]:
            task, metric = curve["metric"].split("/")
            point = next(point for point in curve["points"] if point["step"] == step)
            assert point["here"] == kept[task][metric]
    assert "play_text/bits_per_byte: " in shown
    assert str(directory / "report.html") in shown
    monkeypatch.setattr(Suite, "score", None)
    shutil.rmtree(directory)
    run_evaluation(line)  # from the scores that are kept
    assert capsys.readouterr().out == shown
    monkeypatch.undo()

    run_evaluation(evaluation(tmp_path, f"run={here.run.id}", "analysis=forgetting"))
    text = here.directory / "steps/1/scores/play"
    assert read_json(text / "controls.json")["metrics"][0]["metric"].startswith("play_follow/")
    assert "Beside the controls" in (text / "report.html").read_text()
    page = next(
        page
        for page in (path.read_text() for path in here.directory.glob("analysis/*/report.html"))
        if "play_follow" in page
    )
    assert all(f"step {step} - best" in page for step in (0, 1, 2, 3))


@pytest.mark.slow
def test_a_finished_run_tells_which_steps_it_lacks(finished: Finished, tmp_path, capsys):
    here = finished.copy(tmp_path)
    run_cell(replace(here, callbacks=cell(tmp_path, "callbacks.keep.steps=[1]").callbacks))
    assert "trained before without keeping step 1." in " ".join(capsys.readouterr().err.split())
