"""One subject a command; what it is about is scored, kept, shown, and refused if it cannot be."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import ROOT, Finished, evaluation

from heed.core.component import plain
from heed.core.compose import compose_component
from heed.core.errors import ConfigError, DataError, RunError
from heed.core.files import read_json, read_jsonl
from heed.evaluation.suite import Suite
from heed.study.cell import Cell
from heed.study.command import ScoringCommand
from heed.study.evaluation import SUBJECTS, run_evaluation, subject_of
from heed.study.run_cell import run_cell

ROWS = [
    {"key": i, "prompt": f"Say {i}.", "instruction_id_list": [kind], "kwargs": [{}]}
    for i, kind in enumerate(
        ["punctuation:no_comma", "startend:quotation", "punctuation:no_comma"], start=1
    )
]
SAID = [
    {"key": 1, "response": "One."},
    {"prompt": "Say 2.", "response": '"Two, <b>too</b>"'},
    {"key": 3, "response": None},
]


def lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def asked(tmp_path: Path) -> list[str]:
    """Overrides of the suite `ifeval` that read three prompts of ours."""
    file = lines(tmp_path / "asked.jsonl", ROWS)
    return ["suite=ifeval", f"prompts={file}", "suite.resamples=100", f"outputs={tmp_path}/out"]


def command(*words: str):
    return compose_component(ROOT / "conf", "evaluate", words)


def mistakes(*words: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        command(*words)
    return {m.where: f"{m.why} {m.action}" for m in caught.value.mistakes}


def test_a_command_without_a_subject_lists_all_of_them():
    said = mistakes()
    assert all(f"{name}=" in said["model"] for name in SUBJECTS)


@pytest.mark.parametrize(
    "two", [("model=nano", "run=abc"), ("run=abc", "responses=x"), ("control=sure", "chat=abc")]
)
def test_two_subjects_are_refused(two: tuple[str, str]):
    first, second = (text.partition("=")[0] for text in two)
    assert f"{second} is given as well" in mistakes(*two)[first]


def test_an_unknown_control_gets_the_nearest():
    assert "Did you mean 'prose20'?" in mistakes("control=prose2")["control"]


def test_prompts_need_a_task_that_reads_a_file():
    assert "has none" in mistakes("control=sure", "prompts=x")["prompts"]
    two = ["suite=ifeval", "+task@suite.tasks.more=ifeval", "+suite.margin.more=0.1"]
    assert "ifeval, more" in mistakes("control=sure", "prompts=x", *two)["prompts"]
    assert "a chat asks no prompts" in mistakes("chat=a", "suite=ifeval", "prompts=x")["prompts"]


@pytest.mark.parametrize("name", ["run", "chat", "responses"])
@pytest.mark.parametrize("blank", ["", "'  '"])
def test_a_subject_of_no_letters_is_a_mistake(name: str, blank: str):
    said = mistakes(f"{name}={blank}")[name]
    assert "nothing was given" in said
    assert f"Give {name}={SUBJECTS[name]}" in said


def test_no_file_of_prompts_is_a_mistake_and_not_the_suite_s_own():
    assert "nothing was given" in mistakes("control=sure", "suite=ifeval", "prompts=")["prompts"]


@pytest.mark.parametrize("name", ["run", "chat"])
def test_a_word_that_hydra_reads_as_a_truth_is_one_mistake(name: str):
    assert mistakes(f"{name}=true").keys() == {name}
    assert "read as a truth value" in mistakes(f"{name}=true")[name]
    assert getattr(command(f"{name}='true'"), name) == "true"


@pytest.mark.parametrize("given", ["12e4", "1e5", "1.5"])
def test_an_id_that_hydra_reads_as_a_number_is_not_looked_for_under_another_name(given: str):
    assert "read as a number" in mistakes(f"run={given}")["run"]
    assert command(f"run='{given}'").run == given


def test_an_id_of_digits_is_a_word(tmp_path):
    with pytest.raises(RunError, match="There is no run '123456'"):
        run_evaluation(command("run=123456", f"outputs={tmp_path}"))


def test_responses_are_scored_kept_and_shown(asked, tmp_path, capsys, monkeypatch):
    file = lines(tmp_path / "my said.jsonl", SAID)
    line = command(f"responses='{file}'", *asked)
    run_evaluation(line)
    first = capsys.readouterr()
    (kept,) = (tmp_path / "out/responses").iterdir()
    assert kept.name.startswith("my_said.jsonl--")
    assert {path.name for path in kept.iterdir()} == {
        "summary.json", "strata.json", "items.jsonl", "events.json", "fingerprint.json",
        "manifest.json", "report.html", "form.json", "controls.json",
    }  # fmt: skip
    assert read_json(kept / "summary.json")["ifeval"]["inst_level_strict_acc"]["value"] == 2 / 3
    assert [row["response"] for row in read_jsonl(kept / "items.jsonl")][2] is None
    for said in ("0.6667", "no_comma", "null response", str(kept)):
        assert said in first.out
    assert "<b>" not in (kept / "report.html").read_text()
    monkeypatch.setattr(Suite, "score_given", None)
    run_evaluation(line)
    again = capsys.readouterr()
    assert again.out == first.out
    assert "Already scored" in again.err


def test_scoring_responses_loads_no_model(asked, tmp_path):
    file = lines(tmp_path / "said.jsonl", SAID)
    watch = (
        "import runpy, sys\n"
        f"sys.argv = ['evaluate.py', *{[f'responses={file}', *asked]}]\n"
        "runpy.run_path('evaluate.py', run_name='__main__')\n"
        "heavy = {'torch', 'transformers', 'peft', 'lightning'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    made = subprocess.run([sys.executable, "-c", watch], cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr


@pytest.mark.parametrize("subject", ["run=zzz", "chat=zzz"])
def test_a_missing_run_is_one_screen_with_exit_code_2_before_torch(subject: str, tmp_path):
    watch = (
        "import runpy, sys\n"
        f"sys.argv = ['evaluate.py', {subject!r}, 'outputs={tmp_path}']\n"
        "try:\n"
        "    runpy.run_path('evaluate.py', run_name='__main__')\n"
        "finally:\n"
        "    print('torch' in sys.modules)\n"
    )
    made = subprocess.run([sys.executable, "-c", watch], cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 2
    assert made.stdout == "False\n"
    assert made.stderr.startswith("Cannot go on\nThere is no run 'zzz'")
    assert len(made.stderr.splitlines()) < 10


def test_other_prompts_responses_or_rules_have_other_scores(asked, tmp_path):
    file = lines(tmp_path / "said.jsonl", SAID)
    places = set()
    for more in ([], ["suite.seed=5"]):
        line = command(f"responses={file}", *asked, *more)
        places.add(subject_of(line).directory(line.asked))
    lines(tmp_path / "asked.jsonl", ROWS[:2])
    places.add(subject_of(line).directory(line.asked))
    lines(file, SAID[:2])
    places.add(subject_of(line).directory(line.asked))
    assert len(places) == 4


@pytest.mark.parametrize("subject", ["control=sure", "responses={file}"])
def test_a_suite_that_weighs_likelihoods_needs_a_model(subject: str, tmp_path):
    file = lines(tmp_path / "said.jsonl", SAID)
    line = command(subject.format(file=file), f"outputs={tmp_path}")
    with pytest.raises(ConfigError, match="its task play_facts weighs likelihoods"):
        run_evaluation(line)
    assert not (tmp_path / "responses").exists()


def test_a_file_of_responses_that_is_not_there_is_said_so(asked, tmp_path):
    with pytest.raises(DataError, match=r"There is no file of responses .*nothing\.jsonl"):
        run_evaluation(command(f"responses={tmp_path}/nothing.jsonl", *asked))


@pytest.mark.parametrize("words", [["responses={long}"], ["control=sure", "prompts={long}"]])
def test_a_name_that_no_disk_can_hold_is_that_of_no_file(words: list[str], asked):
    words = [word.format(long="x" * 300) for word in words]
    with pytest.raises(DataError, match="here is no file"):
        run_evaluation(command(*asked, *words))


def test_a_file_of_responses_and_its_scores_may_have_a_name_of_any_length(asked, tmp_path, capsys):
    file = lines(tmp_path / ("a" * 246 + ".jsonl"), SAID)
    run_evaluation(command(f"responses={file}", *asked))
    (kept,) = (tmp_path / "out/responses").iterdir()
    assert str(kept) in capsys.readouterr().out


def test_what_both_commands_say_means_the_same_for_both(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = command("control=sure", "outputs=out")
    assert isinstance(line, ScoringCommand)
    assert issubclass(Cell, ScoringCommand)
    assert line.root == tmp_path / "out"


def test_prompts_that_are_not_there_are_said_so(asked, tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        run_evaluation(command("control=sure", *asked, f"prompts={tmp_path}/nothing.jsonl"))


@pytest.mark.parametrize(("name", "value"), [("sure", 2 / 3), ("empty", 0.0), ("echo", 2 / 3)])
def test_a_control_answers_every_prompt(asked, tmp_path, name: str, value: float, capsys):
    run_evaluation(command(f"control={name}", *asked))
    (kept,) = (tmp_path / "out/controls").iterdir()
    found = read_json(kept / "summary.json")["ifeval"]["inst_level_strict_acc"]
    assert found["value"] == pytest.approx(value)
    assert f"control {name} on suite ifeval" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_is_scored_by_another_suite_once(finished: Finished, tmp_path, monkeypatch, capsys):
    here = finished.copy(tmp_path)
    line = evaluation(tmp_path, f"run={here.run.id[:6]}", "suite.name=more")
    run_evaluation(line)
    first = capsys.readouterr().out
    kept = here.directory / "scores/more"
    assert str(kept) in first
    assert (kept / "report.html").is_file()
    own = here.directory / "scores/play"
    assert (kept / "items.jsonl").read_bytes() == (own / "items.jsonl").read_bytes()
    assert read_json(kept / "fingerprint.json") == read_json(own / "fingerprint.json")
    monkeypatch.setattr(Suite, "score", None)
    run_evaluation(line)
    assert capsys.readouterr().out == first


@pytest.mark.slow
def test_scores_that_evaluate_made_are_used_by_train(finished: Finished, tmp_path, monkeypatch):
    here = finished.copy(tmp_path)
    shutil.rmtree(here.directory / "scores")
    run_evaluation(evaluation(tmp_path, f"run={here.run.id}"))
    score = Suite.score

    def beside_only(suite: Suite, *given: Any, **how: Any) -> Any:
        assert suite.prompting.name == "plain", "the declared prompting is scored already"
        return score(suite, *given, **how)

    monkeypatch.setattr(Suite, "score", beside_only)
    run_cell(here)
    again = read_json(here.directory / "scores/play/result.json")
    assert again["deltas"] == finished.result["deltas"]


@pytest.mark.slow
@pytest.mark.parametrize("change", ["max_new_tokens was 4 and is 5", "level was 0.95 and is 0.9"])
def test_another_suite_of_the_same_name_is_refused(finished: Finished, change: str):
    key, now = re.findall(r"^\w+|\S+$", change)
    line = evaluation(finished.root, f"run={finished.cell.run.id}", f"suite.{key}={now}")
    with pytest.raises(RunError, match=re.escape(f"suite.{change} now")) as caught:
        run_evaluation(line)
    assert "suite.name=play2" in str(caught.value)


@pytest.mark.slow
def test_a_run_is_not_weighed_on_text_that_it_was_trained_on(finished: Finished, tmp_path):
    here = finished.copy(tmp_path)
    file = here.directory / "config.yaml"
    config = yaml.safe_load(file.read_text())
    books = compose_component(ROOT / "conf", "train", ["teacher=books_simple"])
    config["teacher"] = plain(books.teacher) | {"part": "heldout"}
    file.write_text(yaml.safe_dump(config))
    line = command(f"run={here.run.id}", "suite=real_small", f"outputs={tmp_path}")
    with pytest.raises(ConfigError, match="weighed on what it was taught") as caught:
        run_evaluation(line)
    assert caught.value.mistakes[0].where == f"run {here.run.id}"


@pytest.mark.slow
def test_a_damaged_run_ends_on_one_screen(finished: Finished, tmp_path):
    here = finished.copy(tmp_path)
    file = here.directory / "model/adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(RunError, match="cannot be loaded"):
        run_evaluation(evaluation(tmp_path, f"run={here.run.id}", "suite.name=again"))
    assert not (here.directory / "scores/again").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["manifest.json", "events.json", "summary.json", "items.jsonl"])
def test_damaged_scores_are_refused(finished: Finished, tmp_path, name: str):
    here = finished.copy(tmp_path)
    (here.directory / "scores/play" / name).write_text('{"suite": 1')
    with pytest.raises(RunError, match="does not hold whole scores"):
        run_evaluation(evaluation(tmp_path, f"run={here.run.id}"))
