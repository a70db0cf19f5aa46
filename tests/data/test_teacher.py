"""Properties of teachers: rows as they are, parts that never mix, errors that name the place."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core.errors import DataError
from heed.core.files import write_jsonl, write_text
from heed.core.identity import short_hash
from heed.data.encode import encode_all
from heed.data.layout import Columns, Turns
from heed.data.source import LocalFile
from heed.data.teacher import Responses, TextCorpus, passages, share_of


def responses(file: Path, name: str = "toy", **changes) -> Responses:
    rest = {"system": None, "input": None, "sparse": False, "reward": None}
    layout = Columns(**({"instruction": "instruction", "response": "output", **rest} | changes))
    return Responses(name=name, source=LocalFile(path=str(file)), layout=layout)


def corpus(path: Path, part: str = "train", **changes) -> TextCorpus:
    rest = {"separator": "---", "heldout_share": 0.3, "passage_chars": 40}
    return TextCorpus(name="toy", path=str(path), part=part, **(rest | changes))


def write_gz(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()))
    return path


ROWS = [{"instruction": f"Ask\u2028{i}", "output": f"Say {i}\r\n", "score": i} for i in range(5)]


def test_a_row_becomes_an_example_with_its_turns_and_reward(tmp_path: Path):
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    found = list(responses(tmp_path / "rows.jsonl", reward="score").rows())
    assert [[(m.role, m.content) for m in row.messages] for row in found] == [
        [("user", row["instruction"]), ("assistant", row["output"])] for row in ROWS
    ]
    assert [row.reward for row in found] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert {row.teacher for row in found} == {"toy"}


def test_the_same_instruction_has_the_same_id_for_every_teacher(tmp_path: Path):
    write_jsonl(tmp_path / "a.jsonl", ROWS)
    write_jsonl(tmp_path / "b.jsonl", [row | {"output": "other"} for row in ROWS[::-1]])
    ids = [[row.id for row in responses(tmp_path / f"{n}.jsonl").rows()] for n in "ab"]
    assert ids[0] == ids[1][::-1]
    assert len(set(ids[0])) == len(ROWS)


def test_rows_that_cannot_be_read_are_told_of_one_by_one_and_the_others_given(tmp_path: Path):
    rows = [ROWS[0], {"output": "no question"}, ROWS[1], {"instruction": 3, "output": ""}, ROWS[2]]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    told: list[Exception] = []
    found = list(responses(tmp_path / "rows.jsonl").rows(told.append))
    assert [row.messages[1].content for row in found] == [row["output"] for row in ROWS[:3]]
    for error, line in zip(told, ("line 2", "line 4"), strict=True):
        assert isinstance(error, DataError)
        for part in ("teacher 'toy'", "rows.jsonl", line, "expected", "data.on_bad_row=drop"):
            assert part in str(error)
    with pytest.raises(DataError, match="line 2"):
        list(responses(tmp_path / "rows.jsonl").rows())


def test_the_identity_follows_the_rows_and_how_they_are_read(tmp_path: Path):
    for name, rows in [("a", ROWS), ("b", ROWS), ("c", ROWS[::-1])]:
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
    made = [responses(tmp_path / f"{name}.jsonl") for name in "abc"]
    made.append(responses(tmp_path / "a.jsonl", response="instruction"))
    for identity in (short_hash, lambda teacher: teacher.digest()):
        a, b, c, other = map(identity, made)
        assert a == b
        assert len({a, c, other}) == 3
    assert short_hash(responses(tmp_path / "a.jsonl", "renamed")) == short_hash(made[0])


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


def test_one_file_is_known_by_any_of_its_names_and_as_a_copy(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file, other = tmp_path / "a.txt", tmp_path / "other.txt"
    file.write_text("one\n---\ntwo\n")
    other.write_text("two\n---\none\n")
    (tmp_path / "copy.txt").write_bytes(file.read_bytes())
    (tmp_path / "link.txt").symlink_to(file)
    names = ["a.txt", "./a.txt", "copy.txt", "link.txt", "other.txt", "gone.txt"]
    told = [corpus(file).overlaps(corpus(Path(name))) for name in names]
    assert told == [True, True, True, True, False, False]
    assert not corpus(file).overlaps(corpus(Path("./a.txt"), part="heldout"))


def test_about_the_asked_share_is_held_out_and_a_document_never_moves():
    held = [share_of(f"document {i}") < 0.3 for i in range(2000)]
    assert 0.26 < sum(held) / len(held) < 0.34
    assert held == [share_of(f"document {i}") < 0.3 for i in range(2000)]


@pytest.mark.parametrize(
    "change",
    [{"part": "heldout"}, {"heldout_share": 0.4}, {"separator": "x"}, {"passage_chars": 9}],
)
def test_how_a_corpus_is_cut_is_in_its_digest(tmp_path: Path, change: dict):
    write_text(tmp_path / "corpus.txt", "one")
    whole, changed = (corpus(tmp_path / "corpus.txt", **more) for more in ({}, change))
    assert whole.digest() != changed.digest()


@pytest.mark.parametrize("kind", ["cut short", "not gzip", "wrong sum", "not UTF-8"])
def test_a_damaged_corpus_is_named(tmp_path: Path, kind: str):
    path, whole = tmp_path / "corpus.txt.gz", gzip.compress(b"one\n---\n" * 3000)
    damaged = {
        "cut short": whole[: len(whole) // 2], "not gzip": b"plain",
        "wrong sum": whole[:-8] + bytes(8), "not UTF-8": gzip.compress(b"\xff\xfe\xff"),
    }  # fmt: skip
    path.write_bytes(damaged[kind])
    with pytest.raises(DataError, match=r"corpus\.txt\.gz cannot be read as gzipped UTF-8 text"):
        list(corpus(path).rows())


def test_a_missing_corpus_names_the_setting_that_points_to_it(tmp_path: Path):
    for use in (lambda t: list(t.rows()), lambda t: t.digest()):
        with pytest.raises(DataError, match=r"'toy': there is no file .*gone\.txt.*data_dir="):
            use(corpus(tmp_path / "gone.txt"))


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


@pytest.mark.parametrize("key", ["weight", "wieght"])
def test_a_weight_that_is_named_and_nowhere_found_stands_among_the_events(
    tmp_path: Path, template, tokenizer, recipe_of, key: str
):
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho", "weight": 1}]
    write_jsonl(tmp_path / "rows.jsonl", [{"turns": turns}, {"turns": turns[:1]}, {"turns": turns}])
    layout = Turns(
        turns="turns", response=None, role="from", content="value", weight=key, reward=None,
        roles={"human": "user", "gpt": "assistant"},
    )  # fmt: skip
    source = LocalFile(path=str(tmp_path / "rows.jsonl"))
    made = Responses(name="toy", source=source, layout=layout)
    found = encode_all(made, template, tokenizer, recipe_of(on_bad_row="drop").data)
    told = {event: n for event, n in found.events.items() if "no turn had the weight" in event}
    assert list(told.values()) == ([] if key == "weight" else [3])
    assert all("'wieght'" in event for event in told)
