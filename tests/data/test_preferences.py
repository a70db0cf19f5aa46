"""Recorded preferences of the real judge, and what was judged."""

import json
from pathlib import Path

import pytest

from heed.core.errors import DataError
from heed.data.preferences import keys_of, outputs_of, read_preferences


@pytest.mark.shared
def test_the_real_matrix_is_read_whole(shared_data: Path):
    found = read_preferences(shared_data / "alpaca_eval/ae2_preference_matrix.csv.gz", "0 to 1")
    assert len(found) == 58
    assert {len(column) for column in found.values()} == {805}
    assert found["gemma-2b-it"]["0"] == 0.00001
    assert found["NullModel"]["0"] == 0.99001


@pytest.mark.shared
def test_what_was_judged_is_read_by_instruction(shared_data: Path):
    assert len(outputs_of(shared_data / "alpaca_eval/outputs/phi-2.jsonl.gz")) == 803


@pytest.mark.shared
def test_every_judged_instruction_has_a_key_of_the_table(shared_data: Path):
    keys = keys_of(shared_data / "alpaca_eval/instructions.jsonl.gz")
    table = read_preferences(shared_data / "alpaca_eval/ae2_preference_matrix.csv.gz", "0 to 1")
    assert set(keys.values()) == set(table["gemma-2b-it"])


def judged(folder: Path, *keys: object) -> Path:
    """A file of instructions that were judged, each with its key in the table."""
    rows = [{"idx": key, "instruction": f"Do {n}."} for n, key in enumerate(keys)]
    path = folder / "judged.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("keys", [(1, 2, 1), (1, "b", "1"), ("a", "b", "a")])
def test_two_instructions_of_one_key_share_no_judgement(tmp_path: Path, keys: tuple[object, ...]):
    with pytest.raises(DataError, match=r"line 3: 'Do 2\.' .*key .* line 1"):
        keys_of(judged(tmp_path, *keys))


@pytest.mark.parametrize("key", [True, False, 1.0, [1]])
def test_a_key_is_a_whole_number_or_a_text(tmp_path: Path, key: object):
    with pytest.raises(DataError, match=r"line 2.*idx .*must be a whole number or a text"):
        keys_of(judged(tmp_path, 0, key))


def test_an_instruction_that_stands_twice_or_lacks_a_field_is_told_as_that(tmp_path: Path):
    path = judged(tmp_path, 1)
    path.write_text(path.read_text() + '{"idx": 2, "instruction": "Do 0."}\n')
    with pytest.raises(DataError, match=r"line 2: 'Do 0\.' stands there twice"):
        keys_of(path)
    path.write_text('{"idx": 2}\n')
    with pytest.raises(DataError, match="lacks instruction"):
        keys_of(path)
    path.write_text('{"instruction": "x"}\n')
    with pytest.raises(DataError, match="lacks idx"):
        keys_of(path)
    assert keys_of(judged(tmp_path, 0, "0a")) == {"Do 0.": "0", "Do 1.": "0a"}
