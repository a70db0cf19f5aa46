"""The ledger only grows, and its last word counts."""

import json
import multiprocessing
from pathlib import Path

from heed.study.ledger import FILE, latest, record

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
