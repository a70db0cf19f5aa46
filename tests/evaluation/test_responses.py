"""A file of responses: every item gets one answer, everything odd is counted or refused by line."""

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.core.errors import DataError
from heed.core.types import Answer, Item
from heed.evaluation import responses
from heed.evaluation.responses import read_responses

ITEMS = [Item(str(1000 + i), f"Ask number {i}, please.") for i in range(4)]
Said = Callable[..., Path]


@pytest.fixture
def said(tmp_path: Path) -> Said:
    """Write rows (objects, or lines as they are) to a file."""

    def write(*rows: dict | str, name: str = "said.jsonl", before: str = "") -> Path:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        data = (before + "".join(f"{line}\n" for line in lines)).encode()
        path = tmp_path / name
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


def keyed(*texts: str | None) -> list[dict]:
    return [{"key": item.key, "response": text} for item, text in zip(ITEMS, texts, strict=False)]


def test_keys_and_prompts_plain_and_gzipped_in_any_order_give_the_same(said: Said):
    texts = ["one", "two\u2028\nlines", "three", "fo\u00fcr"]
    by_key = keyed(*texts)
    by_number = [{**row, "key": int(row["key"])} for row in by_key]
    by_number[0]["key"] = 1000.0
    by_prompt = [{"prompt": i.prompt, "response": t} for i, t in zip(ITEMS, texts, strict=True)]
    by_both = [a | b for a, b in zip(by_key, by_prompt, strict=True)]
    foreign_keys = [{**row, "key": f"row {n}"} for n, row in enumerate(by_prompt)]
    mixed = random.Random(0).sample([by_key[0], by_prompt[1], by_number[2], by_both[3]], 4)
    files = [
        said(*rows, name=f"{n}.jsonl{'.gz' * (n % 2)}")
        for n, rows in enumerate([by_key, by_number, by_prompt, by_both, foreign_keys, mixed])
    ]
    for file in files:
        found = read_responses(file, ITEMS)
        assert found.answers == {
            item.key: Answer(text, 0, None) for item, text in zip(ITEMS, texts, strict=True)
        }
        assert (found.events, found.notes) == ({"rows in the file": 4}, [])


def test_blank_lines_line_ends_of_other_systems_and_a_byte_order_mark_do_not_matter(said: Said):
    plain = [json.dumps(row) for row in keyed("one", "two")]
    odd = said("", f"{plain[0]}\r", "   ", plain[1], "", before="\ufeff", name="odd.jsonl")
    assert read_responses(odd, ITEMS) == read_responses(said(*plain), ITEMS)


def test_what_is_missing_null_blank_or_stray_is_counted_and_named(said: Said):
    rows = [*keyed("one", None, " \n"), {"key": "7", "response": "lost"}]
    found = read_responses(said(*rows), ITEMS)
    assert [found.answers[item.key].text for item in ITEMS] == ["one", None, " \n", None]
    assert found.events == {
        "rows in the file": 4, responses.NULL: 1, responses.BLANK: 1, responses.MISSING: 1,
        responses.STRAY: 1,
    }  # fmt: skip
    named = " ".join(found.notes)
    assert all(name in named for name in ("1001", "1002", "1003", "7 (line 4)"))


def test_a_prompt_whose_text_has_changed_is_scored_and_told(said: Said):
    row = {"key": "1000", "prompt": "Ask it differently.", "response": "one"}
    found = read_responses(said(row, *keyed("-", "two")[1:]), ITEMS)
    assert found.answers["1000"].text == "one"
    assert found.events[responses.OTHER_TEXT] == 1
    padded = {"key": "1000", "prompt": f" {ITEMS[0].prompt}\n", "response": "one"}
    assert responses.OTHER_TEXT not in read_responses(said(padded), ITEMS).events


def test_what_a_row_does_not_give_matches_no_blank_key_or_prompt(said: Said):
    items = [Item("", "Ask."), Item("2", "")]
    foreign = {"key": "77", "response": "stray"}
    only_text = {"prompt": "Tell.", "response": "stray too"}
    found = read_responses(said(foreign, only_text, {"key": 2, "response": "x"}), items)
    assert [found.answers[item.key].text for item in items] == [None, "x"]
    assert found.events[responses.STRAY] == 2
    blank = {"prompt": " ", "response": "the blank prompt's"}
    assert read_responses(said(blank), items).answers["2"].text == "the blank prompt's"


def test_half_a_character_is_replaced_and_counted_so_that_scores_can_be_written(said: Said):
    found = read_responses(said('{"key": 1000, "response": "a\\ud800b \\ud83d\\ude00"}'), ITEMS)
    assert found.answers["1000"].text == "a\ufffdb \U0001f600"
    assert found.events[responses.BROKEN_TEXT] == 1


def test_notes_name_ten_keys_at_most(said: Said):
    many = [Item(str(i), f"ask {i}") for i in range(30)]
    (note,) = read_responses(said({"key": 0, "response": "x"}), many).notes
    assert note.endswith("1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ...")


@given(st.lists(st.one_of(st.none(), st.text()), min_size=4, max_size=4))
def test_any_text_comes_back_as_it_was(tmp_path_factory, texts: list[str | None]):
    file = tmp_path_factory.mktemp("any") / "said.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in keyed(*texts)))
    found = read_responses(file, ITEMS)
    assert [found.answers[item.key].text for item in ITEMS] == texts


GOOD = '{"key": 1000, "response": "x"}'
MALFORMED = {
    "not json": ('{"key": 1000, "resp', r"line 2: not JSON"),
    "too deep": ("[" * 200_000, r"line 2: not JSON"),
    "a number of 5000 digits": (f'{{"key": {"9" * 5000}, "response": ""}}', r"line 2: not JSON"),
    "not an object": ('["x"]', r"line 2: expected a JSON object"),
    "neither key nor prompt": ('{"id": 1, "response": "x"}', r"line 2:.*neither key.*'id'"),
    "null key and no prompt": ('{"key": null, "response": "x"}', r"line 2:.*neither key"),
    "no response": ('{"key": 1001, "responce": "x"}', r"line 2:.*Did you mean 'responce'"),
    "wrong type of response": ('{"key": 1001, "response": ["x"]}', r"line 2: response is \['x'\]"),
    "prompt of a wrong type": ('{"prompt": 5, "response": "x"}', r"line 2: prompt is 5"),
    "key of a wrong type": ('{"key": [1], "response": "x"}', r"line 2: the key is \[1\]"),
    "key that is no whole number": ('{"key": 1.5, "response": "x"}', r"line 2: the key is 1.5"),
    "key that is true": ('{"key": true, "response": "x"}', r"line 2: the key is True"),
    "the same key twice": ('{"key": "1000", "response": "y"}', r"line 2: prompt 1000.*line 1 al"),
    "the same prompt by its text": (
        '{"prompt": "Ask number 0, please.", "response": "y"}', r"line 2: prompt 1000.*line 1",
    ),
    "key of one prompt and text of another": (
        '{"key": 1001, "prompt": "Ask number 2, please.", "response": "y"}',
        r"line 2: the key 1001 is that of one prompt, and the text that of another \(1002\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("line", "message"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_row_is_refused_by_file_and_line(said: Said, line: str, message: str):
    with pytest.raises(DataError, match=rf"said\.jsonl, {message}"):
        read_responses(said(GOOD, line), ITEMS)


def test_prompts_that_occur_twice_cannot_be_told_apart_by_text_but_by_key(said: Said):
    twins = [Item("a", "Ask."), Item("b", "Ask.")]
    with pytest.raises(DataError, match="line 1: 2 prompts of the task have this text"):
        read_responses(said({"prompt": "Ask.", "response": "x"}), twins)
    rows = [{"key": key, "prompt": "Ask.", "response": key} for key in "ba"]
    found = read_responses(said(*rows), twins)
    assert {key: answer.text for key, answer in found.answers.items()} == {"a": "a", "b": "b"}


def test_a_file_that_answers_nothing_here_is_refused_with_what_it_holds(said: Said):
    rows = [{"key": 1, "response": "x"}, {"key": 2, "response": "y"}]
    with pytest.raises(DataError, match=r"None of the 2 rows of .*first is 1 \(line 1\).*is 1000"):
        read_responses(said(*rows), ITEMS)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf\n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "said.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match="holds no responses"):
        read_responses(path, ITEMS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("said.jsonl.gz", GOOD.encode()),
        ("said.jsonl.gz", gzip.compress(GOOD.encode())[:-9]),
        ("said.jsonl", gzip.compress(GOOD.encode())),
        ("said.jsonl", GOOD.encode("utf-16")),
    ],
    ids=["not gzip", "cut gzip", "gzip by another name", "utf-16"],
)
def test_a_file_that_is_no_text_is_refused_by_name(tmp_path: Path, name: str, content: bytes):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}(, line 1: not UTF-8| cannot be read)"):
        read_responses(tmp_path / name, ITEMS)


def test_a_missing_file_and_a_folder_are_refused_with_what_to_give(tmp_path: Path):
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(DataError, match=r"no file of responses.*responses=<file.jsonl>"):
            read_responses(path, ITEMS)
