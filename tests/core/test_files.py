"""Properties of the writer: a file is whole or as before, lines stay whole, locks die with us."""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core.files import (
    append_jsonl,
    digest_file,
    read_json,
    read_jsonl,
    whole_directory,
    write_json,
    write_jsonl,
    write_text,
    write_yaml,
)


def rows_then_failure():
    yield {"row": 1}
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("write", "error"),
    [
        (lambda path: write_jsonl(path, rows_then_failure()), ZeroDivisionError),
        (lambda path: write_json(path, {"loss": float("nan")}), ValueError),
        (lambda path: write_json(path, {"x": object()}), TypeError),
        (lambda path: write_text(path, "\ud800"), UnicodeEncodeError),
    ],
)
def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, write, error):
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(error):
        write(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_fails_midway_leaves_the_old_file(tmp_path: Path, monkeypatch, step: str):
    path = tmp_path / "file"
    write_text(path, "old")

    def full(*_: object):
        raise OSError("no space left on device")

    monkeypatch.setattr(f"heed.core.files.os.{step}", full)
    with pytest.raises(OSError, match="no space"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_never_sees_half_a_file(tmp_path: Path):
    path = tmp_path / "file"
    texts = [letter * 500_000 for letter in "ab"]
    write_text(path, texts[0])
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(lambda: [write_text(path, texts[i % 2]) for i in range(30)])
        seen = set()
        while not writing.done():
            seen.add(path.read_text())
    writing.result()
    assert seen <= set(texts)


awkward = st.text(alphabet='a\u2028\u2029\x85\x0b\x1c\n\r"\\é😀', max_size=8)


@given(st.lists(st.dictionaries(awkward, awkward, max_size=3)))
def test_rows_are_read_as_they_were_written(tmp_path_factory, rows: list):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_jsonl(path, rows)
    assert read_jsonl(path) == rows
    path.unlink()
    for row in rows:
        append_jsonl(path, row)
    assert not rows or read_jsonl(path) == rows


def test_a_line_separator_inside_a_response_does_not_cut_its_row(tmp_path: Path):
    write_jsonl(tmp_path / "rows", [{"response": "one\u2028two"}])
    assert len((tmp_path / "rows").read_text().split("\n")) == 2
    assert read_jsonl(tmp_path / "rows") == [{"response": "one\u2028two"}]


@contextmanager
def child(code: str, *arguments: object) -> Iterator[subprocess.Popen]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process


WRITE = """
import sys; from pathlib import Path; from heed.core.files import append_jsonl
print("ready", flush=True)
while not Path(sys.argv[2]).exists(): pass
for i in range(400): append_jsonl(Path(sys.argv[1]), [sys.argv[3], i, "x" * 5000])
"""


def test_rows_appended_by_several_processes_stay_whole(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    write, go = (WRITE, path, tmp_path / "go"), tmp_path / "go"
    with child(*write, "a") as a, child(*write, "b") as b, child(*write, "c") as c:
        assert [process.stdout.readline() for process in (a, b, c)] == ["ready\n"] * 3
        go.touch()
        assert [process.wait(30) for process in (a, b, c)] == [0, 0, 0]
    rows = read_jsonl(path)
    assert sorted((name, i) for name, i, _ in rows) == [(n, i) for n in "abc" for i in range(400)]


def test_a_directory_appears_whole_or_stays_as_it_was(tmp_path: Path):
    path = tmp_path / "model"
    with whole_directory(path) as beside:
        (beside / "old").write_text("old")
        assert not path.exists()
    with pytest.raises(UnicodeEncodeError), whole_directory(path) as beside:
        (beside / "half").write_text("half\ud800")
    assert [p.name for p in tmp_path.rglob("*")] == ["model", "old"]
    with whole_directory(path) as beside:
        (beside / "new").write_text("new")
    assert [p.name for p in tmp_path.rglob("*")] == ["model", "new"]


def test_what_is_written_can_be_read_by_others(tmp_path: Path):
    write_text(tmp_path / "deep" / "file", "text")
    with whole_directory(tmp_path / "directory"):
        pass
    assert (tmp_path / "deep" / "file").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "directory").stat().st_mode & 0o777 == 0o755


def test_json_and_yaml_keep_the_order_of_keys(tmp_path: Path):
    value = {"z": [1, 2.5, None], "a": {"é": True}}
    write_json(tmp_path / "value.json", value)
    write_yaml(tmp_path / "value.yaml", value)
    assert json.dumps(read_json(tmp_path / "value.json")) == json.dumps(value)
    assert (tmp_path / "value.yaml").read_text().startswith("z:\n- 1\n- 2.5\n- null\na:\n")


def test_a_digest_changes_with_a_byte(tmp_path: Path):
    write_text(tmp_path / "a", "one")
    write_text(tmp_path / "b", "one")
    write_text(tmp_path / "c", "onf")
    digests = [digest_file(tmp_path / name) for name in "abc"]
    assert digests[0] == digests[1] != digests[2]
