"""A finished run is merged and uploaded without being trained; what fails is recorded."""

from pathlib import Path
from typing import Any

import pytest
from tiny import ROOT, Finished

from heed.core.compose import compose_component
from heed.core.errors import ConfigError, RunError
from heed.core.files import read_json, read_jsonl
from heed.study import export as module
from heed.study import run_cell as running
from heed.study.cell import Cell
from heed.study.export import FILE, export_run, lacks_export
from heed.study.run_cell import run_cell
from heed.training import fit as fit_module

PUSH = ("export.merge=true", "export.push_to_hub=org/name")


def cell_of(root: Path, *more: str) -> Cell:
    return compose_component(ROOT / "conf", "train", (*more, f"outputs={root}"))


def run_of(cell: Cell, *, adapter: bool = True) -> Path:
    """The files of a run that an export looks at."""
    model = cell.directory / "model"
    model.mkdir(parents=True)
    (model / ("adapter_config.json" if adapter else "config.json")).write_text("{}")
    return cell.directory


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was merged and pushed, by stand-ins that write and remember."""
    calls: list[str] = []

    def merge(run: Path, loaded: Any, dtype: str) -> dict[str, Any]:
        calls.append(f"merge {dtype}")
        (run / "merged").mkdir(exist_ok=True)
        kind = {"as_scored": "float32"}.get(dtype, dtype)
        (run / "merged" / "config.json").write_text(kind)
        return {"dtype": kind, "scored_in": "float32", "difference": 1e-7}

    def push(folder: Path, export: Any, message: str) -> str:
        calls.append(f"push {folder.name}")
        if not folder.is_dir():
            raise RunError("nothing is there")
        return "https://hub/commit"

    monkeypatch.setattr(module, "merge", merge)
    monkeypatch.setattr(module, "push", push)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "a key")
    monkeypatch.setattr(module, "read_run", lambda _: None)
    monkeypatch.setattr(module, "load_run", lambda *_: None)
    return calls


def test_nothing_is_done_unless_it_is_asked_for(tmp_path: Path, done):
    cell = cell_of(tmp_path)
    export_run(cell)
    assert not done
    assert not cell.directory.exists()


def test_an_export_does_not_change_the_run(tmp_path: Path):
    assert cell_of(tmp_path, *PUSH).run.id == cell_of(tmp_path).run.id


def test_what_was_merged_is_uploaded_and_is_not_merged_again(tmp_path: Path, done):
    cell = cell_of(tmp_path, *PUSH)
    directory = run_of(cell)
    export_run(cell)
    export_run(cell)
    assert done == ["merge as_scored", "push merged", "push merged"]
    rows = read_jsonl(directory / FILE)
    assert [row["event"] for row in rows] == ["merging", "merged", *["pushing", "pushed"] * 2]
    assert rows[3]["to"] == "org/name"
    assert rows[3]["address"] == "https://hub/commit"


@pytest.mark.parametrize("changed", ["model/adapter_config.json", "merged/config.json", "dtype"])
def test_what_has_changed_is_merged_again(tmp_path: Path, done, changed: str):
    cell = cell_of(tmp_path, "export.merge=true")
    directory = run_of(cell)
    export_run(cell)
    if changed == "dtype":
        cell = cell_of(tmp_path, "export.merge=true", "export.dtype=bfloat16")
    else:
        (directory / changed).write_text('{"other": 1}')
    export_run(cell)
    assert len(done) == 2


def test_whole_weights_are_uploaded_as_they_are(tmp_path: Path, done, capsys):
    cell = cell_of(tmp_path, *PUSH, "method=full")
    run_of(cell, adapter=False)
    export_run(cell)
    assert done == ["push model"]
    assert "holds whole weights already" in " ".join(capsys.readouterr().err.split())


def test_whole_weights_get_another_type_if_it_is_asked_for(tmp_path: Path, done):
    cell = cell_of(tmp_path, "export.merge=true", "export.dtype=bfloat16", "method=full")
    run_of(cell, adapter=False)
    export_run(cell)
    assert done == ["merge bfloat16"]


def test_what_fails_is_recorded_and_raised(tmp_path: Path, done):
    cell = cell_of(tmp_path, "export.push_to_hub=org/name", "method=full")
    cell.directory.mkdir(parents=True)
    with pytest.raises(RunError, match="nothing is there"):
        export_run(cell)
    (_, row) = read_jsonl(cell.directory / FILE)
    assert (row["event"], row["reason"]) == ("failed", "nothing is there")
    assert lacks_export(cell.directory, cell.export) == "nothing is there"


def test_what_nobody_foresaw_is_recorded_too(tmp_path: Path, done, monkeypatch):
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "merge", full)
    cell = cell_of(tmp_path, "export.merge=true")
    run_of(cell)
    with pytest.raises(OSError, match="No space left"):
        export_run(cell)
    told = "OSError: [Errno 28] No space left on device"
    assert lacks_export(cell.directory, cell.export) == told


def test_what_a_run_lacks_of_an_export_is_known_from_its_notes(tmp_path: Path, done):
    cell = cell_of(tmp_path, *PUSH)
    directory = run_of(cell)
    assert lacks_export(directory, cell_of(tmp_path).export) is None, "none is wanted"
    assert lacks_export(directory, cell.export) == "nothing is recorded of it"
    export_run(cell_of(tmp_path, "export.merge=true"))
    assert lacks_export(directory, cell_of(tmp_path, "export.merge=true").export) is None
    assert lacks_export(directory, cell.export), "it is not uploaded"
    export_run(cell)
    assert lacks_export(directory, cell.export) is None
    for other in ("export.dtype=bfloat16", "export.push_to_hub=org/other"):
        assert lacks_export(directory, cell_of(tmp_path, *PUSH, other).export)
    (directory / "merged" / "config.json").unlink()
    (directory / "merged").rmdir()
    assert lacks_export(directory, cell.export)


def test_whole_weights_lack_no_merge(tmp_path: Path, done):
    wanted = cell_of(tmp_path, "export.merge=true", "method=full")
    directory = run_of(wanted, adapter=False)
    assert lacks_export(directory, wanted.export) is None
    rounded = cell_of(tmp_path, "export.merge=true", "export.dtype=bfloat16", "method=full")
    assert lacks_export(directory, rounded.export)


def test_an_adapter_of_a_base_that_nobody_has_is_a_mistake_of_the_command(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"export\.push_to_hub"):
        cell_of(tmp_path, "export.push_to_hub=org/name")
    assert cell_of(tmp_path, "export.push_to_hub=org/name", "method=full")


def test_a_missing_key_is_told_before_the_run_begins(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.setattr(running, "plan_table", lambda _: pytest.fail("it began"))
    with pytest.raises(RunError, match="no key of the hub"):
        run_cell(cell_of(tmp_path, *PUSH))
    assert not list(tmp_path.iterdir())


def test_a_missing_key_is_noted_where_a_run_is_there_to_be_exported(
    tmp_path: Path, done, monkeypatch
):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    cell = cell_of(tmp_path, *PUSH)
    directory = run_of(cell)
    (directory / FILE).write_text('{"event": "failed", "reason": "403 of last month"}\n')
    with pytest.raises(RunError, match="no key of the hub"):
        export_run(cell)
    assert not done
    assert "no key of the hub" in (lacks_export(directory, cell.export) or "")


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("step", ["merge", "push"])
def test_an_export_that_was_killed_is_not_told_with_an_older_reason(
    tmp_path: Path, done, monkeypatch, step: str
):
    def killed(*_: Any) -> None:
        raise Killed

    cell = cell_of(tmp_path, *PUSH)
    directory = run_of(cell)
    if step == "push":
        export_run(cell_of(tmp_path, "export.merge=true"))
    with (directory / FILE).open("a") as notes:
        notes.write('{"event": "failed", "reason": "403 of last month"}\n')
    monkeypatch.setattr(module, step, killed)
    with pytest.raises(Killed):
        export_run(cell)
    assert lacks_export(directory, cell.export) == "nothing is recorded of it"


def test_what_a_killed_merge_left_is_not_taken_for_what_was_there_before(
    tmp_path: Path, done, monkeypatch
):
    """The new directory stands in its place, and its end is not recorded."""
    cell = cell_of(tmp_path, "export.merge=true")
    other = cell_of(tmp_path, "export.merge=true", "export.dtype=bfloat16")
    directory = run_of(cell)
    export_run(cell)
    merge = module.merge

    def killed(*how: Any) -> None:
        merge(*how)
        raise Killed

    monkeypatch.setattr(module, "merge", killed)
    with pytest.raises(Killed):
        export_run(other)
    monkeypatch.setattr(module, "merge", merge)
    assert lacks_export(directory, cell.export)
    assert lacks_export(directory, other.export)
    export_run(cell)
    assert (directory / "merged" / "config.json").read_text() == "float32"
    assert lacks_export(directory, cell.export) is None


def test_a_merge_that_was_killed_before_it_changed_anything_costs_no_other(
    tmp_path: Path, done, monkeypatch
):
    def killed(*_: Any) -> None:
        raise Killed

    cell = cell_of(tmp_path, "export.merge=true")
    directory = run_of(cell)
    export_run(cell)
    merge = module.merge
    monkeypatch.setattr(module, "merge", killed)
    with pytest.raises(Killed):
        export_run(cell_of(tmp_path, "export.merge=true", "export.dtype=bfloat16"))
    monkeypatch.setattr(module, "merge", merge)
    for _ in range(2):
        export_run(cell)
        assert lacks_export(directory, cell.export) is None
    assert done == ["merge as_scored"]


def test_what_a_killed_merge_left_beside_is_removed_by_the_next(tmp_path: Path, done):
    cell = cell_of(tmp_path, "export.merge=true")
    left = run_of(cell) / ".merged.x1"
    left.mkdir()
    (left / "model.safetensors").write_text("half")
    export_run(cell)
    assert sorted(path.name for path in cell.directory.iterdir()) == [FILE, "merged", "model"]


@pytest.mark.slow
def test_a_finished_run_is_exported_without_training_and_stands_if_that_fails(
    finished: Finished, tmp_path: Path, monkeypatch, capsys
):
    from dataclasses import replace

    def never(*_: Any, **__: Any) -> None:
        pytest.fail("somebody trains")

    def refused(*_: Any) -> str:
        raise RunError("the hub says no")

    monkeypatch.setattr(fit_module, "fit", never)
    monkeypatch.setattr(module, "push", refused)
    monkeypatch.setattr(module, "refuse_unpushable", lambda _: None)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)  # asked where it is to be noted
    cell = finished.copy(tmp_path / "outputs")
    wanted = replace(cell.export, merge=True, push_to_hub="org/name")
    before = (cell.directory / "scores/play/result.json").read_bytes()
    with pytest.raises(RunError, match="the hub says no"):
        run_cell(replace(cell, export=wanted))
    assert "play_follow/inst_level_strict_acc" in capsys.readouterr().out, "the result is shown"
    noted = [row["event"] for row in read_jsonl(cell.directory / FILE)]
    assert noted == ["merging", "merged", "pushing", "failed"]
    assert (cell.directory / "merged/model.safetensors").is_file()
    assert (cell.directory / "scores/play/result.json").read_bytes() == before
    assert [row["event"] for row in read_jsonl(cell.root / "ledger.jsonl")] == ["done"]
    assert (cell.directory / "DONE").is_file()
    assert "## Result on play" in (cell.directory / "merged/README.md").read_text()


@pytest.mark.slow
def test_the_student_was_read_by_a_fresh_process_before_the_run_was_done(finished: Finished):
    fit = read_json(finished.run / "manifest.json")["fit"]
    assert fit["fresh_process_difference"] <= 1e-3
    assert "## Result on play" in (finished.run / "model/README.md").read_text()
    stops = read_json(finished.run / "model/generation_config.json")
    assert stops["do_sample"] is False
    assert stops["eos_token_id"]


def test_words_for_the_same_weights_are_known_again_and_nothing_is_lacking(tmp_path: Path, done):
    """`as_scored` of a student in float32 gives what `float32` gives, byte for byte."""
    cell, whole = (
        cell_of(tmp_path, "export.merge=true", *more) for more in ((), ("export.dtype=float32",))
    )
    directory = run_of(cell)
    for one in (cell, whole, cell):
        export_run(one)
        assert lacks_export(directory, one.export) is None
    assert done == ["merge as_scored", "merge float32"]


def test_two_addresses_have_both_been_uploaded_to(tmp_path: Path, done):
    cells = [
        cell_of(tmp_path, f"export.push_to_hub=org/{to}", "method=full") for to in ("one", "two")
    ]
    directory = run_of(cells[0], adapter=False)
    for cell in cells:
        export_run(cell)
    more = ("export.merge=true", "export.dtype=bfloat16", "method=full")
    export_run(cell_of(tmp_path, *more))  # what was uploaded is not of it
    assert [lacks_export(directory, cell.export) for cell in cells] == [None, None]


def test_a_torn_line_and_an_old_failure_say_nothing(tmp_path: Path, done):
    cell = cell_of(tmp_path, *PUSH)
    directory = run_of(cell)
    (directory / FILE).write_text('{"event": "failed", "reason": "old"}\n{"event": "mer\n[1]\n')
    assert lacks_export(directory, cell.export) == "old"
    export_run(cell_of(tmp_path, "export.merge=true"))
    assert lacks_export(directory, cell.export) == "nothing is recorded of it"


@pytest.mark.parametrize(
    ("notes", "told"),
    [
        ('{"event": "failed", "reason": "\u00fc'.encode()[:-1], "nothing is recorded of it"),
        ('{"event": "failed", "reason": "a\u2028b\u0085c"}\n'.encode(), "a\u2028b\u0085c"),
        (b'{"event": "merged"}\n{"event": "pushed"}\n', "nothing is recorded of it"),
        (b'{"event": "failed"}\n', "nothing is recorded of it"),
    ],
)
def test_whatever_stands_in_the_notes_ends_no_look(tmp_path: Path, notes: bytes, told: str):
    cell = cell_of(tmp_path, *PUSH)
    directory = run_of(cell)
    (directory / FILE).write_bytes(notes)
    assert lacks_export(directory, cell.export) == told


def test_no_token_is_written_into_the_reason(tmp_path: Path, done, monkeypatch):
    def refused(*_: Any) -> None:
        raise RunError("401 for hf_" + "a" * 34)

    monkeypatch.setattr(module, "merge", refused)
    cell = cell_of(tmp_path, "export.merge=true")
    run_of(cell)
    with pytest.raises(RunError):
        export_run(cell)
    assert "a" * 34 not in (cell.directory / FILE).read_text()
