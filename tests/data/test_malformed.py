"""Malformed files: each is named with its place in one clear error, or told of row by row."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core.errors import DataError
from heed.data.layout import Columns, Layout, Turns
from heed.data.source import LocalFile
from heed.data.teacher import Responses

ALPACA = Columns(
    system=None, instruction="asked", input="more", response="said", sparse=False, reward="score"
)
SHAREGPT = Turns(
    turns="turns", response=None, role="from", content="value", weight="weight", reward=None,
    roles={"system": "system", "human": "user", "gpt": "assistant"},
)  # fmt: skip
GOOD = {"asked": "a", "more": "", "said": "b", "score": 1.0}
TALK = [{"from": "human", "value": "a", "weight": 0}, {"from": "gpt", "value": "b", "weight": 1}]
DEEP = 200_000


def row(**changes) -> bytes:
    return json.dumps(GOOD | changes).encode()


def without(*names: str) -> bytes:
    return json.dumps({key: value for key, value in GOOD.items() if key not in names}).encode()


def talk(*turns) -> bytes:
    return json.dumps({"turns": turns}).encode()


def turn(who="gpt", said="b", **more) -> dict:
    return {"from": who, "value": said, **more}


def lines(text: str) -> bytes:
    return text.encode()


BAD_ROWS = {  # one line -> what the message must say of it
    "broken": (lines("{broken"), "not JSON .* found '{broken'"),
    "cut short": (row()[:-9], "not JSON"),
    "two objects": (row() + row(), "not JSON .Extra data"),
    "a trailing comma": (row()[:-1] + b",}", "not JSON"),
    "python's quotes": (b"{'asked': 'a'}", "not JSON"),
    "a control character": (b'{"asked": "a\x00", "said": "b"}', "Invalid control character"),
    "a list": (b"[1, 2]", r"expected a JSON object, found '\[1, 2\]'"),
    "a text": (b'"hello"', "expected a JSON object"),
    "a number": (b"3", "expected a JSON object"),
    "a null": (b"null", "expected a JSON object, found 'null'"),
    "not UTF-8": (b'{"asked": "\xff"}', "not UTF-8.*Expected UTF-8"),
    "UTF-16": (row().decode().encode("utf-16-le").replace(b"\n", b""), "not JSON"),
    "a broken megabyte": (b'{"asked": "' + b"a" * 2**20, "not JSON"),
    "nested too deep": (b"[" * DEEP, "not JSON .*recursion"),
    "objects too deep": (b'{"a":' * DEEP, "not JSON .*recursion"),
    "a number of 5,000 digits": (b'{"score": ' + b"1" * 5000 + b"}", "not JSON .*digits"),
    "no response": (without("said"), "no column 'said'; expected it among 'asked', 'more'"),
    "no instruction": (without("asked"), "no column 'asked'"),
    "no input": (without("more"), "no column 'more'"),
    "no reward": (without("score"), "no column 'score'"),
    "nothing": (b"{}", "no column 'asked'; expected it among no column at all"),
    "a key of a megabyte": (b'{"' + b"k" * 2**20 + b'": 1}', "no column 'asked'"),
    "a thousand keys": (json.dumps({f"k{i}": i for i in range(1000)}).encode(), "no column"),
    "a null instruction": (row(asked=None), "'asked' holds None, which is not text"),
    "a number as response": (row(said=3), "'said' holds 3, which is not text"),
    "a list as response": (row(said=["b"]), r"'said' holds \['b'\], which is not text"),
    "an object as response": (row(said={"text": "b"}), "which is not text"),
    "a deep list as response": (
        row(said=0).replace(b'"said": 0', b'"said": ' + b"[" * 400 + b"]" * 400),
        "which is not text",
    ),
    "true as instruction": (row(asked=True), "'asked' holds True, which is not text"),
    "a number as input": (row(more=1.5), "'more' holds 1.5, which is not text"),
    "half a character": (row(said="ab\ud83d"), "half a character .* at character 3"),
    "half a character, asked": (row(asked="\udc00"), "'asked' holds half a character"),
    "a reward in words": (row(score="high"), "'score' holds 'high'; expected a finite number"),
    "a reward of NaN": (row(score=float("nan")), "'score' holds nan; expected a finite number"),
    "an endless reward": (row(score=0).replace(b"0}", b"1e999}"), "'score' holds inf"),
    "a huge reward": (row(score=10**400), "expected a finite number"),
    "a reward of true": (row(score=True), "'score' holds True"),
    "a list as reward": (row(score=[1]), r"'score' holds \[1\]"),
}
BAD_TALKS = {
    "no turns": (b'{"conversations": []}', "no column 'turns'; expected it among 'conversations'"),
    "null turns": (b'{"turns": null}', "'turns' holds None; expected a list of turns"),
    "a text for turns": (b'{"turns": "hi"}', "'turns' holds 'hi'; expected a list"),
    "an object for turns": (b'{"turns": {"from": "human"}}', "expected a list of turns"),
    "an empty conversation": (talk(), "no turn at all"),
    "a null turn": (talk(TALK[0], None), "turn 2 is None; expected an object with 'from'"),
    "a text for a turn": (talk("hi", "ho"), "turn 1 is 'hi'; expected an object"),
    "a list for a turn": (talk([TALK[0]], TALK[1]), "turn 1 is .*expected an object"),
    "a turn without text": (talk(TALK[0], {"from": "gpt"}), "turn 2 is .*'from' and 'value'"),
    "a turn without role": (talk({"value": "a"}, TALK[1]), "turn 1 is .*'from' and 'value'"),
    "a null text": (talk(TALK[0], turn(said=None)), "turn 2, 'value', holds None"),
    "a number for a text": (talk(TALK[0], turn(said=4)), "turn 2, 'value', holds 4"),
    "half a character": (talk(TALK[0], turn(said="\ud800")), "turn 2, .*half a character"),
    "a role mistyped": (talk(TALK[0], turn("gtp")), "'gtp'; expected one of .*mean 'gpt'"),
    "a role of another layout": (talk(turn("user"), turn("assistant")), "has the role 'user'"),
    "a tool's turn": (talk(*TALK, turn("tool"), TALK[1]), "turn 3 has the role 'tool'"),
    "a null role": (talk(turn(None), TALK[1]), "turn 1 has the role None"),
    "a list for a role": (talk(turn(["human"]), TALK[1]), r"has the role \['human'\]"),
    "a role of a megabyte": (talk(turn("h" * 2**20), TALK[1]), "turn 1 has the role 'hhh"),
    "two assistants in a row": (talk(*TALK, TALK[1]), "turn 3, after the assistant's, is the ass"),
    "two users in a row": (talk(TALK[0], *TALK), "turn 2, after the user's, is the user's"),
    "the assistant begins": (talk(TALK[1]), "turn 1, at the beginning, is the assistant's"),
    "no assistant": (talk(TALK[0]), "the last turn is the user's; expected the assistant's"),
    "the user ends": (talk(*TALK, TALK[0]), "the last turn is the user's"),
    "nothing but a system turn": (talk(turn("system")), "the last turn is the system's"),
    "a system turn inside": (talk(*TALK, turn("system"), *TALK), "turn 3, .*is the system's"),
    "half a weight": (talk(TALK[0], turn(weight=0.5)), "weight 0.5; expected 0, 1 or null"),
    "a weight in words": (talk(TALK[0], turn(weight="1")), "has the weight '1'"),
    "a weight of true": (talk(TALK[0], turn(weight=True)), "has the weight True"),
    "a weight of NaN": (talk(TALK[0], turn(weight=float("nan"))), "has the weight nan"),
}
BAD_LINES = [
    *(pytest.param(ALPACA, row(), *case, id=name) for name, case in BAD_ROWS.items()),
    *(pytest.param(SHAREGPT, talk(*TALK), *case, id=name) for name, case in BAD_TALKS.items()),
]


def teacher(path: Path, layout: Layout = ALPACA) -> Responses:
    return Responses(name="toy", source=LocalFile(path=str(path)), layout=layout)


def check_message(error: Exception, path: Path) -> None:
    """One clear error: names the file, is short enough for a screen, and can be printed."""
    assert isinstance(error, DataError)
    assert path.name in str(error)
    assert len(str(error)) < 1200
    assert str(error).encode()


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzipped"])
@pytest.mark.parametrize(("layout", "good", "bad", "says"), BAD_LINES)
def test_a_malformed_row_is_named_or_left_out_and_told_of(
    tmp_path: Path, layout: Layout, good: bytes, bad: bytes, says: str, packed: bool
):
    path = tmp_path / ("rows.jsonl.gz" if packed else "rows.jsonl")
    data = b"\n".join([good, bad, good]) + b"\n"
    path.write_bytes(gzip.compress(data, 1) if packed else data)
    with pytest.raises(DataError, match=f"line 2: .*{says}") as caught:
        list(teacher(path, layout).rows())
    check_message(caught.value, path)
    told: list[Exception] = []
    found = list(teacher(path, layout).rows(told.append))
    assert [row.messages[-1].content for row in found] == ["b", "b"]
    assert list(map(str, told)) == [str(caught.value)]


HEAD = "asked,more,said,score\n"
WHOLE = gzip.compress(b"\n".join(row(said=str(i)) for i in range(3000)))
BAD_FILES = {  # file -> its bytes and what the error must say
    "empty.jsonl": (b"", "holds no row at all"),
    "blank.jsonl": (b"\n \n\n", "holds no row at all"),
    "mark.jsonl": (b"\xef\xbb\xbf", "holds no row at all"),
    "empty.json": (b"", "holds no row at all"),
    "list.json": (b"[]", "holds no row at all"),
    "empty.csv": (b"", "holds no row at all"),
    "head.csv": (HEAD.encode(), "holds no row at all"),
    "empty.jsonl.gz": (b"", "holds no row at all"),
    "empty.parquet": (b"", "cannot be read as a parquet file"),
    "noise.parquet": (b"PAR1" + bytes(range(200)) + b"PAR1", "cannot be read as a parquet file"),
    "text.parquet": (row() * 9, "cannot be read as a parquet file"),
    "plain.jsonl.gz": (row(), "cannot be read as gzipped UTF-8 text"),
    "cut.jsonl.gz": (WHOLE[: len(WHOLE) // 2], "cannot be read as gzipped"),
    "sum.jsonl.gz": (WHOLE[:-8] + bytes(8), "cannot be read as gzipped"),
    "garbled.jsonl.gz": (WHOLE[:2000] + b"\xff" * 64 + WHOLE[2064:], "cannot be read as gzipped"),
    "cut.json": (b"[" + row() + b",", "not a JSON list"),
    "two.json": (b"[1][2]", "not a JSON list"),
    "deep.json": (b"[" * DEEP, "not a JSON list .*recursion"),
    "digits.json": (b"[" + b"1" * 5000 + b"]", "not a JSON list .*digits"),
    "latin.json": (b'[{"asked": "\n\xe9"}]', "cannot be read as UTF-8"),
    "twice.csv": (b"asked,said,asked\n1,2,3\n", "line 1: expected the columns' names, each once"),
    "unnamed.csv": (b"asked,,said\n1,2,3\n", "line 1: expected the columns' names"),
    "open.csv": (HEAD.encode() + b'1,2,3,4\n1,"2,3,4\n1,2,3,4\n', "line 3: a quotation that beg"),
    "latin.csv": (HEAD.encode() + b"\xe9,2,3,4\n", "line 2: not UTF-8"),
    "quoted.csv": (b'"a"b,c\n', "line 1: a quotation"),
    "stray.csv": (HEAD.encode() + b'a,,b,1\n"a"b,,b,1\na,,b,1\n', "line 3: a quotation"),
    "swallow.csv": (
        HEAD.encode() + b'1,,"b,1\n2,,b,1\n3,,"b",1\n4,,b,1\n',
        "line 2: a quotation .*jsonl",
    ),
    "several.csv": (HEAD.encode() + b'a,,"b\nc",1\nd,"e\n2,,f",1\n', "line 4: expected 4 values"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_cannot_be_read_as_a_whole_is_refused_whatever_becomes_of_rows(
    tmp_path: Path, name: str
):
    content, says = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    for on_bad in (None, lambda error: None):
        with pytest.raises(DataError, match=says) as caught:
            list(teacher(tmp_path / name).rows(on_bad))
        check_message(caught.value, tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("few.csv", HEAD + "a,,b,1\na,,b\na,,b,1\n", "line 3: expected 4 values, found 3"),
        ("many.csv", HEAD + "a,,b,1\na,,b,1,2\na,,b,1\n", "line 3: expected 4 values, found 5"),
        ("score.csv", HEAD + "a,,b,1\na,,b,x\na,,b,1\n", "line 3: column 'score' holds 'x'"),
        ("null.json", json.dumps([GOOD, None, GOOD]), "row 2: expected an object, found None"),
        ("kind.json", json.dumps([GOOD, GOOD | {"said": 1}, GOOD]), "row 2: column 'said' holds 1"),
        ("page.json", json.dumps(GOOD) + "\n{\n" + json.dumps(GOOD), "line 2: not JSON"),
    ],
)
def test_a_bad_row_of_another_kind_of_file_is_named_and_can_be_left_out(
    tmp_path: Path, name: str, content: str, says: str
):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=says) as caught:
        list(teacher(tmp_path / name).rows())
    check_message(caught.value, tmp_path / name)
    told: list[Exception] = []
    assert len(list(teacher(tmp_path / name).rows(told.append))) == 2
    assert len(told) == 1


def test_a_file_of_nothing_but_bad_rows_has_rows_and_each_is_told_of(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_bytes(b"{broken\n[]\n" + row(said=3))
    told: list[Exception] = []
    assert not list(teacher(tmp_path / "rows.jsonl").rows(told.append))
    assert len(told) == 3


def test_a_bad_row_of_a_parquet_file_is_named_and_can_be_left_out(tmp_path: Path):
    import pyarrow
    from pyarrow.parquet import write_table

    path = tmp_path / "rows.parquet"
    talks = [{"turns": TALK}, {"turns": None}, {"turns": [None]}, {"turns": TALK}]
    write_table(pyarrow.Table.from_pylist(talks), path)
    told: list[Exception] = []
    assert len(list(teacher(path, SHAREGPT).rows(told.append))) == 2
    for error, says in zip(told, ("row 2: column 'turns'", "row 3: turn 1 is None"), strict=True):
        check_message(error, path)
        assert says in str(error)


TEXTS = {
    "rows.jsonl": b"\n".join([row(), talk(*TALK), row()]),
    "rows.json": json.dumps([GOOD, GOOD]).encode(),
    "rows.csv": (HEAD + 'a,,b,1\n"a\nb",c,"d",2\n').encode(),
    "rows.jsonl.gz": gzip.compress(b"\n".join([row()] * 20), 1, mtime=0),
}
SNIPPETS = st.sampled_from([b'"', b",", b"\n", b"{", b"}", b"[", b"\xff", b"\x00", b"\\ud800", b""])
CUTS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9), SNIPPETS | st.binary(max_size=4)))


@given(st.sampled_from(sorted(TEXTS)), CUTS, st.sampled_from([ALPACA, SHAREGPT]))
def test_however_a_file_is_damaged_its_rows_are_examples_or_data_errors(
    tmp_path_factory, name: str, cuts: list, layout: Layout
):
    data = TEXTS[name]
    for place, length, put in cuts:
        at = int(place * len(data))
        data = data[:at] + put + data[at + length :]
    path = tmp_path_factory.mktemp("damaged") / name
    path.write_bytes(data)
    told: list[Exception] = []
    try:
        for found in teacher(path, layout).rows(told.append):
            assert found.messages[-1].role == "assistant"
    except DataError as error:
        check_message(error, path)
    for error in told:
        check_message(error, path)
