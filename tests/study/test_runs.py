"""Runs are found by id, name or directory; what is wrong with one is said with what is there."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from tiny import Finished, cell

from heed.core.component import plain
from heed.core.errors import RunError
from heed.study.ledger import record
from heed.study.runs import find_run, read_run, run_lock


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """Outputs with four runs, of which the last is not trained yet."""
    config = plain(cell(tmp_path))
    for name in (
        "a-x--0123456789ab",
        "a-x--0123ffffffff",
        "b-y--abcdefabcdef",
        "c-z--999999999999",
    ):
        run = tmp_path / "runs" / name
        (run / "model").mkdir(parents=True)
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        about = {"run": name.rpartition("--")[2], "time": "then", "code": "c0de"}
        (run / "manifest.json").write_text(json.dumps(about))
    (run / "manifest.json").unlink()
    return tmp_path


def refused(given: str, root: Path) -> str:
    with pytest.raises(RunError) as caught:
        find_run(given, root)
    return str(caught.value)


@pytest.mark.parametrize(
    "given", ["abcdefabcdef", "abc", "b-y", "b-y--abcdefabcdef", "runs/b-y--abcdefabcdef"]
)
def test_a_run_is_found_by_id_beginning_name_and_directory(shelf, monkeypatch, given: str):
    monkeypatch.chdir(shelf)
    assert find_run(given, shelf).id == "abcdefabcdef"
    assert find_run(given, shelf).name == "b-y"


def test_a_directory_elsewhere_is_found_too(shelf, tmp_path_factory):
    moved = tmp_path_factory.mktemp("moved") / "mine"
    shutil.copytree(shelf / "runs/b-y--abcdefabcdef", moved)
    assert find_run(str(moved), shelf / "nothing here").id == "abcdefabcdef"


def test_a_run_is_read_from_its_own_config(shelf):
    run = find_run("abc", shelf)
    assert run.student == cell(shelf).model
    assert run.teacher == cell(shelf).teacher


@pytest.mark.slow
def test_a_pretraining_is_a_run_too(finished: Finished):
    (base,) = (finished.root / "runs").glob("*pretrain*[0-9a-f]")
    run = read_run(base)
    assert run.student.template == finished.cell.model.template
    assert run.teacher.name == "play_text"


@pytest.mark.parametrize("given", ["0123", "a-x"])
def test_a_beginning_or_name_of_several_runs_lists_them(shelf, given: str):
    said = refused(given, shelf)
    assert "a-x--0123456789ab" in said
    assert "a-x--0123ffffffff" in said
    assert "b-y" not in said


def test_a_mistyped_run_gets_the_nearest_names(shelf):
    said = refused("b-y--abcdefabcdee", shelf)
    assert "There is no run 'b-y--abcdefabcdee'" in said
    assert "  b-y--abcdefabcdef\n" in said


@pytest.mark.parametrize("given", ["x" * 300, "x/" * 3000, "a\0b"])
def test_a_word_that_no_disk_can_hold_is_no_run(shelf, given: str):
    assert "There is no run" in refused(given, shelf)


def test_a_lock_that_stands_beside_a_run_is_no_run(shelf):
    run = find_run("abc", shelf)
    run_lock(run.directory).touch()
    assert find_run("b-y", shelf) == run
    assert ".lock" not in refused("zzz", shelf)


def test_an_empty_shelf_names_the_command_that_makes_a_run(tmp_path):
    assert "python train.py" in refused("abc", tmp_path)


def test_an_unfinished_run_tells_why_it_ended_and_how_it_goes_on(shelf):
    record(shelf, "failed", {"run": "999999999999", "suite": "s", "reason": "KeyboardInterrupt: "})
    said = refused("999", shelf)
    assert "its training has not finished" in said
    assert "It ended with: KeyboardInterrupt" in said
    assert "Run the command that began it again" in said
    assert "(not trained yet)" in refused("zzz", shelf)


def test_a_hugging_face_directory_gets_the_command_for_it(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    said = refused(str(tmp_path), tmp_path)
    assert f"model=hub model.path={tmp_path} model.revision=null" in said


def test_a_part_of_a_run_names_the_run(shelf):
    run = shelf / "runs/b-y--abcdefabcdef"
    assert f"Give the run itself: {run}." in refused(str(run / "model"), shelf)


def test_any_other_directory_is_no_run(tmp_path):
    assert "is no run of heed" in refused(str(tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("manifest.json", "{"),
        ("manifest.json", "[]"),
        ("manifest.json", "{}"),
        ("manifest.json", '{"run": "abcdefabcdef", "code": "c0de"}'),
        ("manifest.json", '{"run": "abcdefabcdef", "time": "then"}'),
        ("manifest.json", '{"run": "abcdefabcdef", "time": 5, "code": "c0de"}'),
        ("manifest.json", '{"run": "../../elsewhere", "time": "then", "code": "c0de"}'),
        ("manifest.json", '{"run": 123456789012, "time": "then", "code": "c0de"}'),
        ("config.yaml", "a: ["),
        ("config.yaml", "text"),
        ("config.yaml", ""),
    ],
)
def test_damaged_records_are_refused(shelf, file: str, text: str):
    (shelf / "runs/b-y--abcdefabcdef" / file).write_text(text)
    assert "config.yaml or manifest.json is damaged" in refused("abc", shelf)


def test_a_run_without_its_model_is_refused(shelf):
    (shelf / "runs/b-y--abcdefabcdef/model").rmdir()
    assert "its folder model/ is gone" in refused("abc", shelf)


@pytest.mark.parametrize("harm", [{"model": None}, {"model": {"_target_": "os.system"}}, {"x": 1}])
def test_a_config_of_another_version_is_refused_and_not_guessed_at(shelf, harm: dict):
    file = shelf / "runs/b-y--abcdefabcdef/config.yaml"
    config = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(config | harm if "model" in harm else harm))
    run = find_run("abc", shelf)
    with pytest.raises(RunError, match="cannot be read as the settings of a run"):
        assert run.student
