"""The ledger only grows, and its last word counts."""

import json
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core.errors import RunError
from heed.core.files import write_json
from heed.study import ledger
from heed.study.ledger import (
    FILE,
    last_word,
    latest,
    record,
    record_result,
    result_file,
    short_form,
    whole_result,
)

CELL = {"run": "abc", "suite": "def"}


def test_an_empty_place_has_an_empty_ledger(tmp_path: Path):
    assert latest(tmp_path) == {}


def test_the_latest_entry_of_a_run_on_a_suite_wins_and_others_are_kept(tmp_path: Path):
    record(tmp_path, "failed", CELL | {"reason": "out of memory"})
    before = (tmp_path / FILE).read_text()
    record(tmp_path, "done", CELL)
    record(tmp_path, "failed", CELL | {"suite": "other", "reason": "x"})
    known = latest(tmp_path)
    assert {key: entry["event"] for key, entry in known.items()} == {
        ("abc", "def"): "done",
        ("abc", "other"): "failed",
    }
    assert (tmp_path / FILE).read_text().startswith(before)


def test_an_entry_survives_any_text_in_it(tmp_path: Path):
    reason = 'line\nbreak \u2028 "quoted" \x1b[1m ünï'
    record(tmp_path, "failed", CELL | {"reason": reason})
    assert latest(tmp_path)["abc", "def"]["reason"] == reason
    assert len((tmp_path / FILE).read_text().split("\n")) == 2


def write_many(root: Path, who: int) -> None:
    for number in range(50):
        record(root, "done", {"run": f"{who}-{number}", "suite": "s", "text": "x" * 20_000})


def test_several_writers_leave_whole_lines(tmp_path: Path):
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=write_many, args=(tmp_path, who)) for who in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = (tmp_path / FILE).read_text().splitlines()
    assert len([json.loads(line) for line in lines]) == len(latest(tmp_path)) == 100


def test_one_run_is_looked_up_as_in_the_whole(tmp_path: Path):
    runs = ("abc", "ab", 'ünï \\ "x"', "")
    for number, run in enumerate(runs * 2):
        record(tmp_path, "failed", {"run": run, "suite": "def", "reason": f"{number} abc"})
    record(tmp_path, "done", {"run": "abc", "suite": "other"})
    known = latest(tmp_path)
    assert len(known) == 5
    assert {key: last_word(tmp_path, key) for key in known} == known
    assert last_word(tmp_path, ("abc", "none")) is None
    assert last_word(tmp_path / "nowhere", ("abc", "def")) is None


FOREIGN = [
    b"[]", b"1", b'"text"', b"null", b"{}", b'{"run": "abc", "suite": "def"}',
    b'{"event": "done", "suite": "def"}', b'{"event": "done", "run": 1, "suite": "def"}',
    b'{"event": "began", "run": "abc", "suite": "def", "reason": "x"}',
    b'{"event": [], "run": "a", "suite": "b"}',
    b'{"event": "failed", "run": "abc", "suite": "def"}', b'{"event": "do', b"\xff\xfe", b"\x00",
]  # fmt: skip


@pytest.mark.parametrize("line", FOREIGN)
def test_a_line_that_is_no_entry_is_told_once_with_its_number_and_costs_no_other(
    line: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    record(tmp_path, "done", CELL)
    with (tmp_path / FILE).open("ab") as file:
        file.write(b"\n" + line + b"\n")
    record(tmp_path, "done", CELL | {"run": "later"})
    for _ in range(2):
        assert set(latest(tmp_path)) == {("abc", "def"), ("later", "def")}
    said = " ".join(capfd.readouterr().err.split())
    assert said.count("passed over") == 1
    assert "line 3 is" in said


@given(st.lists(st.binary(max_size=30), max_size=5))
def test_no_bytes_whatsoever_end_a_look(lines: list[bytes]):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "_pass_over", lambda *_: None)
        patch.setattr(Path, "is_file", lambda _: True)
        patch.setattr(Path, "read_bytes", lambda _: b"\n".join(lines))
        assert latest(Path("x")) == {}


def test_a_torn_line_does_not_swallow_the_one_after_it(tmp_path: Path):
    record(tmp_path, "done", CELL)
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[:-9])
    record(tmp_path, "done", CELL | {"run": "later"})
    assert set(latest(tmp_path)) == {("later", "def")}


RESULT = CELL | {
    "suite_name": "play", "directory": "runs/x--abc", "deltas": [{"metric": "m", "delta": 0.5}],
    "flags": [{"kind": "short", "text": "..."}, {"kind": "short", "text": "!"}],
    "also": {"settings": {"name": "plain"}, "deltas": []}, "code": "c0de", "settings": {"a": 1},
}  # fmt: skip


def kept(root: Path, result: dict) -> Path:
    path = result_file(root / result["directory"], result["suite_name"])
    write_json(path, result)
    record_result(root, result)
    return path


def test_a_result_has_a_short_line_and_is_found_whole(tmp_path: Path):
    kept(tmp_path, RESULT)
    entry = latest(tmp_path)["abc", "def"]
    assert entry["flags"] == ["short"]
    assert entry["also"] == {"settings": {"name": "plain"}}
    assert "settings" not in entry
    assert whole_result(tmp_path, entry) == RESULT


def test_the_same_result_is_recorded_once_and_a_change_again(tmp_path: Path):
    for _ in range(2):
        record_result(tmp_path, RESULT)
    assert (tmp_path / FILE).read_text().count("\n") == 1
    record_result(tmp_path, RESULT | {"notes": ["more"]})
    assert (tmp_path / FILE).read_text().count("\n") == 2
    record(tmp_path, "failed", CELL | {"reason": "x"})
    record_result(tmp_path, RESULT | {"notes": ["more"]})
    assert latest(tmp_path)["abc", "def"]["event"] == "done"


@pytest.mark.parametrize("harm", ["gone", "torn", "changed", "other"])
def test_a_result_that_is_lost_or_changed_is_refused_by_name(harm: str, tmp_path: Path):
    path = kept(tmp_path, RESULT)
    if harm == "gone":
        path.unlink()
    elif harm == "torn":
        path.write_text(path.read_text()[:-5])
    else:
        write_json(path, [] if harm == "other" else RESULT | {"settings": {"a": 2}})
    with pytest.raises(RunError, match=r"result\.json.*run abc"):
        whole_result(tmp_path, latest(tmp_path)["abc", "def"])


def test_an_entry_of_an_older_heed_that_holds_all_is_the_result(tmp_path: Path):
    record(tmp_path, "done", RESULT)
    assert whole_result(tmp_path, latest(tmp_path)["abc", "def"]).items() >= RESULT.items()


def test_what_a_line_leaves_out_is_in_its_digest():
    one, two = short_form(RESULT), short_form(RESULT | {"settings": {"a": 2}})
    assert one.pop("digest") != two.pop("digest")
    assert one == two


def test_no_key_gets_into_the_ledger(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "a-very-private-key")
    token = "hf_" + "a" * 20
    told = {"reason": f"401 for {token}", "log": ["first", "key a-very-private-key refused"]}
    record(tmp_path, "failed", CELL | told)
    text = (tmp_path / FILE).read_text()
    assert token not in text
    assert "a-very-private-key" not in text
    assert latest(tmp_path)["abc", "def"]["log"] == ["first", "key *** refused"]
