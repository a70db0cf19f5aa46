"""Properties of data files: rows as they are, parts that never mix, errors that name the place."""

import gzip
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core.errors import ConfigError, DataError
from heed.core.files import write_jsonl, write_text
from heed.core.identity import short_hash
from heed.data.teacher import Responses, TextCorpus, passages, share_of

COLUMNS = {"instruction": "instruction", "input": None, "response": "output", "reward": None}
NOWHERE = {"hub": None, "revision": None, "split": None}


def responses(file: Path, **changes) -> Responses:
    return Responses(**({"name": "toy", "path": str(file), **NOWHERE, **COLUMNS} | changes))


def corpus(path: Path, part: str = "train", **changes) -> TextCorpus:
    rest = {"separator": "---", "heldout_share": 0.3, "passage_chars": 40}
    return TextCorpus(name="toy", path=str(path), part=part, **(rest | changes))


def write_gz(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()))
    return path


ROWS = [{"instruction": f"Ask\u2028{i}", "output": f"Say {i}\r\n", "score": i} for i in range(5)]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.json", "rows.csv"])
def test_rows_are_the_same_from_every_kind_of_file(tmp_path: Path, monkeypatch, name: str):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    path = tmp_path / name
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    if name.endswith("gz"):
        write_gz(path, text)
    elif name.endswith("csv"):
        import pandas

        pandas.DataFrame(ROWS).to_csv(path, index=False)
    else:
        write_text(path, text if name.endswith("jsonl") else json.dumps(ROWS))
    found = list(responses(path, reward="score").rows())
    assert [[m.content for m in row.messages] for row in found] == [
        [row["instruction"], row["output"]] for row in ROWS
    ]
    assert [row.reward for row in found] == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_the_same_instruction_has_the_same_id_for_every_teacher(tmp_path: Path):
    write_jsonl(tmp_path / "a.jsonl", ROWS)
    write_jsonl(tmp_path / "b.jsonl", [row | {"output": "other"} for row in ROWS[::-1]])
    ids = [[row.id for row in responses(tmp_path / f"{n}.jsonl").rows()] for n in "ab"]
    assert ids[0] == ids[1][::-1]
    assert len(set(ids[0])) == len(ROWS)


def test_further_input_is_joined_and_a_nested_column_is_found(tmp_path: Path):
    rows = [
        {"q": {"text": "Add."}, "extra": "1, 2", "a": "3"},
        {"q": {"text": "Hi"}, "extra": "", "a": None},
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    named = responses(tmp_path / "rows.jsonl", instruction="q.text", input="extra", response="a")
    said = [[m.content for m in row.messages] for row in named.rows()]
    assert said == [["Add.\n\n1, 2", "3"], ["Hi", ""]]


GOOD = '{"instruction": "a", "output": "b"}\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "{broken\n", r"rows\.jsonl(\.gz)?, line 2: not JSON .* found '{broken'"),
        (GOOD + "\n" + GOOD[:-9] + "\n", r"line 3: not JSON"),
        (GOOD + "[1, 2]\n", r"line 2: expected a JSON object, found '\[1, 2\]'"),
        (
            GOOD + '{"instruction": "a"}\n',
            r"row 2: there is no column 'output', only 'instruction'",
        ),
        ('{"instruction": "a", "output": 3}', r"row 1: column 'output' holds 3, which is not text"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_malformed_row_is_named_with_its_file_and_line(tmp_path, text, message, packed):
    path = tmp_path / ("rows.jsonl.gz" if packed else "rows.jsonl")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    with pytest.raises(DataError, match=message):
        list(responses(path).rows())


def damaged(kind: str) -> bytes:
    whole = gzip.compress("\n---\n".join(map(str, range(3000))).encode())
    middle = len(whole) // 2
    return {
        "cut short": whole[:middle],
        "not gzip": b"plain text",
        "garbled": whole[:middle] + b"\xff" * 64 + whole[middle + 64 :],
        "wrong sum": whole[:-8] + bytes(8),
        "not UTF-8": gzip.compress(b"\xff\xfe\xff"),
    }[kind]


@pytest.mark.parametrize("kind", ["cut short", "not gzip", "garbled", "wrong sum", "not UTF-8"])
@pytest.mark.parametrize("make", [responses, corpus])
def test_a_damaged_file_is_named(tmp_path: Path, kind: str, make):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(damaged(kind))
    with pytest.raises(DataError, match=r"rows\.jsonl\.gz cannot be read as gzipped UTF-8 text"):
        list(make(path).rows())


@pytest.mark.parametrize("make", [responses, corpus])
def test_a_missing_file_names_the_setting_that_points_to_it(tmp_path: Path, make):
    for use in (lambda t: list(t.rows()), lambda t: t.digest()):
        with pytest.raises(DataError, match=r"'toy': there is no file .*gone\.jsonl.*data_dir="):
            use(make(tmp_path / "gone.jsonl"))


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"hub": "a/b", "revision": "1", "split": "train"}, "path=.*hub='a/b'"),
        ({"path": None}, "path=None, hub=None"),
        ({"path": None, "hub": "a/b", "split": "train"}, "revision=None"),
        ({"path": None, "hub": "a/b", "revision": "1"}, "split=None"),
    ],
)
def test_a_teacher_is_read_from_one_pinned_place(changes: dict, where: str):
    with pytest.raises(ConfigError) as caught:
        responses(Path("rows.jsonl"), **changes)
    assert re.search(where, caught.value.mistakes[0].found)


def test_the_identity_follows_the_content_and_not_the_place(tmp_path: Path):
    for name, rows in [("a", ROWS), ("b", ROWS), ("c", ROWS[::-1])]:
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
    a, b, c = (short_hash(responses(tmp_path / f"{name}.jsonl")) for name in "abc")
    assert a == b != c


DOCUMENTS = st.lists(st.text(alphabet="ab \n", min_size=1, max_size=80), min_size=1, max_size=12)


@given(DOCUMENTS)
def test_train_and_heldout_are_disjoint_and_together_the_whole(tmp_path_factory, documents: list):
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    write_text(path, "\n---\n".join(documents))
    parts = {}
    for part in ("train", "heldout"):
        grouped: dict[int, list[str]] = {}
        for row in corpus(path, part).rows():
            grouped.setdefault(int(row.id.split("/")[0]), []).append(row.messages[0].content)
        parts[part] = {number: "\n\n".join(p) for number, p in grouped.items()}
    assert not set(parts["train"].values()) & set(parts["heldout"].values())
    assert parts["train"] | parts["heldout"] == dict(enumerate(documents))


@given(st.text(alphabet="ab\n", max_size=200), st.integers(1, 50))
def test_passages_joined_are_the_document_and_only_the_last_may_be_short(text: str, chars: int):
    parts = list(passages(text, chars))
    assert "\n\n".join(parts) == text
    assert all(len(part) + 2 >= chars for part in parts[:-1])


def test_about_the_asked_share_is_held_out_and_a_document_never_moves():
    held = [share_of(f"document {i}") < 0.3 for i in range(2000)]
    assert 0.26 < sum(held) / len(held) < 0.34
    assert held == [share_of(f"document {i}") < 0.3 for i in range(2000)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_packed_corpus_is_read_as_the_plain_one(tmp_path: Path, end: str):
    text = f"one{end}---{end}two{end}{end}three"
    (tmp_path / "plain.txt").write_bytes(text.encode())
    write_gz(tmp_path / "packed.txt.gz", text)
    plain, packed = (
        list(corpus(tmp_path / name, heldout_share=1e-9).rows())
        for name in ("plain.txt", "packed.txt.gz")
    )
    assert plain == packed
    assert [row.messages[0].content for row in plain] == ["one", "two\n\nthree"]


@pytest.mark.shared
def test_every_real_teacher_answers_the_same_instructions(shared_data: Path):
    files = sorted((shared_data / "alpaca_eval" / "outputs").glob("*.jsonl.gz"))
    assert len(files) == 24
    first = {row.id for row in responses(files[0]).rows()}
    for path in files[1:4]:
        rows = list(responses(path).rows())
        assert len({row.id for row in rows} & first) >= 800
        assert all(row.messages[1].role == "assistant" for row in rows)


@pytest.mark.shared
def test_real_books_are_split_whole(shared_data: Path):
    path = shared_data / "corpus" / "african_storybook_en.txt.gz"
    found = {
        part: {
            row.id.split("/")[0]
            for row in corpus(path, part, separator="<|endoftext|>", passage_chars=2000).rows()
        }
        for part in ("train", "heldout")
    }
    assert not found["train"] & found["heldout"]
    assert min(map(len, found.values())) > 20
