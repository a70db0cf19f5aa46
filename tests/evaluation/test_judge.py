"""Recorded judgements: read as they stand, tied to the text that was judged, never guessed."""

import gzip
import json
from pathlib import Path

import pytest

from heed.core.errors import DataError
from heed.core.identity import canonical, short_hash
from heed.evaluation.judge import (
    NOT_RECORDED,
    OTHER_TEXT,
    Judgement,
    Pairwise,
    Recorded,
    outputs_of,
    read_preferences,
)


def table(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    table(tmp_path / "said.csv", "idx,small,large\n0,0.25,1\n1,,0.5\n")
    rows = [{"instruction": f"Ask {i}.", "output": f"Say {i}."} for i in range(3)]
    with gzip.open(tmp_path / "small.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    paths = {"path": str(tmp_path / "said.csv"), "outputs": str(tmp_path / "small.jsonl.gz")}
    return Recorded(model="small", scale="0 to 1", **paths)


def pair(i: int, response: str | None = None) -> Pairwise:
    return Pairwise(str(i), f"Ask {i}.", "The reference.", response or f"Say {i}.")


def test_a_judgement_on_record_is_found_by_key(recorded):
    assert recorded.judge(pair(0)) == Judgement(0.25)


def test_what_is_not_on_record_is_no_score_and_says_why(recorded):
    assert recorded.judge(pair(1)) == Judgement(None, NOT_RECORDED)
    assert recorded.judge(pair(2)) == Judgement(None, NOT_RECORDED)


def test_a_judgement_of_another_text_is_not_taken_for_one_of_this(recorded):
    assert recorded.judge(pair(0, "Say 0 otherwise.")) == Judgement(None, OTHER_TEXT)
    assert recorded.judge(Pairwise("0", "Never asked.", "", "Say 0.")).missing == OTHER_TEXT


def test_an_unknown_model_gets_the_nearest(recorded, tmp_path):
    other = Recorded(path=recorded.path, model="smal", scale="0 to 1", outputs=recorded.outputs)
    with pytest.raises(DataError, match=r"no judgements of 'smal'.*'small'"):
        other.judge(pair(0))


def test_the_identity_holds_the_content_and_not_the_place(recorded, tmp_path):
    before = short_hash(recorded)
    (tmp_path / "elsewhere").mkdir()
    moved = [Path(p).rename(tmp_path / "elsewhere" / Path(p).name) for p in
             (recorded.path, recorded.outputs)]  # fmt: skip
    again = Recorded(model="small", scale="0 to 1", path=str(moved[0]), outputs=str(moved[1]))
    assert short_hash(again) == before
    table(moved[0], "idx,small,large\n0,0.26,1\n1,,0.5\n")
    assert short_hash(again) != before
    assert "path" not in canonical(again)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("idx\n0\n", "names the models"),
        ("", "names the models"),
        ("idx,a,a\n0,1,1\n", "same twice"),
        ("idx,a\n0,1\n0,1\n", "line 3.*second time"),
        ("idx,a\n0,1,1\n", "line 2: 3 values for 2 columns"),
        ("idx,a\n0,1.2\n", "line 2, a: '1.2' is no preference on the scale 0 to 1"),
        ("idx,a\n0,-0.1\n", "no preference"),
        ("idx,a\n0,win\n", "'win' is no preference"),
        ("idx,a\n0,inf\n", "no preference"),
    ],
)
def test_a_table_that_cannot_be_right_is_refused_by_its_line(text: str, said: str, tmp_path):
    with pytest.raises(DataError, match=said):
        read_preferences(table(tmp_path / "said.csv", text), "0 to 1")


def test_the_two_scales_say_the_same(tmp_path):
    zero = read_preferences(table(tmp_path / "a.csv", "i,m\n0,0.25\n1,nan\n2,\n"), "0 to 1")
    one = read_preferences(table(tmp_path / "b.csv", "i,m\n0,1.25\n1,NaN\n2,\n"), "1 to 2")
    assert zero == one == {"m": {"0": 0.25, "1": None, "2": None}}
    with pytest.raises(DataError, match="no preference on the scale 1 to 2"):
        read_preferences(table(tmp_path / "a.csv", "i,m\n0,0.25\n"), "1 to 2")


@pytest.mark.parametrize(
    "rows",
    [
        [{"instruction": "a"}],
        [{"instruction": "a", "output": None}],
        [{"instruction": "a", "output": "x"}, {"instruction": "a", "output": "y"}],
    ],
)
def test_outputs_that_answer_not_once_are_refused(rows, tmp_path):
    path = table(tmp_path / "o.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"o\.jsonl"):
        outputs_of(path)
